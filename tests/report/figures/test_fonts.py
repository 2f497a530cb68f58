"""Names in other scripts in figures: drawn by an installed font, and otherwise as codes, never as boxes."""

import warnings

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.font_manager import fontManager
from PIL import Image, ImageDraw

from fcdd_sweep.report.figures import fonts, lettering, style
from fcdd_sweep.report.figures.image_grid import ColorScale
from fcdd_sweep.report.figures.prediction_figure import PredictionText, draw_prediction

FAMILY = "Noto Sans CJK SC"


def write_font(path):
    """A font with one glyph, a filled square for 零."""
    pen = TTGlyphPen(None)
    for number, place in enumerate([(100, 0), (100, 800), (900, 800), (900, 0)]):
        pen.lineTo(place) if number else pen.moveTo(place)
    pen.closePath()
    square, empty = pen.glyph(), TTGlyphPen(None).glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "zero"])
    builder.setupCharacterMap({ord("零"): "zero"})
    builder.setupGlyf({".notdef": empty, "zero": square})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "zero": (1000, 100)})
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": FAMILY, "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=900, sTypoDescender=-100, usWeightClass=400)
    builder.setupPost()
    builder.save(path)
    return path


@pytest.fixture
def without_fonts(monkeypatch):
    """No font but matplotlib's own is installed."""
    own = [entry for entry in fontManager.ttflist if "mpl-data" in entry.fname]
    monkeypatch.setattr(fontManager, "ttflist", own)
    fonts.installed.cache_clear()
    monkeypatch.setitem(style.matplotlib.rcParams, "font.family", fonts.families())
    yield
    fonts.installed.cache_clear()


@pytest.fixture
def with_font(without_fonts, monkeypatch, tmp_path):
    """One font for Chinese is installed, too."""
    fontManager.addfont(write_font(tmp_path / "cjk.ttf"))
    fonts.installed.cache_clear()
    monkeypatch.setitem(style.matplotlib.rcParams, "font.family", fonts.families())


def named(name):
    figure = style.new_figure(4, 3)
    ax = figure.add_subplot()
    style.dress(ax, title=f"{name}: image ROC", x="x", y="y")
    ax.plot([0, 1], [0, 1], label=name)
    ax.set_yticks([0, 1], [name, "other"])
    ax.legend()
    return figure


def texts_of(figure):
    (ax,) = figure.axes
    ticks = [label.get_text() for label in ax.get_yticklabels()]
    return [ax.get_title(loc="left"), *ticks, ax.get_legend().get_texts()[0].get_text()]


@pytest.mark.parametrize("ending", [".png", ".pdf"])
def test_without_a_font_names_are_codes_that_tell_them_apart_and_nothing_warns(without_fonts, tmp_path, ending):
    figure = named("零件")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        style.lay_out(figure)
        style.save(figure, tmp_path / f"x{ending}")
        style.as_svg_uri(figure)
    assert texts_of(figure) == [r"\u96f6\u4ef6: image ROC", r"\u96f6\u4ef6", "other", r"\u96f6\u4ef6"]


@pytest.mark.parametrize("ending", [".png", ".pdf"])
def test_with_a_font_names_are_drawn_by_it(with_font, tmp_path, ending):
    figure = named("零")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        style.save(figure, tmp_path / f"x{ending}")
    assert texts_of(figure) == ["零: image ROC", "零", "other", "零"]
    assert fonts.drawable("零件") == r"零\u4ef6"


def test_names_with_dollars_are_no_formulas(tmp_path):
    figure = named(r"$\nonsense$ 5$ to 7$")
    style.save(figure, tmp_path / "x.png")
    assert texts_of(figure)[0] == r"$\nonsense$ 5$ to 7$: image ROC"


def test_numbers_of_logarithmic_axes_stay_formulas(tmp_path):
    figure = style.new_figure(4, 3)
    ax = figure.add_subplot()
    ax.semilogy([0, 1], [1e-6, 1])
    style.save(figure, tmp_path / "x.png")
    figure.canvas.draw()
    labels = [label for label in ax.get_yticklabels() if "mathdefault" in label.get_text()]
    assert labels and all(label.get_parse_math() for label in labels)


def prediction(name):
    text = PredictionText(name, 1.0, float("nan"), ColorScale("low", "high"))
    return np.asarray(draw_prediction(np.zeros((28, 28, 3), np.uint8), np.zeros((28, 28), np.float32), text))


def test_a_prediction_writes_a_name_with_the_font_that_has_it(with_font):
    title = prediction("零")[16:36, 16:36]
    assert (title.min(axis=2) < 100).mean() > 0.35  # the filled square, not a frame


def test_a_prediction_writes_the_code_of_what_no_font_has(without_fonts):
    np.testing.assert_array_equal(prediction("零"), prediction(r"\u96f6"))
    assert (prediction("零") != prediction("件")).any()


def test_plain_names_are_drawn_as_before():
    picture = Image.new("RGB", (300, 40), "white")
    draw = ImageDraw.Draw(picture)
    lettering.write(draw, (5, 5), "Schraube groß 7.png", 17)
    expected = Image.new("RGB", (300, 40), "white")
    ImageDraw.Draw(expected).text((5, 5), "Schraube groß 7.png", font=lettering.font_of(17), fill=style.INK)
    np.testing.assert_array_equal(np.asarray(picture), np.asarray(expected))
