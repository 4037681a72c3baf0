"""A classifier reads die states: the encoding is part of it, and so are class names and map size."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from waferlab.config import ModelConfig
from waferlab.data.dataset import Dataset
from waferlab.data.rows import Rows
from waferlab.errors import ConfigError
from waferlab.models.classifier import Classifier, predict_logits, view_logits
from waferlab.models.decision import Decision
from waferlab.models.students import Compact
from waferlab.wafer import DEFECTS


def classifier(name: str = "Compact", **given: object) -> Classifier:
    torch.manual_seed(0)
    config = {"_target_": f"waferlab.models.students.{name}", "encoding": "die_fail", **given}
    return Classifier(ModelConfig.model_validate(config), DEFECTS, (52, 52), "student")


@pytest.mark.parametrize(
    ("encoding", "channels"),
    [
        ("ordinal", [[0, 0.5, 1]]),
        ("signed", [[0, -1, 1]]),
        ("die_fail", [[0, 1, 1], [0, 0, 1]]),
        ("one_hot", [[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
    ],
)
def test_each_encoding_turns_no_die_pass_and_fail_into_its_channels(encoding: str, channels: list[list[float]]) -> None:
    row = torch.tensor([[[0, 1, 2]]], dtype=torch.uint8)
    encoded = classifier(encoding=encoding).encode(row)
    assert encoded.dtype == torch.float32
    assert encoded[0, :, 0].tolist() == channels


def test_encoding_keeps_every_die_in_its_place(tiny_dataset: Dataset) -> None:
    maps = torch.from_numpy(tiny_dataset.wafers.maps[:5])
    assert torch.equal(classifier(encoding="one_hot").encode(maps).argmax(1), maps.long())


def test_predict_answers_no_maps_at_all(tiny_dataset: Dataset) -> None:
    assert classifier().predict(tiny_dataset.wafers.maps[:0]).shape == (0, len(DEFECTS))


def test_predict_gives_a_bit_where_the_logit_is_above_0(tiny_dataset: Dataset) -> None:
    model, maps = classifier(), tiny_dataset.wafers.maps[:50]
    bits = model.predict(maps)
    assert (bits.dtype, bits.shape) == (np.uint8, (50, 8))
    np.testing.assert_array_equal(bits, predict_logits(model, maps).numpy() > 0)


def test_logits_do_not_depend_on_the_batch_they_are_computed_in(tiny_dataset: Dataset) -> None:
    model, maps = classifier(), tiny_dataset.wafers.maps[:50]
    whole, parts = predict_logits(model, maps), predict_logits(model, maps, batch_size=7)
    torch.testing.assert_close(whole, parts)
    assert not model.training


def test_averaged_over_views_a_map_and_its_views_have_the_same_logits(tiny_dataset: Dataset) -> None:
    model, maps = classifier(), tiny_dataset.wafers.maps[:20]
    averaged = predict_logits(model, maps, average_views=True)
    turned = predict_logits(model, np.rot90(maps, 1, (1, 2)).copy(), average_views=True)
    torch.testing.assert_close(averaged, turned)
    torch.testing.assert_close(averaged, view_logits(model, maps).mean(0))
    assert not torch.allclose(averaged, predict_logits(model, maps))


def test_images_on_the_disk_are_read_batch_by_batch() -> None:
    class Watched(Rows):
        most = 0

        def __getitem__(self, index: Any) -> NDArray[np.uint8]:
            found = super().__getitem__(index)
            self.most = max(self.most, len(found))
            return found

    rows: Any = Watched(np.random.default_rng(0).integers(0, 256, (600, 12, 12, 3), np.uint8))
    config = {"_target_": "waferlab.models.students.Compact", "encoding": "pixels"}
    model = Classifier(ModelConfig.model_validate(config), ("Normal", "Defect"), (12, 12))
    model.decision = Decision(all_views=True, normal=0)
    assert len(model.predict(rows)) == 600
    assert rows.most < 600


def test_fused_computes_the_same_and_says_of_itself_that_it_is_fused(tiny_dataset: Dataset) -> None:
    model, maps = classifier(width=8), tiny_dataset.wafers.maps[:20]
    fused = model.fused()
    assert isinstance(fused.net, Compact)
    assert fused.config.arguments["fused"] is True
    assert fused.parameters_count < model.parameters_count
    torch.testing.assert_close(predict_logits(fused, maps), predict_logits(model, maps), atol=1e-5, rtol=1e-5)


def test_a_network_without_norms_is_its_own_fusion() -> None:
    model = classifier("Net2")
    assert model.fused() is model


def test_imagenet_weights_for_a_network_that_has_none_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"student\.weights=imagenet: .*Net2 has no pretrained weights"):
        classifier("Net2", weights="imagenet")


def test_an_argument_that_the_network_does_not_have_is_named_with_its_place() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'student\.widht': did you mean 'width'"):
        classifier(widht=8)
