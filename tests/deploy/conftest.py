"""A tiny model of each kind, for the tests of this folder."""

from typing import Any

import pytest
import torch
from onnx import ModelProto
from torch.nn.functional import binary_cross_entropy_with_logits

from waferlab.config import ModelConfig
from waferlab.data.dataset import Dataset
from waferlab.deploy.formats import Source
from waferlab.deploy.onnx_files import as_onnx
from waferlab.experiment.compose import compose_overrides, configuration
from waferlab.models.anomaly_model import AnomalyModel
from waferlab.models.card import card_of
from waferlab.models.classifier import Classifier
from waferlab.models.decision import Decision
from waferlab.models.detector import build_detector
from waferlab.models.normality import build_normality


@pytest.fixture(scope="session")
def classifier(tiny_dataset: Dataset) -> Classifier:
    """A network with three blocks alike that has learnt something."""
    torch.manual_seed(0)
    given = {"_target_": "waferlab.models.students.Compact", "encoding": "die_fail", "width": 8, "depths": [3, 1, 1]}
    model = Classifier(ModelConfig.model_validate(given), tiny_dataset.classes, tiny_dataset.wafers.size).train()
    train, optimizer = tiny_dataset.part("train"), torch.optim.Adam(model.parameters(), 1e-2)
    maps, labels = torch.from_numpy(train.maps[:64]), torch.from_numpy(train.labels[:64]).float()
    for _ in range(30):
        optimizer.zero_grad()
        binary_cross_entropy_with_logits(model(maps), labels).backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="session")
def graph(classifier: Classifier) -> ModelProto:
    """The classifier in ONNX."""
    return as_onnx(classifier, classifier.size)


@pytest.fixture(scope="session")
def patterns(classifier: Classifier, tiny_dataset: Dataset) -> Source:
    """The classifier, and what goes with it."""
    return source_of(classifier, tiny_dataset)


@pytest.fixture(scope="session")
def inspector(classifier: Classifier, tiny_dataset: Dataset) -> Source:
    """The classifier as one that names one class, by all views of a map."""
    model = Classifier(classifier.config, ("Normal", *classifier.classes[1:]), classifier.size).eval()
    model.load_state_dict(classifier.state_dict())
    model.decision = Decision(2.0, True, "mean", 0, 0.5)
    return source_of(model, tiny_dataset)


@pytest.fixture(scope="session")
def detector(tiny_dataset: Dataset) -> Source:
    """An untrained detector: a teacher with attention, and a student."""
    small = ("task=anomaly", "backbone=compact", "backbone.width=4", "backbone.depths=[1,1,1]", "attention=channel")
    config: Any = configuration(compose_overrides("train", small))
    torch.manual_seed(0)
    made = build_detector(config.detector, tiny_dataset.classes, tiny_dataset.wafers.size)
    return source_of(calibrated(made, tiny_dataset), tiny_dataset)


@pytest.fixture(scope="session")
def normality(tiny_dataset: Dataset) -> Source:
    """An untrained network that draws wafers."""
    small = ("task=normality", "normality=vae", "normality.latent=2", "normality.width=2")
    config: Any = configuration(compose_overrides("train", small))
    torch.manual_seed(0)
    made = build_normality(config.model, tiny_dataset.classes, tiny_dataset.wafers.size)
    return source_of(calibrated(made, tiny_dataset), tiny_dataset)


def calibrated(model: Any, dataset: Dataset) -> AnomalyModel:
    train = dataset.part("train").maps
    if hasattr(model, "standardise"):
        model.standardise(train)
    model.calibrate(train)
    model.thresholds.copy_(torch.tensor([0.25, 0.5]))
    found: AnomalyModel = model
    return found


def source_of(model: Classifier | AnomalyModel, dataset: Dataset) -> Source:
    return Source(model, card_of(model), dataset.part("train").maps)
