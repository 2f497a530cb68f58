"""Defaults per data set for keys that an experiment file leaves out. All tuned values are in this module.

Sources: Liznerski et al., ICLR 2021 (arXiv:2007.01760), appendix, for `fmnist`, `cifar10`, `imagenet`, `mvtec`,
`pascalvoc` and `custom`; the rest are our own settings, for small data on a CPU and for images without any download.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """Values that an experiment file overrides.

    Attributes:
        title: one line for `list`.
        tree: nested plain values, as in a file.
    """

    title: str
    tree: dict[str, Any]


def _decay(factor: float) -> dict[str, Any]:
    """Return a schedule that multiplies the learning rate by `factor` after every epoch."""
    return {"type": "exponential", "factor": factor}


_SGD: dict[str, Any] = {"batch_size": 128, "optimizer": "sgd", "momentum": 0.9, "weight_decay": 1e-6}
_ADAM: dict[str, Any] = {
    "epochs": 600,
    "batch_size": 200,
    "optimizer": "adam",
    "learning_rate": 0.001,
    "weight_decay": 1e-6,
    "schedule": {"type": "milestones", "milestones": [400, 500], "factor": 0.1},
}
"""The paper's training of CIFAR-10, ImageNet and VOC."""
AUTOENCODER_TRAINING: dict[str, Any] = {"optimizer": "adam", "learning_rate": 0.001}
"""What the autoencoder of `baselines` is trained with in place of the run's own: stochastic gradient descent at a rate
that suits a map pushed around does not train it, or diverges. Chosen on selection data, see docs/figures.md."""
PRESETS: dict[str, Preset] = {
    "digits": Preset(
        "handwritten digits at 32 px, 32 real anomalies of other classes",
        {
            "dataset": {"name": "digits"},
            "images": {"load_size": 32, "size": 32, "color": "gray"},
            "anomalies": {"mode": "other", "limit": 32},
            "network": {"name": "FCDD_CNN32_S"},
            "preprocessing": "none",  # a mirrored digit is another digit
            "training": {
                "epochs": 40,
                "passes_per_epoch": 5,
                "batch_size": 64,
                "learning_rate": 0.01,
                "weight_decay": 1e-6,
                "schedule": {"type": "exponential", "factor": 0.92},
            },
            "heatmaps": {"kernel_std_px": 1.2, "color_quantile": 0.85},
        },
    ),
    "textures": Preset(
        "texture photographs at 72 px with rendered test defects, confetti in training",
        {
            "dataset": {"name": "textures"},
            "images": {"load_size": 72, "size": 72, "color": "gray"},
            # a network that fits confetti well sees nothing else: few epochs, few anomalies, no biases
            "anomalies": {"mode": "malformed_normal", "source": "confetti", "probability": 0.2},
            "network": {"name": "FCDD_CNN32_S", "bias": False},
            "preprocessing": "lcn",
            "training": {
                "epochs": 15,
                "batch_size": 16,
                "supervision": "maps",
                "learning_rate": 0.003,
                "weight_decay": 0.03,
                "schedule": {"type": "exponential", "factor": 0.85},
            },
            "heatmaps": {"kernel_std_px": 5.0, "color_quantile": 0.97},
        },
    ),
    "solar": Preset(
        "electroluminescence images of solar cells at 72 px, confetti in training",
        {
            "dataset": {"name": "solar"},
            "images": {"load_size": 72, "size": 72, "resize": "area", "color": "gray"},
            "anomalies": {"mode": "malformed_normal", "source": "confetti", "probability": 0.2},
            "network": {"name": "FCDD_CNN32_S", "bias": False},
            "preprocessing": "lcn",
            "training": {
                "epochs": 10,
                "batch_size": 16,
                "learning_rate": 0.003,
                "weight_decay": 1e-4,
                "schedule": {"type": "exponential", "factor": 0.8},
            },
            "heatmaps": {"kernel_std_px": 5.0, "color_quantile": 0.97},
        },
    ),
    "fmnist": Preset(
        "Fashion-MNIST as in the paper, outlier exposure with CIFAR-100",
        {
            "dataset": {"name": "fmnist"},
            "images": {"load_size": 28, "size": 28, "color": "gray"},
            "anomalies": {"mode": "noise", "source": {"dataset": "cifar100"}},
            "network": {"name": "FCDD_CNN28_W"},
            "preprocessing": "lcnaug1",
            "training": {**_SGD, "epochs": 400, "learning_rate": 0.01, "schedule": _decay(0.98)},
            "heatmaps": {"kernel_std_px": 1.2, "color_quantile": 0.85},
        },
    ),
    "cifar10": Preset(
        "CIFAR-10 as in the paper, outlier exposure with CIFAR-100",
        {
            "dataset": {"name": "cifar10"},
            "images": {"load_size": 32, "size": 32, "color": "rgb"},
            "anomalies": {"mode": "noise", "source": {"dataset": "cifar100"}},
            "network": {"name": "FCDD_CNN32_LW3K"},
            "preprocessing": "aug1",
            "training": _ADAM,
            "heatmaps": {"kernel_std_px": 1.2, "color_quantile": 0.85},
        },
    ),
    "imagenet": Preset(
        "ImageNet-30 as in the paper, outlier exposure with ImageNet22k",
        {
            "dataset": {"name": "imagenet"},
            "images": {"load_size": 256, "size": 224, "aspect": "crop", "color": "rgb"},
            "anomalies": {"mode": "noise", "source": {"dataset": "imagenet22k"}},
            "network": {"name": "FCDD_CNN224_VGG_NOPT"},
            "preprocessing": "aug1",
            "training": _ADAM,
            "heatmaps": {"kernel_std_px": 8.0, "color_quantile": 0.97},
        },
    ),
    "mvtec": Preset(
        "MVTec-AD as in the paper, confetti",
        {
            "dataset": {"name": "mvtec"},
            "images": {"load_size": 240, "size": 224, "resize": "nearest", "color": "rgb"},
            "anomalies": {"mode": "malformed_normal", "source": "confetti"},
            "network": {"name": "FCDD_CNN224_VGG_F"},
            "preprocessing": "lcnaug1",
            "training": {
                **_SGD,
                "epochs": 200,
                "passes_per_epoch": 10,
                "supervision": "maps",
                "learning_rate": 0.001,
                "weight_decay": 1e-4,
                "schedule": _decay(0.985),
            },
            "heatmaps": {"kernel_std_px": 12.0, "color_quantile": 0.99},
        },
    ),
    "pascalvoc": Preset(
        "VOC2007 horses against a watermark as in the paper: horses are pushed away, outlier exposure is pulled in",
        {
            "dataset": {"name": "pascalvoc", "classes": ["horse"]},
            "images": {"load_size": 224, "size": 224, "color": "rgb", "nominal_label": 1},
            "anomalies": {"mode": "noise", "source": {"dataset": "imagenet"}},
            "network": {"name": "FCDD_CNN224_VGG_NOPT"},
            "preprocessing": "aug1",
            "training": _ADAM,
            "heatmaps": {"kernel_std_px": 8.0, "color_quantile": 0.99},
        },
    ),
    "custom": Preset(
        "your own images as the paper trains them, outlier exposure with ImageNet22k",
        {
            "dataset": {"name": "folder"},
            "images": {"load_size": 248, "size": 224, "aspect": "crop", "color": "rgb"},
            "anomalies": {"mode": "noise", "source": {"dataset": "imagenet22k"}},
            "network": {"name": "FCDD_CNN224_VGG_F"},
            "preprocessing": "aug1",
            "training": {
                **_SGD,
                "epochs": 200,
                "learning_rate": 0.001,
                "schedule": _decay(0.985),
            },
            "heatmaps": {"kernel_std_px": 10.0, "color_quantile": 0.97},
        },
    ),
    "folder": Preset(
        "your own images at 128 px, few of them, on a CPU: chips in training, from random weights, no download",
        {
            "dataset": {"name": "folder"},
            "images": {"load_size": 128, "size": 128, "resize": "area", "color": "rgb"},
            "anomalies": {"mode": "malformed_normal_gt", "source": "chips"},
            "network": {"name": "FCDD_CNN32_S"},
            "preprocessing": "none",
            # steps, not epochs: 20 images and 200 are trained equally long
            "training": {
                "epochs": 10,
                "min_steps": 40,
                "batch_size": 16,
                "optimizer": "adam",
                "learning_rate": 0.001,
                "weight_decay": 1e-4,
                "schedule": _decay(0.8),
            },
            "heatmaps": {"color_quantile": 0.97},
            "evaluation": {"image_score": "auto"},
        },
    ),
}
