"""Snapshots that did not arrive whole."""

import pytest
import torch

from fcdd_sweep.config.errors import InputError
from fcdd_sweep.training.detector import load_detector
from tests.detectors import random_detector

DETECTOR, _ = random_detector({"name": "FCDD_CNN28"}, size=28)


@pytest.fixture
def snapshot(tmp_path):
    torch.save(DETECTOR.snapshot(), tmp_path / "snapshot.pt")
    return tmp_path / "snapshot.pt"


@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
def test_one_that_is_cut_off_says_so(share, snapshot):
    whole = snapshot.read_bytes()
    snapshot.write_bytes(whole[: int(share * len(whole))])
    step = "Copy it again; or remove its folder and run the experiment again, which trains the trial anew."
    with pytest.raises(InputError, match=f"snapshot.pt: the file is damaged or cut off. {step}"):
        load_detector(snapshot)


def test_one_that_is_damaged_says_so(snapshot):
    whole = snapshot.read_bytes()
    snapshot.write_bytes(whole[:300] + bytes(50) + whole[350:])
    with pytest.raises(InputError, match="snapshot.pt: the file is damaged or cut off"):
        load_detector(snapshot)


@pytest.mark.parametrize("bit", [0x01, 0x80])
def test_one_with_a_flipped_bit_in_its_weights_says_so_although_torch_loads_it(bit, snapshot):
    content = bytearray(snapshot.read_bytes())
    weights = DETECTOR.snapshot()["network"][next(iter(DETECTOR.network.state_dict()))]
    place = content.index(weights.numpy().tobytes())
    content[place + 5] ^= bit
    snapshot.write_bytes(content)
    assert torch.load(snapshot, weights_only=True)["snapshot_version"] > 0
    with pytest.raises(InputError, match="snapshot.pt: the file is damaged or cut off. Copy it again"):
        load_detector(snapshot)


def test_a_folder_that_is_named_like_one_is_called_a_folder(tmp_path):
    (tmp_path / "snapshot.pt").mkdir()
    for place in (tmp_path, tmp_path / "snapshot.pt"):
        with pytest.raises(InputError) as caught:
            load_detector(place)
        assert str(caught.value).startswith(f"{tmp_path / 'snapshot.pt'}: is a folder, not a file. Allowed: ")


@pytest.mark.parametrize("error", [OSError(22, "Invalid argument"), RuntimeError("failed finding central directory")])
def test_whatever_torch_raises_one_that_is_cut_off_is_told_from_one_that_cannot_be_read(error, snapshot, monkeypatch):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(torch, "load", fails)
    expected = "cannot be read (Invalid argument)" if isinstance(error, OSError) else "this is not a snapshot"
    with pytest.raises(InputError) as whole:
        load_detector(snapshot)
    assert expected in str(whole.value)
    snapshot.write_bytes(snapshot.read_bytes()[:-1])
    with pytest.raises(InputError, match="the file is damaged or cut off"):
        load_detector(snapshot)
