"""What an exported model says of itself."""

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal, get_args

from waferlab.data.decode import Fit
from waferlab.data.ragged import Resize
from waferlab.errors import WaferlabError
from waferlab.wafer import STATES

#: Under which name a model file keeps its card.
KEY: Final = "waferlab"


@dataclass(frozen=True)
class Card:
    """All that one has to know to use a model, as it travels inside its file.

    Attributes:
        kind: ``patterns``: each defect is present or not, output ``logits`` (N, C); ``class``: one of the classes,
            outputs ``bits`` (N, C) and ``probabilities`` (N, C); ``anomaly``: outputs ``score`` (N,), higher for
            abnormal, and, where it knows of dies, ``die_map`` (N, H, W).
        size: (H, W) of the maps that it reads, (N, H, W) uint8 under the name ``maps``.
        classes: C names; empty for ``anomaly``.
        states: number of values that a die, or a pixel, may have: 3 die states, or 256 brightnesses of images.
        resize: how maps of other sizes come to its size, as `waferlab.data.ragged.resized` has it.
        fit: how images come to its size, as `waferlab.data.decode.decode` has it.
        colour: whether they have three channels.
        normal: the class without a defect, where it has one.
        threshold: score from which on a wafer is abnormal, as chosen on validation; None where there is none.
        die_threshold: the same for a die.
        views: of each map, that its answer is the mean of.
        run: id of the MLflow run that it comes from, or None.
        version: of Waferlab, which made the file.
    """

    kind: Literal["patterns", "class", "anomaly"]
    size: tuple[int, int]
    classes: tuple[str, ...] = ()
    states: int = STATES
    resize: Resize = "keep"
    fit: Fit = "stretch"
    colour: bool = True
    normal: int | None = None
    threshold: float | None = None
    die_threshold: float | None = None
    views: int = 1
    run: str | None = None
    version: str = ""

    def text(self) -> str:
        """As JSON, without what is as it would be anyway."""
        usual = {each.name: each.default for each in fields(self)}
        said = {name: value for name, value in asdict(self).items() if value != usual[name]}
        return json.dumps(said, separators=(",", ":"), allow_nan=False)

    @classmethod
    def of(cls, text: str | None, where: str) -> "Card":
        """What `text` gave.

        Raises:
            WaferlabError: it is missing or says something else; the message names `where` it was looked for.
        """
        if text is None:
            raise WaferlabError(f"{where} is no model that `waferlab export` has made: it doesn't say what it is for")
        try:
            said: dict[str, Any] = json.loads(text)
            height, width = said["size"]
            card = cls(**{**said, "size": (height, width), "classes": tuple(said.get("classes", ()))})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise WaferlabError(f"{where} says of itself what this version can't read: {error}") from error
        if card.kind not in ("patterns", "class", "anomaly"):
            raise WaferlabError(f"{where} is for '{card.kind}', which this version doesn't know")
        if not card.makes_sense:
            raise WaferlabError(f"{where} says of itself what can't be: {text}; it is damaged")
        return card

    @property
    def makes_sense(self) -> bool:
        """Whether its values are such as an export writes."""
        named = all(isinstance(name, str) for name in self.classes) and bool(self.classes) == (self.kind != "anomaly")
        named &= len({*self.classes}) == len(self.classes)
        whole = all(type(number) is int and number >= 1 for number in (*self.size, self.views))
        normal = self.normal is None or (type(self.normal) is int and self.normal in range(len(self.classes)))
        lines = all(
            line is None or (isinstance(line, int | float) and math.isfinite(line))
            for line in (self.threshold, self.die_threshold)
        )
        ways = self.resize in get_args(Resize) and self.fit in get_args(Fit) and isinstance(self.colour, bool)
        return named and whole and normal and lines and ways and self.states in (STATES, 256)
