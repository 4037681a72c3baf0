"""The teacher of an experiment: found or trained, and asked."""

import hashlib
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from waferlab.config import TaughtConfig
from waferlab.data.dataset import CODES, TAUGHT, Dataset, Wafers, maps_alone
from waferlab.distillation.losses import Supervised
from waferlab.distillation.teacher_store import Teacher, TeacherStore
from waferlab.experiment.networks import Answers, Place, fit_classifier, make_model, model_reference, require_match
from waferlab.models.classifier import Classifier
from waferlab.models.files import load_model, save_model
from waferlab.tasks.fit import device_of
from waferlab.tracking.run import MODEL_FILE, MODEL_FOLDER, TEACHER, best_metrics
from waferlab.tracking.tracker import Tracker

#: Part of what determines a teacher: raised when the code comes to train another one by the same configuration.
RECIPE_VERSION = 3
#: What of a teacher's configuration says nothing of how it is trained; its data is known by a fingerprint.
_NO_RECIPE = {"model", "average_views", "training", "dataset"}


#: What of an experiment's configuration its teacher depends on.
_TEACHERS = ("backbone", "dataset", "labelled", "teacher", "withhold")


@dataclass(frozen=True)
class Teachers:
    """The teacher that a configuration and a data set determine."""

    config: TaughtConfig
    dataset: Dataset
    tracker: Tracker

    @property
    def store(self) -> TeacherStore:
        """Where teachers and their outputs are kept."""
        return TeacherStore(self.config.store / "teachers")

    def answers(self, teacher: Teacher, every_view: bool, extra: Wafers | None = None) -> Answers:
        """What a student is taught: on each view of the training maps if it sees them in every view.

        Args:
            extra: wafers that it is taught on, too.
        """
        precision = self.config.teacher.trainer.precision
        shown = [maps_alone(self.dataset.part(*TAUGHT)), *([] if extra is None else [extra])]
        train = torch.cat([self.logits(teacher, wafers, precision, every_view) for wafers in shown], 1)
        return Answers(maps_alone(*shown), train, self.logits(teacher, self.dataset.part("val"), precision)[0])

    def logits(self, teacher: Teacher, wafers: Wafers, precision: str, every_view: bool = False) -> Tensor:
        """The teacher's logits (V, N, C), from the store or now; V is 1 where it answers with a mean over views."""
        found = (
            self.store.logits(
                member.model, wafers, precision, device_of(self.config.teacher.trainer),
                every_view=every_view, average_views=self.config.teacher.average_views,
            )
            for member in teacher.members
        )  # fmt: skip
        return reduce(torch.add, found) / len(teacher.members)

    def get(self) -> Teacher:
        """The experiment's teacher: the one it names, or those, or the backbone, trained now if nobody has before."""
        config = self.config
        if config.teacher.model:
            names = [config.teacher.model] if isinstance(config.teacher.model, str) else config.teacher.model
            first, *others = map(self._finished, names)
            return replace(first, others=tuple(others))
        recipe = config.teacher.model_dump(mode="json", by_alias=True, exclude=_NO_RECIPE) | {
            "version": RECIPE_VERSION,
            "backbone": config.backbone.model_dump(mode="json", by_alias=True) | {"weights": self._weights()},
            "dataset": self.dataset.fingerprint,
        }
        return self.store.get(recipe, self._train_teacher)

    def validation(self, teacher: Teacher) -> dict[str, float]:
        """Validation metrics of the weights that were kept when it was trained; empty where that is not known."""
        run = self.tracker.find(teacher.run_id) if teacher.run_id else None
        return best_metrics(run) if run else {}

    def _finished(self, reference: str) -> Teacher:
        """One that the experiment names."""
        teacher = finished_teacher(reference, self.tracker)
        require_match(teacher.model, self.dataset, f"teacher.model={reference}")
        return teacher

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
                run.parameters({key: value for key, value in config.plain().items() if key in _TEACHERS})
                run.tags(dataset_tags(self.dataset))
                folder.mkdir(parents=True, exist_ok=True)
                begun.write_text(run.id)
            place = Place(run, folder, "teacher", "teacher.")
            fit_classifier(model, Supervised(), config.teacher, config.teacher.seed, self.dataset, None, place)
            run.file(save_model(model, folder / MODEL_FILE), MODEL_FOLDER)
        return model, run.id


def finished_teacher(reference: str, tracker: Tracker) -> Teacher:
    """The classifier that ``teacher.model=`` names.

    Raises:
        WaferlabError: it is missing or damaged, or names code that isn't trusted.
    """
    file = model_reference(reference, tracker)
    return Teacher(load_model(file), file, None if file == Path(reference) else reference)


def dataset_tags(dataset: Dataset) -> dict[str, str]:
    """What a run says of its data."""
    counts = {part: np.count_nonzero(dataset.within(part)) for part in CODES}
    sizes = ", ".join(f"{part} {count}" for part, count in counts.items() if count)
    facts = {"fingerprint": dataset.fingerprint, "split": sizes} | dataset.facts
    return {"dataset": dataset.name} | {f"dataset.{name}": str(fact) for name, fact in facts.items()}
