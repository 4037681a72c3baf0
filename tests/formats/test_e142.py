"""SEMI E142: maps as equipment writes them are read as they are meant, and what could do harm is refused."""

import time
from pathlib import Path
from textwrap import dedent
from tracemalloc import get_traced_memory, start, stop

import numpy as np
import pytest
from drawn import Map, grid

from waferlab.errors import WaferlabError
from waferlab.formats.block import MOST_PLACES, Block, Reading
from waferlab.formats.e142 import FORMAT

PROBER = """\
    <?xml version="1.0" encoding="UTF-8"?>
    <MapData xmlns="urn:semi-org:xsd.E142-1.V1005.SubstrateMap">
      <Layouts>
        <Layout LayoutId="WaferLayout" DefaultUnits="mm" TopLevel="true">
          <Dimension X="1" Y="1"/><ChildLayouts><ChildLayout LayoutId="Devices"/></ChildLayouts>
        </Layout>
        <Layout LayoutId="Devices" DefaultUnits="mm"><Dimension X="5" Y="3"/></Layout>
      </Layouts>
      <Substrates>
        <Substrate SubstrateType="Wafer" SubstrateId="W-07"><LotId>A1B2</LotId><GoodDevices>5</GoodDevices></Substrate>
      </Substrates>
      <SubstrateMaps>
        <SubstrateMap SubstrateType="Wafer" SubstrateId="W-07" Orientation="0" OriginLocation="UpperLeft"
                      AxisDirection="DownRight" LayoutSpecifier="WaferLayout/Devices">
          <Overlay MapName="SortGrade" MapVersion="1">
            <ReferenceDevices>
              <ReferenceDevice Name="FirstDevice"><Coordinates X="2" Y="0"/></ReferenceDevice>
            </ReferenceDevices>
            <BinCodeMap BinType="HexaDecimal" NullBin="FF" MapType="2DArray">
              <BinDefinitions>
                <BinDefinition BinCode="00" BinCount="4" BinQuality="Pass" BinDescription="good"/>
                <BinDefinition BinCode="0A" BinCount="2" BinQuality="Pass" BinDescription="good, slow"/>
                <BinDefinition BinCode="01" BinCount="1" BinQuality="Fail" BinDescription="open"/>
                <BinDefinition BinCode="FA" BinCount="1" BinQuality="Reference" BinDescription="mirror"/>
              </BinDefinitions>
              <BinCode>FFFF00FFFF</BinCode>
              <BinCode>000a010a00</BinCode>
              <BinCode>FF00FA07FF</BinCode>
            </BinCodeMap>
          </Overlay>
        </SubstrateMap>
      </SubstrateMaps>
    </MapData>"""


def bins(rows: list[str], attributes: str, definitions: str = "", around: str = "{}") -> str:
    """A plain file of one wafer W1."""
    listed = "".join(row if row.startswith("<") else f"<BinCode>{row}</BinCode>" for row in rows)
    inner = f"<BinCodeMap {attributes}><BinDefinitions>{definitions}</BinDefinitions>{listed}</BinCodeMap>"
    wafer = f'<SubstrateMap SubstrateId="W1"><Overlay>{inner}</Overlay></SubstrateMap>'
    return around.format(f"<MapData><SubstrateMaps>{wafer}</SubstrateMaps></MapData>")


def read(folder: Path, text: str, *pass_bins: str) -> dict[str, Map]:
    """The maps of a file with this text, by name."""
    path = folder / "maps.xml"
    path.write_text(dedent(text), encoding="utf-8")
    blocks = FORMAT.read(path, Reading(frozenset(pass_bins) or None))
    return {name: each for block in blocks for name, each in zip(block.names, block.maps, strict=True)}


def fault(folder: Path, text: str) -> str:
    """What is said of a file that is refused."""
    with pytest.raises(WaferlabError) as refused:
        read(folder, text)
    assert str(folder / "maps.xml") in str(refused.value)
    return str(refused.value)


