"""Any timm network, fitted to wafer maps; nothing here needs a network connection."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from waferlab.config import ModelConfig
from waferlab.errors import ConfigError, WaferlabError
from waferlab.models.backbones import timm_model
from waferlab.models.classifier import Classifier
from waferlab.wafer import DEFECTS

SIZE = (52, 52)


def resolutions(model: nn.Module) -> list[int]:
    """Height of the four stages' outputs for maps of 52 dies."""
    heights: list[int] = []
    for stage in ("layer1", "layer2", "layer3", "layer4"):
        model.get_submodule(stage).register_forward_hook(lambda *called: heights.append(called[2].shape[2]))
    model(torch.zeros(1, 2, *SIZE))
    return heights


@pytest.fixture
def rgb_weights(tmp_path: Path) -> dict[str, torch.Tensor]:
    """What a file of timm's holds for a resnet10t trained on colour images of 1000 classes."""
    torch.manual_seed(0)
    return timm.create_model("resnet10t", in_chans=3, num_classes=1000).state_dict()


def test_resnet18_has_the_size_it_is_known_by() -> None:
    with torch.device("meta"):
        model = timm_model("resnet18", 3, 8, SIZE)
    assert sum(parameter.numel() for parameter in model.parameters()) == 11_180_616


def test_channels_and_classes_are_as_asked() -> None:
    assert timm_model("resnet10t", 2, 5, SIZE)(torch.zeros(3, 2, *SIZE)).shape == (3, 5)


def test_networks_of_a_fixed_input_size_get_that_of_the_maps() -> None:
    model = timm_model("vit_tiny_patch16_224", 2, 8, (64, 64))
    assert model(torch.zeros(1, 2, 64, 64)).shape == (1, 8)


def test_a_fixed_input_size_is_known_also_of_networks_that_have_no_weights_to_fetch() -> None:
    assert timm_model("test_vit_relpos", 2, 8, SIZE)(torch.zeros(1, 2, *SIZE)).shape == (1, 8)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("xcit_nano_12_p16_224", "`patch_size` should divide image dimensions evenly"),
        ("levit_128s", "The size of tensor a .*"),
        ("botnet26t_256", "AssertionError"),
    ],
    ids=["when made", "when used", "without a word"],
)
def test_a_network_that_cannot_read_such_maps_is_refused(name: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name} doesn't read maps of 52x52 dies: {reason}$"):
        timm_model(name, 2, 8, SIZE)


def test_trying_a_network_out_leaves_no_trace() -> None:
    torch.manual_seed(0)
    expected, drawn = timm.create_model("resnet10t", in_chans=2, num_classes=8).state_dict(), torch.rand(1)
    torch.manual_seed(0)
    model = timm_model("resnet10t", 2, 8, SIZE)
    assert torch.equal(torch.rand(1), drawn)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


def test_an_unknown_name_is_answered_with_known_ones_near_it() -> None:
    with pytest.raises(ConfigError, match=r"timm has no model 'net18'; near it: .*resnet18"):
        timm_model("net18", 2, 8, SIZE)
    with pytest.raises(ConfigError, match=r"timm has no model 'zzz'$"):
        timm_model("zzz", 2, 8, SIZE)


def test_stem_stride2_doubles_the_resolution_of_every_stage() -> None:
    original, stride2 = timm_model("resnet18", 2, 8, SIZE), timm_model("resnet18", 2, 8, SIZE, stem="stride2")
    assert resolutions(original.eval()) == [13, 7, 4, 2]
    assert resolutions(stride2.eval()) == [26, 13, 7, 4]


def test_stem_stride2_is_refused_where_there_is_no_such_stem() -> None:
    with pytest.raises(ConfigError, match="stem=stride2 is for ResNets; lcnet_035"):
        timm_model("lcnet_035", 2, 8, SIZE, stem="stride2")


def test_imagenet_weights_without_internet_say_what_else_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> nn.Module:
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(WaferlabError, match=r"resnet18 can't be fetched.*weights=none.*weights=FILE"):
        timm_model("resnet18", 2, 8, SIZE, pretrained="imagenet")


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_weights_from_a_local_file_fit_other_channels_and_classes(
    rgb_weights: dict[str, torch.Tensor], tmp_path: Path, ending: str
) -> None:
    file = tmp_path / f"resnet10t.{ending}"
    save_file(rgb_weights, file) if ending == "safetensors" else torch.save(rgb_weights, file)
    config = {"_target_": "waferlab.models.backbones.timm_model", "name": "resnet10t", "encoding": "die_fail"}
    model = Classifier(ModelConfig.model_validate(config | {"weights": str(file)}), DEFECTS, SIZE)
    state = model.net.state_dict()
    assert torch.equal(state["layer1.0.conv1.weight"], rgb_weights["layer1.0.conv1.weight"])
    assert state["conv1.0.weight"].shape[1] == 2
    assert state["fc.weight"].shape[0] == 8
    assert model.config.weights == str(file)


def test_a_local_file_that_is_no_weights_is_named(tmp_path: Path) -> None:
    for file, content in ((tmp_path / "weights.pth", b"not weights"), (tmp_path / "weights.safetensors", b"{}" * 50)):
        file.write_bytes(content)
        with pytest.raises(WaferlabError, match=file.name):
            timm_model("resnet10t", 2, 8, SIZE, pretrained=str(file))


def test_a_local_file_of_another_network_is_named(rgb_weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    file = tmp_path / "resnet10t.safetensors"
    save_file(rgb_weights, file)
    with pytest.raises(WaferlabError, match="these are no weights of lcnet_035"):
        timm_model("lcnet_035", 2, 8, SIZE, pretrained=str(file))
