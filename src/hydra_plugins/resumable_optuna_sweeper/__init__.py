"""A Hydra sweeper on Optuna whose sweeps prune, resume, keep all workers busy, and outlive what fails in them.

`current_trial` and `patiently` are for use within jobs, `study_id` and `became` are for a sweep's end. Nothing heavy is
imported here, as Hydra imports its plugins at every start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from hydra_plugins.resumable_optuna_sweeper._errors import SweepFailedError as SweepFailedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna import Study
    from optuna.trial import FrozenTrial, Trial


Answer = TypeVar("Answer")


def current_trial() -> Trial | None:
    """The trial whose job this is, to report to and to ask whether to stop; None outside this sweeper's jobs."""
    from hydra_plugins.resumable_optuna_sweeper._trial import current_trial as found  # noqa: PLC0415

    return found()


def objectives_of_sweep() -> tuple[str, ...]:
    """Names of what this job's sweep optimizes; none outside one, or where jobs return the values themselves."""
    from hydra_plugins.resumable_optuna_sweeper._trial import objectives  # noqa: PLC0415

    return objectives()


def patiently(ask: Callable[[], Answer]) -> Answer:
    """Ask a trial or a study something whose storage may be away for a while."""
    from hydra_plugins.resumable_optuna_sweeper._storage import patiently as asked  # noqa: PLC0415

    return asked(ask)


def study_id(study: Study) -> str:
    """What tells a study from an earlier one of the same name, whose folder was deleted, say."""
    from hydra_plugins.resumable_optuna_sweeper._study import ID  # noqa: PLC0415

    return str(study.user_attrs[ID])


def became(trial: FrozenTrial) -> str:
    """What became of a trial: ``complete``, ``pruned``, ``fail``; ``cut off`` where its job was ended from outside."""
    from hydra_plugins.resumable_optuna_sweeper._study import CUT_OFF  # noqa: PLC0415

    return "cut off" if CUT_OFF in trial.user_attrs else trial.state.name.lower()