class TestMaps:
    def test_what_a_prober_writes_is_read_by_hand(self, tmp_path: Path) -> None:
        (name, wafer), *others = read(tmp_path, PROBER).items()
        assert (name, others) == ("A1B2/W-07", [])
        assert wafer.dtype == np.uint8
        assert np.array_equal(wafer, grid("00100", "11211", "01220")), "reference and undefined bins fail"

    def test_neither_namespace_nor_what_stands_around_matters(self, tmp_path: Path) -> None:
        around = '<m:Transaction xmlns:m="urn:any"><m:Id>7</m:Id>{}</m:Transaction>'
        wafer = read(tmp_path, bins(["1.", "X1"], 'BinType="Ascii" NullBin="."', around=around))["W1"]
        assert np.array_equal(wafer, grid("10", "21"))

    @pytest.mark.parametrize(
        ("bin_type", "null", "rows"),
        [
            ("Ascii", ".", [".1X", "1A1"]),
            ("ASCII", " ", [" 1X", "1A1"]),
            ("Ascii", ".", [". 1 X", "\n  1 A 1\n"]),
            ("Decimal", "255", ["255 001 007", "1 7 001 "]),
            ("Decimal", "255", ["255001007", "001007001"]),
            ("Decimal", "0", ["0 1 127", "1 12 1"]),
            ("Decimal", "0", ["017", "121"]),
            ("HexaDecimal", "FF", ["FF0107", "010F01"]),
            ("HexaDecimal", "FF", ["FF 1 7", "1 F 1"]),
            ("HexaDecimal", "ff", ["FF 01 07", "01 0F 01"]),
            ("Integer2", "FFFF", ["FFFF00010007", "0001000F0001"]),
            ("Ascii", ".", ["\n.1X\n1A1\n"]),
        ],
    )
    def test_bins_of_every_type_are_told_apart(self, bin_type: str, null: str, rows: list[str], tmp_path: Path) -> None:
        wafer = read(tmp_path, bins(rows, f'BinType="{bin_type}" NullBin="{null}"'))["W1"]
        assert np.array_equal(wafer, grid("012", "121"))

    @pytest.mark.parametrize(
        ("null", "defined", "rows"),
        [
            ("", ["0001"], ["000100010007"]),
            ("", [], ["001001007"]),
            ("255", ["1", "7"], ["001001007"]),
            ("0", ["001", "07"], ["001001007"]),
            ("", ["1"], ["117"]),
        ],
    )
    def test_decimal_bins_without_blanks_are_as_long_as_the_file_says_else_three_digits(
        self, null: str, defined: list[str], rows: list[str], tmp_path: Path
    ) -> None:
        definitions = "".join(f'<BinDefinition BinCode="{code}"/>' for code in defined)
        wafer = read(tmp_path, bins(rows, f'BinType="Decimal" NullBin="{null}"', definitions))["W1"]
        assert np.array_equal(wafer, grid("112"))

    def test_decimal_bins_of_several_lengths_need_blanks_between_them(self, tmp_path: Path) -> None:
        told, defined = 'BinType="Decimal" NullBin="0"', '<BinDefinition BinCode="12"/>'
        assert "row 1 is '0112'; bins of 1 to 2 digits need blanks" in fault(tmp_path, bins(["0112"], told, defined))
        assert np.array_equal(read(tmp_path, bins(["0 1 12"], told, defined))["W1"], grid("012"))

    def test_other_encodings_are_read_and_recognised(self, tmp_path: Path) -> None:
        path = tmp_path / "maps.xml"
        path.write_text(dedent(PROBER).replace("UTF-8", "UTF-16"), encoding="utf-16")
        assert [name for block in FORMAT.read(path, Reading()) for name in block.names] == ["A1B2/W-07"]
        assert FORMAT.recognises(path.read_bytes()[:4096])

    def test_dies_with_coordinates_fill_the_smallest_grid_and_of_two_the_last_counts(self, tmp_path: Path) -> None:
        dies = [("-1", "4", "99"), ("1", "5", "1"), ("0", "4", "1"), ("-1", "4", "1"), ("1", "4", "32")]
        rows = [f'<BinCode X="{x}" Y="{y}" Q="pass">{code}</BinCode>' for x, y, code in dies]
        wafer = read(tmp_path, bins(rows, 'BinType="Ascii" NullBin="." MapType="Coordinate"'))["W1"]
        assert np.array_equal(wafer, grid("001", "112")), "y runs upwards, where nothing says otherwise"

    def test_several_wafers_of_several_lots_come_in_order_and_unnamed_ones_are_counted(self, tmp_path: Path) -> None:
        one = '<Overlay><BinCodeMap BinType="Ascii" NullBin="."><BinCode>{}</BinCode></BinCodeMap></Overlay>'
        wafers = [("a", "1"), ("b", "11"), ("", "1.1")]
        text = "".join(f'<SubstrateMap SubstrateId=" {name} ">{one.format(row)}</SubstrateMap>' for name, row in wafers)
        lots = "".join(f'<Substrate SubstrateId="{name}"><LotId> L{name} </LotId></Substrate>' for name in "ab")
        maps = read(tmp_path, f"<MapData><Substrates>{lots}</Substrates>{text}</MapData>")
        assert list(maps) == ["La/a", "Lb/b", "3"]
        assert [each.shape[1] for each in maps.values()] == [1, 2, 3]


