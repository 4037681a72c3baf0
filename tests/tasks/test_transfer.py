"""Fine-tuning: what is frozen stays, each layer group learns at its rate, and losses weigh as they say."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from lightning.pytorch.loggers.logger import DummyLogger
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from waferlab.config import TransferConfig
from waferlab.data.dataset import Dataset
from waferlab.data.simulator import load
from waferlab.data.single_label import single_label
from waferlab.errors import WaferlabError
from waferlab.experiment.begin import Begun
from waferlab.experiment.compose import compose_overrides, configuration
from waferlab.experiment.networks import make_model, transferred
from waferlab.experiment.transfer import fitting, phases, prepare
from waferlab.models.classifier import Classifier
from waferlab.models.files import save_model
from waferlab.models.layer_groups import layer_groups
from waferlab.tasks.fit import fit
from waferlab.tasks.losses import CrossEntropy, Focal, class_weights
from waferlab.tasks.transfer import Transfer
from waferlab.tracking.tracker import Tracker

TINY = ("task=transfer", "backbone=timm", "backbone.name=test_resnet", "task.target=defect", "trainer.batch_size=32")


@pytest.fixture(scope="module")
def wafers() -> Dataset:
    """Half of them normal."""
    return single_label(load(maps=160, fractions=(0.6, 0.2, 0.2), normal_share=0.5), "defect")


@pytest.fixture
def begin(wafers: Dataset, tmp_path: Path) -> Callable[..., tuple[TransferConfig, Classifier, Begun]]:
    def begun(*overrides: str) -> tuple[TransferConfig, Classifier, Begun]:
        config = configuration(compose_overrides("train", [*TINY, *overrides]))
        assert isinstance(config, TransferConfig)
        tracker = Tracker(config.tracking, tmp_path)
        model = make_model(config.backbone, wafers, tracker, "backbone", 0)
        return config, model, Begun(wafers, config.loss.build("loss"), tracker, "")

    return begun


def state(model: Classifier) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.net.state_dict().items()}


class TestPhases:
    def test_the_head_learns_alone_on_a_body_that_stays_batch_norms_included(
        self, begin: Callable[..., tuple[TransferConfig, Classifier, Begun]], tmp_path: Path
    ) -> None:
        config, model, begun = begin("finetuning.head_epochs=1", "finetuning.head_lr=0.1")
        how = phases(config)["head"]
        assert (how.trainer.max_epochs, how.lr) == (1, 0.1)
        before, head = state(model), set(layer_groups(model.net)[-1])
        task, train, val = fitting(config, model, begun, how, head_only=True)
        fit(task, train, val, how.trainer, tmp_path / "head", "head", DummyLogger())
        changed = {name for name, tensor in state(model).items() if not torch.equal(tensor, before[name])}
        assert changed == head

    def test_then_all_layers_learn(
        self, begin: Callable[..., tuple[TransferConfig, Classifier, Begun]], tmp_path: Path
    ) -> None:
        config, model, begun = begin("trainer.max_epochs=1")
        how = phases(config)["body"]
        before = state(model)
        fitting(config, model, begun, phases(config)["head"], head_only=True)  # freezes
        task, train, val = fitting(config, model, begun, how, head_only=False)
        fit(task, train, val, how.trainer, tmp_path / "body", "body", DummyLogger())
        assert not [name for name, tensor in state(model).items() if torch.equal(tensor, before[name])]

    @pytest.mark.parametrize(
        ("overrides", "names"),
        [
            (["finetuning.head_epochs=0"], ["body"]),
            (["finetuning.body=false"], ["head"]),
            ([], ["head", "body"]),
        ],
    )
    def test_are_those_that_are_wanted(
        self, overrides: list[str], names: list[str], begin: Callable[..., tuple[TransferConfig, Classifier, Begun]]
    ) -> None:
        assert list(phases(begin(*overrides)[0])) == names


class TestBatches:
    @pytest.mark.parametrize("mix", ["mixup", "cutmix"])
    def test_are_mixed_in_inputs_and_labels_alike(
        self,
        mix: str,
        begin: Callable[..., tuple[TransferConfig, Classifier, Begun]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        config, model, begun = begin(f"mix={mix}", "mix.alpha=1")
        task, train, _ = fitting(config, model, begun, config.fit, head_only=False)
        labels = next(iter(train)).labels
        assert labels is not None
        assert task.mix is not None
        inputs, mixed = task.mix(labels[:, 1, None, None, None].expand(-1, 2, 52, 52).contiguous(), labels)
        assert inputs.mean((1, 2, 3)) == pytest.approx(mixed[:, 1], abs=1e-5), "as much of a class as is in the picture"
        assert mixed.sum(1) == pytest.approx(torch.ones(len(mixed)))
        assert ((mixed > 0) & (mixed < 1)).any()
        seen: list[Tensor] = []
        monkeypatch.setattr(task, "loss", lambda logits, targets, weights: seen.append(targets) or logits.sum())
        task.training_step(next(iter(train)), 0)
        assert ((seen[0] > 0) & (seen[0] < 1)).any(), "the loss sees what was mixed"

    def test_hold_the_labelled_share_of_the_training_maps(self, tmp_path: Path) -> None:
        given = ["dataset=half_normal", "dataset.maps=300", "labelled=0.1", f"store={tmp_path}"]
        config = configuration(compose_overrides("train", [*TINY, *given]))
        assert isinstance(config, TransferConfig)
        begun, model = prepare(config, "")
        _, train, _ = fitting(config, model, begun, config.fit, head_only=False)
        counts = [len(begun.dataset.part(part)) for part in ("train", "unlabelled")]
        assert counts[0] / sum(counts) == pytest.approx(0.1, abs=0.03)
        assert sum(len(batch.maps) for batch in train) == len(begun.dataset.part("train"))


class TestWeights:
    def test_of_another_size_are_told_apart_from_another_network(self, tmp_path: Path) -> None:
        config = configuration(compose_overrides("train", [*TINY, "backbone.name=test_vit"]))
        tracker = Tracker(config.tracking, tmp_path)
        small, large = (single_label(load(maps=60, size=size, normal_share=0.5), "defect") for size in (48, 80))
        file = save_model(make_model(config.backbone, small, tracker, "backbone", 0), tmp_path / "model.safetensors")
        backbone = config.backbone.model_copy(update={"weights": str(file)})
        with pytest.raises(WaferlabError, match=r"made for 48x48, and its weights fit no other size, such as .* 80x80"):
            transferred(backbone, large, tracker, 0)


class TestRates:
    def groups(self, task: Transfer) -> dict[str, float]:
        """The rate of each parameter."""
        names = {id(parameter): name for name, parameter in task.model.net.named_parameters()}
        lr = task.how.lr
        return {names[id(each)]: group.get("lr", lr) for group in task.parameter_groups() for each in group["params"]}

    def test_grow_from_group_to_group(self, begin: Callable[..., tuple[TransferConfig, Classifier, Begun]]) -> None:
        config, model, begun = begin("finetuning.lowest_lr=1e-5", "optimizer.lr=1e-2")
        rates = self.groups(fitting(config, model, begun, config.fit, head_only=False)[0])
        by_group = [{rates[name] for name in group} for group in layer_groups(model.net)]
        assert all(len(each) == 1 for each in by_group), "one rate a group"
        found = [next(iter(each)) for each in by_group]
        factors = [after / before for before, after in pairwise(found)]
        assert (found[0], found[-1]) == pytest.approx((1e-5, 1e-2))
        assert factors == pytest.approx([factors[0]] * len(factors))

    def test_are_one_where_no_lowest_is_given(
        self, begin: Callable[..., tuple[TransferConfig, Classifier, Begun]]
    ) -> None:
        config, model, begun = begin("optimizer.lr=1e-2")
        rates = self.groups(fitting(config, model, begun, config.fit, head_only=False)[0])
        assert set(rates.values()) == {1e-2}
        assert set(rates) == dict(model.net.named_parameters()).keys()

    def test_are_logged_as_that_of_the_head(
        self, begin: Callable[..., tuple[TransferConfig, Classifier, Begun]], tmp_path: Path
    ) -> None:
        class Logged(DummyLogger):
            rate = 0.0

            def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:  # type: ignore[override]
                self.rate = metrics.get("train/learning_rate", self.rate)

        given = ["finetuning.lowest_lr=1e-5", "optimizer.lr=1e-2", "schedule=constant", "trainer.max_epochs=1"]
        config, model, begun = begin(*given)
        logged = Logged()
        task, train, val = fitting(config, model, begun, config.fit, head_only=False)
        fit(task, train, val, config.trainer, tmp_path / "body", "body", logged)
        assert logged.rate == pytest.approx(1e-2)

    def test_biases_and_norms_do_not_decay(
        self, begin: Callable[..., tuple[TransferConfig, Classifier, Begun]]
    ) -> None:
        for lowest in ("null", "1e-4"):
            config, model, begun = begin(f"finetuning.lowest_lr={lowest}", "optimizer.weight_decay=0.3")
            task = fitting(config, model, begun, config.fit, head_only=False)[0]
            for group in task.parameter_groups():
                assert {each.ndim > 1 for each in group["params"]} == {group["weight_decay"] == 0.3}


LOGITS = torch.tensor([[2.0, -1, 0.5], [0.1, 0.2, 0.3], [-3, 4, 1]])
TRUE = torch.tensor([0, 2, 2])
ONES = torch.ones(3)


class TestLosses:
    def test_cross_entropy_is_torchs(self) -> None:
        weights, targets = torch.tensor([1.0, 2, 0.5]), one_hot(TRUE).float()
        expected = cross_entropy(LOGITS, TRUE, weights, reduction="sum", label_smoothing=0.1) / 3
        assert CrossEntropy(0.1)(LOGITS, targets, weights) == pytest.approx(float(expected))

    def test_focal_without_gamma_is_cross_entropy(self) -> None:
        targets = one_hot(TRUE).float()
        assert Focal(0.0)(LOGITS, targets, ONES) == pytest.approx(float(CrossEntropy()(LOGITS, targets, ONES)))

    def test_focal_hardly_counts_what_is_sure(self) -> None:
        sure, unsure = torch.tensor([[8.0, 0]]), torch.tensor([[0.0, 0]])
        target = torch.tensor([[1.0, 0]])
        plain, focal = CrossEntropy(), Focal(2.0)
        shares = [float(loss(sure, target, ONES[:2]) / loss(unsure, target, ONES[:2])) for loss in (plain, focal)]
        assert shares[1] < shares[0] / 1e5

    @pytest.mark.parametrize("loss", [CrossEntropy(), Focal(0.5), Focal(2.0)])
    def test_have_finite_gradients_where_the_network_is_sure(self, loss: nn.Module) -> None:
        logits = torch.tensor([[200.0, -200, 0]], requires_grad=True)
        loss(logits, torch.tensor([[1.0, 0, 0]]), ONES).backward()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()

    @pytest.mark.parametrize(("power", "shares"), [(0.0, [0.9, 0.09, 0.01]), (1.0, [1 / 3, 1 / 3, 1 / 3])])
    def test_class_weights_even_out_what_classes_count(self, power: float, shares: list[float]) -> None:
        counts = torch.tensor([900.0, 90, 10])
        weighed = class_weights(counts, power) * counts
        assert weighed / weighed.sum() == pytest.approx(torch.tensor(shares))
        assert float(weighed.sum()) == pytest.approx(1000), "the mean weight of a map is 1"

    def test_wrong_values_are_refused(self) -> None:
        for wrong in (lambda: CrossEntropy(1.0), lambda: CrossEntropy(0, 2), lambda: Focal(-1)):
            with pytest.raises(ValueError, match=r"share|power"):
                wrong()
