"""A Hydra sweeper on Optuna whose sweeps prune, resume, keep all workers busy, and outlive what fails in them.

`current_trial` is for use within jobs. Nothing heavy is imported here, as Hydra imports its plugins at every start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.trial import Trial


def current_trial() -> Trial | None:
    """The trial whose job this is, to report to and to ask whether to stop; None outside this sweeper's jobs."""
    from hydra_plugins.resumable_optuna_sweeper._trial import current_trial as found  # noqa: PLC0415

    return found()


def objectives_of_sweep() -> tuple[str, ...]:
    """Names of what this job's sweep optimizes; none outside one, or where jobs return the values themselves."""
    from hydra_plugins.resumable_optuna_sweeper._trial import objectives  # noqa: PLC0415

    return objectives()
