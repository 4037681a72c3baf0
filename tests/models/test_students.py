"""The students: their published sizes, the maps they can read, and that folding batch norms changes no output."""

from pathlib import Path

import pytest
import torch
from torch import nn

from waferlab.config import ModelConfig
from waferlab.errors import ConfigError
from waferlab.models.classifier import Classifier
from waferlab.models.files import save_model
from waferlab.models.students import Compact, Net1, Net2
from waferlab.wafer import DEFECTS

KB = 1000


def classifier(name: str, size: tuple[int, int] = (52, 52), encoding: str = "signed") -> Classifier:
    config = {"_target_": f"waferlab.models.students.{name}", "encoding": encoding}
    return Classifier(ModelConfig.model_validate(config), DEFECTS, size, "student")


def trained(**arguments: object) -> Compact:
    """A compact student after a few steps, so that its batch norms have statistics of their own."""
    torch.manual_seed(0)
    network = Compact(2, 8, (52, 52), **arguments)  # type: ignore[arg-type]
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    for _ in range(5):
        loss = (network(torch.rand(16, 2, 52, 52)) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


@pytest.mark.parametrize(("name", "parameters", "kilobytes"), [("Net1", 60_928, 248), ("Net2", 4_628, 21)])
def test_published_students_have_the_published_sizes(
    name: str, parameters: int, kilobytes: int, tmp_path: Path
) -> None:
    student = classifier(name)
    assert student.parameters_count == parameters
    assert save_model(student, tmp_path / "student").stat().st_size < kilobytes * KB


@pytest.mark.parametrize("student", [Net1, Net2, Compact])
@pytest.mark.parametrize(("channels", "classes", "size"), [(1, 8, (52, 52)), (3, 5, (52, 64))])
def test_students_read_any_channels_and_sizes_and_give_one_logit_a_class(
    student: type[nn.Module], channels: int, classes: int, size: tuple[int, int]
) -> None:
    assert student(channels, classes, size)(torch.rand(2, channels, *size)).shape == (2, classes)


@pytest.mark.parametrize(("name", "smallest"), [("Net1", 36), ("Net2", 28)])
def test_maps_too_small_for_valid_convolutions_are_refused(name: str, smallest: int) -> None:
    assert classifier(name, (smallest, smallest))(torch.zeros(1, smallest, smallest, dtype=torch.uint8)).shape == (1, 8)
    with pytest.raises(ConfigError, match=f"student: maps of {smallest - 1}x52 dies are too small"):
        classifier(name, (smallest - 1, 52))


def test_compact_reads_small_maps() -> None:
    assert classifier("Compact", (12, 12))(torch.zeros(1, 12, 12, dtype=torch.uint8)).shape == (1, 8)


@pytest.mark.parametrize("arguments", [{"width": 0}, {"width": 513}, {"depths": (2, 0, 2)}, {"depths": (2, 2, 33)}])
def test_compact_students_out_of_range_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="width is 1 to 512, each depth 1 to 32"):
        Compact(1, 8, (52, 52), **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("depths", [(1, 1, 1), (2, 3, 1)])
def test_fusing_keeps_the_function_and_drops_the_norms(depths: tuple[int, int, int]) -> None:
    network = trained(width=8, depths=depths)
    fused = network.fuse()
    maps = torch.rand(32, 2, 52, 52)
    with torch.inference_mode():
        torch.testing.assert_close(fused.eval()(maps), network(maps), atol=1e-5, rtol=1e-5)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    assert size(fused) < size(network)


def test_fusing_leaves_the_original_as_it_was() -> None:
    network = trained(width=8)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    fused = network.fuse()
    for tensor in fused.state_dict().values():
        tensor.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_fusing_twice_is_fusing_once() -> None:
    fused = trained(width=8).fuse()
    again = fused.fuse()
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in fused.state_dict().items())


def test_unfusing_keeps_the_function_and_in_training_too() -> None:
    network = trained(width=8, depths=(1, 2, 1)).fuse()
    maps = torch.rand(64, 2, 52, 52)
    unfused = network.unfuse(maps)
    with torch.inference_mode():
        for mode in (False, True):
            torch.testing.assert_close(unfused.train(mode)(maps), network(maps), atol=1e-4, rtol=1e-4)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in unfused.modules()) == 9
    assert not any(module._forward_hooks for module in network.modules())


def size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
