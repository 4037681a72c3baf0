"""The figures of a sweep, as Optuna draws them."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import matplotlib
import optuna
from matplotlib import pyplot
from matplotlib.figure import Figure
from optuna.trial import TrialState

from waferlab.tracking.figures import save

#: A legend of more trials than this names none.
_MOST_IN_LEGEND: Final = 10


def sweep_figures(study: optuna.Study, names: Sequence[str], folder: Path) -> list[Path]:
    """History, importance, parallel coordinates, slices and learning curves of a search, or its Pareto front, as PNG.

    Nothing is drawn of less than two finished trials, and no figure that Optuna can't draw of these.

    Args:
        study: of the search.
        names: of its objectives.
        folder: for the files.
    """
    complete = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    if len(complete) < 2:
        return []
    matplotlib.use("agg")
    draw = optuna.visualization.matplotlib
    made: dict[str, Callable[[], Any]] = {}
    if len(names) == 1:
        made = {
            "history": lambda: draw.plot_optimization_history(study, target_name=names[0]),
            "importance": lambda: draw.plot_param_importances(study, target_name=names[0]),
            "parallel_coordinates": lambda: draw.plot_parallel_coordinate(study, target_name=names[0]),
            "slices": lambda: draw.plot_slice(study, target_name=names[0]),
            "learning_curves": lambda: draw.plot_intermediate_values(study),
        }
    elif len(names) <= 3:
        made = {"pareto_front": lambda: draw.plot_pareto_front(study, target_names=list(names))}
    with _closed():
        drawn = {name: figure for name, plot in made.items() if (figure := _drawn(plot)) is not None}
        return save(drawn, folder, whole=True)


@contextmanager
def _closed() -> Iterator[None]:
    """Take what Optuna has drawn out of pyplot's global state again."""
    before = set(pyplot.get_fignums())
    try:
        yield
    finally:
        for number in set(pyplot.get_fignums()) - before:
            pyplot.close(number)


def importance(study: optuna.Study) -> dict[str, float]:
    """Each parameter's share in what sets the best trials apart (PED-ANOVA); nothing where too few trials say so."""
    try:
        return dict(optuna.importance.get_param_importances(study))
    except (RuntimeError, ValueError):
        return {}


def _drawn(plot: Callable[[], Any]) -> Figure | None:
    """What Optuna draws, or None where these trials say too little for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            axes = plot()
        except (RuntimeError, ValueError):
            return None
    first = axes.flat[0] if hasattr(axes, "flat") else axes
    figure: Figure = first.figure
    figure.set_size_inches(9, 5)
    for legend in (found for axes in figure.axes if (found := axes.get_legend()) is not None):
        legend.set_visible(len(legend.get_texts()) <= _MOST_IN_LEGEND)
    return figure
