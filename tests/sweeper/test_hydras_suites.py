"""Hydra's own suites for sweepers and launchers, with this sweeper's grid in the place of Hydra's basic sweeper."""

from collections.abc import Iterator

import pytest
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.test_utils.launcher_common_tests import BatchedSweeperTestSuite, IntegrationTestSuite, LauncherTestSuite
from hydra.version import VersionBase
from packaging.version import Version

from hydra_plugins.resumable_optuna_sweeper.sweeper import OptunaSweeper

GRID = ["hydra/sweeper=optuna", "hydra/sweeper/sampler=grid", "hydra.sweeper.batch_size=2"]


@pytest.fixture(autouse=True)
def _as_in_hydras_repository() -> Iterator[None]:
    """These suites expect Hydra's oldest behaviour, and other tests of this process want its newest."""
    base, before = VersionBase.instance(), VersionBase.instance().getbase()
    base.setbase(Version("1.1"))
    yield
    base.version_base = before


def test_hydra_finds_the_plugin() -> None:
    assert OptunaSweeper.__name__ in [plugin.__name__ for plugin in Plugins.instance().discover(Sweeper)]


@pytest.mark.parametrize(("launcher_name", "overrides"), [("basic", GRID)])
class TestLauncher(LauncherTestSuite):
    """Jobs come to the launcher as Hydra's sweeper would bring them."""


@pytest.mark.parametrize(("launcher_name", "overrides"), [("basic", GRID)])
class TestBatches(BatchedSweeperTestSuite):
    """So do batches of jobs."""


@pytest.mark.parametrize(
    ("task_launcher_cfg", "extra_flags"),
    [({}, ["-m", *GRID, "hydra.sweeper.study_name=${now:%f}"])],
)
class TestIntegration(IntegrationTestSuite):
    """So does an application started from a shell; by its name each start has a study of its own."""
