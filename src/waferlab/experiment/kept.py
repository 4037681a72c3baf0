"""What a run kept of its configuration."""

import json
import tempfile
from pathlib import Path
from typing import Any, get_args

from mlflow.exceptions import MlflowException

from waferlab.config import ExperimentConfig, experiment_config
from waferlab.data.decode import Fit
from waferlab.data.ragged import Resize
from waferlab.errors import ConfigError, WaferlabError
from waferlab.schema import Component
from waferlab.tracking.run import CONFIG_FILE
from waferlab.tracking.tracker import Tracker


def kept_config(run_id: str, tracker: Tracker) -> ExperimentConfig:
    """A run's own configuration.

    Raises:
        WaferlabError: it kept none that this version can read.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            kept = Path(tracker.client.download_artifacts(run_id, CONFIG_FILE, folder))
            return experiment_config(json.loads(kept.read_text(encoding="utf-8")))
    except (MlflowException, OSError, ValueError, ConfigError) as error:
        said = str(error).splitlines()[0]
        raise WaferlabError(f"run {run_id} doesn't say what it was trained on ({said}); give dataset=…") from error


def sizing_of(run_id: str, tracker: Tracker) -> dict[str, Any]:
    """`sizing` of the data that a run learnt from; empty where nobody knows."""
    try:
        return sizing(kept_config(run_id, tracker).dataset)
    except WaferlabError:
        return {}


def sizing(dataset: Component) -> dict[str, Any]:
    """How maps or images come to their size, as far as a source is told: fields of `waferlab.edge.card.Card`."""
    known: dict[str, tuple[Any, ...]] = {"resize": get_args(Resize), "fit": get_args(Fit), "colour": (True, False)}
    return {name: value for name, value in dataset.arguments.items() if value in known.get(name, ())}
