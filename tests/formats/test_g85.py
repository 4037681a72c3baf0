"""SEMI G85: maps as foundries deliver them are read as they are meant; the rest is as with E142."""

from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from drawn import Map, grid

from waferlab.errors import WaferlabError
from waferlab.formats.block import Block, Reading
from waferlab.formats.g85 import FORMAT

#: Revision 1101: no BinType, WaferId, rows in CDATA with a blank at the end.
FOUNDRY = """\
    <?xml version="1.0" encoding="utf-8"?>
    <Maps>
      <Map xmlns:semi="http://www.semi.org" WaferId="812345-0001" FormatRevision="G85-1101">
        <Device ProductId="P-01" WaferSize="300" LotId="812345" CreateDate="2024050112000000" Rows="3" Columns="4"
                NullBin="255" Orientation="0" OriginLocation="3">
          <Bin BinCode="000" BinCount="1" BinQuality="Fail" BinDescription="No Pick Site"/>
          <Bin BinCode="001" BinCount="5" BinQuality="Pass" BinDescription="Pick"/>
          <Bin BinCode="091" BinCount="1" BinQuality="Fail" BinDescription="Ugly"/>
          <SupplierData ProductCode="P-01" RecipeName="" ToolType=""/>
          <Data MapName="WAFER_MAP" Version="2">
            <Row><![CDATA[255 001 001 255 ]]></Row>
            <Row><![CDATA[001 000 091 001 ]]></Row>
            <Row><![CDATA[255 001 255 255 ]]></Row>
          </Data>
        </Device>
      </Map>
    </Maps>"""

#: Revision 0703: Map is the root, a default namespace, a character a die, good dies called G.
MEMORY = """\
    <?xml version='1.0'?>
    <Map xmlns="http://www.semi.org" SubstrateType="Wafer" SubstrateId="123456705F2" FormatRevision="SEMI G85-0703">
      <Device BinType="ASCII" MapType="Array" NullBin="0" LotId="" Rows="2" Columns="5" OriginLocation="2">
        <ReferenceDevice ReferenceDeviceX="1" ReferenceDeviceY="0"/>
        <Bin BinCode="G" BinQuality="Pass"/><Bin BinCode="X" BinQuality="Fail"/>
        <Data>
          <Row>0GXG0</Row>
          <Row>GGGGX</Row>
        </Data>
      </Device>
    </Map>"""


def read(folder: Path, text: str, *pass_bins: str) -> dict[str, Map]:
    """The maps of a file with this text, by name."""
    path = folder / "maps.xml"
    path.write_text(dedent(text), encoding="utf-8")
    blocks = FORMAT.read(path, Reading(frozenset(pass_bins) or None))
    return {name: each for block in blocks for name, each in zip(block.names, block.maps, strict=True)}


