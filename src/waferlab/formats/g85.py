"""SEMI G85: wafer maps in XML, the predecessor of E142, as wafers of older products still come with.

A file is a ``Map``, or ``Maps`` of several, with or without a namespace. Each ``Device`` in them is a map, its ``Row``
from top to bottom as drawn: OriginLocation is for whoever numbers rows and columns. Orientation says where the notch
lies: nothing is turned by it. Which bins pass: `semi_xml.BinMap.wafer`. Wafers are named LotId/SubstrateId, or
LotId/WaferId; one without an id by its place in the file, from 1.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Final
from xml.sax.saxutils import quoteattr

import numpy as np

from waferlab.errors import WaferlabError
from waferlab.formats.bins import RIGHT_DOWN, ids, whole
from waferlab.formats.block import Block, Format, Reading, Wafer, in_blocks, wafer_name
from waferlab.formats.semi_xml import BinMap, elements, has_element
from waferlab.whole_file import whole_file

_CODES: Final = np.array(["255", "001", "002"])  # of each die state


def read(path: Path, told: Reading) -> Iterator[Block]:
    """Maps of a file as described above.

    Raises:
        WaferlabError: the file is damaged, declares a document type, or has other than the Rows and Columns it claims.
    """
    return in_blocks(_wafers(path, told), path)


def _wafers(path: Path, told: Reading) -> Iterator[Wafer]:
    substrate, count, bins = "", 0, None
    for event, name, element in elements(path):
        match event, name:
            case "start", "Map":
                substrate = (element.get("SubstrateId") or element.get("WaferId") or "").strip()
            case "start", "Device":
                count += 1
                bins = BinMap.of(element, f"{path}: wafer {substrate or count}", RIGHT_DOWN)
                told.remarks.notch("Orientation", element.get("Orientation", ""))
            case "end", "Bin" if bins:
                bins.define(element)
            case "end", "Row" if bins:
                bins.add(element)
            case "end", "Device" if bins:
                wafer = bins.wafer(told)
                for side, listed in zip(("Rows", "Columns"), wafer.shape, strict=True):
                    claimed = element.get(side)
                    if claimed and whole(claimed, f"{bins.where}: {side}") != listed:
                        raise WaferlabError(f"{bins.where} claims {side} {claimed}, but lists {listed:,}")
                yield wafer_name(element.get("LotId", "").strip(), substrate or str(count)), wafer
                bins = None


def write(blocks: Iterable[Block], path: Path) -> None:
    """Three-digit decimal bins: 255 no die, 001 pass, 002 fail."""
    with whole_file(path) as file:
        file.write(b'<?xml version="1.0" encoding="UTF-8"?>\n<Maps>\n')
        for name, wafer in chain.from_iterable(blocks):
            lot, substrate = ids(name)
            file.write(
                f'<Map xmlns="http://www.semi.org" SubstrateType="Wafer" SubstrateId={quoteattr(substrate)}'
                f' FormatRevision="SEMI G85-0703">\n<Device LotId={quoteattr(lot)} BinType="Decimal" NullBin="255"'
                f' MapType="Array" Rows="{wafer.shape[0]}" Columns="{wafer.shape[1]}" Orientation="0"'
                f' OriginLocation="2">\n<Bin BinCode="001" BinQuality="Pass"/>\n'
                f'<Bin BinCode="002" BinQuality="Fail"/>\n<Data>\n'.encode()
            )
            file.writelines(f"<Row><![CDATA[{' '.join(row)}]]></Row>\n".encode() for row in _CODES[wafer].tolist())
            file.write(b"</Data>\n</Device>\n</Map>\n")
        file.write(b"</Maps>\n")


FORMAT: Final = Format(
    name="g85",
    suffixes=(".xml", ".g85"),
    recognises=partial(has_element, names="Maps?"),
    read=read,
    write=write,
)
