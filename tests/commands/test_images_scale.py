"""Ten thousand images of 224x224 pixels: what an epoch waits for them is next to nothing of what the network takes.

It writes 2 GB to pytest's folder for temporary files and takes some minutes, so it runs only if it is asked for:

    WAFERLAB_SCALE=1 pytest tests/commands/test_images_scale.py -s

What it prints are the measurements, and how busy the machine was at the time.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import waferlab
from waferlab.data.batches import Batch, Batches
from waferlab.tasks.transfer import Transfer

IMAGES, SIZE = 10_000, 224

pytestmark = pytest.mark.skipif("WAFERLAB_SCALE" not in os.environ, reason="takes minutes; set WAFERLAB_SCALE=1")


def write(folder: Path) -> None:
    """Clouds, half of them with a bright square."""
    random = np.random.default_rng(0)
    for number in range(IMAGES):
        clouds = Image.fromarray(random.integers(0, 200, (14, 14, 3), np.uint8)).resize((SIZE, SIZE))
        if number % 2:
            clouds.paste((255, 255, 255), (100, 100, 130, 130))
        place = folder / ("defect" if number % 2 else "good") / f"{number}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        clouds.save(place)


class Watch:
    """Seconds of the training epoch, and those of them in which it waited for batches."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.epoch = self.waited = 0.0
        batches, start, end = Batches.__iter__, Transfer.on_train_epoch_start, Transfer.on_train_epoch_end

        def timed(these: Batches) -> Iterator[Batch]:
            found, begun = batches(these), time.perf_counter()
            for batch in found:
                self.waited += (time.perf_counter() - begun) * these.shuffle  # not those of validation
                yield batch
                begun = time.perf_counter()

        def started(task: Transfer) -> None:
            self.epoch -= time.perf_counter()
            start(task)

        def ended(task: Transfer) -> None:
            end(task)
            self.epoch += time.perf_counter()

        patch.setattr(Batches, "__iter__", timed)
        patch.setattr(Transfer, "on_train_epoch_start", started)
        patch.setattr(Transfer, "on_train_epoch_end", ended)


def test_an_epoch_waits_for_images_for_less_than_a_tenth_of_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "photos")
    watch = Watch(monkeypatch)
    waferlab.train(
        *(
            "task=transfer",
            "dataset=images",
            f"dataset.path={tmp_path / 'photos'}",
            "dataset.fractions=[0.98,0.01,0.01]",
        ),
        *("backbone=timm", "backbone.name=lcnet_035", "backbone.encoding=pixels", "finetuning.head_epochs=0"),
        *("trainer.max_epochs=1", "test=false", f"store={tmp_path}"),
    )
    busy = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    share = watch.waited / watch.epoch
    print(
        f"\nan epoch of {watch.epoch:.1f} s waited {watch.waited:.1f} s for images, {100 * share:.1f} %; loads {busy}"
    )
    assert share < 0.1
