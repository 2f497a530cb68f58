"""Strips of small images."""

from __future__ import annotations

import numpy as np
import pytest

from fcdd_sweep.report.figures import image_grid


def test_colors_are_jet_from_blue_to_red():
    blue, red = image_grid.as_colors(np.array([[[0.0, 1.0]]]))[0, 0]
    assert blue.tolist() == [0, 0, 127] and red.tolist() == [127, 0, 0]


def test_drawn_rows_hold_the_pictures_in_their_order():
    shades = np.array([10, 120, 240], np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    figure = image_grid.draw_strips([image_grid.Strip("", (image_grid.StripRow("shades", shades),), ("a", "b", "c"))])
    (image,) = figure.axes[0].images
    width = image.get_array().shape[1]
    middle = image.get_array()[image.get_array().shape[0] // 2, [width // 6, width // 2, 5 * width // 6], 0]
    assert middle.tolist() == [10, 120, 240]
    assert {"shades", "a", "b", "c"} <= {text.get_text() for text in figure.axes[0].texts}


@pytest.mark.parametrize("size", [5, 28, 100, 224, 331])
def test_pictures_are_brought_near_a_side_by_whole_factors(size):
    flat = np.full((2, size, size, 3), 77, np.uint8)
    near = image_grid._near_size(flat, 100)
    assert (near == 77).all() and 50 < near.shape[1] < 200


def test_large_pictures_are_averaged_not_picked():
    board = (np.indices((200, 200)).sum(0) % 2 * 200).astype(np.uint8)
    near = image_grid._near_size(np.repeat(board[None, :, :, None], 3, axis=3), 100)
    assert near.shape == (1, 100, 100, 3) and (near == 100).all()


def test_an_anomaly_without_a_map_is_gray_not_black():
    maps = np.stack([np.zeros((4, 4)), np.ones((4, 4)), np.full((4, 4), 2)]).astype(np.uint8)
    assert image_grid.as_black_and_white(maps)[:, 0, 0, 0].tolist() == [0, 255, 128]


def test_titles_and_captions_have_room_below_few_pictures():
    pixels = np.zeros((1, 8, 8, 3), np.uint8)
    strip = image_grid.Strip(
        "nominal test images with the lowest and the highest scores",
        (image_grid.StripRow("input", pixels),),
        ("x" * 20,),
    )
    figure = image_grid.draw_strips([strip], image_grid.ColorScale("0", "1"), cell_in=0.5)
    figure.canvas.draw()
    ax = figure.axes[0]
    title, _, caption = ax.texts
    assert title.get_window_extent().x1 < ax.get_window_extent().x1
    assert caption.get_window_extent().width <= 0.5 * figure.dpi
