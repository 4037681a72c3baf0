"""Batches: every map once an epoch, repeatable, and each target belongs to the very view that is shown."""

import numpy as np
import pytest
import torch

from waferlab.data.batches import Batches, at_most, turned
from waferlab.data.dataset import Wafers
from waferlab.wafer import dihedral_indices

MAPS, SIDE, CLASSES = 23, 7, 3


@pytest.fixture
def wafers() -> Wafers:
    """Distinct maps, none of which is a view of another or of itself."""
    random = np.random.default_rng(0)
    maps = random.integers(0, 3, (MAPS, SIDE, SIDE), np.uint8)
    labels = random.integers(0, 2, (MAPS, CLASSES), np.uint8)
    return Wafers(maps, labels, ("a", "b", "c"))


def views(wafers: Wafers) -> dict[bytes, tuple[int, int]]:
    """Which view of which map each picture is."""
    indices = dihedral_indices(*wafers.size)
    pictures = {
        wafers.maps[row].ravel()[indices[view]].tobytes(): (view, row)
        for row in range(len(wafers))
        for view in range(len(indices))
    }
    assert len(pictures) == len(wafers) * len(indices)
    return pictures


def numbered(count: int) -> torch.Tensor:
    """Teacher logits that say which view and map they belong to: 1000 view + map."""
    view, row = torch.meshgrid(torch.arange(count), torch.arange(MAPS), indexing="ij")
    return (1000 * view + row)[..., None].expand(-1, -1, CLASSES).float()


def epoch(batches: Batches, number: int) -> tuple[torch.Tensor, ...]:
    batches.set_epoch(number)
    return tuple(batch.maps for batch in batches)


@pytest.mark.parametrize("batch_size", [1, 5, 23, 100])
@pytest.mark.parametrize(("shuffle", "augment"), [(False, False), (True, False), (True, True)])
def test_every_map_is_seen_once_an_epoch(wafers: Wafers, batch_size: int, shuffle: bool, augment: bool) -> None:
    batches, known = Batches(wafers, batch_size, shuffle=shuffle, augment=augment), views(wafers)
    shown = list(batches)
    assert len(shown) == len(batches)
    assert {len(batch.maps) for batch in shown[:-1]} <= {batch_size}
    seen = [known[picture.numpy().tobytes()] for batch in shown for picture in batch.maps]
    assert sorted(row for _, row in seen) == list(range(MAPS))
    assert augment or {view for view, _ in seen} == {0}


def test_without_shuffling_maps_come_in_order(wafers: Wafers) -> None:
    assert torch.equal(torch.cat(epoch(Batches(wafers, 5), 0)), torch.from_numpy(wafers.maps))


def test_augmentation_shows_all_eight_views(wafers: Wafers) -> None:
    batches, known = Batches(wafers, 5, shuffle=True, augment=True), views(wafers)
    shown = {
        known[picture.numpy().tobytes()][0] for number in range(8) for picture in torch.cat(epoch(batches, number))
    }
    assert shown == set(range(8))


def test_seed_and_epoch_determine_the_batches(wafers: Wafers) -> None:
    def made(seed: int, number: int) -> torch.Tensor:
        return torch.cat(epoch(Batches(wafers, 5, shuffle=True, augment=True, seed=seed), number))

    assert torch.equal(made(3, 2), made(3, 2))
    assert not torch.equal(made(3, 2), made(3, 1))
    assert not torch.equal(made(3, 2), made(4, 2))


def test_an_epoch_is_the_same_whatever_was_shown_and_drawn_before(wafers: Wafers) -> None:
    batches = Batches(wafers, 5, shuffle=True, augment=True)
    first = torch.cat(epoch(batches, 4))
    torch.rand(100)
    epoch(batches, 0)
    assert torch.equal(torch.cat(epoch(batches, 4)), first)


def test_the_largest_seed_works(wafers: Wafers) -> None:
    assert len(list(Batches(wafers, 5, shuffle=True, augment=True, seed=2**32 - 1))) == 5


