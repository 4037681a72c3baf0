"""One training by several processes: it comes to what one process comes to, and they end together."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image

import waferlab
from waferlab.cli import main
from waferlab.errors import ConfigError
from waferlab.tracking.tracker import default_uri

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
#: Four batches of 33 maps, of which two processes get 16 and 17, and one that is smaller; nothing is drawn at the end.
MIXED_TYPE = (
    *("dataset.maps=160", "test=false", "student=compact", "backbone=timm", "backbone.name=test_resnet"),
    *("trainer.batch_size=33", "trainer.max_epochs=2", "teacher.trainer.batch_size=33"),
    *("teacher.trainer.max_epochs=1", "teacher.trainer.precision=32-true"),
)
ANOMALY = (
    *("task=anomaly", "dataset.maps=160", "teacher.dataset.maps=160", "test=false", "backbone=compact"),
    *("attention=dual", "attention.training=pretrained", "attention.pretrain_epochs=1", "pyramid.levels=[0,1]"),
    *("trainer.batch_size=33", "trainer.max_epochs=2", "trainer.precision=32-true"),
    *("teacher.trainer.max_epochs=1", "teacher.trainer.precision=32-true"),
)

TRANSFER = (
    *("task=transfer", "dataset=images", "dataset.size=24", "dataset.fractions=[0.5,0.25,0.25]", "test=false"),
    *("backbone=timm", "backbone.name=test_resnet", "backbone.encoding=pixels", "transforms=photo", "mix=mixup"),
    *("oversampling=0.5", "finetuning.head_epochs=1", "trainer.max_epochs=2", "trainer.batch_size=9"),
    *("trainer.precision=32-true", "operating_point=recall"),
)

#: A module of somebody's own, whose loss fails in the second process alone.
FAULTY = """
import os

from waferlab.distillation.losses import Supervised
from waferlab.errors import WaferlabError


class Faulty(Supervised):
    def __call__(self, logits, batch):
        if os.environ["RANK"] == "1":
            raise WaferlabError("this host has no room")
        return super().__call__(logits, batch)
"""


def started(store: Path, *overrides: str) -> subprocess.Popen[str]:
    """``waferlab train`` by two processes; a terminal's Ctrl-C would reach its whole process group."""
    command = [*TORCHRUN, "-m", "waferlab.cli", "train", *overrides, f"store={store}", f"hydra.run.dir={store}"]
    path = os.pathsep.join([str(store), *sys.path])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error; a process that hangs fails its test."""
    try:
        said, error = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, said, error


def runs(store: Path) -> dict[str, Run]:
    """The runs of a store by their role: there is one of each."""
    client = MlflowClient(default_uri(store))
    found = client.search_runs([client.get_experiment_by_name("waferlab").experiment_id])
    by_role = {run.data.tags["role"]: run for run in found}
    assert len(by_role) == len(found), "only one process opens runs"
    return by_role


def history(store: Path) -> dict[tuple[str, str, int], float]:
    """Every logged value of every epoch, by role, metric and epoch; not speeds, what the machine does, nor thresholds,
    which jump.
    """
    client = MlflowClient(default_uri(store))
    return {
        (role, name, metric.step): metric.value
        for role, run in runs(store).items()
        for name in run.data.metrics
        for metric in client.get_metric_history(run.info.run_id, name)
        if not name.endswith(("per_second", "threshold")) and not name.startswith("system/")
    }


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise, brighter where there is a defect."""
    folder, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for number in range(60):
        place = folder / ("defect" if number % 3 == 0 else "good") / f"{number}.png"
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(random.integers(40, 200 + 20 * (number % 3 == 0), (24, 24, 3), np.uint8)).save(place)
    return folder


