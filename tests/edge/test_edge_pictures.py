"""Pictures of wafers: what is dark, what is red, and how large."""

import numpy as np

from waferlab.edge.pictures import drawable, picture

MAP = np.pad(np.array([[1, 2], [2, 1]], np.uint8), 3)


def colours(heat: np.ndarray | None, line: float = 1.0) -> np.ndarray:
    """Colour in the middle of each die, (panels, 2, 2, 3)."""
    whole = np.asarray(picture("a wafer", MAP, heat, line)).astype(int)
    panels = 1 if heat is None else 2
    side = (whole.shape[1] - 12) // panels - 12
    middles = [34 + side // 4, 34 + 3 * side // 4]
    across = [12 + panel * (side + 12) + side * part // 4 for panel in range(panels) for part in (1, 3)]
    return whole[middles][:, across].reshape(2, panels, 2, 3).swapaxes(0, 1)


def test_failing_dies_are_darker_than_passing_ones() -> None:
    (shown,) = colours(None)
    assert shown[0, 1].sum() < 0.5 * shown[0, 0].sum()
    assert (shown[0, 1] == shown[1, 0]).all()


def test_the_second_panel_is_red_where_a_die_reaches_the_line() -> None:
    heat = np.pad(np.array([[0, 1], [0.1, 5]], np.float32), 3)
    plain, heated = colours(heat)
    redder = (heated - plain)[..., 0] - (heated - plain)[..., 2]
    assert redder[0, 0] == 0
    assert redder[0, 1] > 100
    assert redder[1, 0] < 5
    assert redder[1, 1] > 100


def test_without_a_line_the_highest_score_is_red() -> None:
    plain, heated = colours(np.pad(np.array([[0, 4], [8, 0]], np.float32), 3), np.inf)
    redder = (heated - plain)[..., 0] - (heated - plain)[..., 2]
    assert redder[1, 0] > 100
    assert 0 < redder[0, 1] < 60


def test_empty_places_around_a_wafer_are_cut_off() -> None:
    assert picture("", MAP, None, 1.0).size == (12 + 416 + 12, 34 + 416 + 12)


def test_titles_lose_accents_and_are_none_where_the_font_has_no_letters() -> None:
    assert drawable("lot-7/3 (ok)") == "lot-7/3 (ok)"
    assert drawable("Größe") in ("Größe", None)
    assert drawable("café") in ("café", "cafe")
    assert drawable("晶圆7") is None


def test_of_photographs_are_in_their_colours() -> None:
    photo = np.zeros((4, 4, 3), np.uint8)
    photo[..., 1] = 200
    shown = np.asarray(picture("a photo", photo, None, np.inf))
    assert (shown[34 + 10, 12 + 10] == [0, 200, 0]).all()
    assert picture("grey", photo[..., :1], None, np.inf).mode == "RGB"
