"""What `waferlab ui` shows of a sweep, in a headless Chromium: for its test and for the pictures of the documents.

Needs a Chromium on this machine. It loads nothing from elsewhere, whatever the pages ask for.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from local_servers import first_answer, free_port
from mlflow import MlflowClient
from mlflow.entities import Run
from playwright.sync_api import Locator, Page, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 180  # seconds: the most that anything may take
_NOTHING_ELSE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
_UNTRACKED = {"DO_NOT_TRACK": "true"}
_CLOSED = {"mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true", "mlflow.assistant.panelOpen_v1": "false"}
_PLOTS = "() => [...document.querySelectorAll('.js-plotly-plot')].map(plot => plot.data ?? [])"


@dataclass(frozen=True)
class Sweep:
    """A sweep's run, and those of its complete trials, by number."""

    run: Run
    trials: list[Run]

    @classmethod
    def read(cls, store: Path) -> "Sweep":
        """The newest sweep of a store, of one objective."""
        client = MlflowClient(f"sqlite:///{(store / 'mlflow.db').resolve()}")
        (run, *_) = client.search_runs(["1"], "tags.role = 'sweep'")
        is_below = f"tags.`sweep.id` = '{run.data.tags['sweep.id']}' and tags.role = 'experiment'"
        below = client.search_runs(["1"], is_below)
        complete = [trial for trial in below if trial.data.tags["trial.state"] == "complete"]
        return cls(run, sorted(complete, key=lambda trial: int(trial.data.tags["trial"])))

    @property
    def searched(self) -> list[str]:
        """The keys that it searched."""
        return self.run.data.tags["searched"].split()

    @property
    def objective(self) -> str:
        """The validation metric that it went by."""
        return self.run.data.tags["objective"]

    @property
    def result(self) -> str:
        """The same metric of the weights that a trial kept."""
        return f"best/{self.objective.removeprefix('val/')}"


@contextmanager
def served(store: Path) -> Iterator[str]:
    """`waferlab ui` on a store; its address."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "waferlab.cli", "ui", f"store={store}", f"port={port}"]
    server = subprocess.Popen(
        command, env=os.environ | _UNTRACKED, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        first_answer(server, f"{address}/health")
        yield address
    finally:
        server.terminate()
        server.wait()


@contextmanager
def opened(width: int = 1280, height: int = 800) -> Iterator[Page]:
    """A page in Chromium, in which MLflow's assistant is closed."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[_NOTHING_ELSE])
        try:
            page = browser.new_page(viewport={"width": width, "height": height})
            page.set_default_timeout(1000 * PATIENCE)
            _keep(page, _CLOSED)
            yield page
        finally:
            browser.close()


def _keep(page: Page, values: dict[str, str]) -> None:
    """Have the browser know these settings of MLflow's when a page opens."""
    page.add_init_script(f"for (const [key, value] of Object.entries({json.dumps(values)})) localStorage[key] = value")


class SweepPages:
    """The pages of a sweep. Each method opens one, and returns when it shows what it is about.

    Args:
        page: of a browser.
        address: of the UI.
        sweep: in its store.
    """

    def __init__(self, page: Page, address: str, sweep: Sweep) -> None:
        self.page, self.address, self.sweep = page, address, sweep
        self.experiment = sweep.run.info.experiment_id

    def table(self) -> Locator:
        """The table of runs, with what was searched and found in its columns, and the trials unfolded; its rows."""
        columns = [f"metrics.`{self.sweep.result}`", *(f"params.`{key}`" for key in self.sweep.searched)]
        shown = {"selectedColumns": [*columns, "tags.`trial.state`"], "searchFilter": ""}
        state = f'MLflowLocalStorage-1.1-ExperimentPage-["{self.experiment}"]-ReactComponentState'
        _keep(self.page, {state: json.dumps(shown)})
        self._open(f"experiments/{self.experiment}/runs")
        link = self.page.get_by_role("link", name=str(self.sweep.run.info.run_name), exact=True)
        self.page.locator("[role=row]", has=link).locator("button").first.click()
        self.page.locator(".ag-center-cols-container [row-index='1']").wait_for()
        return self.page.locator(".ag-center-cols-container [role=row], .ag-pinned-left-cols-container [role=row]")

    def comparison(self) -> dict[str, Any]:
        """The complete trials compared by the objective; the parallel coordinates as they are drawn."""
        runs = [trial.info.run_id for trial in self.sweep.trials]
        self._open("compare-runs", runs=json.dumps(runs), experiments=json.dumps([self.experiment]))
        self.page.locator(".parcoords").wait_for()
        metrics = self.page.locator("xpath=//div[text()='Metrics:']/following-sibling::div[1]")
        while metrics.locator("[class*=selection-item-remove]").count():
            metrics.locator("[class*=selection-item-remove]").first.click()
        metrics.click()
        self.page.keyboard.type(self.sweep.result)
        self.page.locator(f'[class*=select-item-option][title="{self.sweep.result}"]').click()
        self.page.keyboard.press("Escape")
        self.page.locator(".parcoords .axis-title", has_text=self.sweep.result).wait_for()
        return self._plots()[0][0]

    def curves(self, metric: str) -> dict[str, dict[str, Any]]:
        """A metric of the complete trials by epoch; the lines as they are drawn, by the names of runs."""
        runs = [trial.info.run_id for trial in self.sweep.trials]
        asked = {"runs": runs, "metric": metric, "experiments": [self.experiment], "plot_metric_keys": [metric]}
        asked |= {"plot_layout": {}, "deselected_curves": [], "last_linear_y_axis_range": []}
        settings = {"x_axis": "step", "y_axis_scale": "linear", "line_smoothness": "1", "show_point": "false"}
        self._open("metric", **{key: json.dumps(value) for key, value in asked.items()}, **settings)
        self.page.wait_for_function(f"n => ({_PLOTS})().some(lines => lines.length >= n)", arg=len(runs))
        return {line["name"]: line for line in self._plots()[0]}

    def figure(self, name: str) -> Locator:
        """A figure of the sweep's run beside their list; its image, loaded."""
        self._open(f"experiments/{self.experiment}/runs/{self.sweep.run.info.run_id}/artifacts/figures/{name}.png")
        self.page.get_by_text(f"figures/{name}.png").first.wait_for()
        image = self.page.locator(f'img[alt="figures/{name}.png"]')
        image.wait_for()
        return image

    def _open(self, place: str, **asked: str) -> None:
        query = urlencode(
            {**asked, "workflowType": "machine_learning"}, quote_via=quote
        )  # MLflow knows the first by its place
        self.page.goto("about:blank")  # or a change behind the # opens no page
        self.page.goto(f"{self.address}/#/{place}?{query}")

    def _plots(self) -> Sequence[Any]:
        return self.page.evaluate(_PLOTS)
