"""``waferlab ui``: the MLflow UI on the project's store."""

import os
import subprocess
import sys
from pathlib import Path

from omegaconf import DictConfig
from pydantic import Field

from waferlab.config import TrackingConfig
from waferlab.errors import WaferlabError
from waferlab.experiment.compose import checked
from waferlab.schema import Schema
from waferlab.tracking.tracker import Tracker

#: Several workers, and a server's jobs, take long to start, and one person gains nothing by them.
_FOR_ONE_PERSON = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


class UiConfig(Schema):
    """Where the UI listens, and on what store."""

    tracking: TrackingConfig
    store: Path
    host: str
    port: int = Field(ge=1, le=65535)


def run(composed: DictConfig) -> None:
    """Serve the UI until interrupted; of a server that has one, say where.

    Raises:
        WaferlabError: MLflow's server ended by itself, because the port is taken, say.
    """
    config = checked(UiConfig, composed)
    tracker = Tracker(config.tracking, config.store)
    page = f"#/experiments/{tracker.experiment_id}/runs?workflowType=machine_learning"  # or it opens on traces
    if tracker.uri.startswith("http"):
        print(f"the server shows them itself:\n{tracker.uri.rstrip('/')}/{page}")
        return
    print(f"MLflow UI on {tracker.uri}, Ctrl-C ends it; in some seconds at")
    print(f"http://{config.host}:{config.port}/{page}")
    serve = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", tracker.uri, "--workers", "1"]
    place = ["--host", config.host, "--port", str(config.port)]
    server = subprocess.Popen([*serve, *place], env=_FOR_ONE_PERSON | os.environ)
    try:
        code = server.wait()
    finally:
        server.terminate()
        server.wait()
    raise WaferlabError(f"the MLflow server ended by itself with code {code}; is port {config.port} taken?")
