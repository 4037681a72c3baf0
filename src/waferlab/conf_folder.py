"""Where the configs lie; apart from everything else, so that the command line stays light."""

from pathlib import Path


def config_folder() -> Path:
    """The folder of configs: inside the installed package, or at the top of a checkout."""
    package = Path(__file__).parent
    inside, checkout = package / "conf", package.parents[1] / "conf"
    return inside if inside.is_dir() else checkout
