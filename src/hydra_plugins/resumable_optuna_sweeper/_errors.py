"""What ends a sweep; in a module of its own, since Hydra may run the package's and the plugin's modules again."""

from hydra.errors import HydraException


class SweepFailedError(HydraException):
    """Nothing was wrong with the sweep's configuration, but too many of its jobs failed, or a worker did."""
