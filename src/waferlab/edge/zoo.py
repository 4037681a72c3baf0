"""Exported models by name: files, and those that come with the package."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from waferlab.errors import WaferlabError

_ZOO: Final = "zoo/"
_SUFFIX: Final = ".onnx"
_FOLDER: Final = Path(__file__).parents[1] / "zoo"


def exported(reference: str) -> Path | None:
    """The file that a reference to an exported model means; None for any other model.

    Raises:
        WaferlabError: the zoo has no model of that name; the message lists those it has.
    """
    if not reference.startswith(_ZOO):
        return Path(reference) if reference.lower().endswith(_SUFFIX) else None
    files = {path.stem: path for path in sorted(_FOLDER.glob(f"*{_SUFFIX}"))}
    name = reference.removeprefix(_ZOO)
    if name not in files:
        raise WaferlabError(f"the zoo has no model '{name}'; it has: {', '.join(files) or 'none'}")
    return files[name]


def needs_little(arguments: Sequence[str]) -> bool:
    """Whether a prediction needs neither torch nor Hydra, by the model that it names, or is to go on without them."""
    named = [each.removeprefix("model=") for each in arguments if each.startswith("model=")]
    return (bool(named) and exported(named[-1]) is not None) or find_spec("hydra") is None