class TestMarks:
    DIES = ('<BinCode X="0" Y="0">1</BinCode>', '<BinCode X="2" Y="0">2</BinCode>', '<BinCode X="0" Y="1">3</BinCode>')

    def marked(self, marks: str, listed: str) -> str:
        """A map with these attributes."""
        return listed.replace("<SubstrateMap ", f"<SubstrateMap {marks} ")

    @pytest.mark.parametrize(
        ("marks", "rows"),
        [
            ('AxisDirection="UpRight"', ["200", "102"]),
            ('AxisDirection="DownRight"', ["102", "200"]),
            ('AxisDirection="UpLeft"', ["002", "201"]),
            ('AxisDirection="downleft"', ["201", "002"]),
            ('OriginLocation="UpperRight" AxisDirection="DownRight"', ["102", "200"]),
            ('OriginLocation="LowerLeft"', ["200", "102"]),
            ('OriginLocation="UpperLeft"', ["102", "200"]),
            ('OriginLocation="LowerRight"', ["002", "201"]),
            ('OriginLocation="UpperRight"', ["201", "002"]),
            ('OriginLocation="Center"', ["200", "102"]),
            ("", ["200", "102"]),
        ],
    )
    def test_say_how_the_coordinates_of_single_dies_run(self, marks: str, rows: list[str], tmp_path: Path) -> None:
        text = self.marked(marks, bins(list(self.DIES), 'BinType="Ascii" MapType="Coordinate"'))
        assert np.array_equal(read(tmp_path, text)["W1"], grid(*rows))

    @pytest.mark.parametrize("marks", ['AxisDirection="UpRight"', 'AxisDirection="DownLeft"', 'Orientation="90"'])
    def test_leave_rows_as_they_are_drawn(self, marks: str, tmp_path: Path) -> None:
        text = self.marked(marks, bins(["12", ".1"], 'BinType="Ascii" NullBin="."'))
        assert np.array_equal(read(tmp_path, text)["W1"], grid("12", "01"))

    @pytest.mark.parametrize(
        ("marks", "said"),
        [
            ('AxisDirection="Sideways"', "AxisDirection 'Sideways' isn't known; coordinates were read as UpRight"),
            ('OriginLocation="Middle"', "OriginLocation 'Middle' isn't known; coordinates were read as UpRight"),
            (
                'OriginLocation="UpperLeft" AxisDirection="Sideways"',
                "AxisDirection 'Sideways' isn't known; coordinates were read as DownRight",
            ),
        ],
    )
    def test_that_nobody_knows_are_said(self, marks: str, said: str, tmp_path: Path) -> None:
        path, told = tmp_path / "maps.xml", Reading()
        path.write_text(self.marked(marks, bins(list(self.DIES), 'MapType="Coordinate"')))
        list(FORMAT.read(path, told))
        assert list(told.remarks.lines()) == [said]

    def test_of_where_the_notch_lies_are_said_only_if_they_differ(self, tmp_path: Path) -> None:
        path, told = tmp_path / "maps.xml", Reading()
        one = bins(["1"], 'BinType="Ascii"')[len("<MapData><SubstrateMaps>") : -len("</SubstrateMaps></MapData>")]
        for orientations, lines in ((("0", "0", ""), 0), (("0", "270"), 1)):
            maps = (self.marked(f'Orientation="{each}"', one) for each in orientations)
            path.write_text(f"<MapData>{''.join(maps)}</MapData>")
            list(FORMAT.read(path, told))
            assert len(list(told.remarks.lines())) == lines
        assert "(Orientation 0, 270); maps are read as drawn" in "".join(told.remarks.lines())


