"""``waferlab predict`` with an exported model: without torch, and without Hydra."""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from waferlab.edge.card import Card
from waferlab.edge.model import Moved, OnnxModel, Predictor
from waferlab.edge.photographs import photographs
from waferlab.edge.predict import HEAT_MAPS, PICTURES, TABLE, Batch, Found, Wanted, of_size, predict
from waferlab.edge.zoo import exported
from waferlab.errors import Bad, ConfigError
from waferlab.formats import read
from waferlab.formats.block import Reading
from waferlab.progress import note, note_without_effect
from waferlab.wafer import STATES

USAGE: Final = """usage: waferlab predict model=FILE input=FILE key=value …

  model          exported file (.onnx), or zoo/NAME
  input          file or folder of wafer maps; of photographs, if it reads such
  output         folder, or table: .csv or .parquet (predictions)
  format         of the input, where its name doesn't say it
  pass_bins      bins that pass, where the file doesn't say it: [1,2]
  bad            files of a folder that can't be read: refuse, or skip them
  threshold      score from which on a wafer is abnormal, or log odds of defects
  die_threshold  score from which on a die is abnormal
  pictures       of how many wafers: those most surely wrong (20)
  heat_maps      true: keep the scores of all dies (false)
  threads        one for each processor

Of a model with torch, such as a run's (model=RUN_ID), also dataset=… for the
wafers of a data set; waferlab predict model=RUN_ID --cfg job shows all keys.
"""
#: That are told of, the most frequent ones.
_PATTERNS_SHOWN: Final = 12
_TRUTHS: Final = {"true": True, "false": False}
_EXPECTED: Final = {bool: "true or false", int: "a whole number", float: "a number"}


@dataclass(frozen=True, kw_only=True)
class Request(Wanted):
    """What to predict, by which model, and what to write.

    Attributes:
        model: an exported file, or ``zoo/NAME``.
        input: a file of wafer maps, or a folder of such.
        format: of the input; None: by its name and content.
        pass_bins: bins of dies that pass; None: as the file says it, or bin 1.
        bad: what becomes of files of a folder that can't be read.
    """

    model: str
    input: Path
    format: str | None = None
    pass_bins: tuple[str, ...] | None = None
    bad: Bad = "refuse"

    def __post_init__(self) -> None:
        """Refuse what can't be written, and bins that are none."""
        super().__post_init__()
        bins = self.pass_bins
        if bins is not None and (not bins or any(re.fullmatch(r"-.*|.*\.\d*[1-9]\d*", each) for each in bins)):
            raise ConfigError(
                f"pass_bins=[{','.join(bins)}]: say which bins pass, as the files write them, such as pass_bins=[1,2]"
            )


def run(arguments: Sequence[str]) -> None:
    """Predict as asked for on the command line, and say what was found.

    Raises:
        ConfigError: a key or a value is wrong.
        WaferlabError: the model or the input can't be read.
    """
    if {"-h", "--help"} & {*arguments}:
        print(USAGE, end="")
        return
    report(*predicted(arguments))


def predicted(overrides: Sequence[str]) -> tuple[Found, Card, Request]:
    """What came of a prediction as on the command line, of what model, and what was asked for.

    Raises:
        ConfigError: a key or a value is wrong.
        WaferlabError: the model or the input can't be read.
    """
    request = parse(overrides)
    exact = OnnxModel(exported(request.model) or Path(request.model))
    note_idle(overrides, exact.card, exact.knows_dies)
    model: Predictor = exact
    if request.threshold is not None and model.card.kind == "class":
        model = Moved(model, request.threshold)
    return predict(model, batches(request, model.card), request), model.card, request


def batches(request: Request, card: Card) -> Iterable[Batch]:
    """The input's wafers on a model's grid.

    Raises:
        ConfigError: what is written would be read, or written over what is read.
        WaferlabError: there is no input, or it can't be read.
    """
    given = request.input.resolve()
    for written in map(request.place, (TABLE, HEAT_MAPS, PICTURES)):
        place = written.resolve()
        is_same = place.exists() and given.exists() and place.samefile(given)
        if is_same or given in (place, *place.parents) or place in given.parents:
            raise ConfigError(
                f"output={request.output}: {written} would be written over input={request.input}, or into it; write "
                "elsewhere"
            )
    if card.states > STATES:
        return photographs(request.input, card, request.bad)
    bins = None if request.pass_bins is None else frozenset(request.pass_bins)
    return of_size(read(request.input, request.format, Reading(bins), request.bad), card)