def test_labels_and_teacher_belong_to_the_map_and_view_that_is_shown(wafers: Wafers) -> None:
    labels, known = torch.from_numpy(wafers.labels).float(), views(wafers)
    batches = Batches(wafers, 5, labels=labels, teacher=numbered(8), shuffle=True, augment=True)
    for number in range(3):
        batches.set_epoch(number)
        for batch in batches:
            assert batch.labels is not None
            assert batch.teacher is not None
            for picture, bits, logits in zip(batch.maps, batch.labels, batch.teacher, strict=True):
                view, row = known[picture.numpy().tobytes()]
                assert bits.tolist() == wafers.labels[row].tolist()
                assert logits.tolist() == [1000 * view + row] * CLASSES


def test_without_augmentation_one_teacher_output_a_map_is_enough(wafers: Wafers) -> None:
    (batch,) = Batches(wafers, MAPS, teacher=numbered(1))
    assert batch.teacher is not None
    assert batch.teacher[:, 0].tolist() == list(range(MAPS))


def test_a_teacher_that_answers_the_same_to_every_view_gives_one_answer_a_map(wafers: Wafers) -> None:
    known = views(wafers)
    for batch in Batches(wafers, 5, teacher=numbered(1), shuffle=True, augment=True):
        assert batch.teacher is not None
        rows = [known[picture.numpy().tobytes()][1] for picture in batch.maps]
        assert batch.teacher[:, 0].tolist() == rows


def test_labels_and_teacher_are_given_only_when_asked_for(wafers: Wafers) -> None:
    for batch in Batches(wafers, 5, shuffle=True, augment=True):
        assert batch.labels is None
        assert batch.teacher is None


def test_turned_shows_each_map_in_its_own_view_whatever_its_type() -> None:
    maps = torch.rand(4, 3, 5)
    shown = turned(maps, torch.from_numpy(dihedral_indices(3, 5)))
    expected = torch.stack([maps[0], maps[1].flip(0, 1), maps[2].flip(1), maps[3].flip(0)])
    assert torch.equal(shown, expected)


@pytest.mark.parametrize(("size", "count"), [((52, 52), 512), ((224, 224), 41), ((4000, 4000), 1)])
def test_a_network_is_shown_fewer_at_once_where_they_are_large(size: tuple[int, int], count: int) -> None:
    assert at_most(512, size) == count


class TestDieNoise:
    @pytest.fixture
    def large(self) -> Wafers:
        maps = np.random.default_rng(0).integers(0, 3, (40, 100, 100), np.uint8)
        return Wafers(maps, np.zeros((40, 1), np.uint8), ("a",))

    @staticmethod
    def swapped(shown: torch.Tensor, wafers: Wafers) -> torch.Tensor:
        """Share of each map's dies that are not what they were."""
        maps = torch.from_numpy(wafers.maps)
        return (shown != maps).sum((1, 2)) / (maps > 0).sum((1, 2))

    def test_dies_swap_pass_and_fail_and_no_die_appears_or_vanishes(self, large: Wafers) -> None:
        (batch,) = Batches(large, 40, die_noise=0.1)
        assert torch.equal(batch.maps > 0, torch.from_numpy(large.maps) > 0)
        assert batch.maps.dtype == torch.uint8
        assert int(batch.maps.max()) == 2

    def test_each_map_draws_its_own_share_up_to_the_largest(self, large: Wafers) -> None:
        (batch,) = Batches(large, 40, die_noise=0.1)
        shares = self.swapped(batch.maps, large)
        assert shares.max() < 0.11
        assert shares.min() < 0.02
        assert 0.03 < shares.mean() < 0.07

    def test_is_another_one_each_epoch_and_repeatable(self, large: Wafers) -> None:
        batches = Batches(large, 7, die_noise=0.1)
        first, second = (torch.cat(epoch(batches, number)) for number in (0, 1))
        assert not torch.equal(first, second)
        assert torch.equal(torch.cat(epoch(batches, 0)), first)

    def test_order_and_views_do_not_depend_on_it(self, wafers: Wafers) -> None:
        labels = torch.arange(MAPS).float()[:, None]
        orders = [
            [batch.labels.flatten().tolist() for batch in Batches(wafers, 5, labels=labels, shuffle=True, die_noise=x)]
            for x in (0.0, 0.1)
        ]
        assert orders[0] == orders[1]
