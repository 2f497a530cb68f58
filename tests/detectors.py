"""Detectors with random weights, for tests of what a detector computes."""

import numpy as np
import torch

from fcdd_sweep.training.detector import Detector
from fcdd_sweep.training.models import make_network
from fcdd_sweep.training.preprocessing import Preprocessor, Recipe
from tests.specs import settings


def random_detector(network, method="fcdd", size=32, channels=3, threshold=float("nan"), **sections):
    """A detector with random weights whose batch norms and preprocessing fit its random images, and these images."""
    changed = {"images": {"load_size": size + 4, "size": size, "color": "rgb" if channels == 3 else "gray"}, **sections}
    trained = settings(**changed)
    trained = trained.model_copy(update={"method": method, "network": trained.network.model_validate(network)})
    built = make_network(trained, torch.device("cpu"), 0, pretrained=False)
    raw = np.random.default_rng(1).integers(0, 256, (12, channels, size + 4, size + 4)).astype(np.uint8)
    raw[:, :, : size // 2] //= 4
    fitted = Preprocessor.fit(Recipe.of(trained), torch.from_numpy(raw))
    for norm in (module for module in built.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        norm.momentum = 1.0
    with torch.no_grad():
        built.train()(fitted.test(torch.from_numpy(raw)))
    return Detector(trained, "plain", built.eval(), fitted, threshold=threshold), raw
