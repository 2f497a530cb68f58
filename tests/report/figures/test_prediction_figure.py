"""The picture of a predicted image: sizes, colors and words."""

import numpy as np
import pytest
from PIL import Image

from fcdd_sweep.report.figures import prediction_figure
from fcdd_sweep.report.figures.image_grid import ColorScale
from fcdd_sweep.report.figures.lettering import text_width
from fcdd_sweep.report.figures.prediction_figure import PredictionText, draw_prediction, tile_size
from fcdd_sweep.report.figures.style import INK

SCALE = ColorScale("0.1", "≥ 2")


@pytest.mark.parametrize(
    ("side", "proportions", "expected"),
    [
        (28, 1.0, (308, 308)),
        (300, 1.0, (300, 300)),
        (512, 1.0, (512, 512)),
        (28, 2.0, (616, 308)),
        (28, 0.5, (308, 616)),
        (300, 10.0, (900, 90)),
        (300, 0.1, (90, 900)),
    ],
)
def test_tiles_are_at_least_300_px_and_never_longer_than_three_times_that(side, proportions, expected):
    assert tile_size(side, proportions) == expected


def test_the_tiles_are_input_heatmap_and_half_of_each():
    seen = np.full((30, 30, 3), 200, np.uint8)
    values = np.zeros((30, 30), np.float32)
    values[:, 15:] = 1
    pixels = np.asarray(draw_prediction(seen, values, PredictionText("a.png", 0.5, float("nan"), SCALE), 1.0, "jet"))
    row = pixels[16 + 78 + 100]
    blue, red = [0, 0, 127], [127, 0, 0]
    assert row[16 + 10].tolist() == [200] * 3
    assert row[16 + 310 + 10].tolist() == blue and row[16 + 310 + 290].tolist() == red
    assert row[16 + 620 + 10].tolist() == [100, 100, 163] and row[16 + 620 + 290].tolist() == [163, 100, 100]
    bar = pixels[94:394, 16 + 930 + 5]
    assert bar[0].tolist() == red and bar[-1].tolist() == blue


def test_anomalous_pixels_are_outlined_on_the_last_tile():
    seen, values, mask = np.zeros((30, 30, 3), np.uint8), np.zeros((30, 30), np.float32), np.zeros((30, 30), bool)
    mask[10:20, 10:20] = True
    said = PredictionText("a.png", 0.5, float("nan"), SCALE)
    plain, drawn = (np.asarray(draw_prediction(seen, values, said, mask=each)) for each in (None, mask))
    rows, columns = np.nonzero((plain != drawn).any(2))
    top, left = 16 + 78, 16 + 2 * (300 + 10)
    assert (rows.min(), rows.max() + 1) == (top + 100, top + 200)
    assert (columns.min(), columns.max() + 1) == (left + 100, left + 200)
    assert (plain == drawn)[top + 101 : top + 199, left + 101 : left + 199].all()


def words(monkeypatch, said, proportions=1.0):
    """Everything that is written on a picture, with the place where each text ends."""
    found = []
    plain = prediction_figure.write

    def write(draw, place, text, size, color=INK):
        found.append((text, place[0] + text_width(text, size), place[1] + size))
        plain(draw, place, text, size, color)

    monkeypatch.setattr(prediction_figure, "write", write)
    picture = draw_prediction(np.zeros((30, 30, 3), np.uint8), np.zeros((30, 30), np.float32), said, proportions)
    assert isinstance(picture, Image.Image)
    assert all(right <= picture.width and bottom <= picture.height for _, right, bottom in found)
    return [text for text, *_ in found]


@pytest.mark.parametrize(
    ("score", "threshold", "expected"),
    [
        (0.5, 0.4, ["score 0.5, above the threshold of 0.4: ", "anomalous"]),
        (0.4, 0.4, ["score 0.4, not above the threshold of 0.4: ", "nominal"]),
        (0.5, float("nan"), ["score 0.5; no decision"]),
    ],
)
def test_name_score_decision_and_legend_are_written(monkeypatch, score, threshold, expected):
    found = words(monkeypatch, PredictionText("photo.jpg", score, threshold, SCALE, ("Colors: so and so.",)))
    assert found[0] == "photo.jpg" and found[1 : 1 + len(expected)] == expected
    assert {"0.1", "≥ 2", "heatmap", "Colors: so and so."} <= set(found)


@pytest.mark.parametrize("proportions", [1.0, 0.05])
def test_a_heatmap_that_disagrees_is_written_beside_the_decision(monkeypatch, proportions):
    said = PredictionText("photo.jpg", 0.000123, 0.000456, SCALE, agrees=False)
    found = words(monkeypatch, said, proportions)
    assert found[1:4] == [
        "score 1.2e-4, not above the threshold of 4.6e-4: ",
        "nominal",
        "(the heatmap disagrees)",
    ]


@pytest.mark.parametrize("proportions", [1.0, 8.0, 0.05])
def test_long_words_stay_inside_pictures_of_any_shape(monkeypatch, proportions):
    said = PredictionText(
        "long " * 200 + "end.png", 0.5, 0.1, ColorScale("its\nminimum", "its 0.97\nquantile"), ("word " * 90,)
    )
    found = words(monkeypatch, said, proportions)
    assert found[0].startswith("…") and found[0].endswith("end.png")
