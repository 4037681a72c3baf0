"""What experiments do with a network: make it with its initial weights, find a finished one, fit it."""

import importlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from optuna import TrialPruned
from torch import Tensor
from torch.nn.functional import pad

from waferlab.config import NETWORK, FitConfig, ModelConfig, TrackingConfig, TrainerConfig
from waferlab.data.batches import Batch, Batches
from waferlab.data.dataset import TAUGHT, UNLABELLED, Dataset, Part, Wafers
from waferlab.data.single_label import DEFECT, NORMAL, single_label
from waferlab.distillation.losses import Distillation
from waferlab.errors import ConfigError, WaferlabError
from waferlab.experiment.sweep import pruning
from waferlab.models.anomaly_model import AnomalyModel
from waferlab.models.classifier import Classifier
from waferlab.models.files import is_model_file, load_any, load_model
from waferlab.models.inference import Precision, hasten
from waferlab.models.layer_groups import layer_groups
from waferlab.models.students import Compact
from waferlab.models.trust import require_saveable
from waferlab.schema import Schema
from waferlab.tasks.fit import Fitted, device_of, fit
from waferlab.tasks.mixed_type import MixedType
from waferlab.tasks.task import Task
from waferlab.tracking.logger import RunLogger
from waferlab.tracking.registry import REGISTERED, model_file, registered
from waferlab.tracking.run import Run
from waferlab.tracking.tracker import Tracker
from waferlab.wafer import PIXELS


@dataclass(frozen=True)
class Place:
    """Where one training logs and saves, and what messages call it.

    Attributes:
        run: its MLflow run.
        folder: for checkpoints.
        title: beside the progress bar.
        path: prefix of its keys in the configuration.
        done: epochs that the run's logs have of other trainings.
        is_phase: it is a part of a training; the others' checkpoints lie beside its folder.
    """

    run: Run
    folder: Path
    title: str
    path: str = ""
    done: int = 0
    is_phase: bool = False

    def fit(self, task: Task, train: Batches, val: Batches, trainer: TrainerConfig) -> Fitted:
        """Fit a task here; what it came to is logged. A student's training may be ended by the sweep it is part of."""
        watch = None if self.path else pruning(self.done)
        try:
            fitted = fit(task, train, val, trainer, self.folder, self.title, RunLogger(self.run, self.done), watch)
        except TrialPruned:
            shutil.rmtree(self.folder.parent if self.is_phase else self.folder, ignore_errors=True)
            raise
        self.run.metrics(fitted.metrics)
        return fitted

    def phase(self, name: str, done: int) -> "Place":
        """The same for a part of a training, after so many epochs of the parts before it."""
        return replace(self, folder=self.folder / name, title=name, done=done, is_phase=True)


@dataclass(frozen=True)
class Answers:
    """What a teacher teaches.

    Attributes:
        wafers: the maps that it is asked about (N, H, W): the training maps, then others, whose labels nobody knows.
        train: its logits (V, N, C) on each view of each of them.
        val: its logits (N, C) on the validation maps.
    """

    wafers: Wafers
    train: Tensor
    val: Tensor


def fit_classifier(
    model: Classifier,
    loss: Distillation,
    how: FitConfig,
    seed: int,
    dataset: Dataset,
    answers: Answers | None,
    place: Place,
) -> Fitted:
    """Fit a classifier; the loss gets labels only where it says that it uses them."""
    trainer, device = how.trainer, device_of(how.trainer)
    parts = TAUGHT if answers else ("train",)
    train, val = answers.wafers if answers else dataset.part(*parts), dataset.part("val")
    labels = None
    if loss.uses_labels:
        labels = known_labels(dataset, parts, trainer.label_noise, seed)
        labels = pad(labels, (0, 0, 0, len(train) - len(labels)), value=torch.nan)
    batches = Batches(
        train, trainer.batch_size, labels=labels, teacher=answers.train if answers else None,
        shuffle=True, augment=trainer.augment, die_noise=trainer.die_noise, seed=seed, device=device,
    )  # fmt: skip
    val_labels = torch.from_numpy(val.labels).float()
    validation = Batch(torch.from_numpy(val.maps), val_labels, answers.val if answers else None)
    task = MixedType(model, loss, how, validation, seed, place.path)
    return place.fit(task, batches, Batches(val, 512, device=device), trainer)


