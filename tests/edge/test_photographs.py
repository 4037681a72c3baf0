"""Photographs that an exported model is asked about."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from waferlab.edge.card import Card
from waferlab.edge.photographs import photographs
from waferlab.errors import WaferlabError

CARD = Card("class", (4, 4), ("Normal", "crack"), states=256)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with two images, one of them below a subfolder, and one that is damaged."""
    monkeypatch.chdir(tmp_path)
    Path("shots/late").mkdir(parents=True)
    Image.new("RGB", (8, 4), (255, 0, 0)).save("shots/a.png")
    Image.new("RGB", (8, 4), (0, 0, 255)).save("shots/late/b.jpg")
    Path("shots/c.png").write_bytes(b"no picture")


def test_come_by_their_paths_at_the_models_size(capsys: pytest.CaptureFixture[str]) -> None:
    [batch] = photographs(Path("shots"), CARD, "skip")
    assert list(batch.names) == ["a.png", "late/b.jpg"]
    assert batch.maps.shape == (2, 4, 4, 3)
    assert (batch.maps[0] == [255, 0, 0]).all()
    assert "1 of 3 images (shots/c.png)" in " ".join(capsys.readouterr().err.split())


def test_come_as_those_came_that_the_model_learnt_from() -> None:
    card = Card("class", (4, 4), ("Normal", "crack"), states=256, fit="pad", colour=False)
    [batch] = photographs(Path("shots/a.png"), card, "refuse")
    assert batch.maps.shape == (1, 4, 4, 1)
    assert [row.any() for row in np.asarray(batch.maps[0])] == [False, True, True, False]


@pytest.mark.parametrize(
    ("given", "said"),
    [("shots", "shots/c.png can't be decoded"), ("nowhere", "doesn't exist"), ("shots/none", "holds no image")],
)
def test_that_cannot_be_had_are_named(given: str, said: str) -> None:
    Path("shots/none").mkdir()
    with pytest.raises(WaferlabError, match=said):
        list(photographs(Path(given), CARD, "refuse"))
