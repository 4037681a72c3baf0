"""A wrong configuration is refused before anything is read or trained, in words that say what was probably meant."""

import re
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from waferlab.config import MixedTypeConfig, check
from waferlab.errors import ConfigError
from waferlab.experiment.compose import compose_overrides, configuration
from waferlab.schema import Component


def composed(*overrides: str) -> MixedTypeConfig:
    config = configuration(compose_overrides("train", overrides))
    check(config)
    assert isinstance(config, MixedTypeConfig)
    return config


def refused(*overrides: str) -> str:
    """The message that these overrides are refused with, before or after Hydra composed them."""
    with pytest.raises(ConfigError) as caught:
        built(*overrides)
    return str(caught.value)


def built(*overrides: str) -> None:
    config = composed(*overrides)
    config.distillation.build("distillation")
    config.schedule.build("schedule")


def test_the_defaults_are_right() -> None:
    built()


class TestUnknownKeys:
    @pytest.mark.parametrize(
        ("override", "key", "meant"),
        [
            ("+trainer.max_epoch=3", "trainer.max_epoch", "max_epochs"),
            ("+tracking.experimnet=x", "tracking.experimnet", "experiment"),
            ("+teacher.trainer.ema_decy=0.9", "teacher.trainer.ema_decy", "ema_decay"),
            ("+distillation.alpah=0.3", "distillation.alpah", "alpha"),
            ("+dataset.map=100", "dataset.map", "maps"),
            ("+optimizer.weight_deacy=0", "optimizer.weight_deacy", "weight_decay"),
            ("+teacher.schedule.warmpu=0", "teacher.schedule.warmpu", "warmup"),
            ("+sed=1", "sed", "seed"),
        ],
    )
    def test_an_added_misspelling_is_refused_with_what_was_meant(self, override: str, key: str, meant: str) -> None:
        assert refused(override) == f"unknown key '{key}': did you mean '{meant}'?"

    def test_a_key_like_none_is_refused_without_a_guess(self) -> None:
        assert refused("+zzz=1") == "unknown key 'zzz'"
        assert refused("+student.width=8") == "unknown key 'student.width'"

    @pytest.mark.parametrize("override", ["trainer.max_epoch=3", "studnet=net1", "student=net7", "a b"])
    def test_what_hydra_refuses_is_a_config_error_too(self, override: str) -> None:
        assert re.search(r"Could not override|Could not find|Lexer", refused(override))

    def test_the_programs_own_parameters_cannot_be_set(self) -> None:
        for given in ("student.num_classes", "student.size", "backbone.in_channels", "backbone.pretrained"):
            assert refused(f"+{given}=3").startswith(f"unknown key '{given}'")

    def test_all_faults_are_told_at_once(self) -> None:
        message = refused("trainer.max_epochs=0", "seed=-1", "+zzz=1")
        assert all(key in message for key in ("trainer.max_epochs=0", "seed=-1", "'zzz'"))
        assert len(message.splitlines()) == 3


class TestValues:
    @pytest.mark.parametrize(
        ("override", "said"),
        [
            ("trainer.max_epochs=many", "trainer.max_epochs='many': Input should be a valid integer"),
            ("trainer.batch_size=1.5", "trainer.batch_size=1.5: Input should be a valid integer"),
            ("trainer.augment=perhaps", "trainer.augment='perhaps': Input should be a valid boolean"),
            ("trainer.precision=16", "trainer.precision=16: Input should be '32-true' or 'bf16-mixed'"),
            ("dataset.maps=[1]", "dataset.maps=[1]: Input should be a valid integer"),
            ("optimizer.lr=fast", "optimizer.lr='fast': Input should be a valid number"),
            ("distillation.alpha=x", "distillation.alpha='x': Input should be a valid number"),
            ("distillation.targets=firm", "distillation.targets='firm': Input should be 'hard' or 'soft'"),
            ("student.encoding=braille", "student.encoding='braille': Input should be 'ordinal'"),
            ("task.name=sorting", "task.name='sorting'"),
            ("dataset.fractions=[0.8,0.2]", "dataset.fractions.2"),
        ],
    )
    def test_the_wrong_type_is_named_with_its_key(self, override: str, said: str) -> None:
        assert said in refused(override)

    @pytest.mark.parametrize(
        "override",
        [
            *("trainer.max_epochs=0", "trainer.batch_size=0", "trainer.gradient_clip=0", "trainer.early_stopping=0"),
            *("trainer.ema_decay=1", "trainer.ema_decay=-0.1", "trainer.label_noise=0.5", "trainer.label_noise=-0.1"),
            *("trainer.die_noise=0.5", "trainer.die_noise=-0.1"),
            *("trainer.validate_every=0", "teacher.trainer.ema_decay=1.5", "seed=-1", f"seed={2**32}"),
            *("distillation.alpha=-0.1", "distillation.alpha=1.1", "distillation.beta=0", "distillation.beta=1"),
            *("schedule.warmup=1", "schedule.warmup=-0.1", "schedule.final=1.5"),
        ],
    )
    def test_values_out_of_range_are_refused_with_key_and_value(self, override: str) -> None:
        key, _, value = override.rpartition("=")
        message = refused(override)
        assert key.rpartition(".")[2] in message
        assert value in message

    @pytest.mark.parametrize("override", ["trainer.max_epochs=true", "optimizer.lr=true", "trainer.ema_decay=false"])
    def test_true_is_no_number(self, override: str) -> None:
        assert "give a number" in refused(override)

    @pytest.mark.parametrize("value", [0, -2])
    def test_a_temperature_without_meaning_is_refused(self, value: int) -> None:
        message = refused("distillation=hinton", f"distillation.temperature={value}")
        assert message == f"distillation: temperature={float(value)} must be above 0"

    @pytest.mark.parametrize("value", ["null", "0", "0.999"])
    def test_values_at_the_edge_of_their_range_are_taken(self, value: str) -> None:
        built(f"trainer.ema_decay={value}")

    def test_lists_become_the_tuples_that_signatures_state(self) -> None:
        config = composed("dataset.fractions=[0.5,0.25,0.25]", "student=compact", "student.depths=[1,2,3]")
        assert config.student is not None
        assert config.dataset.checked("dataset")["fractions"] == (0.5, 0.25, 0.25)
        assert config.student.checked("student", "in_channels", "num_classes", "size")["depths"] == (1, 2, 3)

    def test_a_list_of_the_wrong_length_is_refused(self) -> None:
        assert "student.depths" in refused("student=compact", "student.depths=[1,2]")


