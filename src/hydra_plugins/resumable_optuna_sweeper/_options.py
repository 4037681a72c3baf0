"""What some options of the plugin's groups are known by where they mean more than a class of Optuna's."""

from typing import Final

#: As a sampler: all combinations in order.
GRID: Final = "grid"
#: As a pruner: none.
NO_PRUNER: Final = "optuna.pruners.NopPruner"
