"""Teachers, trained once and found again by what determines them; their outputs, computed once per data set."""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors.torch import load_file, save
from torch import Tensor

from waferlab.data.dataset import Wafers, digest
from waferlab.models.classifier import Classifier, view_logits
from waferlab.models.ensemble import Ensemble
from waferlab.models.files import load_model, save_model
from waferlab.progress import progress
from waferlab.whole_file import write_whole


@dataclass(frozen=True)
class Teacher:
    """A finished teacher, alone or the first of several, who teach the mean of their logits.

    Attributes:
        model: the network, in evaluation mode.
        file: its model file.
        run_id: the MLflow run that trained it, or None where it came from elsewhere.
        others: that teach beside it.
    """

    model: Classifier
    file: Path
    run_id: str | None
    others: tuple["Teacher", ...] = ()

    @property
    def members(self) -> tuple["Teacher", ...]:
        """Itself and the others."""
        return (self, *self.others)

    @property
    def network(self) -> Classifier | Ensemble:
        """What answers: its model, or all members' together."""
        return Ensemble([member.model for member in self.members]) if self.others else self.model

    @property
    def bytes(self) -> int:
        """Size of all members' files."""
        return sum(member.file.stat().st_size for member in self.members)

    @property
    def tags(self) -> dict[str, str]:
        """What the runs that use it say of it."""
        tags = {"teacher.file": ", ".join(str(member.file) for member in self.members)}
        return tags | ({"teacher.run_id": self.run_id} if self.run_id and not self.others else {})


class TeacherStore:
    """A folder of teachers, one subfolder each, safe to use from several processes at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, recipe: dict[str, Any], train: Callable[[Path], tuple[Classifier, str]]) -> Teacher:
        """The teacher that this recipe determines.

        Args:
            recipe: plain values of all that determines it: architecture, data fingerprint, training, seed.
            train: called where it is missing, with a folder for checkpoints that survives an interruption; returns the
                model and its run's id. Others who want the same teacher wait meanwhile.
        """
        key = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]
        home = self.folder / key
        file, facts = home / "model.safetensors", home / "teacher.json"
        with _locked(home / ".lock", f"another process is training teacher {key}; waiting for it"):
            if not facts.exists():
                model, run_id = train(home / "training")
                save_model(model, file)
                write_whole(facts, json.dumps({"run_id": run_id, "recipe": recipe}, indent=1).encode())
                shutil.rmtree(home / "training", ignore_errors=True)
        return Teacher(load_model(file), file, json.loads(facts.read_text())["run_id"])

    def logits(
        self,
        model: Classifier,
        wafers: Wafers,
        precision: str,
        device: torch.device,
        *,
        every_view: bool,
        average_views: bool = False,
    ) -> Tensor:
        """A teacher's logits (V, N, C) float32 on the CPU; computed once, then read from the store.

        Args:
            every_view: each dihedral view of every map; otherwise the maps as they are.
            average_views: one answer for all views of a map, the mean over them: V is 1.
        """
        every_view |= average_views
        weights = digest(tensor.cpu().float().numpy() for tensor in model.net.state_dict().values())
        name = digest([wafers.maps], f"{weights} {every_view} {precision} {model.config.model_dump_json()}")
        file = self.folder / "outputs" / f"{name}.safetensors"
        with _locked(file.with_suffix(".lock"), "another process is computing this teacher's outputs; waiting for it"):
            if not file.exists():
                with progress("teacher outputs", len(wafers)) as bar:
                    logits = view_logits(
                        model.to(device), wafers.maps, every_view, precision=precision, advance=bar.advance
                    )
                write_whole(file, save({"logits": logits}))
        logits = load_file(file)["logits"]
        return logits.mean(0, keepdim=True) if average_views else logits


@contextmanager
def _locked(path: Path, waiting: str) -> Iterator[None]:
    """Hold a lock; say why where it has to wait. The system frees it when its process ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=1)
    except Timeout:
        print(waiting, file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
