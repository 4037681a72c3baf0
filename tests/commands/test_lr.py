"""The learning rates of a training, as a person asks for them."""

import re
from pathlib import Path
from typing import Any

import pytest

from waferlab.cli import main
from waferlab.commands import lr
from waferlab.models.layer_groups import layer_groups

TINY = ("dataset=half_normal", "dataset.maps=300", "task.target=defect", "backbone=timm", "backbone.name=test_resnet")


def test_are_suggested_for_each_phase_and_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    heads: list[Any] = []
    tested = lr.rates_tested

    def watched(task: Any, *given: Any) -> Any:
        parameters = dict(task.model.net.named_parameters())
        heads.append([parameters[name].detach().clone() for name in layer_groups(task.model.net)[-1]])
        return tested(task, *given)

    monkeypatch.setattr(lr, "rates_tested", watched)
    given = [*TINY, "search.steps=50", "trainer.batch_size=32", f"store={tmp_path}"]
    assert main(["lr", *given]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^head  (finetuning\.head_lr=\d\.\de-\d\d|no rate)", said, re.M)
    found = re.search(r"^body  optimizer\.lr=(\d\.\de-\d\d)", said, re.M)
    assert found is not None
    assert 1e-5 < float(found[1]) < 1
    assert {file.name for file in tmp_path.glob("*.png")} == {"lr_head.png", "lr_body.png"}
    assert not any((before == after).all() for before, after in zip(*heads, strict=True)), "the head is trained between"


def test_may_be_so_high_that_the_loss_is_no_longer_finite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [*TINY, "search.steps=20", "search.lowest=1", "search.highest=1e35", "finetuning.head_epochs=0"]
    assert main(["lr", *given, "trainer.gradient_clip=null", "optimizer=sgd", f"store={tmp_path}"]) == 0
    assert re.search(r"^body  (optimizer\.lr=|no rate stands out)", capsys.readouterr().out, re.M)


def test_are_those_of_the_phases_that_are_wanted_and_leave_nothing_else_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [*TINY, "search.steps=20", "finetuning.head_epochs=0", f"store={tmp_path}"]
    assert main(["lr", *given]) == 0
    said = capsys.readouterr().out
    assert "body  " in said
    assert "head  " not in said
    assert not list(tmp_path.glob("*.log"))