class TestCombinations:
    def test_initial_weights_for_a_finished_teacher_have_no_effect_and_are_refused(self) -> None:
        message = refused("teacher.model=teacher.safetensors", "backbone.weights=imagenet")
        assert message.startswith("teacher.model names a finished teacher")
        built("teacher.model=teacher.safetensors")
        built("backbone.weights=imagenet")

    def test_several_finished_teachers_are_a_list_for_a_student(self) -> None:
        built("teacher.model=[first.safetensors,second.safetensors]")
        built("student=none", "teacher.model=first.safetensors")
        for wrong in ("[]", "3", "['a', 3]"):
            assert refused(f"teacher.model={wrong}").startswith(
                f"teacher.model={wrong}: give an MLflow run id or model"
            )
        message = refused("student=none", "teacher.model=[first.safetensors,second.safetensors]")
        assert message == "teacher.model is a list, and there is no student to teach by several; name one"
        message = refused("teacher.model=[first.safetensors]", "backbone.weights=imagenet")
        assert message.startswith("teacher.model names a finished teacher")

    @pytest.mark.parametrize(
        ("overrides", "said"),
        [
            (["distillation=supervised"], "extra: these wafers come without labels, and Supervised has no teacher"),
            (["student=none"], "extra: there is no student to teach on these wafers"),
            (["withhold=[Scratch]"], "withhold: extra wafers may show what is withheld"),
            (["extra.seed=0"], "extra.seed=0 is dataset.seed too"),
            (["extra.maps=many"], "extra.maps='many': Input should be a valid integer"),
            (["+extra.map=100"], "unknown key 'extra.map': did you mean 'maps'?"),
        ],
    )
    def test_extra_wafers_are_for_students_of_a_teacher_and_not_those_kept_back(
        self, overrides: list[str], said: str
    ) -> None:
        assert said in refused("dataset@extra=simulated", "extra.seed=1", *overrides)

    def test_the_datas_own_file_gives_no_extra_wafers(self) -> None:
        built("dataset=mixedwm38", "dataset@extra=simulated")
        assert "is dataset.path too" in refused("dataset=mixedwm38", "dataset@extra=mixedwm38")

    def test_a_training_that_would_never_be_validated_is_refused(self) -> None:
        message = refused("trainer.max_epochs=3", "trainer.validate_every=4")
        assert message.startswith("trainer: validate_every=4 is more than max_epochs=3")
        built("trainer.max_epochs=4", "trainer.validate_every=4")

    @pytest.mark.parametrize(
        ("overrides", "idle"),
        [
            (["student=none", "trainer.max_epochs=7", "seed=3"], ["trainer.max_epochs=7"]),
            (["student=none", "distillation=hinton", "optimizer.lr=0.5"], ["distillation=hinton", "optimizer.lr=0.5"]),
            (["distillation=supervised", "teacher.trainer.max_epochs=2"], ["teacher.trainer.max_epochs=2"]),
            (["student=none", "teacher.trainer.max_epochs=2"], []),
            (["trainer.max_epochs=7", "teacher.trainer.max_epochs=2"], []),
            (["task=anomaly", "teacher.average_views=false", "teacher.seed=2"], ["teacher.average_views=false"]),
            (
                ["task=anomaly", "teacher.training=none", "teacher.trainer.max_epochs=2"],
                ["teacher.trainer.max_epochs=2"],
            ),
        ],
    )
    def test_settings_that_nothing_reads_are_said_to_have_no_effect(
        self, overrides: list[str], idle: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        configuration(compose_overrides("train", overrides), overrides)
        noted = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
        assert [line.split()[1] for line in noted] == idle


class TestDetectors:
    def configured(self, *overrides: str) -> None:
        configuration(compose_overrides("train", ["task=anomaly", *overrides]))

    @pytest.mark.parametrize("levels", ["[1,0]", "[1,1]", "[-1]", "[]"])
    def test_levels_go_upwards(self, levels: str) -> None:
        with pytest.raises(ConfigError, match=r"pyramid\.levels"):
            self.configured(f"pyramid.levels={levels}")

    def test_no_attention_is_trained_where_there_is_none(self) -> None:
        with pytest.raises(ConfigError, match=r"attention\.training=joint: there is no attention to train"):
            self.configured("attention.training=joint")

    def test_pretraining_leaves_the_student_an_epoch(self) -> None:
        how = ("attention=dual", "attention.training=pretrained", "attention.pretrain_epochs=2")
        with pytest.raises(ConfigError, match=r"pretrain_epochs=2: .* leaves none to the student"):
            self.configured(*how, "trainer.max_epochs=2")

    def test_a_teacher_sees_other_simulated_wafers(self) -> None:
        with pytest.raises(ConfigError, match=r"teacher\.dataset\.seed=1 is dataset\.seed too"):
            self.configured("teacher.dataset.seed=1")
        self.configured("teacher.dataset.seed=2")

    def test_a_teacher_on_the_same_file_sees_the_same_split(self) -> None:
        real = ("dataset=mixedwm38", "dataset@teacher.dataset=mixedwm38", "task.mask=fail")
        with pytest.raises(ConfigError, match=r"teacher\.dataset reads the file that dataset reads, in another way"):
            self.configured(*real, "dataset.seed=3")
        self.configured(*real)

    @pytest.mark.parametrize("task", ["anomaly", "normality"])
    def test_one_teacher_is_looked_at(self, task: str) -> None:
        for names in ("[abc]", "[abc,def]", "[]"):
            with pytest.raises(
                ConfigError, match=r"teacher\.model=.*: a detector looks at the features of one teacher"
            ):
                self.configured(f"task={task}", f"teacher.model={names}")

    def test_what_is_withheld_is_withheld_from_finished_networks_too(self) -> None:
        with pytest.raises(ConfigError, match=r"withhold: .* may have seen what is withheld"):
            self.configured("withhold=[Scratch]", "teacher.model=abc")


class TestComponents:
    @pytest.mark.parametrize(
        ("target", "fault"),
        [
            ("waferlab.models.students.Net9", "has no attribute 'Net9'"),
            ("waferlab.models.absent.Net1", "No module named 'waferlab.models.absent'"),
            ("Net1", "can't be imported"),
            ("waferlab.wafer.DEFECTS", "is neither a class nor a function"),
        ],
    )
    def test_a_target_that_does_not_exist_is_named(self, target: str, fault: str) -> None:
        message = refused(f"student._target_={target}")
        assert message.startswith(f"_target_ '{target}'")
        assert fault in message

    def test_an_argument_without_default_must_be_given(self) -> None:
        with pytest.raises(ConfigError, match=r"^'dataset\.path' is missing$"):
            component_of("waferlab.data.arrays.load").checked("dataset")

    def test_a_component_without_target_is_refused(self) -> None:
        assert refused("~student._target_") == "'student._target_' is missing"

    def test_without_a_task_the_answer_names_it(self) -> None:
        with pytest.raises(ConfigError, match="'task' is missing"):
            configuration(compose_overrides("train", ["~task"]))

    def test_what_the_target_itself_refuses_is_told_with_its_place(self) -> None:
        def shout(loudness: int) -> None:
            raise ValueError(f"loudness={loudness} is too much")

        component = component_of("math.sqrt")
        object.__setattr__(component, "resolve", lambda: shout)
        with pytest.raises(ConfigError, match=r"^stage: loudness=11 is too much$"):
            component.build("stage", loudness=11)

    def test_values_that_the_program_supplies_are_not_asked_for(self) -> None:
        network = component_of("waferlab.models.students.Net2")
        assert network.checked("student", "in_channels", "num_classes", "size") == {}
        with pytest.raises(ConfigError, match=r"'student\.size' is missing"):
            network.checked("student", "in_channels", "num_classes")


def component_of(target: str, **arguments: Any) -> Component:
    return Component.model_validate({"_target_": target, **arguments})


@pytest.mark.parametrize(
    "overrides",
    [
        ["student=compact", "+tracking.tags.study=demo"],
        ["teacher.model=[a,b]", "dataset@extra=simulated", "extra.maps=100", "extra.seed=1"],
    ],
)
def test_the_plain_configuration_composes_to_itself(overrides: list[str]) -> None:
    config = composed(*overrides)
    assert MixedTypeConfig.model_validate(config.plain()) == config


def test_a_program_that_runs_hydra_itself_can_compose_ours_and_keeps_its_own(tmp_path: Path) -> None:
    (tmp_path / "theirs.yaml").write_text("colour: green")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        assert composed("seed=3").seed == 3
        assert compose("theirs").colour == "green"
        with pytest.raises(ConfigError):
            composed("nonsense=1")
        assert compose("theirs").colour == "green"
