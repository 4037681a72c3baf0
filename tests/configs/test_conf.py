"""Every file under conf/: it composes, it is checked, its parts can be built, and its comment's command is true."""

import re
import shlex
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from waferlab.conf_folder import config_folder
from waferlab.config import AnomalyConfig, ExperimentConfig, MixedTypeConfig, ModelConfig, NormalityConfig, check
from waferlab.errors import ConfigError
from waferlab.experiment.compose import checked, compose_overrides, configuration
from waferlab.models.classifier import Classifier
from waferlab.models.detector import build_detector
from waferlab.models.normality import build_normality
from waferlab.schema import Component, Schema
from waferlab.wafer import DEFECTS

CONF = config_folder()
FILES = sorted(str(path.relative_to(CONF).with_suffix("")) for path in CONF.rglob("*.yaml"))
COMMANDS = [file for file in FILES if "/" not in file]
#: Options of the groups; `hydra/` is read by Hydra itself, with every command.
OPTIONS = [file for file in FILES if "/" in file and not file.startswith("hydra/")]

#: What the person must say beside the file's name: values marked ``???``, by command or option.
MISSING = {
    "backbone/timm": ["backbone.name=lcnet_035"],
    "student/timm": ["student.name=lcnet_035"],
    "attention/timm": ["attention.module.name=eca"],
    "attention/trained": ["attention.module={_target_:waferlab.models.attention.DualAttention}"],
    "dataset/arrays": ["dataset.path=maps.npz"],
    "dataset/images": ["dataset.path=photos"],
    "dataset/photos": ["dataset.path=photos"],
    "doubts": ["model=[a.safetensors,b.safetensors]"],
    "evaluate": ["model=model.safetensors"],
    "export": ["run=model.safetensors"],
    "predict": ["model=model.safetensors", "input=maps.npz"],
    "report": ["study=mixed_type_kd"],
    "register": [f"model={32 * '0'}", "name=wafers"],
}
#: Options of groups that have another place than their group's name.
PLACES = {"trainer/teacher": "trainer@teacher.trainer"}


@pytest.fixture(autouse=True)
def _server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")


def commands_of(file: str) -> list[tuple[str, list[str]]]:
    """The commands in the comment that a file opens with: each one's name and overrides, but those that sweep."""
    comment = []
    for line in (CONF / f"{file}.yaml").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        comment.append(line)
    found = re.findall(r"waferlab ([a-z]+)((?: +(?:-m|\S+=\S+))*)", "\n".join(comment))
    typed = [(name, [word.rstrip(":,;") for word in shlex.split(rest) if word != "-m"]) for name, rest in found]
    return [(name, [word for word in words if not re.search(r"=(interval|tag)\(", word)]) for name, words in typed]


def own(file: str) -> list[str]:
    """The shortest overrides that select an option."""
    group, _, option = file.partition("/")
    return [f"{PLACES.get(file, group)}={option}", *MISSING.get(file, [])]


def task_of(file: str) -> list[str]:
    """The override that selects the task that an option is for, where its comment names one."""
    tasks = [override for override in commands_of(file)[0][1] if override.startswith("task=")]
    return [] if file.startswith("task/") else tasks


def parsed(command: str, composed: DictConfig) -> Schema:
    """The configuration as its command takes it."""
    if command == "train":
        return configuration(composed)
    module = pytest.importorskip(f"waferlab.commands.{command}", exc_type=ModuleNotFoundError)
    schema: type[Schema] = getattr(module, f"{command.capitalize()}Config")
    return checked(schema, composed)


def compose(command: str, overrides: list[str]) -> DictConfig:
    """Compose with what is missing filled in, where the overrides don't give it."""
    given = {override.partition("=")[0] for override in overrides}
    absent = [value for value in MISSING.get(command, []) if value.partition("=")[0] not in given]
    return compose_overrides(command, [*overrides, *absent])


