"""Models of normality in MLflow: their graphs score as they do, with die maps only where there are any."""

from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pytest
import torch

from waferlab.config import NormalityConfig
from waferlab.data.dataset import Dataset
from waferlab.experiment.compose import compose_overrides, configuration
from waferlab.models.normality import Normality, build_normality
from waferlab.tracking.mlflow_model import save_mlflow_model

COMPACT = ("backbone.width=4", "backbone.depths=[1,1,1]")


def learnt(dataset: Dataset, *overrides: str) -> Normality:
    config = configuration(compose_overrides("train", ["task=normality", *COMPACT, *overrides]))
    assert isinstance(config, NormalityConfig)
    torch.manual_seed(0)
    model, maps = build_normality(config.model, dataset.classes, dataset.wafers.size), dataset.part("train").maps
    if config.uses_features:
        model.gather(maps, np.zeros(len(maps), bool), seed=0)
    model.calibrate(maps)
    model.thresholds.copy_(torch.tensor([0.5, 0.5]))
    return model


@pytest.mark.parametrize(
    ("overrides", "outputs"),
    [
        (("normality=gaussian",), ["abnormal", "score"]),
        (("normality=neighbours", "features.of=place", "normality.memory=20"), ["abnormal", "score", "die_map"]),
        (("normality=vae", "normality.latent=2", "normality.width=2"), ["abnormal", "score", "die_map"]),
    ],
    ids=["gaussian of wafers", "neighbours of places", "vae"],
)
def test_a_graph_scores_as_its_model_does(
    overrides: tuple[str, ...], outputs: list[str], tiny_dataset: Dataset, tmp_path: Path
) -> None:
    model, maps = learnt(tiny_dataset, *overrides), tiny_dataset.part("val").maps[:7]
    save_mlflow_model(model, tmp_path / "model", maps[:1])
    loaded: Any = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    assert [each.name for each in loaded.metadata.get_output_schema().inputs] == outputs
    found, (die_maps, scores) = loaded.predict(maps), model.predict(maps)
    assert list(found) == outputs
    np.testing.assert_allclose(found["score"], scores, rtol=1e-3, atol=1e-3)
    assert np.array_equal(found["abnormal"], found["score"] >= 0.5)
    if die_maps is not None:
        np.testing.assert_allclose(found["die_map"], die_maps, rtol=1e-3, atol=1e-3)
