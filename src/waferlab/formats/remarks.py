"""What is to be said of an input as a whole, once it is read: in few words, however many files it has."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeVar

_Key = TypeVar("_Key")
_NAMED: Final = 5  # values of a mark, at most


@dataclass
class Remarks:
    """What its files say of how their wafers lie."""

    _notches: dict[str, list[str]] = field(default_factory=dict)
    _strange: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def notch(self, mark: str, value: str) -> None:
        """Where a wafer's notch or flat lies, in its file's words, such as ``FNLOC`` and ``180``; empty: unknown."""
        _keep(self._notches, mark, value.strip())

    def strange(self, mark: str, value: str, instead: str) -> None:
        """A mark of how coordinates run that nobody understands, and what is taken instead."""
        _keep(self._strange, (mark, instead), value.strip())

    def lines(self) -> Iterator[str]:
        """A sentence for each thing that is worth one."""
        differing = [f"{mark} {', '.join(values)}" for mark, values in self._notches.items() if len(values) > 1]
        if differing:
            yield f"notches lie in several places ({'; '.join(differing)}); maps are read as drawn, none is turned"
        for (mark, instead), values in self._strange.items():
            yield f"{mark} {', '.join(map(repr, values))} isn't known; coordinates were read as {instead}"


def _keep(values: dict[_Key, list[str]], key: _Key, value: str) -> None:
    some = values.setdefault(key, [])
    if value and value not in some and len(some) < _NAMED:
        some.append(value[:20])
