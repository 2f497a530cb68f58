"""Defaults for a data set: what an experiment file need not say. All tuned values are here and nowhere else.

Sources: Liznerski et al., ICLR 2021 (arXiv:2007.01760), appendix, for `mvtec` and `folder`; the rest are our own
settings for small data on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """Values below those of an experiment file.

    Attributes:
        title: one line for `list`.
        tree: nested plain values, as in a file.
    """

    title: str
    tree: dict[str, Any]


PRESETS: dict[str, Preset] = {
    "digits": Preset(
        "handwritten digits at 32 px, 32 real anomalies of other classes",
        {
            "dataset": {"name": "digits"},
            "images": {"raw_size": 32, "size": 32, "color": "grey"},
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
            "heatmaps": {"kernel_std_px": 1.2, "quantile": 0.85},
        },
    ),
    "textures": Preset(
        "texture photographs at 72 px with rendered test defects, confetti in training",
        {
            "dataset": {"name": "textures"},
            "images": {"raw_size": 72, "size": 72, "color": "grey"},
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
            "heatmaps": {"kernel_std_px": 5.0, "quantile": 0.97},
        },
    ),
    "solar": Preset(
        "electroluminescence images of solar cells at 72 px, confetti in training",
        {
            "dataset": {"name": "solar"},
            "images": {"raw_size": 72, "size": 72, "resize": "area", "color": "grey"},
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
            "heatmaps": {"kernel_std_px": 5.0, "quantile": 0.97},
        },
    ),
    "mvtec": Preset(
        "MVTec-AD as in the paper, but for the network: FCDD_CNN224, trained from scratch",
        {
            "dataset": {"name": "mvtec"},
            "images": {"raw_size": 240, "size": 224, "resize": "nearest", "color": "rgb"},
            "anomalies": {"mode": "malformed_normal", "source": "confetti"},
            "network": {"name": "FCDD_CNN224"},
            "preprocessing": "lcnaug1",
            "training": {
                "epochs": 200,
                "passes_per_epoch": 10,
                "batch_size": 128,
                "supervision": "maps",
                "optimizer": "sgd",
                "momentum": 0.9,
                "learning_rate": 0.001,
                "weight_decay": 1e-4,
                "schedule": {"type": "exponential", "factor": 0.985},
            },
            "heatmaps": {"kernel_std_px": 12.0, "quantile": 0.99},
        },
    ),
    "folder": Preset(
        "your own images at 224 px, as the paper's `custom`, but for FCDD_CNN224 and confetti: no download",
        {
            "dataset": {"name": "folder"},
            "images": {"raw_size": 248, "size": 224, "color": "rgb"},
            "anomalies": {"mode": "malformed_normal", "source": "confetti"},
            "network": {"name": "FCDD_CNN224"},
            "preprocessing": "aug1",
            "training": {
                "epochs": 200,
                "batch_size": 128,
                "learning_rate": 0.001,
                "weight_decay": 1e-6,
                "schedule": {"type": "exponential", "factor": 0.985},
            },
            "heatmaps": {"kernel_std_px": 10.0, "quantile": 0.97},
        },
    ),
}
