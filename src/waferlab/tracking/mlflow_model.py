"""A trained model as an MLflow model: `mlflow.pyfunc` loads it, `mlflow models serve` serves it, without torch."""

import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Final

import mlflow.onnx
import numpy as np
import onnx
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec
from numpy.typing import NDArray

from waferlab.models.anomaly_model import AnomalyModel
from waferlab.models.classifier import Classifier
from waferlab.models.graph import outputs_of, save_graph
from waferlab.progress import note
from waferlab.tracking.run import MODEL_FILE, MODEL_FOLDER, Run

#: All that its environment needs.
REQUIRED: Final = ("mlflow", "numpy", "onnx", "onnxruntime")
#: Types and shapes behind the first axis, that of the wafers, of a graph's outputs; H and W are those of a map.
_OUTPUTS: Final = {
    "bits": ("uint8", "C"),
    "probabilities": ("float32", "C"),
    "abnormal": ("uint8", ""),
    "score": ("float32", ""),
    "die_map": ("float32", "HW"),
}


def keep_model(
    run: Run, model: Classifier | AnomalyModel, file: Path, example: NDArray[np.uint8] | None, folder: Path
) -> None:
    """Keep a model with its run: its own file, and an MLflow model around it, where its network can be exported.

    Args:
        file: the model's.
        example: a map (1, H, W) uint8, or an image (1, H, W, C), that shows what it reads; None for the file alone.
        folder: for what is written; it has to stay until the run has ended.
    """
    if example is not None:
        try:
            save_mlflow_model(model, folder / MODEL_FOLDER, example)
            run.folder(folder / MODEL_FOLDER, MODEL_FOLDER)
        except Exception as error:  # whatever stops an exporter, a training that has come this far doesn't end by it
            note(f"MLflow keeps {MODEL_FILE} alone, as this network can't be exported to ONNX: {_brief(error)}")
    run.file(file, MODEL_FOLDER)


def save_mlflow_model(model: Classifier | AnomalyModel, folder: Path, example: NDArray[np.uint8]) -> None:
    """Write an MLflow model (flavour ONNX) with signature, example, requirements and the names of its classes."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    graph = save_graph(model, example.shape[1:], folder.parent / "model.onnx")
    classes = list(model.classes) if isinstance(model, Classifier) else ["abnormal"]
    sizes = {"C": (len(classes),), "HW": model.size, "": ()}
    outputs: list[ColSpec | TensorSpec] = [
        TensorSpec(np.dtype(_OUTPUTS[name][0]), (-1, *sizes[_OUTPUTS[name][1]]), name) for name in outputs_of(model)
    ]
    mlflow.onnx.save_model(
        onnx.load(graph), str(folder), save_as_external_data=False, input_example=example,
        signature=ModelSignature(Schema([TensorSpec(np.dtype("uint8"), (-1, *example.shape[1:]))]), Schema(outputs)),
        onnx_execution_providers=["CPUExecutionProvider"],
        pip_requirements=[f"{name}=={version(name)}" for name in REQUIRED],
        metadata={"classes": classes} | ({"states": "0 no die, 1 pass, 2 fail"} if example.ndim == 3 else {}),
    )  # fmt: skip
    graph.unlink()


def _brief(error: BaseException) -> str:
    """What an error is about: the first line of what was its cause in the end."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).splitlines() or [type(error).__name__])[0].partition("\x1b")[0][:200].rstrip()
