"""A trained detector: network, preprocessing and threshold; scores and heatmaps of raw images; snapshots."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fcdd_sweep.config.errors import InputError, Problem
from fcdd_sweep.config.schema import Settings
from fcdd_sweep.metrics.heatmap_values import STEPS, MapGeometry, default_std
from fcdd_sweep.networks.build import network_of
from fcdd_sweep.training.device import choose_device
from fcdd_sweep.training.methods import METHODS, Detection, Method
from fcdd_sweep.training.preprocessing import Preprocessor, Recipe

SNAPSHOT_VERSION = 2
_NOT_LOADED = (RuntimeError, pickle.UnpicklingError, EOFError, LookupError, TypeError, ValueError, AttributeError)
"""What torch, and a look at the content, raise for a file that is no snapshot."""
_MOST_TOGETHER = 128
_PIXELS_TOGETHER = 128 * 96 * 96
"""Images that are scored together: large ones would fill the memory, above all where gradients are kept."""


@dataclass(frozen=True)
class Detector:
    """What is needed to score images.

    Attributes:
        settings: the settings of the trial that made it.
        normal_class: the class it was trained on.
        network: in evaluation mode, on the device that it was made or loaded on.
        preprocessor: with the statistics of its nominal training images.
        threshold: score above which an image is called anomalous; NaN when nothing was held out.
        reference_quantiles: (1001,) float32 of upsampled heatmaps, for colors, blurred when `heatmaps.blur` says so;
            NaN when the trial had no test images.
    """

    settings: Settings
    normal_class: str
    network: Any
    preprocessor: Preprocessor
    threshold: float = float("nan")
    reference_quantiles: npt.NDArray[np.float32] = field(default_factory=lambda: np.full(STEPS + 1, np.nan, np.float32))

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @property
    def method(self) -> Method:
        return METHODS[self.settings.method]

    @property
    def place(self) -> MapGeometry:
        """Where the cells of its maps lie in the image, and how pictures are blurred."""
        field, size = self.network.receptive_field, self.settings.images.size
        std = self.settings.heatmaps.kernel_std_px or default_std(field.size)
        cells = (field.size, field.jump, field.shift) if self.method.by_cells else (1, 1, 0.0)
        return MapGeometry(cells, (size, size), std, field.size)

    def detect(
        self, raw: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64] | None = None, batch_size: int | None = None
    ) -> Detection:
        """Maps and scores of images on the CPU, batch by batch.

        Args:
            raw: (M, C, R, R) uint8 at the raw size; may be memory-mapped, a batch of it is read at a time.
            rows: (N,) which of them; None for all.
            batch_size: images at a time; None: by their size.
        """
        rows = np.arange(len(raw)) if rows is None else rows
        side = self.settings.images.size
        together = batch_size or max(1, min(_MOST_TOGETHER, _PIXELS_TOGETHER // side**2))
        batches = (
            self.preprocessor.test(torch.from_numpy(np.asarray(raw[rows[start : start + together]])).to(self.device))
            for start in range(0, len(rows), together)
        )
        return self.detect_inputs(batches)

    @torch.no_grad()
    def detect_inputs(self, batches: Iterable[Tensor]) -> Detection:
        """Batches of network input, (N, C, S, S), to maps and scores on the CPU."""
        self.network.eval()
        found = [self.method.detect(self.network, inputs) for inputs in batches]
        maps = [torch.empty(0, 1, *self._map_size()), *(each.maps.cpu() for each in found)]
        return Detection(torch.cat(maps), torch.cat([torch.empty(0).double(), *(each.scores.cpu() for each in found)]))

    @torch.no_grad()
    def heatmaps(self, anomaly_maps: Tensor) -> Tensor:
        """(N, 1, U, V) to (N, 1, S, S) float32 on the CPU."""
        if not self.method.by_cells:
            return anomaly_maps
        return self._upsample(anomaly_maps.to(self.device)).cpu()

    def visible(self, raw: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """What the network sees before normalization: (N, C, S, S) uint8."""
        return self.preprocessor.visible(torch.from_numpy(np.array(raw))).numpy()

    def _upsample(self, maps: Tensor) -> Tensor:
        return self.network.upsample(maps, self.settings.heatmaps.kernel_std_px)

    def _map_size(self) -> tuple[int, int]:
        width = self.network.receptive_field.width if self.method.by_cells else self.settings.images.size
        return width, width

    def snapshot(self) -> dict[str, Any]:
        """Tensors and plain values alone, so that it loads without running anybody's code."""
        preprocessor = self.preprocessor
        return {
            "snapshot_version": SNAPSHOT_VERSION,
            "settings": self.settings.model_dump(mode="json"),
            "normal_class": self.normal_class,
            "versions": {"fcdd_sweep": version("fcdd_sweep"), "torch": str(torch.__version__)},
            "network": {name: value.cpu() for name, value in self.network.state_dict().items()},
            "preprocessing": {
                "recipe": asdict(preprocessor.recipe),
                "shift": preprocessor.shift.cpu(),
                "scale": preprocessor.scale.cpu(),
            },
            "threshold": self.threshold,
            "reference_quantiles": torch.from_numpy(np.array(self.reference_quantiles)),
        }


def make_network(settings: Settings, device: torch.device, seed: int | None = None, *, pretrained: bool = True) -> Any:
    """The trial's network on its device; `seed` decides its weights without touching torch's global stream.

    Without `pretrained` no weights are read or fetched: for a snapshot, which brings its own. On a CPU its weights lie
    channels last, which makes a training step 1.1 to 1.7 times faster.
    """
    images = settings.images
    shape = (images.channels, images.size, images.size)
    network = network_of(settings.network, settings.method, shape, seed, pretrained=pretrained)
    return network.to(device, memory_format=torch.channels_last if device.type == "cpu" else torch.preserve_format)


def load_detector(snapshot: str | Path, device: str = "auto") -> Detector:
    """A detector from a `snapshot.pt`, wherever it was trained.

    Args:
        snapshot: the file.
        device: `auto`, `cpu`, `cuda` or `mps`.
    Raises:
        InputError: no such file, not a snapshot, or one of another version.
    """
    path = Path(snapshot)
    plain = _read(path)
    settings = Settings.model_validate(plain["settings"])
    target = choose_device(device)
    network = make_network(settings, target, pretrained=False)
    network.load_state_dict(plain["network"])
    stored = plain["preprocessing"]
    return Detector(
        settings=settings,
        normal_class=plain["normal_class"],
        network=network.eval(),
        preprocessor=Preprocessor(Recipe(**stored["recipe"]), stored["shift"].to(target), stored["scale"].to(target)),
        threshold=plain["threshold"],
        reference_quantiles=plain["reference_quantiles"].numpy(),
    )


def _read(path: Path) -> dict[str, Any]:
    made = "the snapshot.pt of a finished trial, such as results/RUN/normal_CLASS/it_0/snapshot.pt"
    kept = "It holds network, preprocessing and threshold; trials leave one unless keep.snapshots is none"
    if not path.is_file():
        raise InputError(Problem(str(path), "there is no such file", made))
    try:
        plain = torch.load(path, map_location="cpu", weights_only=True)
        made_as = plain["snapshot_version"]  # a state dict or another file of torch has none
    except _NOT_LOADED as error:
        raise InputError(Problem(str(path), "this is not a snapshot", made, kept)) from error
    if made_as != SNAPSHOT_VERSION:
        raise InputError(
            Problem(str(path), f"the snapshot has version {made_as}", f"version {SNAPSHOT_VERSION}", "Train it again")
        )
    return dict(plain)