class TestMaps:
    def test_what_a_foundry_delivers_is_read_by_hand(self, tmp_path: Path) -> None:
        (name, wafer), *others = read(tmp_path, FOUNDRY).items()
        assert (name, others) == ("812345/812345-0001", [])
        assert wafer.dtype == np.uint8
        assert np.array_equal(wafer, grid("0110", "1221", "0100"))

    def test_a_map_as_root_with_a_character_a_die_and_no_lot_is_read_by_hand(self, tmp_path: Path) -> None:
        (name, wafer), *others = read(tmp_path, MEMORY).items()
        assert (name, others) == ("123456705F2", [])
        assert np.array_equal(wafer, grid("01210", "11112"))

    def test_the_bins_that_the_reader_names_pass_instead(self, tmp_path: Path) -> None:
        assert np.array_equal(read(tmp_path, MEMORY, "X")["123456705F2"], grid("02120", "22221"))

    def test_without_bin_type_and_blanks_bins_are_as_long_as_the_null_bin(self, tmp_path: Path) -> None:
        text = '<Map><Device NullBin="FF"><Data><Row>FF0102</Row></Data></Device></Map>'
        assert np.array_equal(read(tmp_path, text)["1"], grid("012"))

    def test_with_bin_type_the_same_is_read(self, tmp_path: Path) -> None:
        told, untold = (read(tmp_path, text) for text in (FOUNDRY.replace("Rows", 'BinType="Decimal" Rows'), FOUNDRY))
        assert np.array_equal(told["812345/812345-0001"], untold["812345/812345-0001"])

    def test_rows_without_blanks_between_decimal_bins_are_the_same(self, tmp_path: Path) -> None:
        spaced = FOUNDRY.replace("Rows", 'BinType="Decimal" Rows')
        glued = spaced
        for row in ("255 001 001 255 ", "001 000 091 001 ", "255 001 255 255 "):
            glued = glued.replace(row, row.replace(" ", ""))
        (one,), (other,) = (read(tmp_path, text).values() for text in (spaced, glued))
        assert np.array_equal(one, other)

    def test_several_maps_come_in_order_and_unnamed_ones_are_counted(self, tmp_path: Path) -> None:
        device = '<Device LotId="L" BinType="Ascii" NullBin="."><Data><Row>{}</Row></Data></Device>'
        maps = [f"<Map {name}>{device.format(row)}</Map>" for name, row in (('WaferId="7"', "1"), ("", "1X"))]
        assert [(name, each.tolist()) for name, each in read(tmp_path, f"<Maps>{''.join(maps)}</Maps>").items()] == [
            ("L/7", [[1]]),
            ("L/2", [[1, 2]]),
        ]

    @pytest.mark.parametrize("origin", range(5))
    def test_rows_stand_as_drawn_wherever_they_are_numbered_from(self, origin: int, tmp_path: Path) -> None:
        text = FOUNDRY.replace('OriginLocation="3"', f'OriginLocation="{origin}"')
        assert np.array_equal(read(tmp_path, text)["812345/812345-0001"], grid("0110", "1221", "0100"))

    def test_notches_in_several_places_are_said(self, tmp_path: Path) -> None:
        path, told = tmp_path / "maps.xml", Reading()
        for orientation in ("0", "180"):
            path.write_text(dedent(FOUNDRY).replace('Orientation="0"', f'Orientation="{orientation}"'))
            list(FORMAT.read(path, told))
        assert "(Orientation 0, 180)" in "".join(told.remarks.lines())


class TestFaults:
    @pytest.mark.parametrize(
        ("old", "new", "expected"),
        [
            ('Rows="3"', 'Rows="4"', "wafer 812345-0001 claims Rows 4, but lists 3"),
            ('Columns="4"', 'Columns="5"', "wafer 812345-0001 claims Columns 5, but lists 4"),
            ('Rows="3"', 'Rows="three"', "Rows is 'three'; expected a whole number"),
            ("001 000 091 001", "001 000 091", "wafer 812345-0001: row 2 has 3 bins, the first row 4"),
            ("<Maps>", "<!DOCTYPE Maps [<!ENTITY e 'x'>]><Maps>", "document type"),
            ("</Device>", "", "mismatched tag: line 16"),
            ("<Device ", "<Gerät ", "mismatched tag"),
        ],
    )
    def test_the_wafer_and_the_fault_are_said(self, old: str, new: str, expected: str, tmp_path: Path) -> None:
        text = FOUNDRY.replace(old, new)
        assert text != FOUNDRY
        with pytest.raises(WaferlabError) as refused:
            read(tmp_path, text)
        assert str(refused.value).startswith(str(tmp_path / "maps.xml"))
        assert expected in str(refused.value)

    @pytest.mark.parametrize("text", ["<Maps/>", '<Maps><Map WaferId="1"/></Maps>', "<MapData/>"])
    def test_a_file_without_a_map_is_refused(self, text: str, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match="no wafer"):
            read(tmp_path, text)

    def test_a_device_without_rows_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match="wafer 1 lists no bins"):
            read(tmp_path, '<Map><Device BinType="Ascii" NullBin="."/></Map>')


def test_what_is_written_is_read_again_from_several_blocks(tmp_path: Path) -> None:
    maps = {"L1/W1": grid("010", "121"), "L2/W1": grid("0", "2"), 'a "b" & <c>/7': grid("00", "00"), "ü": grid("1")}
    path = tmp_path / "maps.xml"
    blocks = [Block.of(list(some), [maps[name] for name in some]) for some in (list(maps)[:1], list(maps)[1:])]
    FORMAT.write(blocks, path)
    assert FORMAT.recognises(path.read_bytes())
    found = read(tmp_path, path.read_text(encoding="utf-8"))
    assert list(found) == list(maps)
    assert all(np.array_equal(found[name], maps[name]) for name in maps)


def test_it_is_recognised_by_its_elements_and_not_taken_for_e142() -> None:
    assert FORMAT.recognises(dedent(FOUNDRY).encode())
    assert FORMAT.recognises(dedent(MEMORY).encode())
    assert not FORMAT.recognises(b'<MapData xmlns="urn:semi-org:xsd.E142-1.V1005.SubstrateMap"><SubstrateMaps>')
