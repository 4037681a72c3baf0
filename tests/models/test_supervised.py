"""Classifiers as detectors."""

import pytest
import torch

from waferlab.config import ModelConfig
from waferlab.data.dataset import Dataset
from waferlab.models.classifier import Classifier, predict_logits
from waferlab.models.students import Compact
from waferlab.models.supervised import SupervisedDetector, class_activations
from waferlab.wafer import DEFECTS, NO_DIE

NETWORKS = {
    "compact": {"_target_": "waferlab.models.students.Compact", "width": 4, "depths": [1, 1, 1]},
    "timm": {"_target_": "waferlab.models.backbones.timm_model", "name": "test_resnet"},
    "net2": {"_target_": "waferlab.models.students.Net2"},
}


def classifier(name: str) -> Classifier:
    torch.manual_seed(0)
    return Classifier(ModelConfig.model_validate(NETWORKS[name] | {"encoding": "die_fail"}), DEFECTS, (52, 52)).eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_score_is_how_sure_the_classifier_is_of_any_defect(name: str, tiny_dataset: Dataset) -> None:
    model, maps = classifier(name), tiny_dataset.part("val").maps
    none = 1 - predict_logits(model, maps).sigmoid()
    assert SupervisedDetector(model).predict(maps)[1] == pytest.approx(-none.log().sum(1).numpy(), rel=1e-4)


@pytest.mark.parametrize("name", ["compact", "timm"])
def test_dies_are_scored_by_class_activation_and_places_without_a_die_are_not(name: str, tiny_dataset: Dataset) -> None:
    maps = tiny_dataset.part("val").maps
    die_maps, _ = SupervisedDetector(classifier(name)).predict(maps)
    assert die_maps is not None
    assert die_maps.shape == maps.shape
    assert (die_maps[maps == NO_DIE] == 0).all()
    assert (die_maps[maps != NO_DIE] > 0).all()


def test_a_network_that_does_not_end_in_pooling_says_nothing_of_dies(tiny_dataset: Dataset) -> None:
    assert SupervisedDetector(classifier("net2")).predict(tiny_dataset.part("val").maps)[0] is None


@torch.no_grad()
def test_the_mean_of_the_activations_of_a_pooling_network_is_its_logits() -> None:
    net, pixels = classifier("timm").net, torch.rand(3, 2, 52, 52)
    activations = class_activations(net, pixels)
    assert activations is not None
    assert torch.allclose(activations.mean((2, 3)), net(pixels), atol=1e-5)


@torch.no_grad()
def test_a_place_counts_for_a_compact_network_as_if_the_whole_wafer_were_like_it() -> None:
    net, pixels = classifier("compact").net, torch.rand(1, 2, 52, 52)
    assert isinstance(net, Compact)
    activations = class_activations(net, pixels)
    assert activations is not None
    place = net.features(pixels)[:, :, 3, 3]
    assert torch.allclose(activations[:, :, 3, 3], net.classify(torch.cat([place, place], 1)), atol=1e-5)
