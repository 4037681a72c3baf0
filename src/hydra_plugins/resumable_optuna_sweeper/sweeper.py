"""The plugin that Hydra finds, and its config groups; heavy libraries wait until there is a sweep."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hydra_plugins.resumable_optuna_sweeper._options import GRID, NO_PRUNER


@dataclass
class SweeperConfig:
    """``hydra/sweeper=optuna``.

    Attributes:
        sampler, pruner: a class of Optuna's, and its arguments; ``grid`` as a sampler for all combinations in order.
        seed: of the sampler; trials of a sequential sweep are then always the same.
        n_trials: of the study in all, also over several starts; null with ``sampler: grid``.
        params: what is swept, in Hydra's grammar, such as ``interval(0, 1)``; the command line goes before.
        conditions: ``{a: {b: [x, y]}}``: a only counts where b is x or y.
        objective: names in what a job returns, if that is a mapping; null for all that it returns.
        direction: of each objective, ``maximize`` or ``minimize``.
        constraints: ``{name: limit}``: what a job returns by this name should not be above the limit.
        objectives: a function that is given the composed configuration and names what jobs will return, so that a
            wrong name is refused before the first trial; its dotted path, or null.
        concluded: a function that is given the study (`optuna.Study`), the configuration, the best jobs' overrides, and
            whether too many jobs have failed, when that is so or all trials are there; its dotted path, or null.
        study_name: null for a name that follows from what is searched and how, so that the same command goes on, also
            with other workers, limits and totals.
        storage: a journal file's path or a database's URL; null for a journal in the sweep's folder.
        workers: processes here that work on the study; further ones may be started elsewhere by the same command.
        devices: the GPU of each worker, as CUDA_VISIBLE_DEVICES has it; null for those that are there.
        batch_size: trials that a worker hands to its launcher at once; more than 1 where the launcher does several
            at a time and waiting for the slowest is no harm.
        max_failures: so many trials of the study may fail.
        retries: so often a trial is repeated whose job was cut off.
    """

    _target_: str = "hydra_plugins.resumable_optuna_sweeper.sweeper.OptunaSweeper"
    _recursive_: bool = False
    defaults: list[Any] = field(default_factory=lambda: ["_self_", {"sampler": "tpe"}, {"pruner": "none"}])
    sampler: Any = None
    pruner: Any = None
    seed: int | None = None
    n_trials: int | None = 20
    params: dict[str, Any] = field(default_factory=dict)
    conditions: dict[str, Any] = field(default_factory=dict)
    objective: Any = None
    direction: Any = "minimize"
    constraints: dict[str, float] = field(default_factory=dict)
    objectives: str | None = None
    concluded: str | None = None
    study_name: str | None = None
    storage: str | None = None
    workers: int = 1
    devices: list[str] | None = None
    batch_size: int = 1
    max_failures: int = 10
    retries: int = 5


SAMPLERS = {
    "tpe": "TPESampler",
    "random": "RandomSampler",
    "gp": "GPSampler",
    "cmaes": "CmaEsSampler",
    "nsgaii": "NSGAIISampler",
    "nsgaiii": "NSGAIIISampler",
    "qmc": "QMCSampler",
}
PRUNERS = {
    "median": "MedianPruner",
    "percentile": "PercentilePruner",
    "successive_halving": "SuccessiveHalvingPruner",
    "hyperband": "HyperbandPruner",
    "patient": "PatientPruner",
    "threshold": "ThresholdPruner",
    "wilcoxon": "WilcoxonPruner",
}


class OptunaSweeper(Sweeper):
    """Asks a study for trials, has the launcher run them, and tells the study what became of them.

    Its arguments are those of `SweeperConfig`.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """As Hydra wants it; the launcher is made when its jobs' configuration is known."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Work on the study until it has all its trials; what the jobs of this process returned, by batch.

        Raises:
            HydraException: the sweep is wrong, or too many of its trials failed.
        """
        from hydra_plugins.resumable_optuna_sweeper._work import Work  # noqa: PLC0415

        context, config, task = self.hydra_context, self.config, self.task_function
        assert context is not None
        assert config is not None
        assert task is not None
        work = Work.begin(self.settings, context, config, arguments)
        if work.settings.workers > 1:
            return work.share()
        return work.run(
            Plugins.instance().instantiate_launcher(hydra_context=context, task_function=task, config=config)
        )


def _register(options: Mapping[str, str], group: str, module: str) -> None:
    store = ConfigStore.instance()
    for name, target in options.items():
        node = {"_target_": f"{module}.{target}"}
        store.store(group=f"hydra/sweeper/{group}", name=name, node=node, provider="resumable_optuna_sweeper")


ConfigStore.instance().store(
    group="hydra/sweeper", name="optuna", node=SweeperConfig, provider="resumable_optuna_sweeper"
)
_register(SAMPLERS, "sampler", "optuna.samplers")
_register(PRUNERS, "pruner", "optuna.pruners")
ConfigStore.instance().store(group="hydra/sweeper/sampler", name=GRID, node={"_target_": GRID})
ConfigStore.instance().store(group="hydra/sweeper/pruner", name="none", node={"_target_": NO_PRUNER})
