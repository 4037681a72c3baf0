"""The part of a report that is about sweeps: what they found, and what mattered."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from waferlab.tracking.sweeps import SweepRun

BEST: Final = 10
EXPLANATION = (
    "Values are of the validation part, in percent; trials do not touch the test part. Importance: a parameter's "
    "share in what sets the best trials apart (PED-ANOVA)."
)


def sweep_sections(study: str, sweeps: Sequence[SweepRun], folder: Path) -> tuple[list[str], list[Path]]:
    """A section for each sweep, and the figures that were copied beside it."""
    lines, copied = [f"# Sweeps of {study}", "", f"Written by `waferlab report study={study}`. {EXPLANATION}", ""], []
    for sweep in sweeps:
        lines += [f"## {sweep.name}", "", *_best(sweep), "", *_facts(sweep), ""]
        for figure in sweep.figures:
            folder.mkdir(parents=True, exist_ok=True)
            place = folder / f"{sweep.name}_{figure.name}"
            shutil.copyfile(figure, place)
            copied.append(place)
            lines += [f"![{figure.stem.replace('_', ' ')}]({place.name})", ""]
    return lines, copied


def _best(sweep: SweepRun) -> Iterable[str]:
    keys = list(sweep.trials[0].chosen)
    yield "| trial | " + " | ".join([*keys, sweep.objective]) + " |"
    yield "|---|" + "---:|" * (len(keys) + 1)
    for trial in sweep.trials[:BEST]:
        cells = [*(_short(trial.chosen[key]) for key in keys), f"{100 * trial.metrics[sweep.objective]:.2f}"]
        yield f"| {trial.number} | " + " | ".join(cells) + " |"


def _facts(sweep: SweepRun) -> Iterable[str]:
    yield "- trials: " + ", ".join(f"{count} {state}" for state, count in sorted(sweep.states.items()))
    lowest, middle = sweep.trials[-1], sweep.trials[len(sweep.trials) // 2]
    found = [f"{100 * trial.metrics[sweep.objective]:.2f}" for trial in (sweep.trials[0], middle, lowest)]
    yield f"- {sweep.objective} of complete trials: best {found[0]}, median {found[1]}, worst {found[2]}"
    if sweep.importance:
        shares = sorted(sweep.importance.items(), key=lambda item: -item[1])
        yield "- importance: " + ", ".join(f"{key} {share:.2f}" for key, share in shares)
    yield f"- the best one again: `{sweep.best_command}`"


def _short(value: str) -> str:
    try:
        return f"{float(value):.4g}"
    except ValueError:
        return value
