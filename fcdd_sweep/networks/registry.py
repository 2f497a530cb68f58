"""The networks by name, and their layers. Needs no torch; `networks.build` builds modules from them.

Source: Liznerski et al., ICLR 2021 (arXiv:2007.01760), appendix, and the authors' program. Names are theirs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from fcdd_sweep.networks.layers import (
    AveragePool,
    Conv,
    Deconv,
    Dense,
    Double,
    Dropout,
    Flatten,
    LayerSpec,
    Leaky,
    MaxPool,
    Norm,
    Relu,
    Sigmoid,
    UnusedNorm,
    View,
)

MethodName = Literal["fcdd", "hsc", "ae"]


@dataclass(frozen=True)
class NetworkInfo:
    """A network before it is built.

    Attributes:
        title: one line for `list`.
        input_size: side in pixels of the images that it was designed for; others work, see `networks.describe`.
        layers: the convolutional part; for FCDD the whole network, down to one channel.
        method: what the network can be trained for.
        head: the dense layers of `hsc` and of the encoder of `ae`, from the map to a row of features.
        decoder: of `ae`, from those features back to the image.
        vgg: layers as in torchvision's `vgg11_bn`: ImageNet weights fit, initial ones have the same distributions,
            and biases cannot be left out.
        pretrained: training starts from ImageNet weights by default.
        frozen: how many of the first layers are not trained; their batch norms still follow the data in training.
        hsc: the counterpart for that baseline; empty unless it is an FCDD network.
        ae: the same for the autoencoder.
    """

    title: str
    input_size: int
    layers: tuple[LayerSpec, ...]
    method: MethodName = "fcdd"
    head: tuple[LayerSpec, ...] = ()
    decoder: tuple[LayerSpec, ...] = ()
    vgg: bool = False
    pretrained: bool = False
    frozen: int = 0
    hsc: str = ""
    ae: str = ""


def _block(kernel: int, channels: int, *then: MaxPool) -> tuple[LayerSpec, ...]:
    return (Conv(kernel, channels), Norm(), Leaky(), *then)


HALVE = MaxPool(2, stride=2, padding=0)
HALVE_WIDE = MaxPool(3, stride=2, padding=1)
TO_MAP = Conv(1, 1)
VGG_WEIGHTS = "VGG11_BN_Weights.IMAGENET1K_V1"
"""torchvision's name of the weights that pretrained networks with `vgg` start from."""
VGG_WEIGHTS_URL = "https://download.pytorch.org/models/vgg11_bn-6002323d.pth"
"""Their address in torchvision; repeated here so that a plan names it without torch."""
_VGG_FROZEN = 15  # layers up to and with the third pool
_TORCH_EPS = 1e-5  # of batch norms in torch; the authors' own networks have 1e-4, the default of `Norm`


def _vgg(*channels: int) -> tuple[LayerSpec, ...]:
    """Return VGG's convolutions with the given channels; 0 stands for a pool."""
    blocks = ((Conv(3, c), Norm(_TORCH_EPS), Relu()) if c else (HALVE,) for c in channels)
    return tuple(layer for block in blocks for layer in block)


def _cnn224(kernels: tuple[int, int, int, int, int], channels: tuple[int, int, int, int, int]) -> tuple[LayerSpec, ...]:
    pools = (HALVE_WIDE,), (HALVE_WIDE,), (), (HALVE_WIDE,)
    blocks = (_block(k, c, *pool) for k, c, pool in zip(kernels, channels, pools, strict=False))
    return (*(layer for block in blocks for layer in block), Conv(kernels[-1], channels[-1]), TO_MAP)


