"""What a study's runs say of their teachers, where these teach."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from waferlab.tracking.run import TEACHING
from waferlab.tracking.study import StudyRun
from waferlab.tracking.tracker import Tracker


@dataclass(frozen=True)
class Teaching:
    """How right and how sure one teacher is on the maps that it teaches.

    Attributes:
        data: name of the data set.
        labelled: share of the training labels that it was told; with all of them, it is judged where it was trained.
        metrics: by name, of its decisions at probability 0.5.
        wrong_maps: share of maps with a wrong bit, by beta.
        wrong_bits: share of wrong bits, by beta.
    """

    data: str
    labelled: float
    metrics: Mapping[str, float]
    wrong_maps: Mapping[float, float]
    wrong_bits: Mapping[float, float]


def read_teaching(tracker: Tracker, runs: Iterable[StudyRun]) -> list[Teaching]:
    """One entry for each data set and teacher, the one with most labels first."""
    found: dict[tuple[object, ...], Teaching] = {}
    for run in runs:
        logged = tracker.find(run.run_id)
        key = (run.data, run.tags.get("teacher.file"))
        if logged is None or f"{TEACHING}exact_match" not in logged.data.metrics or key in found:
            continue
        values = {
            name.removeprefix(TEACHING): value
            for name, value in logged.data.metrics.items()
            if name.startswith(TEACHING)
        }
        maps, bits = (_by_beta(tracker, run.run_id, each) for each in ("per_map", "per_bit"))
        found[key] = Teaching(run.data[0], run.labelled, values, maps, bits)
    return sorted(found.values(), key=lambda teaching: (teaching.data.partition(",")[0], -teaching.labelled))


def _by_beta(tracker: Tracker, run_id: str, what: str) -> dict[float, float]:
    return {step / 100: value for step, value in tracker.curve(run_id, f"{TEACHING}pseudo_label_error/{what}").items()}
