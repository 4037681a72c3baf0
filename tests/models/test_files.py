"""Model files come back as they went; a hostile one runs nothing, allocates nothing huge, and is named."""

import errno
import json
import os
import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from waferlab.config import ModelConfig
from waferlab.data.dataset import Dataset
from waferlab.errors import ConfigError, WaferlabError
from waferlab.models.classifier import Classifier, predict_logits
from waferlab.models.files import _layout, is_model_file, load_model, save_model
from waferlab.models.trust import require_saveable
from waferlab.schema import Component
from waferlab.wafer import DEFECTS
from waferlab.whole_file import write_whole

STUDENTS = "waferlab.models.students"
BACKBONES = "waferlab.models.backbones"


def classifier(target: str = f"{STUDENTS}.Compact", **arguments: object) -> Classifier:
    torch.manual_seed(0)
    config = {"_target_": target, "encoding": "die_fail", **arguments}
    return Classifier(ModelConfig.model_validate(config), DEFECTS, (52, 52)).eval()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def forge(file: Path, network: dict[str, Any], weights: Tensor | None = None, **facts: Any) -> Path:
    """A file whose facts are a real one's but for those given."""
    real = {"model": {"encoding": "signed", "weights": "none"} | network, "classes": DEFECTS, "size": [52, 52]}
    layout = _layout(classifier(f"{STUDENTS}.Net2", encoding="signed").net.state_dict())
    text = json.dumps(real | {"layout": layout} | facts)
    save_file({"weights": torch.zeros(4628) if weights is None else weights}, file, {"waferlab": text})
    return file