@pytest.mark.parametrize("overrides", [MIXED_TYPE, ANOMALY, TRANSFER], ids=["mixed type", "anomaly", "transfer"])
def test_two_processes_come_to_the_metrics_of_one(overrides: tuple[str, ...], photos: Path, tmp_path: Path) -> None:
    overrides = (*overrides, f"dataset.path={photos}") if "dataset=images" in overrides else overrides
    one, two = tmp_path / "one", tmp_path / "two"
    process = started(two, *overrides)
    waferlab.train(*overrides, f"store={one}")
    code, said, error = ended(process)
    assert code == 0, error
    assert "Warning" not in error
    assert error.count("loading libraries") == said.count("metrics in percent") == 1, "only one process speaks"
    expected, found = history(one), history(two)
    assert any(name == "train/loss" for _, name, _ in found)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_interrupted_by_ctrl_c_they_end_together_and_go_on_together(tmp_path: Path) -> None:
    overrides = ("dataset.maps=160", "test=false", "student=net2", "distillation=supervised", "trainer.ema_decay=0.9")
    one, two = tmp_path / "one", tmp_path / "two"
    process = started(two, *overrides, "trainer.max_epochs=30")
    deadline = time.monotonic() + 300
    while not list(two.glob("runs/*/training/last.ckpt")):
        assert process.poll() is None, ended(process)[2]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    code, _, error = ended(process)
    run = runs(two)["experiment"]
    assert code != 0
    assert error.count("waferlab: interrupted by signal 2") == 1, error
    assert f"train resume={run.info.run_id}" in error
    assert run.info.status == "KILLED"

    code, _, error = ended(started(two, f"resume={run.info.run_id}"))
    assert code == 0, error
    waferlab.train(*overrides, "trainer.max_epochs=30", f"store={one}")
    assert runs(two)["experiment"].info.status == "FINISHED"
    assert history(two) == pytest.approx(history(one), rel=1e-3, abs=1e-4)


def test_a_fault_in_one_process_ends_all_with_one_message(tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY)
    tiny = ("dataset.maps=160", "student=net2", "distillation=supervised", "distillation._target_=faulty.Faulty")
    code, _, error = ended(started(tmp_path, *tiny))
    assert code == 1
    (said,) = [line for line in error.splitlines() if line.startswith("waferlab: ")]
    assert said.startswith("waferlab: process 1: this host has no room")
    assert runs(tmp_path)["experiment"].info.status == "FAILED"


@pytest.mark.parametrize("arguments", [["train", "-m", "seed=0,1"], ["evaluate", "model=x"]])
def test_torchrun_is_for_one_training(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    as_torchrun_does(monkeypatch)
    assert main(arguments) == 2
    assert "torchrun is for one training" in capsys.readouterr().err


def test_torchrun_of_ones_own_program_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    as_torchrun_does(monkeypatch)
    with pytest.raises(ConfigError, match="give it the command"):
        waferlab.train("seed=1")


def as_torchrun_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process believe that it is the first of two."""
    settings = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "RANK": "0", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


#: Every network of this script is shown a batch as a whole, and in two shares.
SHARES = """
import copy

import timm
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from waferlab.models.attention import DualAttention
from waferlab.models.students import Compact
from waferlab.tasks.shares import Share


class Shared(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        share = Share(len(x))
        with share.together():
            return share.whole(self.network(share.of(x)))


def loss_of(network, x):
    torch.manual_seed(1)
    y = network(x)
    loss = (y - torch.randn_like(y)).square().mean() + y.std()  # a loss that isn't the mean of losses of maps
    loss.backward()
    return loss


dist.init_process_group("gloo")
torch.manual_seed(0)
networks = {
    "Compact": (Compact(3, 8, (20, 20)), (3, 20, 20)),
    "attention with dropout": (DualAttention(6), (6, 9, 9)),
    "BatchNormAct2d": (timm.create_model("test_efficientnet", num_classes=8, drop_rate=0.2), (3, 64, 64)),
}
for name, (network, shape) in networks.items():
    for count in (5, 1):
        one, two = (copy.deepcopy(network).double().train() for _ in range(2))
        x = torch.randn(count, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        both = loss_of(one, x), loss_of(DistributedDataParallel(Shared(two)), x)
        torch.testing.assert_close(*both)
        for (key, expected), found in zip(one.named_parameters(), two.parameters(), strict=True):
            torch.testing.assert_close(found.grad, expected.grad, msg=lambda text: f"{name}, {count}, {key}: {text}")
        for (key, expected), found in zip(one.named_buffers(), two.buffers(), strict=True):
            torch.testing.assert_close(found, expected, msg=lambda text: f"{name}, {count}, {key}: {text}")
"""


def test_shares_of_a_batch_make_the_gradient_and_the_batch_norms_of_the_whole(tmp_path: Path) -> None:
    script = tmp_path / "shares.py"
    script.write_text(SHARES)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([*TORCHRUN, script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