def make_model(config: ModelConfig, dataset: Dataset, tracker: Tracker, path: str, seed: int) -> Classifier:
    """A network for a data set, with its initial weights.

    Raises:
        ConfigError: a network that can't be saved or trained.
        WaferlabError: its weights are missing, damaged or another network's.
    """
    require_saveable(config, path)
    if config.resolve() is Compact and config.checked(path, *NETWORK).get("fused"):
        raise ConfigError(f"{path}.fused: a network without batch norms is not for training; leave it out")
    torch.manual_seed(seed)
    if config.weights in ("none", "imagenet"):
        return Classifier(config, dataset.classes, dataset.wafers.size, path)
    file = model_reference(config.weights, tracker)
    if not is_model_file(file):  # a file of timm's
        return Classifier(config.model_copy(update={"weights": str(file)}), dataset.classes, dataset.wafers.size, path)
    model = Classifier(config.model_copy(update={"weights": "none"}), dataset.classes, dataset.wafers.size, path)
    source = load_model(file)
    require_match(source, dataset, f"{path}.weights={config.weights}")
    try:
        model.net.load_state_dict(unfused(source, dataset.part("train")).net.state_dict())
    except RuntimeError as error:
        there, here = (f"{one.target} {one.arguments or ''}".rstrip() for one in (source.config, config))
        raise WaferlabError(f"{path}.weights={config.weights}: that model is a {there}, this one a {here}") from error
    return model


def transferred(config: ModelConfig, dataset: Dataset, tracker: Tracker, seed: int) -> Classifier:
    """A network for a data set's classes whose body has the weights of another one, whatever its classes are.

    Raises:
        ConfigError: a network that can't be saved or trained.
        WaferlabError: the weights are missing, damaged or another network's.
    """
    if (config.encoding == PIXELS) != dataset.wafers.are_images:
        what, other = ("images", PIXELS) if dataset.wafers.are_images else ("wafer maps", "die_fail")
        raise ConfigError(f"backbone.encoding={config.encoding}: {what} want another one, such as {other}")
    own = config.model_copy(update={"weights": "none"})
    if config.weights in ("none", "imagenet") or not is_model_file(file := model_reference(config.weights, tracker)):
        return make_model(config, dataset, tracker, "backbone", seed)
    source = load_model(file)
    model = make_model(own, dataset, tracker, "backbone", seed)
    if source.config.encoding != config.encoding:
        raise WaferlabError(
            f"backbone.weights={config.weights}: that model was trained with encoding={source.config.encoding}, this "
            f"one has {config.encoding}: backbone.encoding={source.config.encoding}"
        )
    given, head = unfused(source, dataset.part("train")).net.state_dict(), set(layer_groups(model.net)[-1])
    try:
        missing, unknown = model.net.load_state_dict({k: v for k, v in given.items() if k not in head}, strict=False)
    except RuntimeError as error:
        raise _other_network(source, config, model.size) from error
    if set(missing) - head or unknown:
        raise _other_network(source, config, model.size)
    return model


def _other_network(source: Classifier, config: ModelConfig, size: tuple[int, int]) -> WaferlabError:
    if source.size != size and (source.config.target, source.config.arguments) == (config.target, config.arguments):
        (height, width), (found, across) = source.size, size
        return WaferlabError(
            f"backbone.weights={config.weights}: that network was made for {height}x{width}, and its weights fit no "
            f"other size, such as this data set's {found}x{across}"
        )
    there, here = (f"{one.target} {one.arguments or ''}".rstrip() for one in (source.config, config))
    return WaferlabError(f"backbone.weights={config.weights}: that model is a {there}, this one a {here}")


