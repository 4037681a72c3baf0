"""SEMI E142: substrate maps in XML, as probers, die sorters and manufacturing execution systems exchange them.

A file has one or more ``SubstrateMap``, with or without a namespace and whatever stands around ``MapData``. Each
``BinCodeMap`` in them is a map: rows of ``BinCode``, from top to bottom as drawn (MapType ``2DArray``), or a
``BinCode`` with X and Y for each die (``Coordinate``), which run as AxisDirection says, else away from the corner that
OriginLocation names, else right and up. Orientation says where the notch lies: nothing is turned by it. Which bins
pass: `semi_xml.BinMap.wafer`. Wafers are named LotId/SubstrateId; one without SubstrateId by its place in the file,
from 1.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Final
from xml.sax.saxutils import quoteattr

import numpy as np

from waferlab.errors import WaferlabError
from waferlab.formats.bins import Axes, ids
from waferlab.formats.block import Block, Format, Reading, Wafer, in_blocks, wafer_name
from waferlab.formats.remarks import Remarks
from waferlab.formats.semi_xml import BinMap, elements, has_element
from waferlab.whole_file import whole_file

_CODES: Final = np.array(["FF", "01", "02"])  # of each die state
_USUAL: Final = "UpRight"
#: How coordinates run, by AxisDirection, and the direction that leads away from each OriginLocation; lower case.
_AXES: Final = {"upright": Axes(up=True), "downright": Axes(), "upleft": Axes(True, True), "downleft": Axes(left=True)}
_FROM: Final = {"lowerleft": _USUAL, "lowerright": "UpLeft", "upperleft": "DownRight", "upperright": "DownLeft"}


def read(path: Path, told: Reading) -> Iterator[Block]:
    """Maps of a file as described above.

    Raises:
        WaferlabError: the file is damaged, declares a document type, or lists bins in a way not described above.
    """
    return in_blocks(_wafers(path, told), path)


def _wafers(path: Path, told: Reading) -> Iterator[Wafer]:
    lots: dict[str, str] = {}  # by SubstrateId
    substrate, count, bins, axes = "", 0, None, _AXES[_USUAL.lower()]
    for event, name, element in elements(path):
        match event, name:
            case "start", "Substrate" | "SubstrateMap":
                substrate = element.get("SubstrateId", "").strip()
                if name == "SubstrateMap":
                    axes = _axes(element.attrib, told.remarks)
                    told.remarks.notch("Orientation", element.get("Orientation", ""))
            case "end", "LotId":
                lots[substrate] = (element.text or "").strip()
            case "start", "BinCodeMap":
                count += 1
                bins = BinMap.of(element, f"{path}: wafer {substrate or count}", axes)
                if (kind := element.get("MapType", "2DArray")).lower() not in ("2darray", "coordinate"):
                    raise WaferlabError(f"{bins.where}: MapType {kind!r}; only 2DArray and Coordinate are read")
            case "end", "BinDefinition" if bins:
                bins.define(element)
            case "end", "BinCode" if bins:
                bins.add(element)
            case "end", "BinCodeMap" if bins:
                yield wafer_name(lots.get(substrate, ""), substrate or str(count)), bins.wafer(told)
                bins = None


def _axes(marks: Mapping[str, str], remarks: Remarks) -> Axes:
    """How the coordinates of a SubstrateMap with these attributes run."""
    origin, said = (marks.get(mark, "").strip() for mark in ("OriginLocation", "AxisDirection"))
    leading = _FROM.get(origin.lower(), _USUAL)
    if said and said.lower() not in _AXES:
        remarks.strange("AxisDirection", said, leading)
    elif not said and origin and origin.lower() not in (*_FROM, "center"):
        remarks.strange("OriginLocation", origin, leading)
    return _AXES.get(said.lower(), _AXES[leading.lower()])


def write(blocks: Iterable[Block], path: Path) -> None:
    """Two-digit hexadecimal bins: FF no die, 01 pass, 02 fail.

    SubstrateId is the wafer's whole name: a file's substrates must differ in it, also those of different lots.
    """
    with whole_file(path) as file:
        file.write(
            b'<?xml version="1.0" encoding="UTF-8"?>\n'
            b'<MapData xmlns="urn:semi-org:xsd.E142-1.V1005.SubstrateMap">\n<SubstrateMaps>\n'
        )
        for name, wafer in chain.from_iterable(blocks):
            file.write(
                f'<SubstrateMap SubstrateType="Wafer" SubstrateId={quoteattr(wafer_name(*ids(name)))}'
                f' Orientation="0" OriginLocation="UpperLeft" AxisDirection="DownRight">\n'
                f'<Overlay MapName="SortGrade" MapVersion="1">\n'
                f'<BinCodeMap BinType="HexaDecimal" NullBin="FF" MapType="2DArray">\n<BinDefinitions>\n'
                f'<BinDefinition BinCode="01" BinQuality="Pass"/>\n<BinDefinition BinCode="02" BinQuality="Fail"/>\n'
                f"</BinDefinitions>\n".encode()
            )
            file.writelines(f"<BinCode>{''.join(row)}</BinCode>\n".encode() for row in _CODES[wafer].tolist())
            file.write(b"</BinCodeMap>\n</Overlay>\n</SubstrateMap>\n")
        file.write(b"</SubstrateMaps>\n</MapData>\n")


FORMAT: Final = Format(
    name="e142",
    suffixes=(".xml", ".e142"),
    recognises=partial(has_element, names="MapData|SubstrateMaps?"),
    read=read,
    write=write,
)
