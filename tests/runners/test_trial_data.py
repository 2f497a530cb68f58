"""The data that trials read: which trials read the same, by the one key that the driver and all machines use."""

import numpy as np
import pytest
from PIL import Image

from fcdd_sweep.runners.trial_data import DataKeys, corpus_of, data_key, data_keys, exposure_of, pools_of
from tests.formats import write_png16
from tests.specs import settings, spec

OTHERS = {"dataset": "cifar100", "root": "/data/cifar100"}


def exposed(**sections):
    return settings(anomalies={"mode": "noise", "source": OTHERS}, **sections)


@pytest.mark.parametrize(
    ("sections", "changed"),
    [
        ({"dataset": {"classes": ["brick"]}}, {"corpus"}),
        ({"images": {"load_size": 40}}, {"corpus", "exposure"}),
        ({"anomalies": {"source": {"folder": "/data/others"}}}, {"exposure"}),
        ({"evaluation": {"validation": {"nominal_fraction": 0.5, "anomalies": OTHERS}}}, {"validation"}),
        ({"evaluation": {"validation": {"nominal_fraction": 0.5, "anomalies": "training"}}}, {"validation"}),
        ({"network": {"name": "FCDD_CNN224_VGG_F"}}, {"weights"}),
    ],
)
def test_a_key_changes_with_the_data_that_it_names(sections, changed):
    before, after = vars(data_keys(exposed())), vars(data_keys(exposed().model_copy(update=_changed(sections))))
    assert {name for name in before if before[name] != after[name]} == changed


def _changed(sections):
    """The sections of the settings above with these values changed."""
    whole = {"anomalies": {"mode": "noise", "source": OTHERS}}
    merged = {name: {**whole.get(name, {}), **values} for name, values in sections.items()}
    return {name: getattr(settings(**merged), name) for name in sections}


def test_values_that_change_no_data_change_no_key():
    training, limit = {"learning_rate": 0.5}, {"mode": "noise", "source": OTHERS, "limit": 3}
    assert data_keys(exposed()) == data_keys(settings(training=training, anomalies=limit))
    assert data_keys(settings()) != data_keys(exposed()) and data_keys(settings()).exposure == ""


def test_trials_of_one_config_share_a_key_by_class():
    assert data_key(spec(seed=0)) == data_key(spec(seed=1)) != data_key(spec(normal_class="brick"))


def test_trials_that_differ_in_their_validation_images_alone_have_different_keys():
    validation = {"validation": {"nominal_fraction": 0.5, "anomalies": "training"}}
    assert data_key(spec()) != data_key(spec(evaluation=validation))


def test_pools_are_those_of_outlier_exposure_and_of_validation(tmp_path):
    from tests.trees import write_images

    for name in ("train", "validation"):
        write_images(tmp_path / name, 3)
    held_out = {"nominal_fraction": 0.5, "anomalies": {"folder": tmp_path / "validation"}}
    both = settings(
        anomalies={"mode": "noise", "source": {"folder": tmp_path / "train"}}, evaluation={"validation": held_out}
    )
    keys = data_keys(both)
    assert [(key, source.folder.name, len(pool)) for key, source, pool in pools_of(both)] == [
        (keys.exposure, "train", 3),
        (keys.validation, "validation", 3),
    ]
    assert isinstance(keys, DataKeys) and list(pools_of(settings())) == []


def test_outlier_exposure_of_12_bits_is_decoded_in_the_range_of_the_data_set(tmp_path, monkeypatch):
    """Its own values, wider than those of the data set, would give it another scale."""
    monkeypatch.setenv("FCDD_SWEEP_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for half in ("train", "test"):
        write_png16(tmp_path / "data" / half / "bolt" / "normal" / "a.png", values_around(rng, 2090, 20))
    write_png16(tmp_path / "others" / "a.png", values_around(rng, 2090, 900))
    chosen = settings(
        dataset={"name": "folder", "root": tmp_path / "data"},
        anomalies={"mode": "noise", "source": {"folder": tmp_path / "others"}},
    )
    found, pool = corpus_of(chosen).value_range, exposure_of(chosen)
    shares = (read_values_of(tmp_path / "others" / "a.png") - found.low) / (found.high - found.low)
    np.testing.assert_array_equal(pool.read(np.array([0]))[0][0, 0], np.rint(shares.clip(0, 1) * 255))
    assert found.high - found.low < 100


def values_around(rng, middle, spread):
    return rng.integers(middle - spread, middle + spread + 1, (32, 32)).astype(np.uint16)


def read_values_of(path):
    return np.asarray(Image.open(path)).astype(float)