def build_parts(config: ExperimentConfig) -> None:
    """Check, and build everything that needs no data, without memory for weights."""
    check(config)
    if config.criterion is not None:
        path, component = config.criterion
        component.build(path)
    for path, fit in config.fits:
        fit.optimizer.build(f"{path}optimizer", params=[torch.nn.Parameter(torch.zeros(2))])
        assert 0 <= fit.schedule.build(f"{path}schedule")(0.5) <= 1
    networks = {"backbone": config.backbone}
    if isinstance(config, MixedTypeConfig) and config.student is not None:
        networks["student"] = config.student
    with torch.device("meta"):
        for path, network in networks.items():
            Classifier(without_weights(network), DEFECTS, (52, 52), path)
        if isinstance(config, AnomalyConfig):
            build_detector(config.detector, DEFECTS, (52, 52))
        if isinstance(config, NormalityConfig):
            build_normality(config.model, DEFECTS, (52, 52))


def without_weights(network: ModelConfig) -> ModelConfig:
    return network.model_copy(update={"weights": "none"})


def verify(command: str, overrides: list[str]) -> None:
    """Compose, check against the schema and the signatures, and build."""
    config = parsed(command, compose(command, overrides))
    if isinstance(config, ExperimentConfig):
        build_parts(config)
    for name in type(config).model_fields:
        part = getattr(config, name)
        if type(part) is Component and name != "normality":  # whose place in the whole is checked above
            part.checked(name, "params")


def test_the_folder_holds_what_these_tests_read() -> None:
    assert {"train", "evaluate", "report", "data", "ui"} <= set(COMMANDS)
    assert len(OPTIONS) > 15


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_composes_as_it_stands(command: str) -> None:
    verify(command, [])


@pytest.mark.parametrize("file", OPTIONS)
def test_each_option_composes_by_its_name_alone(file: str) -> None:
    command = commands_of(file)[0][0]
    verify(command, [*task_of(file), *own(file)])


@pytest.mark.parametrize("file", [*COMMANDS, *OPTIONS])
def test_each_file_opens_with_a_command_that_works_and_uses_it(file: str) -> None:
    commands = commands_of(file)
    assert commands, f"conf/{file}.yaml does not open with a comment that holds a command"
    name, overrides = commands[0]
    if file in COMMANDS:
        assert name == file
    else:
        assert own(file)[0] in overrides
    for name, overrides in commands:
        verify(name, overrides)


@pytest.mark.parametrize("option", [file for file in OPTIONS if file.startswith(("optimizer/", "schedule/"))])
def test_optimizers_and_schedules_serve_teachers_too(option: str) -> None:
    group, _, name = option.partition("/")
    config = configuration(compose("train", [f"{group}@teacher.{group}={name}"]))
    expected = OmegaConf.load(CONF / f"{option}.yaml")
    assert isinstance(expected, DictConfig)
    assert getattr(config.teacher, group).target == expected["_target_"]
    build_parts(config)


@pytest.mark.parametrize("dataset", [file for file in OPTIONS if file.startswith("dataset/")])
@pytest.mark.parametrize("command", ["data", "evaluate"])
def test_every_command_on_data_takes_every_data_set(command: str, dataset: str) -> None:
    verify(command, own(dataset))


@pytest.mark.parametrize("dataset", [file for file in OPTIONS if file.startswith("dataset/")])
def test_every_data_set_has_extra_wafers_for_a_student(dataset: str) -> None:
    others = "mixedwm38" if "mixedwm38" not in dataset else "simulated"
    option = [override.replace("dataset.", "extra.").replace("dataset=", "dataset@extra=") for override in own(dataset)]
    verify("train", [f"dataset={others}", *option])


@pytest.mark.parametrize("file", MISSING)
def test_missing_values_are_named(file: str) -> None:
    command, overrides = ("train", [*task_of(file), own(file)[0]]) if "/" in file else (file, [])
    keys = "|".join(re.escape(value.partition("=")[0]) for value in MISSING[file])
    with pytest.raises(ConfigError, match=f"^({keys}): "):
        parsed(command, compose_overrides(command, overrides))


def test_runs_and_sweeps_write_below_the_folder_they_are_started_in() -> None:
    settings = OmegaConf.load(CONF / "hydra" / "waferlab.yaml")
    for key in ("run.dir", "sweep.dir"):
        raw = OmegaConf.to_container(settings)
        for part in key.split("."):
            assert isinstance(raw, dict)
            raw = raw[part]
        assert not Path(str(raw)).is_absolute()