class TestRoundTrip:
    @pytest.mark.parametrize(
        ("target", "arguments"),
        [
            (f"{STUDENTS}.Net1", {}),
            (f"{STUDENTS}.Net2", {}),
            (f"{STUDENTS}.Compact", {"width": 8, "depths": [1, 2, 1]}),
            (f"{BACKBONES}.timm_model", {"name": "lcnet_035"}),
            (f"{BACKBONES}.timm_model", {"name": "resnet10t", "stem": "original"}),
        ],
        ids=["net1", "net2", "compact", "timm", "resnet"],
    )
    def test_logits_are_identical(
        self, target: str, arguments: dict[str, object], file: Path, tiny_dataset: Dataset
    ) -> None:
        model, maps = classifier(target, **arguments), tiny_dataset.wafers.maps[:20]
        loaded = load_model(save_model(model, file))
        assert torch.equal(predict_logits(loaded, maps), predict_logits(model, maps))
        assert (loaded.classes, loaded.size, loaded.config.encoding) == (DEFECTS, (52, 52), "die_fail")
        assert not loaded.training

    def test_state_that_is_not_saved_is_rebuilt(self, file: Path) -> None:
        """Some networks compute tables, such as relative positions, that are no part of their state."""
        loaded = load_model(
            save_model(classifier(f"{BACKBONES}.timm_model", name="swin_tiny_patch4_window7_224"), file)
        )
        assert not any(tensor.is_meta for tensor in (*loaded.parameters(), *loaded.buffers()))

    def test_a_fused_student_comes_back_fused(self, file: Path, tiny_dataset: Dataset) -> None:
        model, maps = classifier(width=8).fused(), tiny_dataset.wafers.maps[:20]
        loaded = load_model(save_model(model, file))
        assert torch.equal(predict_logits(loaded, maps), predict_logits(model, maps))
        assert not any(isinstance(module, nn.BatchNorm2d) for module in loaded.modules())

    def test_initial_weights_are_not_asked_for_again(self, file: Path) -> None:
        model = classifier(f"{STUDENTS}.Net2")
        model.config = model.config.model_copy(update={"weights": "imagenet"})
        assert load_model(save_model(model, file)).config.weights == "none"

    def test_a_model_file_says_that_it_is_one(self, file: Path, tmp_path: Path) -> None:
        assert is_model_file(save_model(classifier(), file))
        save_file({"weights": torch.zeros(3)}, tmp_path / "other.safetensors")
        assert not is_model_file(tmp_path / "other.safetensors")
        assert not is_model_file(tmp_path / "absent")

    def test_a_network_of_the_users_own_loads_once_its_module_is_imported(
        self, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        module = types.ModuleType("my_networks")

        class Mean(nn.Sequential):
            def __init__(self, in_channels: int, num_classes: int, size: tuple[int, int]) -> None:
                super().__init__(nn.Flatten(), nn.Linear(in_channels * size[0] * size[1], num_classes))

        Mean.__module__ = module.__name__
        module.Mean = Mean  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        save_model(classifier("my_networks.Mean"), file)
        assert isinstance(load_model(file).net, Mean)
        monkeypatch.delitem(sys.modules, module.__name__)
        with pytest.raises(WaferlabError, match=r"refused, it names 'my_networks\.Mean'.*import its module first"):
            load_model(file)

    @pytest.mark.parametrize("target", ["waferlab.models.files.load_model", "torch.nn.Linear", "waferlab.cli.main"])
    def test_what_no_file_may_name_is_refused_before_it_is_trained(self, target: str) -> None:
        config = ModelConfig.model_validate({"_target_": target, "encoding": "die_fail"})
        with pytest.raises(ConfigError, match=r"^student\._target_=.*: give a network class"):
            require_saveable(config, "student")


class Bomb:
    """A pickle that creates a file when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.mark),)


class TestHostileFiles:
    def test_the_files_forged_here_would_load_but_for_their_faults(self, file: Path) -> None:
        assert load_model(forge(file, {"_target_": f"{STUDENTS}.Net2"})).parameters_count == 4628

    def test_a_missing_file(self, file: Path) -> None:
        with pytest.raises(WaferlabError, match=r"model\.safetensors: no such model file"):
            load_model(file)

    def test_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match="no model file of Waferlab"):
            load_model(tmp_path)

    @pytest.mark.parametrize("dump", [pickle.dumps, None], ids=["pickle", "torch.save"])
    def test_a_renamed_pickle_runs_nothing(
        self, file: Path, tmp_path: Path, dump: Callable[[object], bytes] | None
    ) -> None:
        bomb = Bomb(tmp_path / "executed")
        file.write_bytes(dump(bomb)) if dump else torch.save(bomb, file)
        with pytest.raises(WaferlabError, match=r"model\.safetensors: this is no model file of Waferlab"):
            load_model(file)
        assert not bomb.mark.exists()

    @pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.5, 0.999])
    def test_a_truncated_file(self, file: Path, share: float) -> None:
        whole = save_model(classifier(), file).read_bytes()
        file.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(WaferlabError, match=r"model\.safetensors: .*damaged"):
            load_model(file)

    @pytest.mark.parametrize("seed", range(5))
    def test_random_bytes(self, file: Path, seed: int) -> None:
        file.write_bytes(np.random.default_rng(seed).bytes(3000))
        with pytest.raises(WaferlabError, match=r"model\.safetensors: .*damaged"):
            load_model(file)

    @pytest.mark.parametrize(
        "target",
        [
            "os.system",
            "os.mkdir",
            "builtins.eval",
            "waferlab.models.files.write_whole",
            "waferlab.data.arrays.load",
            "waferlab.models.backbones.timm.create_model",
            "waferlab.models.students.torch.load",
            "waferlab.models.students.fuse_conv_bn_eval",
            "waferlab.models.students.Absent",
            "waferlab.models.backbones.nn.Linear",
            "waferlab.models.backbones.WaferlabError",
            "torch.hub.load",
            "absent_module.Network",
            "",
        ],
    )
    def test_code_that_is_no_network_is_never_built(
        self, file: Path, target: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def built(self: Component, *_: object, **__: object) -> NoReturn:
            pytest.fail(f"{self.target} was called")

        forge(file, {"_target_": target})
        monkeypatch.setattr(Component, "build", built)
        with pytest.raises(WaferlabError, match=r"model\.safetensors: refused, it names"):
            load_model(file)

    @pytest.mark.parametrize("weights", [{"weights": "imagenet"}, {"pretrained": "imagenet"}, {"pretrained": "x.pth"}])
    def test_no_file_can_send_for_other_weights(
        self, file: Path, weights: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fetched(*_: object, **__: object) -> NoReturn:
            pytest.fail("timm was asked to make a network")

        forge(file, {"_target_": f"{BACKBONES}.timm_model", "name": "lcnet_035", **weights})
        monkeypatch.setattr("timm.create_model", fetched)
        with pytest.raises(WaferlabError, match=r"model\.safetensors: "):
            load_model(file)

    @pytest.mark.parametrize(
        ("model", "facts"),
        [
            ({"_target_": f"{STUDENTS}.Compact", "width": 512, "depths": [32, 32, 32]}, {}),
            ({"_target_": f"{STUDENTS}.Compact", "width": 10**12}, {}),
            ({"_target_": f"{STUDENTS}.Net1"}, {"size": [10**5, 10**5]}),
            ({"_target_": f"{STUDENTS}.Net1"}, {"size": [10**18, 10**18]}),
            ({"_target_": f"{STUDENTS}.Net1"}, {"size": [10**40, 10**40]}),
            ({"_target_": f"{BACKBONES}.timm_model", "name": "resnet152"}, {}),
        ],
        ids=["large", "huge width", "large maps", "huge maps", "beyond int64", "large backbone"],
    )
    @pytest.mark.parametrize("layout_fits", [False, True], ids=["wrong layout", "forged layout"])
    def test_a_huge_network_is_refused_before_it_is_allocated(
        self,
        file: Path,
        model: dict[str, Any],
        facts: dict[str, Any],
        layout_fits: bool,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        if layout_fits:
            monkeypatch.setattr("waferlab.models.files._layout", lambda _: "forged")
            facts = facts | {"layout": "forged"}
        forge(file, model, **facts)
        build = Component.build

        def outlined(self: Component, *arguments: Any, **given: Any) -> Any:
            assert torch.empty(0).is_meta, "built with memory of its own"
            return build(self, *arguments, **given)

        monkeypatch.setattr(Component, "build", outlined)
        with pytest.raises(WaferlabError, match=r"model\.safetensors: its weights don't fit"):
            load_model(file)

    @pytest.mark.parametrize(
        "facts",
        [
            {"classes": DEFECTS[:7]},
            {"size": [40, 40]},
            {"layout": "0" * 16},
            {"model": {"_target_": f"{STUDENTS}.Net2", "encoding": "one_hot"}},
            {"model": {"_target_": f"{STUDENTS}.Net2", "encoding": "signed", "width": 3}},
        ],
        ids=["classes", "size", "layout", "channels", "argument"],
    )
    def test_weights_of_another_shape(self, file: Path, facts: dict[str, Any]) -> None:
        forge(file, {"_target_": f"{STUDENTS}.Net2"}, **facts)
        with pytest.raises(WaferlabError, match=r"model\.safetensors: its weights don't fit"):
            load_model(file)

    @pytest.mark.parametrize("weights", [torch.zeros(4627), torch.zeros(4629), torch.zeros(2, 2314), torch.zeros(0)])
    def test_too_few_or_too_many_weights(self, file: Path, weights: Tensor) -> None:
        forge(file, {"_target_": f"{STUDENTS}.Net2"}, weights=weights)
        with pytest.raises(WaferlabError, match=r"model\.safetensors: its weights don't fit"):
            load_model(file)

    @pytest.mark.parametrize(
        "text",
        [
            *("", "null", "[]", "{}", "[" * 100_000, '{"model": 3}', "\ud7ff"),
            json.dumps(
                {"model": {"_target_": "x", "encoding": "braille"}, "classes": [], "size": [1, 1], "layout": ""}
            ),
            json.dumps({"model": {"_target_": "x", "encoding": "signed"}, "classes": 3, "size": [1, 1], "layout": ""}),
            json.dumps({"model": {"_target_": "x", "encoding": "signed"}, "classes": [], "size": [1], "layout": ""}),
            '{"model": {"_target_": "x", "encoding": "signed"}, "classes": [], "size": [Infinity, 1], "layout": ""}',
        ],
        ids=lambda text: text[:70] or "empty",
    )
    def test_facts_that_are_none(self, file: Path, text: str) -> None:
        save_file({"weights": torch.zeros(4628)}, file, {"waferlab": text})
        with pytest.raises(WaferlabError, match=r"model\.safetensors: this is no model file"):
            load_model(file)


class TestWriteWhole:
    def test_makes_folders_and_leaves_only_the_file(self, tmp_path: Path) -> None:
        path = write_whole(tmp_path / "a" / "b" / "file", b"content")
        assert path.read_bytes() == b"content"
        assert list(path.parent.iterdir()) == [path]

    @pytest.mark.parametrize("before", [None, b"older"], ids=["new", "existing"])
    def test_a_full_disk_leaves_what_was_there(
        self, file: Path, before: bytes | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(_: int) -> NoReturn:
            raise OSError(errno.ENOSPC, "No space left on device")

        if before is not None:
            file.write_bytes(before)
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            write_whole(file, b"newer")
        assert [path.read_bytes() for path in file.parent.iterdir() if path.is_file()] == [before] * (
            before is not None
        )