_WIDE = (32, 128, 256, 256, 128)
_SMALL = {
    "FCDD_CNN28": NetworkInfo(
        "two convolutions, 8 and 16 channels; quick try-outs at 28 px",
        input_size=28,
        layers=(*_block(5, 8, HALVE), Conv(5, 16), HALVE, TO_MAP),
        hsc="CNN28",
        ae="AE28",
    ),
    "FCDD_CNN28_W": NetworkInfo(
        "two convolutions of 128 channels; the paper's network for Fashion-MNIST",
        input_size=28,
        layers=(*_block(5, 128, HALVE), Conv(5, 128), HALVE, TO_MAP),
        hsc="CNN28_W",
        ae="AE28_W",  # the authors' program uses AE28, which is 16 times narrower than the network it is compared with
    ),
    "FCDD_CNN32": NetworkInfo(
        "three 5x5 convolutions, 32 to 128 channels, at 32 px",
        input_size=32,
        layers=(*_block(5, 32, HALVE), *_block(5, 64, HALVE), Conv(5, 128), UnusedNorm(), TO_MAP),
        hsc="CNN32",
        ae="AE32",
    ),
    "FCDD_CNN32_S": NetworkInfo(
        "three 3x3 convolutions, 32 to 128 channels; small and quick, sees 18 px at a time",
        input_size=32,
        layers=(*_block(3, 32, HALVE), *_block(3, 64, HALVE), Conv(3, 128), TO_MAP),
        hsc="CNN32",
        ae="AE32",
    ),
    "FCDD_CNN32_LW3K": NetworkInfo(
        "four 3x3 convolutions, 128 to 256 channels; the paper's network for CIFAR-10",
        input_size=32,
        layers=(
            *_block(3, 128, HALVE),
            *_block(3, 256),
            *_block(3, 256, HALVE),
            Conv(3, 128),
            UnusedNorm(),
            TO_MAP,
        ),
        hsc="CNN32_LW3K",
        ae="AE32_LW3K",
    ),
    **{
        f"FCDD_CNN32_{kernel}K": NetworkInfo(
            f"receptive field study at 32 px: first kernel {kernel}x{kernel}",
            input_size=32,
            layers=(*_block(kernel, 128, HALVE), *_block(3, 256, HALVE), Conv(3, 128), TO_MAP),
            hsc="CNN32",
            ae="AE32",
        )
        for kernel in range(3, 18, 2)
    },
}
_LARGE = {
    "FCDD_CNN224": NetworkInfo(
        "five convolutions, 8 to 128 channels; photographs without pretrained weights",
        input_size=224,
        layers=_cnn224((5, 5, 3, 3, 3), (8, 32, 64, 128, 128)),
        hsc="CNN224",
        ae="AE224",
    ),
    "FCDD_CNN224_W": NetworkInfo(
        "as FCDD_CNN224, with 32 to 256 channels",
        input_size=224,
        layers=_cnn224((5, 5, 3, 3, 3), _WIDE),
        hsc="CNN224",
        ae="AE224",
    ),
    **{
        f"FCDD_CNN224_{kernel}K": NetworkInfo(
            f"receptive field study at 224 px: FCDD_CNN224_W with kernels {kernel}x{kernel}",
            input_size=224,
            layers=_cnn224((kernel,) * 5, _WIDE),
            hsc="CNN224",
            ae="AE224",
        )
        for kernel in range(3, 14, 2)
    },
}
_FCDD_VGG = NetworkInfo(
    "VGG11 up to its sixth convolution, from random weights; the paper's network for ImageNet",
    input_size=224,
    layers=(*_vgg(64, 0, 128, 0, 256, 256, 0, 512, 512), TO_MAP),
    vgg=True,
    hsc="CNN224_VGG_NOPT_1000",
    ae="AE224_VGG_NOPT",
)
_HSC_VGG = NetworkInfo(
    "VGG11 with 4096 outputs, from random weights",
    input_size=224,
    layers=_vgg(64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0),
    method="hsc",
    head=(AveragePool(7), Flatten(), Dense(4096), Relu(), Dropout(), Dense(4096)),
    vgg=True,
)


def _of_vgg(info: NetworkInfo, prefix: str, hsc: str = "", ae: str = "") -> dict[str, NetworkInfo]:
    """Return two networks by name, both from ImageNet weights: all layers trained, and the first ones frozen."""
    base = info.title.split(",")[0]
    free = replace(info, title=f"{base}, from ImageNet weights", pretrained=True, hsc=hsc, ae=ae)
    frozen = replace(
        free,
        title=f"{base}, from ImageNet weights, the first four convolutions frozen",
        frozen=_VGG_FROZEN,
        hsc=hsc and f"{hsc}_F",
        ae=ae and f"{ae}_F",
    )
    return {f"{prefix}_VGG": free, f"{prefix}_VGG_F": frozen}


