"""An exported model against the original, on maps that neither has learnt from."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from waferlab.data.batches import at_most
from waferlab.data.dataset import Wafers
from waferlab.deploy.answers import AT_ONCE, Answer, Outputs, if_turned, in_batches, own_answer
from waferlab.deploy.formats import FORMATS, Name, Source
from waferlab.edge.card import Card
from waferlab.errors import WaferlabError
from waferlab.metrics.ranking import Ranked

#: Least calls, and seconds, that a call's time is measured in.
_CALLS: Final = 3
_LONG_ENOUGH: Final = 0.3


@dataclass(frozen=True)
class Measured:
    """What a model came to, on validation and in one thread.

    Attributes:
        name: ``model`` for the original, or a format's.
        bytes: of its file.
        right: how right it is, in percent: ``exact match`` of all classes, or ``accuracy`` where there is one; of its
            scores ``AUROC``, unless all wafers are of one kind, and by its threshold, where it has one, ``accuracy``.
        agreement: percent of maps of which it decides as the original does.
        difference: largest one from the original's logits, or probabilities; from its scores and die maps in units of
            their standard deviation.
        maps_per_second: in batches of `AT_ONCE`.
        milliseconds: for one map.
    """

    name: str
    bytes: int
    right: dict[str, float]
    agreement: float
    difference: float
    maps_per_second: float
    milliseconds: float


@dataclass(frozen=True)
class Tolerance:
    """How far an exported model may be from the original.

    Attributes:
        difference: `Measured.difference` of a file in fp32.
        loss: points of each of `Measured.right`, or where there is none of agreement, that int8 may cost.
        disagreement: percent of maps that int8 may decide otherwise, be it rightly or wrongly.
    """

    difference: float
    loss: float
    disagreement: float = 100


def exported(
    source: Source, name: Name, file_bytes: int, val: Wafers, tolerance: Tolerance
) -> tuple[bytes, list[Measured]]:
    """The content of a file; and the original, the same in fp32 where the file is in int8, and the file, measured.

    Args:
        name: of the format.
        file_bytes: of the original.
        val: the wafers that they are compared on.

    Raises:
        ConfigError: a package that the format takes is not installed.
        WaferlabError: the model has no such form, or comes to something else in it.
    """
    own, plain = own_answer(source.model), FORMATS[name].plain
    with one_thread():
        expected = in_batches(own, val.maps)
        rows = [measured("model", file_bytes, own, expected, expected, source.card, val)]
        for each in (name,) if plain is None else (plain, name):
            with _exporting(each):
                content = FORMATS[each].make(source)
                answer = FORMATS[each].answers(content, source)
                found = in_batches(answer, val.maps)
            if not all(np.isfinite(output).all() for output in found.values()):
                raise WaferlabError(f"{each}: some of its outputs are no finite numbers; nothing was written")
            rows.append(measured(each, len(content), answer, found, expected, source.card, val))
    if plain is None:
        _require_same(rows[-1], tolerance.difference)
    else:
        bits = FORMATS[name].weight_bits if source.card.kind == "patterns" else None
        _require_as_right(rows[0], rows[-1], tolerance, bits)
    return content, rows


def _require_same(made: Measured, most: float) -> None:
    if made.difference > most:
        raise WaferlabError(
            f"{made.name}: an output differs by {made.difference:.2g} from the original's, and most_difference={most:g}"
            f" is allowed; nothing was written"
        )


def _require_as_right(original: Measured, made: Measured, allowed: Tolerance, weight_bits: int | None) -> None:
    pairs = {name: (before, made.right[name]) for name, before in original.right.items()}
    remedy = f" (a student that learns with weight_bits={weight_bits} loses less)" if weight_bits else ""
    for name, (before, after) in (pairs or {"agreement": (original.agreement, made.agreement)}).items():
        if before - after > allowed.loss:
            raise WaferlabError(
                f"{made.name}: {name} falls from {before:.2f} to {after:.2f} %, and most_loss={allowed.loss:g} points "
                f"are allowed; nothing was written{remedy}"
            )
    if 100 - made.agreement > allowed.disagreement:
        raise WaferlabError(
            f"{made.name}: {100 - made.agreement:.2f} % of the maps are decided otherwise, and "
            f"most_disagreement={allowed.disagreement:g} is allowed; nothing was written{remedy}"
        )


def measured(
    name: str, file_bytes: int, answer: Answer, found: Outputs, expected: Outputs, card: Card, wafers: Wafers
) -> Measured:
    """What gives such an answer, of which is known what it found for all of these wafers, and what was expected."""
    batch = np.asarray(wafers.maps[: at_most(AT_ONCE, card.size)])
    agree = (_decisions(found, card) == _decisions(expected, card)).all(1)
    return Measured(
        name, file_bytes, _right(found, card, wafers), 100 * float(agree.mean()), _difference(found, expected),
        len(batch) / _seconds(lambda: answer(batch)), 1000 * _seconds(lambda: answer(batch[:1])),
    )  # fmt: skip


def right_if_turned(content: bytes, name: Name, source: Source, wafers: Wafers) -> dict[str, float]:
    """How right a file is, as `Measured.right`, of the same wafers lying differently."""
    with one_thread():
        found = in_batches(if_turned(FORMATS[name].answers(content, source)), wafers.maps)
    return _right(found, source.card, wafers)


def _decisions(found: Outputs, card: Card) -> NDArray[np.bool_]:
    """(N, C) whether a map has each class, or (N, 1) whether it is abnormal."""
    if card.kind == "anomaly":
        return found["score"][:, None] >= (np.inf if card.threshold is None else card.threshold)
    return found["logits"] > 0 if card.kind == "patterns" else found["bits"] > 0


def _right(found: Outputs, card: Card, val: Wafers) -> dict[str, float]:
    right, truth, name = {}, val.labels > 0, "exact match" if card.kind == "patterns" else "accuracy"
    if card.kind == "anomaly":
        truth = val.is_abnormal[:, None]
        ranked = Ranked.of(found["score"][val.is_abnormal], found["score"][~val.is_abnormal])
        right = {"AUROC": 100 * ranked.auroc()} if ranked.is_defined else {}
    if card.kind != "anomaly" or card.threshold is not None:
        right[name] = 100 * float((_decisions(found, card) == truth).all(1).mean())
    return right


def _difference(found: Outputs, expected: Outputs) -> float:
    """The largest one; scores, which have units of their own, in standard deviations."""
    units = {name: float(values.std()) or 1.0 for name, values in expected.items() if name in ("score", "die_map")}
    return max(
        float(np.abs(found[name] - values).max()) / units.get(name, 1.0)
        for name, values in expected.items()
        if name != "bits"
    )


def _seconds(do: Callable[[], object]) -> float:
    """Of a processor's time that one call takes, in one thread: the least of several, as others may use the machine."""
    taken: list[float] = []
    while len(taken) < _CALLS or sum(taken) < _LONG_ENOUGH:
        started = time.process_time()
        do()
        taken.append(time.process_time() - started)
    return min(taken)


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes in one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _exporting(name: str) -> Iterator[None]:
    """Say that a model has no form in a format, whatever an exporter raises then."""
    try:
        yield
    except WaferlabError:
        raise
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        said = (str(cause).splitlines() or [type(cause).__name__])[0][:200]
        raise WaferlabError(f"format={name}: this model can't be exported to it: {said}") from error