class TestPassingBins:
    ROW = ["0", "1", "2", "A", "B"]
    DEFINED = '<BinDefinition BinCode="{}" BinQuality="{}"/>'

    def passing(self, folder: Path, definitions: str, *pass_bins: str) -> str:
        """The bins of `ROW` that pass."""
        wafer = read(folder, bins(["".join(self.ROW)], 'BinType="Ascii" NullBin="."', definitions), *pass_bins)["W1"]
        return "".join(code for code, state in zip(self.ROW, wafer[0], strict=True) if state == 1)

    def test_bin_1_passes_where_nothing_is_said(self, tmp_path: Path) -> None:
        assert self.passing(tmp_path, "") == "1"
        assert self.passing(tmp_path, self.DEFINED.format("1", "Fail") + self.DEFINED.format("2", "Skip")) == "1"

    def test_those_of_quality_pass_are_the_only_ones_where_there_are_some(self, tmp_path: Path) -> None:
        assert self.passing(tmp_path, self.DEFINED.format("0", "Pass") + self.DEFINED.format("A", "PASS")) == "0A"

    def test_a_bin_defined_twice_passes_if_one_definition_says_so(self, tmp_path: Path) -> None:
        assert self.passing(tmp_path, self.DEFINED.format("B", "Pass") + '<BinDefinition BinCode="B"/>') == "B"

    def test_those_that_the_reader_names_come_first(self, tmp_path: Path) -> None:
        assert self.passing(tmp_path, self.DEFINED.format("0", "Pass"), "2", "B") == "2B"

    def test_leading_zeros_and_case_of_longer_bins_do_not_matter(self, tmp_path: Path) -> None:
        text = bins(["010A000B"], 'BinType="HexaDecimal" NullBin="FF"')
        assert np.array_equal(read(tmp_path, text, "1", "0a")["W1"], grid("1122"))
        assert np.array_equal(read(tmp_path, text, "0", "00B")["W1"], grid("2211"))

    def test_the_null_bin_is_no_die_even_if_it_is_called_passing(self, tmp_path: Path) -> None:
        text = bins(["0102"], 'BinType="HexaDecimal" NullBin="01"', self.DEFINED.format("01", "Pass"))
        assert np.array_equal(read(tmp_path, text, "01", "02")["W1"], grid("01"))


class TestHarm:
    def test_entities_that_grow_without_end_are_refused_at_once(self, tmp_path: Path) -> None:
        entities = '<!ENTITY a0 "lol">' + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
        start()
        said = fault(tmp_path, f"<!DOCTYPE MapData [{entities}]><MapData>&a11;</MapData>")
        peak = get_traced_memory()[1]
        stop()
        assert "document type" in said
        assert peak < 4e6

    def test_other_files_are_not_reached_for(self, tmp_path: Path) -> None:
        secret = tmp_path / "secret"
        secret.write_text("1X1")
        text = bins(["&other;"], 'BinType="Ascii" NullBin="."')
        said = fault(tmp_path, f'<!DOCTYPE MapData [<!ENTITY other SYSTEM "{secret.as_uri()}">]>{text}')
        assert "document type" in said
        assert "1X1" not in said

    def test_a_document_type_alone_is_refused(self, tmp_path: Path) -> None:
        said = fault(tmp_path, '<!DOCTYPE MapData SYSTEM "http://example.org/map.dtd"><MapData/>')
        assert "document type" in said

    def test_unknown_entities_are_refused(self, tmp_path: Path) -> None:
        assert "undefined entity" in fault(tmp_path, bins(["&other;"], 'BinType="Ascii" NullBin="."'))

    def test_elements_too_deep_within_each_other_are_refused(self, tmp_path: Path) -> None:
        assert "within each other" in fault(tmp_path, "<a>" * 5000 + "</a>" * 5000)

    def test_one_endless_element_is_refused_before_it_is_held(self, tmp_path: Path) -> None:
        assert "no wafer map" in fault(tmp_path, f"<MapData>{' ' * (17 << 20)}</MapData>")

    def test_an_endless_attribute_is_refused_in_little_time(self, tmp_path: Path) -> None:
        begin = time.process_time()
        assert "no wafer map" in fault(tmp_path, f'<MapData a="{"x" * (17 << 20)}"/>')
        assert time.process_time() - begin < 3

    def test_of_a_long_file_little_is_held(self, tmp_path: Path) -> None:
        path = tmp_path / "maps.xml"
        wafer = bins(["01" * 500] * 20, 'BinType="HexaDecimal" NullBin="FF"')[len("<MapData>") : -len("</MapData>")]
        path.write_text(f"<MapData>{wafer * 60}</MapData>")
        start()
        wafers = sum(len(block) for block in FORMAT.read(path, Reading()))
        peak = get_traced_memory()[1]
        stop()
        assert wafers == 60
        assert path.stat().st_size > 1.2e6
        assert peak < 1.8e6, "the maps, 600,000 places, twice for a moment; not the text too"


