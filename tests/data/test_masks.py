"""Which dies of an abnormal wafer count as abnormal."""

import numpy as np
import pytest
from numpy.typing import NDArray

from waferlab.data.dataset import Dataset, Wafers
from waferlab.data.masks import MASKS, Truth, exact, fail, pattern
from waferlab.data.ragged import RaggedMaps, resized
from waferlab.errors import WaferlabError
from waferlab.wafer import FAIL, NO_DIE, PASS


def disc(share: float, seed: int = 0) -> NDArray[np.uint8]:
    """A wafer of 52x52 whose dies fail independently."""
    y, x = np.indices((52, 52)) - 25.5
    fails = np.random.default_rng(seed).random((52, 52)) < share
    return np.where(x * x + y * y < 26**2, np.where(fails, FAIL, PASS), NO_DIE).astype(np.uint8)


def labelled(maps: list[NDArray[np.uint8]], *labels: int) -> Wafers:
    return Wafers(np.stack(maps), np.array(labels, np.uint8)[:, None], ("Loc",))


def test_exact_is_what_the_simulator_knows(tiny_dataset: Dataset) -> None:
    wafers = tiny_dataset.wafers
    masks = exact(wafers)
    assert (wafers.maps[masks] == FAIL).all()
    assert np.array_equal(masks.any((1, 2)), wafers.labels.any(1))


def test_exact_is_not_known_of_real_wafers() -> None:
    with pytest.raises(WaferlabError, match="use fail or pattern"):
        exact(labelled([disc(0.1)], 1))


@pytest.mark.parametrize("name", ["fail", "pattern"])
def test_wafers_without_a_defect_have_no_abnormal_die(name: str) -> None:
    wafer = disc(0.1)
    wafer[20:26, 20:26] = FAIL
    masks = MASKS[name](labelled([wafer, wafer], 0, 1))
    assert not masks[0].any()
    assert masks[1].any()


def test_fail_is_every_failing_die() -> None:
    wafer = disc(0.1)
    assert np.array_equal(fail(labelled([wafer], 1))[0], wafer == FAIL)


class TestPattern:
    def test_finds_a_cluster_and_leaves_what_chance_makes(self) -> None:
        wafer = disc(0.08)
        wafer[20:26, 20:26] = FAIL
        (mask,) = pattern(labelled([wafer], 1))
        assert mask[20:26, 20:26].all()
        assert mask.sum() < 70
        assert (wafer == FAIL).sum() > 170

    def test_finds_a_scratch_one_die_wide(self) -> None:
        wafer = disc(0.02)
        line = np.arange(12, 40)
        wafer[line, line] = FAIL
        (mask,) = pattern(labelled([wafer], 1))
        assert mask[line, line].all()

    @pytest.mark.parametrize("share", [0.02, 0.1, 0.2])
    def test_finds_next_to_nothing_where_dies_fail_independently(self, share: float) -> None:
        wafers = labelled([disc(share, seed) for seed in range(60)], *[1] * 60)
        assert pattern(wafers).any((1, 2)).mean() <= 0.05

    def test_a_wafer_that_fails_nearly_everywhere_is_the_pattern(self) -> None:
        wafer = disc(0.8)
        assert np.array_equal(pattern(labelled([wafer], 1))[0], wafer == FAIL)

    def test_is_found_at_the_wafers_own_size(self) -> None:
        wafer = disc(0.08)[:27, :27]
        native = RaggedMaps.of(wafer[None])
        enlarged = Wafers(resized(native, (54, 54), "nearest"), np.ones((1, 1), np.uint8), ("Loc",), native=native)
        own = pattern(labelled([wafer], 1))[0]
        assert np.array_equal(pattern(enlarged)[0], np.kron(own, np.ones((2, 2), bool)))


def test_truth(tiny_dataset: Dataset) -> None:
    truth = Truth.of(tiny_dataset.wafers, "exact")
    assert truth.is_abnormal.sum() == tiny_dataset.wafers.labels.any(1).sum()
    assert not (truth.masks & ~truth.dies).any()
