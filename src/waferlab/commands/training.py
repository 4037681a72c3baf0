"""What `train` does with a network: make it, fit it, find or make its teacher."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from waferlab.config import Config, FitConfig, ModelConfig
from waferlab.data.batches import Batch, Batches
from waferlab.data.dataset import PARTS, Dataset, Part, Wafers
from waferlab.distillation.losses import Distillation, Supervised
from waferlab.distillation.teacher_store import Teacher, TeacherStore
from waferlab.errors import ConfigError, WaferlabError
from waferlab.models.classifier import Classifier
from waferlab.models.files import is_model_file, load_model, require_saveable, save_model
from waferlab.models.students import Compact
from waferlab.tasks.fit import Fitted, device_of, fit
from waferlab.tasks.mixed_type import MixedType
from waferlab.tracking.logger import RunLogger
from waferlab.tracking.run import MODEL_FILE, MODEL_FOLDER, TEACHER, Run, Tracker

#: Part of what determines a teacher: raised when the code comes to train another one by the same configuration.
RECIPE_VERSION = 3


@dataclass(frozen=True)
class Experiment:
    """What the trainings of one experiment share."""

    config: Config
    dataset: Dataset
    tracker: Tracker
    teachers: TeacherStore

    def fit(
        self, model: Classifier, loss: Distillation, how: FitConfig, seed: int, teacher: Teacher | None, place: "Place"
    ) -> Fitted:
        """Fit a network; the loss gets labels and teacher outputs only where it says that it uses them."""
        trainer, device = how.trainer, device_of(how.trainer)
        train, val = self.dataset.part("train"), self.dataset.part("val")
        outputs, val_outputs = None, None
        if teacher is not None and loss.uses_teacher:
            precision = self.config.teacher.trainer.precision
            outputs = self.answers(teacher, "train", precision, every_view=trainer.augment)
            val_outputs = self.answers(teacher, "val", precision)[0]
        labels = noisy_labels(train, trainer.label_noise, seed) if loss.uses_labels else None
        batches = Batches(
            train, trainer.batch_size, labels=labels, teacher=outputs,
            shuffle=True, augment=trainer.augment, die_noise=trainer.die_noise, seed=seed, device=device,
        )  # fmt: skip
        val_batches = Batches(val, 512, device=device)
        validation = Batch(torch.from_numpy(val.maps), torch.from_numpy(val.labels).float(), val_outputs)
        task = MixedType(model, loss, how, validation, seed, place.path)
        return fit(task, batches, val_batches, trainer, place.folder, place.title, RunLogger(place.run))

    def answers(self, teacher: Teacher, part: Part, precision: str, every_view: bool = False) -> Tensor:
        """The teacher's logits (V, N, C) on a part, from the store or now; V is 1 where it answers with their mean."""
        return self.teachers.logits(
            teacher.model, self.dataset.part(part), precision, device_of(self.config.teacher.trainer),
            every_view=every_view, average_views=self.config.teacher.average_views,
        )  # fmt: skip

    def teacher(self) -> Teacher:
        """The experiment's teacher: the one it names, or the backbone, trained now if nobody has before."""
        config = self.config
        if config.teacher.model:
            file = model_reference(config.teacher.model, self.tracker)
            model = load_model(file)
            require_match(model, self.dataset, f"teacher.model={config.teacher.model}")
            return Teacher(model, file, None if file == Path(config.teacher.model) else config.teacher.model)
        recipe = config.teacher.model_dump(mode="json", by_alias=True, exclude={"model", "average_views"}) | {
            "version": RECIPE_VERSION,
            "backbone": config.backbone.model_dump(mode="json", by_alias=True) | {"weights": self._weights()},
            "dataset": self.dataset.fingerprint,
        }
        return self.teachers.get(recipe, self._train_teacher)

    def _weights(self) -> str:
        """What the backbone starts from: a file by its content, since another one may come to lie in its place."""
        file = Path(self.config.backbone.weights)
        return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else self.config.backbone.weights

    def _train_teacher(self, folder: Path) -> tuple[Classifier, str]:
        """Train the backbone on labels, as an MLflow run of its own; an interrupted one goes on."""
        config, begun = self.config, folder / "run_id"
        run_id = begun.read_text() if begun.exists() else None
        if run_id is not None and self.tracker.find(run_id) is None:
            run_id = None  # it was logged elsewhere; its checkpoints are as good as ever
        model = make_model(config.backbone, self.dataset, self.tracker, "backbone", config.teacher.seed)
        with self.tracker.run("teacher", {**config.tracking.tags, "role": TEACHER}, run_id) as run:
            if run_id is None:
                run.parameters(config.plain())
                run.tags(dataset_tags(self.dataset))
                folder.mkdir(parents=True, exist_ok=True)
                begun.write_text(run.id)
            place = Place(run, folder, "teacher", "teacher.")
            fitted = self.fit(model, Supervised(), config.teacher, config.teacher.seed, None, place)
            run.metrics({"best_validation": fitted.best_score, "epochs": fitted.epochs})
            run.file(save_model(model, folder / MODEL_FILE), MODEL_FOLDER)
        return model, run.id