class TestFaults:
    @pytest.mark.parametrize(
        ("rows", "attributes", "expected"),
        [
            (["111", "11"], 'BinType="Ascii" NullBin="."', "wafer W1: row 2 has 2 bins, the first row 3"),
            (["0101", "01G1"], 'BinType="HexaDecimal" NullBin="FF"', "wafer W1: row 2 is '01G1'"),
            (["01011"], 'BinType="HexaDecimal" NullBin="FF"', "row 1 is '01011'"),
            (["1 2 x"], 'BinType="Decimal" NullBin="255"', "row 1 is '1 2 x'"),
            (["0011"], 'BinType="Decimal" NullBin="255"', "row 1 is '0011', which are not all bins of BinType decimal"),
            (["1 1255"], 'BinType="Decimal" NullBin="255"', "are not all bins of BinType decimal with 3 digits"),
            (["FF 010"], 'BinType="HexaDecimal" NullBin="FF"', "row 1 is 'FF 010'"),
            (["11"], 'BinType="Octal" NullBin="."', "BinType 'Octal'; expected Ascii"),
            (["11"], 'BinType="Ascii" NullBin="." MapType="Row"', "MapType 'Row'; only"),
            ([], 'BinType="Ascii" NullBin="."', "wafer W1 lists no bins"),
            ([""], 'BinType="Ascii" NullBin="."', "wafer W1 lists no bins"),
            (['<BinCode X="1">1</BinCode>'], 'MapType="Coordinate"', "die 1: Y is ''; expected a whole number"),
            (['<BinCode X="1" Y="2.5">1</BinCode>'], 'MapType="Coordinate"', "die 1: Y is '2.5'"),
            (['<BinCode X="9999999999" Y="1">1</BinCode>'], 'MapType="Coordinate"', "at most nine digits"),
            (['<BinCode X="1" Y="1"> </BinCode>'], 'MapType="Coordinate"', "wafer W1: die 1 has no bin"),
            (['<BinCode X="1" Y="1">1</BinCode>', "11"], 'BinType="Ascii"', "rows as well as single dies"),
        ],
    )
    def test_the_wafer_the_row_and_the_fault_are_said(
        self, rows: list[str], attributes: str, expected: str, tmp_path: Path
    ) -> None:
        assert expected in fault(tmp_path, bins(rows, attributes))

    def test_dies_too_far_apart_are_refused_before_there_is_a_grid(self, tmp_path: Path) -> None:
        dies = [f'<BinCode X="{x}" Y="{x}">1</BinCode>' for x in (0, 99_999_999)]
        said = fault(tmp_path, bins(dies, 'MapType="Coordinate"'))
        assert "x from 0 to 99999999" in said
        assert f"{MOST_PLACES:,}" in said

    def test_a_file_cut_short_is_refused_with_the_line(self, tmp_path: Path) -> None:
        text = dedent(PROBER)
        said = fault(tmp_path, text[: text.index("000a01")])
        assert "line 27, column 19" in said

    @pytest.mark.parametrize("text", ["", "1X1", "\0\0\0", '<?xml version="1.0" encoding="utf-99"?><MapData/>'])
    def test_what_is_no_xml_is_refused(self, text: str, tmp_path: Path) -> None:
        fault(tmp_path, text)

    def test_a_file_without_a_map_is_refused(self, tmp_path: Path) -> None:
        assert "no wafer" in fault(tmp_path, "<MapData><SubstrateMaps/></MapData>")

    def test_a_missing_file_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match=r"none\.xml cannot be read: No such file"):
            list(FORMAT.read(tmp_path / "none.xml", Reading()))


class TestWriting:
    def test_what_is_written_is_read_again_from_several_blocks(self, tmp_path: Path) -> None:
        maps = {"L1/W1": grid("010", "121"), "L2/W1": grid("0", "2"), 'a "b" & <c>/7': grid("00", "00"), "ü": grid("1")}
        path = tmp_path / "maps.xml"
        blocks = [Block.of(list(some), [maps[name] for name in some]) for some in (list(maps)[:1], list(maps)[1:])]
        FORMAT.write(blocks, path)
        assert FORMAT.recognises(path.read_bytes())
        found = read(tmp_path, path.read_text(encoding="utf-8"))
        assert list(found) == list(maps)
        assert all(np.array_equal(found[name], maps[name]) for name in maps)

    def test_a_name_that_no_text_can_hold_is_refused_and_no_file_left(self, tmp_path: Path) -> None:
        with pytest.raises(WaferlabError, match="control characters"):
            FORMAT.write([Block.of(["a\0b"], [grid("1")])], tmp_path / "maps.xml")
        assert list(tmp_path.iterdir()) == []


def test_it_is_recognised_by_its_elements_with_or_without_a_prefix() -> None:
    assert FORMAT.recognises(dedent(PROBER).encode())
    assert FORMAT.recognises(b'<?xml version="1.0"?><s:MapData xmlns:s="urn:semi-org:xsd.E142-1.V0105.SubstrateMap">')
    assert not FORMAT.recognises(b'<Maps><Map WaferId="1">')
    assert not FORMAT.recognises(b"ROWCT:5")
