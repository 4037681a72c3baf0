"""``waferlab register``: a run's model as the next version of a registered one."""

from pathlib import Path

from omegaconf import DictConfig
from pydantic import Field

from waferlab.config import TrackingConfig
from waferlab.experiment.compose import checked
from waferlab.schema import Schema
from waferlab.tracking.registry import REGISTERED, register
from waferlab.tracking.tracker import Tracker


class RegisterConfig(Schema):
    """Which run's model, and under what name."""

    tracking: TrackingConfig
    store: Path
    model: str
    name: str = Field(pattern=r"^[\w.-]+$")
    alias: str | None = Field(pattern=r"^[A-Za-z][\w-]*$")


def run(composed: DictConfig) -> None:
    """Register the model, and print how to use it."""
    config = checked(RegisterConfig, composed)
    tracker = Tracker(config.tracking, config.store)
    number = register(tracker, config.model, config.name, config.alias)
    reference = f"{REGISTERED}{config.name}" + (f"@{config.alias}" if config.alias else f"/{number}")
    print(f"version {number} of {config.name}: {reference}\n")
    print(f"next     waferlab evaluate model={reference}")
    print(f"         MLFLOW_TRACKING_URI={tracker.uri} mlflow models serve -m {reference} --env-manager local")
