"""The part of a report that is about teachers: how right and how sure they are where they teach."""

from collections.abc import Sequence
from typing import Final

from waferlab.commands import markdown
from waferlab.tracking.teaching import Teaching

EXPLANATION: Final = (
    "Each teacher on the training maps whose labels it was not told; the one with all labels, on the maps that it was "
    "trained on. In percent, but for the entropy of a bit's probability, in bits. Wrong at beta: the decisions "
    "`probability > beta` that a student is taught."
)


def teaching_section(teachings: Sequence[Teaching]) -> list[str]:
    """A table of teachers; nothing where no run knows of any."""
    if not teachings:
        return []
    heads = ["", "wrong maps at 0.5", "fewest wrong maps", "at beta", "wrong bits at 0.5", "entropy", "ECE"]
    return ["## What the teachers teach", "", EXPLANATION, "", *markdown.table(heads, map(_row, teachings)), ""]


def _row(teaching: Teaching) -> list[str]:
    best = min(teaching.wrong_maps, key=lambda beta: (teaching.wrong_maps[beta], abs(beta - 0.5)))
    shares = [teaching.wrong_maps[0.5], teaching.wrong_maps[best], None, teaching.wrong_bits[0.5]]
    cells = [f"{best:g}" if share is None else f"{100 * share:.2f}" for share in shares]
    entropy, error = (teaching.metrics[name] for name in ("prediction_entropy", "expected_calibration_error"))
    return [markdown.text(named(teaching)), *cells, f"{entropy:.4f}", f"{100 * error:.2f}"]


def named(teaching: Teaching) -> str:
    """What a teacher is called in a table or legend."""
    return f"{teaching.data.partition(',')[0]}, {100 * teaching.labelled:g} % of the labels"