def unfused(model: Classifier, wafers: Wafers) -> Classifier:
    """The same function with batch norms to train, where they were folded away; in training, for wafers like these."""
    net = model.net
    if not isinstance(net, Compact) or not net.arguments["fused"]:
        return model
    config = model.config.model_copy(update={"fused": False})
    made = Classifier(config, model.classes, model.size)
    made.net = net.unfuse(model.encode(torch.from_numpy(wafers.maps[:: len(wafers) // 256 + 1])))
    return made


class TrainedModel(Schema):
    """A finished model, and where to look for it.

    Attributes:
        model: an MLflow run id or model file.
        modules: of your own networks, imported before the model is read.
        precision, compile: of its answers, as in `waferlab.models.inference.hasten`.
        tracking, store: where runs lie.
    """

    model: str
    modules: list[str]
    precision: Precision
    compile: bool
    tracking: TrackingConfig
    store: Path

    def read(self, tracker: Tracker) -> tuple[Path, Classifier | AnomalyModel]:
        """Its file, and the model.

        Raises:
            ConfigError: a module can't be imported, or there is nothing to compile with.
            WaferlabError: the model is missing or damaged, or names code that isn't trusted.
        """
        for module in self.modules:
            try:
                importlib.import_module(module)
            except ImportError as error:
                raise ConfigError(f"modules: {module} can't be imported ({error})") from error
        file = model_reference(self.model, tracker)
        model = load_any(file)
        if self.compile or self.precision != "32-true":
            hasten(model, self.precision, self.compile)
        return file, model

    def run_id(self, tracker: Tracker) -> str | None:
        """The run whose model is meant; None where it is a file."""
        if Path(self.model).exists():
            return None
        return registered(tracker, self.model) if self.model.startswith(REGISTERED) else self.model


def model_reference(reference: str, tracker: Tracker) -> Path:
    """The file that ``weights=`` or ``model=`` means: a path, the model of an MLflow run, or a registered one."""
    path = Path(reference)
    if path.suffix == ".pte":
        raise WaferlabError(f"{reference} is a program for ExecuTorch's runtime, which answers elsewhere")
    if path.exists():
        return path
    if reference.startswith(REGISTERED):
        return model_file(tracker, registered(tracker, reference))
    if len(reference) == 32 and all(letter in "0123456789abcdef" for letter in reference):
        return model_file(tracker, reference)
    raise WaferlabError(
        f"'{reference}' is neither a file that exists, nor the id of an MLflow run, nor a registered model "
        f"({REGISTERED}NAME@ALIAS)"
    )


def labelled_for(model: Classifier | AnomalyModel, dataset: Dataset) -> Dataset:
    """The data set with labels as the model has them: one class a wafer where it names one, otherwise its own."""
    if not isinstance(model, Classifier) or model.decision is None:
        return dataset
    return single_label(dataset, "defect" if model.classes == (NORMAL, DEFECT) else "class")


def require_match(model: Classifier | AnomalyModel, dataset: Dataset, what: str) -> None:
    """Refuse a model whose classes, where both have some, or map size aren't the data set's."""
    if isinstance(model, Classifier) and dataset.classes and model.classes != dataset.classes:
        raise WaferlabError(
            f"{what}: its classes ({', '.join(model.classes)}) are not those of the data set "
            f"{dataset.name} ({', '.join(dataset.classes)})"
        )
    require_size(model, dataset, what)


def require_size(model: Classifier | AnomalyModel, dataset: Dataset, what: str) -> None:
    """Refuse a model that reads maps, or images, of another size than the data set's."""
    (height, width), (found, across) = model.size, dataset.wafers.size
    if (height, width) != (found, across):
        of_images = isinstance(model, Classifier) and model.config.encoding == PIXELS
        kind, unit = ("images", f"pixels (dataset.size={height})") if of_images else ("wafer maps", "dies")
        raise WaferlabError(
            f"{what}: it reads {kind} of {height}x{width} {unit}, the data set {dataset.name} has {found}x{across}"
        )


def known_labels(dataset: Dataset, parts: Sequence[Part], noise: float, seed: int) -> Tensor:
    """Labels (N, C) float of the maps of some parts, a share of whose bits are flipped; NaN where nobody knows them."""
    labels = torch.from_numpy(dataset.part(*parts).labels).float()
    flipped = torch.rand(labels.shape, generator=torch.Generator().manual_seed(seed)) < noise
    labels = torch.where(flipped, 1 - labels, labels)
    labels[torch.from_numpy(dataset.within(UNLABELLED)[dataset.within(*parts)])] = torch.nan
    return labels
