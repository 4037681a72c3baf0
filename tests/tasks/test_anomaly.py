"""What a student of normal wafers learns, and a collapse that doesn't go unnoticed."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch.loggers.logger import DummyLogger

from waferlab.config import AnomalyConfig
from waferlab.data.batches import Batch, Batches
from waferlab.data.dataset import Dataset
from waferlab.data.masks import Truth
from waferlab.data.simulator import load
from waferlab.distillation.feature_cache import cached_features
from waferlab.errors import WaferlabError
from waferlab.experiment.compose import compose_overrides, configuration
from waferlab.models.detector import Detector, build_detector
from waferlab.models.disagreement import diversity
from waferlab.tasks.anomaly import COLLAPSED, Anomaly
from waferlab.tasks.fit import Fitted, fit

SMALL = (
    "task=anomaly", "backbone=timm", "backbone.name=test_resnet", "pyramid.levels=[0,1]", "trainer.max_epochs=2",
    "trainer.batch_size=16", "optimizer.lr=0.01",
)  # fmt: skip


@pytest.fixture(scope="module")
def wafers() -> Dataset:
    """Half of them normal."""
    return load(maps=160, fractions=(0.6, 0.2, 0.2), normal_share=0.5)


def train(wafers: Dataset, folder: Path, *overrides: str) -> tuple[Detector, Fitted]:
    config = configuration(compose_overrides("train", [*SMALL, *overrides]))
    assert isinstance(config, AnomalyConfig)
    torch.manual_seed(0)
    detector = build_detector(config.detector, wafers.classes, wafers.wafers.size)
    detector.standardise(wafers.part("train").normal().maps)
    val, loss = wafers.part("val"), config.distillation.build("distillation")
    truth = Truth.of(val, config.task.mask)
    task = Anomaly(detector, loss, config.fit, config.attention, truth, config.task.select, seed=0)
    batches = Batches(wafers.part("train").normal(), config.trainer.batch_size, shuffle=True)
    cached = cached_features(detector, batches, config.trainer.precision, config.pyramid.cache_gb)
    if cached is not None:
        batches.teach(cached)
    return detector, fit(task, batches, Batches(val, 64), config.trainer, folder, "training", DummyLogger())


def state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_a_student_learns_to_agree_on_normal_wafers(wafers: Dataset, tmp_path: Path) -> None:
    normal = torch.from_numpy(wafers.part("test").normal().maps)
    before, _ = train(wafers, tmp_path / "a", "optimizer.lr=1e-9")
    after, _ = train(wafers, tmp_path / "b", "trainer.max_epochs=20", "trainer.validate_every=20")
    with torch.no_grad():
        disagreement = [sum(level.mean() for level in each.eval()(normal)) for each in (before, after)]
    assert disagreement[1] < disagreement[0] / 2


@pytest.mark.parametrize(("training", "learns"), [("frozen", False), ("joint", True), ("pretrained", True)])
def test_the_attention_is_trained_as_asked_and_the_teacher_never(
    training: str, learns: bool, wafers: Dataset, tmp_path: Path
) -> None:
    how = ("attention=channel", f"attention.training={training}", "attention.pretrain_epochs=1")
    untrained, _ = train(wafers, tmp_path / "a", *how, "optimizer.lr=1e-12", "optimizer.weight_decay=0")
    trained, _ = train(wafers, tmp_path / "b", *how)
    for part, changes in (("teacher", False), ("targets", learns), ("student", True)):
        pairs = zip(state(getattr(untrained, part)).values(), state(getattr(trained, part)).values(), strict=True)
        assert all(torch.allclose(one.float(), other.float(), atol=1e-5) for one, other in pairs) != changes, part


def test_pretrained_attention_stays_as_it_is_once_the_student_learns(wafers: Dataset, tmp_path: Path) -> None:
    how = ("attention=channel", "attention.training=pretrained", "attention.pretrain_epochs=1", "schedule=constant")
    first, _ = train(wafers, tmp_path / "a", *how, "trainer.max_epochs=2")
    later, _ = train(wafers, tmp_path / "b", *how, "trainer.max_epochs=4")
    weights = [dict(each.targets.named_parameters()) for each in (first, later)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_collapse_ends_the_training_and_says_what_to_do(
    wafers: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def constant(_: object, features: list[torch.Tensor]) -> list[torch.Tensor]:
        return [torch.ones_like(level) * level.mean().abs() for level in features]

    monkeypatch.setattr("waferlab.models.detector.Targets.forward", constant)
    with pytest.raises(WaferlabError, match=r"attention has collapsed: on level \d .* raise attention\.fidelity"):
        train(wafers, tmp_path, "attention=channel", "attention.training=joint")


def test_joint_training_as_configured_keeps_most_of_the_variety(wafers: Dataset, tmp_path: Path) -> None:
    how = ("attention=dual", "attention.training=joint", "trainer.max_epochs=8")
    found, _ = train(wafers, tmp_path, *how)
    features = found.eval().features(torch.from_numpy(wafers.part("train").normal().maps))
    with torch.no_grad():
        left = diversity(found.targets(features), "standard") / diversity(features, "standard")
    assert left.min() > 5 * COLLAPSED


def test_joint_training_without_fidelity_collapses_and_is_noticed(wafers: Dataset, tmp_path: Path) -> None:
    how = ("attention=channel", "attention.training=joint", "attention.fidelity=0", "attention.layer_norm=false")
    with pytest.raises(WaferlabError, match=r"attention has collapsed: .* raise attention\.fidelity \(now 0\)"):
        train(wafers, tmp_path, *how, "trainer.max_epochs=60", "optimizer.lr=0.05", "optimizer.weight_decay=0.1")


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("training", ["frozen", "joint", "pretrained"])
def test_only_what_learns_is_in_training_mode_whether_features_are_cached_or_not(
    training: str, cached: bool, wafers: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[tuple[int, bool, bool, bool]] = set()
    step = Anomaly.training_step

    def noted(task: Anomaly, batch: Batch, number: int) -> torch.Tensor:
        model = task.model
        parts = (model.teacher.pyramid, model.targets.attention, model.student.pyramid)
        seen.add((task.current_epoch, *(part.training for part in parts)))  # type: ignore[arg-type]
        return step(task, batch, number)

    monkeypatch.setattr(Anomaly, "training_step", noted)
    how = ("attention=dual", f"attention.training={training}", "attention.pretrain_epochs=1")
    train(wafers, tmp_path, *how, f"pyramid.cache_gb={4 * cached}")
    learns = {"frozen": (False, False), "joint": (True, True), "pretrained": (True, False)}[training]
    assert seen == {(epoch, False, learns[epoch], True) for epoch in (0, 1)}


def test_a_student_with_cached_features_learns_as_one_without(wafers: Dataset, tmp_path: Path) -> None:
    how = ("trainer.precision=32-true", "trainer.max_epochs=2")
    found = [train(wafers, tmp_path / str(cached), *how, f"pyramid.cache_gb={cached}")[0] for cached in (0, 4)]
    pairs = zip(*(state(each.student).values() for each in found), strict=True)
    assert all(torch.allclose(one.float(), other.float(), atol=1e-3) for one, other in pairs)


def test_epochs_of_pretraining_do_not_try_its_patience(wafers: Dataset, tmp_path: Path) -> None:
    how = ("attention=channel", "attention.training=pretrained", "attention.pretrain_epochs=4")
    _, fitted = train(wafers, tmp_path, *how, "trainer.max_epochs=6", "trainer.early_stopping=1")
    assert fitted.epochs > 4


def test_without_a_normal_wafer_there_is_nothing_to_learn_from(wafers: Dataset) -> None:
    abnormal = wafers.wafers[(wafers.wafers.labels.max(1) > 0).nonzero()[0]]
    with pytest.raises(WaferlabError, match="no wafer of the training part is without a defect"):
        abnormal.normal()
