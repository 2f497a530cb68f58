"""Prediction on images in any form, and what it says about each."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fcdd_sweep.config.errors import DataError
from fcdd_sweep.metrics.image_decision import closed
from fcdd_sweep.training.prediction import ImagePrediction
from fcdd_sweep.training.preprocessing import Preprocessor, Recipe
from tests.detectors import random_detector

PLAIN, RAW = random_detector({"name": "FCDD_CNN28"}, size=28)
DETECTOR = dataclasses.replace(PLAIN, threshold=0.03, pixel_threshold=0.02, threshold_source="so and so")
PHOTO = np.asarray(Image.fromarray(RAW[0].transpose(1, 2, 0)).resize((90, 60), Image.Resampling.BICUBIC))


@pytest.fixture
def photo(tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def facts(found):
    return (found.score, found.decision[:-1], found.heatmap.tobytes(), found.mask.tobytes())


def test_a_path_its_pillow_image_its_array_and_its_tensor_give_the_same_prediction(photo):
    tensor = torch.from_numpy(PHOTO.copy()).permute(2, 0, 1)
    with Image.open(photo) as opened:
        forms = [photo, str(photo), opened, PHOTO, tensor, tensor.float() / 255, (PHOTO / 255).astype(np.float32)]
        alone = [DETECTOR.predict(form) for form in forms]
        together = DETECTOR.predict(forms, batch_size=3)
    assert all(isinstance(each, ImagePrediction) for each in [*alone, *together])
    assert all(facts(each) == facts(alone[0]) for each in alone)
    assert [each.score for each in together] == pytest.approx([alone[0].score] * len(forms), rel=1e-6)
    assert [each.name for each in together[:4]] == [str(photo)] * 3 + ["image 3"]
    assert [each.path for each in alone[:3]] == [photo, photo, None]


def test_the_score_is_that_of_detect_and_of_the_photograph_at_the_size_of_training(photo):
    small = DETECTOR.fitted(PHOTO.transpose(2, 0, 1)[None])
    expected = DETECTOR.detect(small)
    assert small.shape == (1, 3, 32, 32)
    assert DETECTOR.predict(PHOTO).score == float(expected.scores[0])
    assert DETECTOR.predict(small[0].transpose(1, 2, 0)).score == float(expected.scores[0])
    by_max = DETECTOR.settings.model_copy(
        update={"evaluation": DETECTOR.settings.evaluation.model_copy(update={"image_score": "max"})}
    )
    found = dataclasses.replace(DETECTOR, settings=by_max).predict(PHOTO)
    assert found.score == float(DETECTOR.heatmaps(expected.maps).max()) == found.decision.heatmap_max


def test_batches_and_folders_give_lists_in_order(photo, tmp_path):
    batch = RAW[:5].transpose(0, 2, 3, 1)
    expected = [DETECTOR.predict(each).score for each in batch]
    for form in (batch, RAW[:5], torch.from_numpy(RAW[:5]), list(batch), [batch[:2], batch[2:]], tuple(batch)):
        assert [each.score for each in DETECTOR.predict(form)] == pytest.approx(expected, rel=1e-6)
    (tmp_path / "below").mkdir()
    Image.fromarray(batch[1]).save(tmp_path / "below" / "b.png")
    found = DETECTOR.predict(tmp_path)
    assert [Path(each.name).name for each in found] == ["b.png", "photo.png"]
    assert DETECTOR.predict([]) == []


def test_an_iterator_is_read_one_batch_ahead():
    taken = []

    def camera():
        for i in range(100):
            taken.append(i)
            yield RAW[i % 12].transpose(1, 2, 0)

    found = DETECTOR.predict(camera(), batch_size=4)
    assert taken == [] and next(found).name == "image 0" and taken == [0, 1, 2, 3]
    assert [next(found).name for _ in range(4)][-1] == "image 4" and len(taken) == 8
    batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.from_numpy(RAW), torch.arange(12)), 5)
    assert len(list(DETECTOR.predict(batches))) == 12


def test_all_images_of_a_list_that_cannot_be_read_are_named_and_a_stream_may_pass_over_them(photo, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG")
    given = [tmp_path / "bad.png", photo, tmp_path / "none.png", np.zeros((3, 5, 5), np.uint8)]
    with pytest.raises(DataError) as caught:
        DETECTOR.predict(given)
    assert [problem.where for problem in caught.value.problems] == [str(given[0]), str(given[2]), "image 3"]
    errors = []
    (found,) = DETECTOR.predict(given, on_error=errors.append)
    assert found.path == photo and len(errors) == 3
    with pytest.raises(DataError, match="bad.png"):
        next(DETECTOR.predict(iter(given)))
    with pytest.raises(DataError, match="none.png"):
        DETECTOR.predict(given[2])
    with pytest.raises(TypeError, match="found int"):
        DETECTOR.predict(7)
    with pytest.raises(TypeError, match="found NoneType"):
        DETECTOR.predict([None])


@pytest.mark.parametrize("kind", [dict, bytes, bytearray, memoryview, "open file"])
def test_what_can_be_iterated_over_but_holds_no_images_is_refused_at_once(kind, photo):
    with photo.open("rb") as file:
        given = {"a": PHOTO} if kind is dict else file if kind == "open file" else kind(photo.read_bytes())
        with pytest.raises(TypeError, match=f"found {type(given).__name__}. Allowed: paths, images of Pillow, arrays"):
            DETECTOR.predict(given)


@pytest.mark.parametrize("size", [(60, 90), (28, 28), (13, 40), (1, 1)])
def test_heatmap_and_mask_have_the_size_of_the_image_and_its_largest_value(size):
    image = np.asarray(Image.fromarray(PHOTO).resize(size[::-1]))
    found = DETECTOR.predict(image)
    assert found.heatmap.shape == found.mask.shape == size
    assert found.heatmap.dtype == np.float32 and found.mask.dtype == np.bool_
    assert found.heatmap.max() == np.float32(found.decision.heatmap_max)
    assert found.mask[found.heatmap > found.pixel_threshold].all()
    if size == (28, 28):
        np.testing.assert_array_equal(found.mask, closed(found.heatmap > found.pixel_threshold, DETECTOR.cell_px))
    assert found.mask.any() == found.has_region
    if size == (28, 28):
        np.testing.assert_array_equal(found.heatmap, DETECTOR.heatmaps(DETECTOR.detect(
            DETECTOR.fitted(image.transpose(2, 0, 1)[None])).maps)[0, 0])  # fmt: skip


def cropping(aspect):
    """A detector that takes the middle square, of which it sees the central 24 of 32 pixels."""
    images = DETECTOR.settings.images.model_copy(update={"aspect": aspect})
    recipe = Recipe("lcnaug1", "photo", 32, 28, maps=False)
    preprocessor = Preprocessor(recipe, DETECTOR.preprocessor.shift, DETECTOR.preprocessor.scale)
    settings = DETECTOR.settings.model_copy(update={"images": images})
    return dataclasses.replace(DETECTOR, settings=settings, preprocessor=preprocessor)


@pytest.mark.parametrize(("aspect", "columns"), [("crop", (80 + 10, 80 + 150)), ("stretch", (20, 300))])
def test_what_a_crop_leaves_out_is_nan_in_the_heatmap(aspect, columns):
    found = cropping(aspect).predict(np.asarray(Image.fromarray(PHOTO).resize((320, 160))))
    seen = ~np.isnan(found.heatmap)
    rows, places = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    assert (rows[0], rows[-1] + 1) == (10, 150) and (places[0], places[-1] + 1) == columns
    assert not found.mask[~seen].any() and found.heatmap.shape == (160, 320)


def test_a_bright_spot_is_found_at_its_place_in_the_original():
    image = np.full((120, 200, 3), 60, np.uint8)
    image[80:100, 150:180] = 255
    for detector in (DETECTOR, cropping("stretch")):
        heatmap = detector.predict(image).heatmap
        away = np.abs(heatmap - np.nanmedian(heatmap))
        row, column = np.unravel_index(np.nanargmax(away), heatmap.shape)
        assert 60 <= row < 120 and 115 <= column < 200  # within the receptive field of the spot


def test_maps_are_enlarged_once_for_a_batch(monkeypatch):
    by_top = DETECTOR.settings.evaluation.model_copy(update={"image_score": {"top": 0.01}})
    detector = dataclasses.replace(DETECTOR, settings=DETECTOR.settings.model_copy(update={"evaluation": by_top}))
    seen, upsample = [], detector.network.upsample
    monkeypatch.setattr(
        detector.network, "upsample", lambda maps, *rest: seen.append(len(maps)) or upsample(maps, *rest)
    )
    detector.predict(RAW)
    assert seen == [12]


@pytest.mark.slow
def test_a_prediction_is_short_in_words_and_a_figure_in_a_notebook(photo, tmp_path):
    found = dataclasses.replace(DETECTOR.predict(photo), name="a$b.png")
    assert repr(found).startswith("ImagePrediction('a$b.png', score=") and len(repr(found)) < 90
    figure = found.plot(tmp_path / "figure.png")
    width = Image.open(tmp_path / "figure.png").width
    assert width > 1000 and len(figure.axes) == 4 and found._repr_png_().startswith(b"\x89PNG")
    np.testing.assert_array_equal(figure.axes[1].images[1].get_array(), found.view.heatmap)
    assert figure.axes[0].images[0].get_extent() == [0, 90, 60, 0]
    undecided = PLAIN.predict(photo)
    assert (undecided.label, undecided.mask, undecided.agrees) == (None, None, None)
    assert "no decision" in repr(undecided) and "no decision" in undecided.plot()._suptitle.get_text()
