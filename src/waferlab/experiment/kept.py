"""What a run kept of its configuration."""

import json
import tempfile
from pathlib import Path
from typing import get_args

from mlflow.exceptions import MlflowException

from waferlab.config import ExperimentConfig, experiment_config
from waferlab.data.ragged import Resize
from waferlab.errors import ConfigError, WaferlabError
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


def resize_of(run_id: str, tracker: Tracker) -> Resize | None:
    """How the maps that a run learnt from came to their size; None where nobody knows."""
    try:
        arguments = kept_config(run_id, tracker).dataset.arguments
    except WaferlabError:
        return None
    found: Resize | None = next((way for way in get_args(Resize) if way == arguments.get("resize", "keep")), None)
    return found