def note_idle(overrides: Sequence[str], card: Card, knows_dies: bool) -> None:
    """Name the keys that have no effect with this model or this input.

    Args:
        overrides: as typed.
        knows_dies: whether the model gives die maps.
    """
    if card.kind != "anomaly":
        idle = "die_threshold|heat_maps" + "|threshold" * (card.kind == "patterns")
        note_without_effect(overrides, idle, "this model is a classifier")
    elif not knows_dies:
        note_without_effect(overrides, "die_threshold|heat_maps", "this model knows nothing of dies")
    inputs = [Path(each.removeprefix("input=")) for each in overrides if each.startswith("input=")]
    if card.states > STATES:
        note_without_effect(overrides, "format|pass_bins", "this model reads photographs")
    if inputs and inputs[-1].is_file():
        note_without_effect(overrides, "bad", "the input is a single file")


def report(found: Found, card: Card, wanted: Wanted) -> None:
    """Say on standard output what was found, and where it was written."""
    if found.empty:
        note(f"without any die, and so without an answer: {found.empty:,} of {found.wafers:,} wafers")
    if found.failed:
        note(
            f"no die passes on {found.failed:,} of {found.wafers:,} wafers; should some, say by which bins: pass_bins=…"
        )
    if found.shrunk:
        note(
            f"larger than the model's {card.size[0]}x{card.size[1]} dies, and shrunk, so that thin patterns may be "
            f"lost: {found.shrunk:,} of {found.wafers:,} wafers"
        )
    if card.kind == "anomaly" and card.threshold is None and wanted.threshold is None:
        note("this model has no threshold, as its validation wafers were of one kind; give one: threshold=…")
    width = max(map(len, found.patterns), default=0)
    for name, count in found.patterns.most_common(_PATTERNS_SHOWN):
        print(f"{name:<{width}}  {count:>9,}")
    if len(found.patterns) > _PATTERNS_SHOWN:
        print(f"and {len(found.patterns) - _PATTERNS_SHOWN} more")
    print(f"{found.wafers:,} wafers in {found.seconds:.1f} s")
    for path in found.written:
        print(f"wrote {path}")


def parse(arguments: Sequence[str]) -> Request:
    """The request that ``key=value`` arguments make.

    Raises:
        ConfigError: a key is unknown or missing, or a value is not what it should be.
    """
    kinds = get_type_hints(Request)
    values: dict[str, Any] = {}
    for argument in arguments:
        key, is_pair, text = argument.partition("=")
        if not is_pair or key not in kinds:
            close = difflib.get_close_matches(key, kinds, n=1)
            meant = f" Did you mean '{close[0]}'?" if close else f" There are: {', '.join(kinds)}."
            raise ConfigError(f"'{argument}' is no key=value of `waferlab predict` with an exported model.{meant}")
        if not text:
            raise ConfigError(f"{key}= is empty: give it a value, or leave it out")
        values[key] = _value(key, text, kinds[key])
    for each in fields(Request):
        if each.default is MISSING and each.name not in values:
            raise ConfigError(f"{each.name} is missing: {each.name}=…")
    return Request(**values)


def _value(key: str, text: str, kind: Any) -> Any:
    """A value of one of the types that `Request` has."""
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise ConfigError(f"{key}={text}: expected {' or '.join(get_args(kind))}")
        return text
    options = get_args(kind) if NoneType in get_args(kind) else (kind,)
    if NoneType in options and text in ("null", "None"):
        return None
    kind = next(option for option in options if option is not NoneType)
    if get_origin(kind) is tuple:
        return tuple(part.strip(" \"'") for part in text.strip("[]()").split(",") if part.strip())
    try:
        return _TRUTHS[text.lower()] if kind is bool else kind(text)
    except (ValueError, KeyError) as error:
        raise ConfigError(f"{key}={text}: expected {_EXPECTED.get(kind, kind.__name__)}") from error
