"""The models that come with the package: small, described, and right about what is plain to see."""

from pathlib import Path

import numpy as np
import pytest

import waferlab
from waferlab.edge.model import OnnxModel
from waferlab.edge.zoo import exported
from waferlab.errors import WaferlabError

FOLDER = Path(waferlab.__file__).parent / "zoo"
NAMES = sorted(path.stem for path in FOLDER.glob("*.onnx"))


def wafer(*, ring: bool) -> np.ndarray:
    """A round wafer of 52x52 dies with few fails, and perhaps a ring of them at its edge."""
    y, x = np.mgrid[:52, :52] - 25.5
    radius = np.hypot(y, x)
    fails = np.random.default_rng(0).random((52, 52)) < 0.02
    fails |= ring & (radius > 22)
    return np.where(radius > 26, 0, 1 + fails).astype(np.uint8)


def test_all_together_weigh_less_than_a_mebibyte() -> None:
    assert len(NAMES) >= 2
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 1 << 20


@pytest.mark.parametrize("name", NAMES)
class TestEachModel:
    def test_has_a_card_that_says_its_bytes(self, name: str) -> None:
        card = (FOLDER / "README.md").read_text(encoding="utf-8").partition(f"## zoo/{name}\n")[2].partition("\n## ")[0]
        assert f"{(FOLDER / f'{name}.onnx').stat().st_size:,}" in card
        for said in ("**Data**", "test", "**Metrics**", "**Bytes**", "**Made by** `waferlab train"):
            assert said in card

    def test_tells_a_ring_at_the_edge_from_a_good_wafer(self, name: str) -> None:
        model = waferlab.load(f"zoo/{name}")
        assert isinstance(model, OnnxModel)
        good, ring = model.predict(np.stack([wafer(ring=False), wafer(ring=True)]))
        assert "Edge-Ring" in {model.card.classes[place] for place in np.flatnonzero(ring)}
        assert {model.card.classes[place] for place in np.flatnonzero(good)} <= {"Normal"}


def test_a_name_that_is_unknown_is_answered_with_those_there_are() -> None:
    with pytest.raises(WaferlabError, match="the zoo has no model 'big'; it has: " + ", ".join(NAMES)):
        exported("zoo/big")
