"""``waferlab sync``: runs that were kept in the store because their server didn't answer, sent to it."""

from pathlib import Path

from omegaconf import DictConfig

from waferlab.config import TrackingConfig
from waferlab.errors import ConfigError
from waferlab.experiment.compose import checked
from waferlab.schema import Schema
from waferlab.tracking.sync import Sync
from waferlab.tracking.tracker import Tracker


class SyncConfig(Schema):
    """Which server, and which store."""

    tracking: TrackingConfig
    store: Path


def run(composed: DictConfig) -> None:
    """Send the runs, and print what each has become.

    Raises:
        ConfigError: no server is named.
        WaferlabError: it doesn't answer.
    """
    config = checked(SyncConfig, composed)
    if config.tracking.uri is None:
        raise ConfigError("tracking.uri: name the server, such as tracking.uri=http://server:5000")
    server = Tracker(config.tracking, config.store)
    store = Tracker(config.tracking.model_copy(update={"uri": None}), config.store)
    sent = 0
    for here, there in Sync(store, server).send():
        sent += there is not None
        print(f"run {here} of {config.store} is {f'run {there} at {server.uri}' if there else 'still open; it waits'}")
    print(f"{sent} run{'s' * (sent != 1)} sent")
