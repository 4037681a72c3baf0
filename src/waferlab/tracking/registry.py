"""The models of runs: their files, and MLflow's registry of them."""

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlparse
from urllib.request import url2pathname

from mlflow.exceptions import MlflowException

from waferlab.errors import WaferlabError
from waferlab.tracking.run import MODEL_FILE, MODEL_FOLDER, reason
from waferlab.tracking.tracker import Tracker

#: What references to registered models begin with.
REGISTERED: Final = "models:/"


def model_file(tracker: Tracker, run_id: str) -> Path:
    """The model file of a run; fetched into the store, once, if it lies elsewhere.

    Raises:
        WaferlabError: there is no such run, or it kept no model.
    """
    try:
        place = urlparse(tracker.client.get_run(run_id).info.artifact_uri)
        if place.scheme == "file":
            kept = Path(url2pathname(place.path)) / MODEL_FOLDER / MODEL_FILE
            if not kept.is_file():
                raise FileNotFoundError(str(kept))
            return kept
        fetched = tracker.store / "fetched" / run_id / MODEL_FOLDER / MODEL_FILE
        if not fetched.exists():
            with tempfile.TemporaryDirectory(dir=tracker.store) as folder:
                whole = tracker.client.download_artifacts(run_id, f"{MODEL_FOLDER}/{MODEL_FILE}", folder)
                fetched.parent.mkdir(parents=True, exist_ok=True)
                Path(whole).replace(fetched)
        return fetched
    except (MlflowException, OSError) as error:
        raise WaferlabError(f"run {run_id} at {tracker.uri} is unknown, or it kept no model ({error})") from error


def register(tracker: Tracker, run_id: str, name: str, alias: str | None) -> int:
    """Make the model of a run the next version of a registered model, and let an alias mean it; its number.

    Raises:
        WaferlabError: there is no such run, it kept no MLflow model, or MLflow refuses the name.
    """
    with tracker.answering():
        kept = {file.path for file in tracker.client.list_artifacts(run_id, MODEL_FOLDER)}
        if f"{MODEL_FOLDER}/MLmodel" not in kept:
            raise WaferlabError(f"run {run_id} kept no MLflow model; experiments that measure on the test part do")
        with suppress(MlflowException):  # it is there already
            tracker.client.create_registered_model(name)
        source = f"{tracker.client.get_run(run_id).info.artifact_uri}/{MODEL_FOLDER}"
        made = tracker.client.create_model_version(name, source, run_id)
        if alias is not None:
            tracker.client.set_registered_model_alias(name, alias, str(made.version))
    return int(made.version)


def registered(tracker: Tracker, reference: str) -> str:
    """The run of a registered model's version, ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.

    Raises:
        WaferlabError: there is none.
    """
    name, at, alias = reference.removeprefix(REGISTERED).partition("@")
    try:
        if at:
            return str(tracker.client.get_model_version_by_alias(name, alias).run_id)
        name, _, number = name.partition("/")
        return str(tracker.client.get_model_version(name, number).run_id)
    except MlflowException as error:
        raise WaferlabError(f"{reference} is no registered model at {tracker.uri}: {reason(error)}") from error
