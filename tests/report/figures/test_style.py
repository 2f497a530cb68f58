"""The look of figures and how they are saved."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from fcdd_sweep.report.figures import style


def plot():
    figure = style.new_figure(3, 2)
    ax = figure.add_subplot()
    style.dress(ax, title="a title", x="x axis", y="y axis")
    ax.plot([0, 1], [0, 1], **style.line_style(3))
    return figure


def test_the_first_thirty_lines_differ():
    assert len({str(style.line_style(index)) for index in range(30)}) == 30
    assert style.line_style(30) == style.line_style(0)


@pytest.mark.parametrize("name", ["a.pdf", "a.png"])
def test_the_same_figure_gives_the_same_file(tmp_path, name):
    first = style.save(plot(), tmp_path / "one" / name).read_bytes()
    assert style.save(plot(), tmp_path / "two" / name).read_bytes() == first
    assert [path.name for path in (tmp_path / "one").iterdir()] == [name]


def test_axes_are_named_and_open_at_the_top_and_right():
    (ax,) = plot().axes
    assert (ax.get_title(loc="left"), ax.get_xlabel(), ax.get_ylabel()) == ("a title", "x axis", "y axis")
    assert [side for side, spine in ax.spines.items() if spine.get_visible()] == ["left", "bottom"]


def test_a_figure_that_is_laid_out_keeps_its_margins():
    figure = style.lay_out(plot())
    before = figure.axes[0].get_position().bounds
    figure.draw_without_rendering()
    assert figure.axes[0].get_position().bounds == before


def test_a_picture_is_a_png_of_the_same_pixels_with_its_density(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    path = style.save_picture(Image.fromarray(pixels), tmp_path / "x.png")
    with Image.open(path) as read:
        assert (read.format, read.mode, read.size) == ("PNG", "RGB", (5, 7))
        np.testing.assert_array_equal(np.asarray(read), pixels)
        assert read.info["dpi"] == pytest.approx((style.DPI, style.DPI), abs=0.1)


def decoded(address, kind):
    head, _, data = address.partition(";base64,")
    assert head == f"data:image/{kind}"
    return base64.b64decode(data)


def test_a_figure_becomes_the_same_svg_each_time():
    text = decoded(style.as_svg_uri(plot()), "svg+xml").decode()
    assert "<svg" in text and text == decoded(style.as_svg_uri(plot()), "svg+xml").decode()


def test_an_image_becomes_a_jpeg_no_wider_than_asked(tmp_path):
    path = style.save_picture(Image.fromarray(np.full((50, 400, 3), 200, np.uint8)), tmp_path / "x.png")
    with Image.open(io.BytesIO(decoded(style.as_jpeg_uri(path, width_px=100), "jpeg"))) as small:
        assert small.size == (100, 13)
        assert abs(np.asarray(small).astype(int) - 200).max() <= 2
