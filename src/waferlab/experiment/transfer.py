"""Transfer learning: a pretrained network becomes one that inspects, from few and unbalanced labels."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from waferlab.config import FitConfig, TransferConfig
from waferlab.data.batches import Batches, at_most
from waferlab.data.dataset import PARTS, Part, Wafers
from waferlab.data.oversampling import Oversampling
from waferlab.data.single_label import NORMAL, single_label
from waferlab.data.split import hide_labels
from waferlab.data.transforms import Transform, require_moves
from waferlab.errors import ConfigError, WaferlabError
from waferlab.experiment.begin import Begun, begin, opening
from waferlab.experiment.inspection import COLUMNS, following, record, remarks, threshold_by
from waferlab.experiment.networks import Place, transferred
from waferlab.experiment.outcome import Outcome, own_modules, repeated
from waferlab.metrics.operating_point import Argmax
from waferlab.metrics.single_label import temperature
from waferlab.models.classifier import Classifier, view_logits
from waferlab.models.decision import Decision
from waferlab.models.files import save_model
from waferlab.progress import say
from waferlab.schema import Component
from waferlab.tasks.fit import Fitted, device_of
from waferlab.tasks.inspection import evaluate_baselines, evaluate_inspector
from waferlab.tasks.losses import class_weights
from waferlab.tasks.transfer import Transfer
from waferlab.tracking.mlflow_model import keep_model
from waferlab.tracking.run import MODEL_FILE, MODEL_FOLDER, Run

NETWORK: Final = "classifier"


def run(config: TransferConfig, command: str) -> Outcome:
    """Run one experiment; the command that asked for it is kept with its run.

    Raises:
        ConfigError: the configuration doesn't fit the code it names.
        WaferlabError: the data, the weights or the training is at fault, or no threshold does what is wanted.
    """
    begun, model = prepare(config, command)
    dataset = begun.dataset
    judged = dataset.part("test" if config.test else "val")
    tags = {"network": NETWORK, "target": config.task.target}
    with opening(config, begun, command, f"{dataset.name} {config.task.target}", tags) as (opened, folder):
        fitted = _fit(config, model, begun, Place(opened, folder / "training", "body"))
        model = model.fused()
        file = _decided(config, model, dataset.part("val"), folder / MODEL_FILE, opened)
        say("evaluating")
        evaluations = [evaluate_inspector(NETWORK, model, judged, file.stat().st_size)]
        figures: list[Path] = []
        if config.test:
            evaluations += evaluate_baselines(dataset)
            figures = record(opened, evaluations, judged, folder / "figures")
        keep_model(opened, model, file, judged.maps[:1] if config.test else None, folder)
    return Outcome(
        run_id=opened.id, command=command, begun_by=begun.command, facts=dataset.facts,
        modules=own_modules(config.backbone), following=following(repeated(begun.command)), wafers=len(judged),
        columns=COLUMNS, evaluations=evaluations, figures=figures, model=opened.id, model_file=file,
        validation=fitted.best_metrics, remarks=remarks(evaluations[0], judged), is_tested=config.test,
    )  # fmt: skip


def prepare(config: TransferConfig, command: str) -> tuple[Begun, Classifier]:
    """The data, with one class for each map, and the network with its initial weights.

    Raises:
        ConfigError: the configuration doesn't fit the code it names.
        WaferlabError: the data or the weights are at fault.
    """
    begun = begin(config, command, lambda bits: hide_labels(single_label(bits, config.task.target), config.labelled))
    for part in PARTS[:2]:
        _require_kinds(config, begun.dataset.part(part), part)
    model = transferred(config.backbone, begun.dataset, begun.tracker, config.seed)
    right = begun.dataset.part("val").labels
    threshold_by(config.operating_point, right.astype(float), right, model.normal)  # refuses what nothing could meet
    _transform(config.transforms, begun.dataset.part("train"))
    return begun, model


def _require_kinds(config: TransferConfig, wafers: Wafers, part: Part) -> None:
    """Refuse data from which nothing that is asked for can be learnt or chosen."""
    present = {name for name, count in zip(wafers.classes, wafers.labels.sum(0), strict=True) if count}
    if len(present) < 2:
        raise WaferlabError(f"the {part} part has maps of one class alone ({', '.join(present)}); two are needed")
    is_wanted = config.task.select in ("auroc", "average_precision") or not isinstance(
        config.operating_point.build("operating_point"), Argmax
    )
    if is_wanted and NORMAL not in present:
        raise ConfigError(
            f"operating_point and task.select={config.task.select}: these tell defects from what has none, and no map "
            f"of the {part} part is without; a class of images that are fine is named good, normal, none, ok or pass"
        )


def _fit(config: TransferConfig, model: Classifier, begun: Begun, place: Place) -> Fitted:
    """The head alone, then all layers, as far as they are wanted; the model has the best weights of the last phase."""
    fitted, done = None, 0
    for name, how in phases(config).items():
        head_only = name == "head"
        phase = place.phase(name, done)
        task, train, val = fitting(config, model, begun, how, head_only)
        fitted = phase.fit(task, train, val, how.trainer)
        done += how.trainer.max_epochs
    assert fitted is not None, "the configuration has a phase"
    return fitted


def phases(config: TransferConfig) -> dict[str, FitConfig]:
    """How the head alone is trained, and the whole network, in this order."""
    tuning, fit = config.finetuning, config.fit
    found = {}
    if tuning.head_epochs:
        epochs = {
            "max_epochs": tuning.head_epochs,
            "validate_every": min(fit.trainer.validate_every, tuning.head_epochs),
        }
        trainer = fit.trainer.model_copy(update=epochs)
        found["head"] = at_rate(fit.model_copy(update={"trainer": trainer}), tuning.head_lr or fit.lr)
    return found | ({"body": fit} if tuning.body else {})


def at_rate(how: FitConfig, rate: float) -> FitConfig:
    """The same with another learning rate."""
    optimizer = Component.model_validate(how.optimizer.model_dump(by_alias=True) | {"lr": rate})
    return how.model_copy(update={"optimizer": optimizer})


def fitting(
    config: TransferConfig, model: Classifier, begun: Begun, how: FitConfig, head_only: bool
) -> tuple[Transfer, Batches, Batches]:
    """A phase of the training, its batches, and those of validation."""
    train, val, device = begun.dataset.part("train"), begun.dataset.part("val"), device_of(how.trainer)
    classes = torch.from_numpy(train.labels).float()
    weights = class_weights(classes.sum(0), begun.loss.class_weights)
    mix = None if config.mix is None else config.mix.build("mix", num_classes=len(train.classes))
    task = Transfer(
        model, begun.loss, weights, how, torch.from_numpy(val.labels), config.task.select, config.seed,
        head_only=head_only, lowest_lr=None if head_only else config.finetuning.lowest_lr, mix=mix,
    )  # fmt: skip
    batches = Batches(
        train, how.trainer.batch_size, labels=_noisy(classes, how.trainer.label_noise, config.seed), shuffle=True,
        augment=how.trainer.augment, die_noise=how.trainer.die_noise, seed=config.seed, device=device,
        oversampling=Oversampling(classes.argmax(1), config.oversampling) if config.oversampling else None,
        transform=_transform(config.transforms, train),
    )  # fmt: skip
    return task, batches, Batches(val, at_most(512, val.size), device=device)


def _decided(config: TransferConfig, model: Classifier, val: Wafers, file: Path, run: Run) -> Path:
    """The model's file, with views as configured, and the temperature and the threshold that validation asks for.

    Raises:
        WaferlabError: no threshold does what is wanted; the file is there without one.
    """
    decision = Decision(all_views=config.views.all, vote=config.views.vote, normal=model.normal)
    logits = view_logits(model, val.maps, config.views.all).numpy()
    if config.calibrate:
        decision = replace(decision, temperature=temperature(logits, val.labels, config.views.vote))
    model.decision = decision
    save_model(model, file)
    try:
        threshold = threshold_by(config.operating_point, decision.logits(logits), val.labels, model.normal)
    except WaferlabError as error:
        run.file(file, MODEL_FOLDER)
        raise WaferlabError(
            f"{error}; the network is trained, and kept without a threshold: model={run.id} names the most probable "
            f"class, and `waferlab evaluate model={run.id} operating_point=…` tries another line"
        ) from error
    model.decision = replace(decision, threshold=threshold)
    return save_model(model, file)


def _transform(transforms: dict[str, Component], wafers: Wafers) -> Transform | None:
    made = {name: transform.build(f"transforms.{name}") for name, transform in transforms.items()}
    if not wafers.are_images:
        for name, transform in made.items():
            require_moves(transform, f"transforms.{name}", wafers.size)
    return nn.Sequential(*made.values()) if made else None


def _noisy(labels: Tensor, noise: float, seed: int) -> Tensor:
    """Labels (N, K), a share of which name another class."""
    random = torch.Generator().manual_seed(seed)
    changed = torch.rand(len(labels), generator=random) < noise
    by = torch.randint(1, max(labels.shape[1], 2), (len(labels),), generator=random)
    other = (labels.argmax(1) + by) % labels.shape[1]
    return torch.where(changed[:, None], nn.functional.one_hot(other, labels.shape[1]).float(), labels)
