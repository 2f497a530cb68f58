"""Strips of small images."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fcdd_sweep.report.figures import image_grid
from fcdd_sweep.report.figures.color_maps import as_colors, low_high
from fcdd_sweep.report.figures.lettering import text_width


def written_on(monkeypatch, module, strips, scale=None, **given):
    """Every text that `draw_strips` writes, with its left and right end; none leaves the picture."""
    found, plain = [], module.write

    def write(draw, place, text, size, color="black", side="left"):
        width = text_width(text, size)
        left = place[0] - {"left": 0, "middle": width / 2, "right": width}[side]
        found.append((text, left, left + width, place[1] + size))
        plain(draw, place, text, size, color, side)

    monkeypatch.setattr(module, "write", write)
    picture = module.draw_strips(strips, scale, **given)
    assert isinstance(picture, Image.Image)
    assert all(left >= 0 and right <= picture.width and low <= picture.height for _, left, right, low in found), found
    return found


def test_colors_go_from_dark_to_bright_and_jet_is_still_there():
    ends = np.array([[[0.0, 1.0]]])
    low, high = as_colors(ends)[0, 0].astype(int)
    assert low.sum() < 15 < 500 < high.sum()
    steps = as_colors(np.linspace(0, 1, 50)[None, None])[0, 0] @ (0.3, 0.6, 0.1)
    assert (np.diff(steps) > 0).all()  # brightness alone tells values apart, in print too
    assert as_colors(ends, "jet")[0, 0].tolist() == [[0, 0, 127], [127, 0, 0]]
    assert low_high("jet") == "blue low and red high"


def test_drawn_rows_hold_the_pictures_in_their_order(monkeypatch):
    shades = np.array([10, 120, 240], np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    strip = image_grid.Strip("", (image_grid.StripRow("shades", shades),), ("a", "b", "c"))
    pixels = np.asarray(image_grid.draw_strips([strip]))
    assert [pixels[120, 130 + 110 + 220 * i, 0] for i in range(3)] == [10, 120, 240]
    written = written_on(monkeypatch, image_grid, [strip])
    assert [text for text, *_ in written] == ["shades", "a", "b", "c"]


@pytest.mark.parametrize("size", [5, 28, 100, 224, 331])
def test_pictures_are_brought_near_a_side_by_whole_factors(size):
    flat = np.full((2, size, size, 3), 77, np.uint8)
    near = image_grid.near_size(flat, 100)
    assert (near == 77).all() and 50 < near.shape[1] < 200


def test_large_pictures_are_averaged_not_picked():
    board = (np.indices((200, 200)).sum(0) % 2 * 200).astype(np.uint8)
    near = image_grid.near_size(np.repeat(board[None, :, :, None], 3, axis=3), 100)
    assert near.shape == (1, 100, 100, 3) and (near == 100).all()


def test_an_anomaly_without_a_map_is_gray_not_black():
    maps = np.stack([np.zeros((4, 4)), np.ones((4, 4)), np.full((4, 4), 2)]).astype(np.uint8)
    assert image_grid.as_black_and_white(maps)[:, 0, 0, 0].tolist() == [0, 255, 128]


def test_contours_are_the_edge_of_the_map_and_an_absent_map_has_none():
    maps = np.zeros((2, 8, 8), np.uint8)
    maps[0, 2:6, 2:6], maps[1] = 1, 2
    drawn = image_grid.outlined(np.zeros((2, 16, 16, 3), np.uint8), maps)
    edge = np.zeros((16, 16), bool)
    edge[4:12, 4:12], edge[5:11, 5:11] = True, False
    np.testing.assert_array_equal((drawn[0] != 0).any(-1), edge)
    assert not drawn[1].any()


def test_titles_and_captions_have_room_below_few_pictures(monkeypatch):
    pixels = np.zeros((2, 8, 8, 3), np.uint8)
    title = "nominal test images with the lowest and the highest scores"
    strip = image_grid.Strip(title, (image_grid.StripRow("a long\nname", pixels),), ("x" * 20, "y" * 20))
    scale = image_grid.ColorScale("its\nminimum", "its 0.97\nquantile")
    written = written_on(monkeypatch, image_grid, [strip], scale, cell_in=0.5)
    places = {text: (left, right) for text, left, right, _ in written}
    assert places["x" * 20][1] < places["y" * 20][0] + 30 and {"its 0.97", "minimum", title} <= places.keys()