_VGGS = {
    "FCDD_CNN224_VGG_NOPT": _FCDD_VGG,
    **_of_vgg(_FCDD_VGG, "FCDD_CNN224", hsc="CNN224_VGG", ae="AE224_VGG"),
}
_CODE_64: tuple[LayerSpec, ...] = (Flatten(), Dense(512), Norm(), Leaky(), Dense(64))
_HSC = {
    "CNN28": NetworkInfo(
        "two convolutions, 8 and 4 channels, 48 outputs",
        input_size=28,
        layers=(*_block(5, 8, HALVE), *_block(5, 4, HALVE)),
        method="hsc",
        head=(Flatten(), Dense(48)),
    ),
    "CNN28_W": NetworkInfo(
        "two convolutions, 128 and 64 channels, 48 outputs",
        input_size=28,
        layers=(*_block(5, 128, HALVE), *_block(5, 64, HALVE)),
        method="hsc",
        head=(Flatten(), Dense(48)),
    ),
    "CNN32": NetworkInfo(
        "three 5x5 convolutions, 32 to 128 channels, 64 outputs",
        input_size=32,
        layers=(*_block(5, 32, HALVE), *_block(5, 64, HALVE), *_block(5, 128, HALVE)),
        method="hsc",
        head=_CODE_64,
    ),
    "CNN32_LW3K": NetworkInfo(
        "four 3x3 convolutions, 128 to 256 channels, 64 outputs",
        input_size=32,
        layers=(*_block(3, 128, HALVE), *_block(3, 256), *_block(3, 256, HALVE), *_block(3, 128, HALVE)),
        method="hsc",
        head=_CODE_64,
    ),
    "CNN224": NetworkInfo(
        "six convolutions, 8 to 128 channels, 784 outputs",
        input_size=224,
        layers=(
            *_block(5, 8, HALVE_WIDE),
            *_block(5, 32, HALVE_WIDE),
            *_block(3, 64),
            *_block(3, 128, HALVE_WIDE),
            *_block(3, 128, HALVE_WIDE),
            *_block(3, 64, HALVE_WIDE),
        ),
        method="hsc",
        head=(Flatten(), Dense(1536), Norm(), Leaky(), Dense(784)),
    ),
    "CNN224_VGG_NOPT": _HSC_VGG,
    "CNN224_VGG_NOPT_1000": replace(
        _HSC_VGG,
        title="VGG11 with its 1000 outputs, from random weights",
        head=(*_HSC_VGG.head, Relu(), Dropout(), Dense(1000)),
    ),
    **_of_vgg(_HSC_VGG, "CNN224"),
}


def _autoencoder(hsc: str, *decoder: LayerSpec) -> NetworkInfo:
    """Return the network `hsc` followed by a decoder."""
    return replace(_HSC[hsc], title=f"{hsc} and a decoder", method="ae", decoder=decoder)


def _up(kernel: int, channels: int | None, padding: int | None = None, *, xavier: bool = True) -> tuple[LayerSpec, ...]:
    return (Double(), Deconv(kernel, channels, padding, xavier))


def _digits_decoder(first: int, second: int, *, xavier: bool) -> tuple[LayerSpec, ...]:
    """Return layers from 3x4x4 features to 28 px; the padding of the second transposed convolution cuts 16 px to 14."""
    return (
        View(3, 4, 4),
        Leaky(),
        *_up(5, first, xavier=xavier),
        Norm(),
        Leaky(),
        *_up(5, second, 3, xavier=xavier),
        Norm(),
        Leaky(),
        *_up(5, None, xavier=xavier),
        Sigmoid(),
    )


def _vgg_decoder() -> tuple[LayerSpec, ...]:
    """Return layers from 4096 features to 224 px."""
    norm = Norm(_TORCH_EPS)
    channels = (0, 512, 512, 0, 512, 256, 0, 256, 128, 0, 64)
    blocks = ((Deconv(3, c, xavier=False), norm, Relu()) if c else (Double(),) for c in channels)
    start = (norm, Relu(), Dense(25088), norm, Relu(), View(512, 7, 7))
    return (*start, *(layer for block in blocks for layer in block), *_up(3, None, xavier=False))


_AE = {
    "AE28": _autoencoder("CNN28", *_digits_decoder(4, 8, xavier=True)),
    "AE28_W": _autoencoder("CNN28_W", *_digits_decoder(64, 128, xavier=False)),
    "AE32": _autoencoder(
        "CNN32",
        *(Norm(), View(4, 4, 4), Leaky(), Deconv(5, 128), Norm(), Leaky()),
        *(*_up(5, 64), Norm(), Leaky(), *_up(5, 32), Norm(), Leaky(), *_up(5, None)),
    ),
    "AE32_LW3K": _autoencoder(
        "CNN32_LW3K",
        *(Norm(), View(4, 4, 4), Leaky(), Deconv(3, 128, xavier=False), Norm(), Leaky()),
        *(*_up(3, 256, xavier=False), Norm(), Leaky(), Deconv(3, 256, xavier=False), Norm(), Leaky()),
        *(*_up(3, 128, xavier=False), Norm(), Leaky(), *_up(3, None, xavier=False)),
    ),
    "AE224": _autoencoder(
        "CNN224",
        *(Norm(), View(16, 7, 7), Leaky(), Deconv(3, 64), Norm(), Leaky()),
        *(*_up(3, 128), Norm(), Leaky(), *_up(3, 128), Norm(), Leaky()),
        *(*_up(3, 64), Norm(), Leaky(), Deconv(3, 32), Norm(), Leaky()),
        *(*_up(5, 8), Norm(), Leaky(), *_up(5, None), Sigmoid()),
    ),
    "AE224_VGG_NOPT": _autoencoder("CNN224_VGG_NOPT", *_vgg_decoder()),
    "AE224_VGG": _autoencoder("CNN224_VGG", *_vgg_decoder()),
    "AE224_VGG_F": _autoencoder("CNN224_VGG_F", *_vgg_decoder()),
}
NETWORKS: dict[str, NetworkInfo] = {**_SMALL, **_LARGE, **_VGGS, **_HSC, **_AE}
