"""Pictures of what `waferlab ui` shows of a store's newest sweep, for the documents: `screenshots.py STORE FOLDER`."""

import sys
from pathlib import Path

from mlflow_pages import Sweep, SweepPages, opened, served

#: MLflow's assistant has a button on every page; beside an artifact stands where it lies on this machine.
_HIDE = "[data-assistant-ui], [title^='file:'] {visibility: hidden}"

_SETTLED = 4000  # milliseconds: until what stands around it is there too


def main(store: Path, folder: Path) -> None:
    """Write the pictures into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with served(store) as address, opened(width=1240, height=740) as page:
        pages = SweepPages(page, address, Sweep.read(store))
        shown = {
            "sweep_runs": pages.table,
            "sweep_comparison": pages.comparison,
            "sweep_curves": lambda: pages.curves(pages.sweep.objective),
            "sweep_figures": lambda: pages.figure("slices"),
        }
        for name, show in shown.items():
            show()
            page.add_style_tag(content=_HIDE)
            page.mouse.move(1, 1)
            page.wait_for_timeout(_SETTLED)
            page.locator("main").screenshot(path=folder / f"{name}.png", animations="disabled")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