@dataclass(frozen=True)
class Place:
    """Where one training logs and saves, and what messages call it.

    Attributes:
        run: its MLflow run.
        folder: for checkpoints.
        title: beside the progress bar.
        path: prefix of its keys in the configuration.
    """

    run: Run
    folder: Path
    title: str
    path: str = ""


def make_model(config: ModelConfig, dataset: Dataset, tracker: Tracker, path: str, seed: int) -> Classifier:
    """A network for a data set, with its initial weights."""
    require_saveable(config, path)
    if config.resolve() is Compact and config.checked(path, "in_channels", "num_classes", "size").get("fused"):
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
    net = source.net
    if isinstance(net, Compact) and net.arguments["fused"]:
        maps = dataset.part("train").maps
        net = net.unfuse(source.encode(torch.from_numpy(maps[:: len(maps) // 256 + 1])))
    try:
        model.net.load_state_dict(net.state_dict())
    except RuntimeError as error:
        there, here = (f"{one.target} {one.arguments or ''}".rstrip() for one in (source.config, config))
        raise WaferlabError(f"{path}.weights={config.weights}: that model is a {there}, this one a {here}") from error
    return model


def model_reference(reference: str, tracker: Tracker) -> Path:
    """The file that ``weights=`` or ``model=`` means: a path, or the model of an MLflow run."""
    path = Path(reference)
    if path.exists():
        return path
    if len(reference) == 32 and all(letter in "0123456789abcdef" for letter in reference):
        return tracker.model_file(reference)
    raise WaferlabError(f"'{reference}' is neither a file that exists nor the id of an MLflow run")


def require_match(model: Classifier, dataset: Dataset, what: str) -> None:
    """Refuse a model whose classes or map size aren't the data set's."""
    if model.classes != dataset.classes:
        raise WaferlabError(
            f"{what}: its classes ({', '.join(model.classes)}) are not those of the data set "
            f"{dataset.name} ({', '.join(dataset.classes)})"
        )
    if model.size != dataset.wafers.size:
        raise WaferlabError(f"{what}: it reads maps of {model.size} dies, {dataset.name} has {dataset.wafers.size}")


def dataset_tags(dataset: Dataset) -> dict[str, str]:
    """What a run says of its data."""
    sizes = ", ".join(f"{name} {np.count_nonzero(dataset.split == code)}" for code, name in enumerate(PARTS))
    facts = {"fingerprint": dataset.fingerprint, "split": sizes} | dataset.facts
    return {"dataset": dataset.name} | {f"dataset.{name}": str(fact) for name, fact in facts.items()}


def noisy_labels(wafers: Wafers, share: float, seed: int) -> Tensor:
    """Labels (N, C) float, a share of whose bits are flipped."""
    labels = torch.from_numpy(wafers.labels).float()
    flipped = torch.rand(labels.shape, generator=torch.Generator().manual_seed(seed)) < share
    return torch.where(flipped, 1 - labels, labels)
