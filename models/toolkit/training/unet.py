"""Nets that give a map of each defect: bytes of a picture in, a logit for each label and pixel out.

U-Net: Ronneberger, Fischer, Brox 2015, with padded convolutions, so that the map is as large as the picture, and batch
normalisation (Ioffe, Szegedy 2015). `unet-lite0` has EfficientNet-Lite0 with its ImageNet weights as its way down.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.toolkit.training.backbone import fold_stem, load_efficientnet

_MEAN, _DEVIATION = 127, 128.0
_WIDTHS = (16, 32, 64, 128)
_RARE = 0.1
"""Probability of any defect in a fresh net's map: at a half the first epochs go into learning rarity, and at the true
share, about 0.01, Dice has next to no slope (drawn plates, 12 epochs: Dice 0.62 from 0.01, 0.91 from 0.1)."""
_SLOWER = 0.1
"""How fast what is pretrained learns beside what is new."""


class _Twice(nn.Sequential):
    """Two 3 x 3 convolutions, each normalised and rectified."""

    def __init__(self, inputs: int, outputs: int) -> None:
        layers: list[nn.Module] = []
        for width in (inputs, outputs):
            layers += [nn.Conv2d(width, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(True)]
        super().__init__(*layers)


class _Up(nn.Module):
    """Double the map, put the finer one of the way down beside it, and convolve both."""

    def __init__(self, inputs: int, beside: int, outputs: int) -> None:
        super().__init__()
        self.enlarge = nn.ConvTranspose2d(inputs, outputs, 2, 2)
        self.join = _Twice(outputs + beside, outputs)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Give N x outputs x H x W of `coarse` (H/2 x W/2) and `fine` (H x W)."""
        return cast(Tensor, self.join(torch.cat([self.enlarge(coarse), fine], dim=1)))


class UNet(nn.Module):
    """Four resolutions, 16 to 128 channels, from random weights; sides of the picture are multiples of 8."""

    def __init__(self, labels: int, widths: Sequence[int] = _WIDTHS) -> None:
        super().__init__()
        self.down = nn.ModuleList(_Twice(a, b) for a, b in zip((3, *widths), widths, strict=False))
        self.up = nn.ModuleList(_Up(b, a, a) for a, b in pairwise(widths))
        self.head = _rare_head(widths[0], labels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module is not self.head:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, pictures: Tensor) -> Tensor:
        """Give N x labels x H x W logits for bytes N x H x W x 3."""
        x = (pictures.permute(0, 3, 1, 2).float() - _MEAN) / _DEVIATION
        maps: list[Tensor] = []
        for level, convolve in enumerate(self.down):
            x = convolve(functional.max_pool2d(x, 2) if level else x)
            maps.append(x)
        for join, fine in zip(reversed(self.up), reversed(maps[:-1]), strict=True):
            x = join(x, fine)
        return cast(Tensor, self.head(x))


class LiteUNet(nn.Module):
    """EfficientNet-Lite0 down to 1/16, joined up again to 1/2 of the side; sides of the picture are multiples of 16.

    The logits are then doubled to full size in a bilinear way. The stem and every normalisation's statistics stay as
    ImageNet left them: batches of a few pictures would wash them out.
    """

    _taps = MappingProxyType({1: 16, 3: 24, 5: 40, 11: 112})
    """Blocks done and channels there, at 1/2, 1/4, 1/8 and 1/16 of the side."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        net = load_efficientnet()
        self.stem = fold_stem(net).requires_grad_(False)
        self.blocks = nn.ModuleList(list(cast(nn.ModuleList, net._blocks))[: max(self._taps)])
        self.up = nn.ModuleList([_Up(112, 40, 64), _Up(64, 24, 32), _Up(32, 16, 16)])
        self.head = _rare_head(16, labels)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of everything but the way down's normalisations."""
        super().train(mode)
        self.blocks.eval()
        return self

    def forward(self, pictures: Tensor) -> Tensor:
        """Give N x labels x H x W logits for bytes N x H x W x 3."""
        # at the right and below alone, as the net was trained; the mean is what the stem's normalisation maps to zero
        padded = functional.pad(pictures.permute(0, 3, 1, 2).float(), (0, 1, 0, 1), value=_MEAN)
        x = functional.relu6(self.stem(padded))
        maps: list[Tensor] = []
        for number, block in enumerate(self.blocks, start=1):
            x = block(x)
            if number in self._taps:
                maps.append(x)
        for join, fine in zip(self.up, reversed(maps[:-1]), strict=True):
            x = join(x, fine)
        return functional.interpolate(self.head(x), scale_factor=2.0, mode="bilinear", align_corners=False)


def learning_groups(net: nn.Module, rate: float) -> list[dict[str, Any]]:
    """Give the optimiser's groups of parameters: what ImageNet has taught already learns slower, so it isn't washed out."""
    taught = list(net.blocks.parameters()) if isinstance(net, LiteUNet) else []
    kept = {id(each) for each in taught}
    fresh = [each for each in net.parameters() if each.requires_grad and id(each) not in kept]
    groups: list[dict[str, Any]] = [{"params": fresh, "lr": rate}]
    return [*groups, {"params": taught, "lr": _SLOWER * rate}] if taught else groups


def _rare_head(inputs: int, labels: int) -> nn.Conv2d:
    """Give the last layer, begun where each defect is rare (Lin et al. 2017)."""
    head = nn.Conv2d(inputs, labels, 1)
    nn.init.normal_(head.weight, std=0.01)
    nn.init.constant_(cast(Tensor, head.bias), math.log(_RARE / (1 - _RARE) / labels))
    return head


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmenter:
    """How to build a net for a number of labels, and how fast it may learn."""

    build: Callable[[int], nn.Module]
    learning_rate: float
    licence: str


SEGMENTERS: Mapping[str, Segmenter] = MappingProxyType(
    {
        "unet": Segmenter(build=UNet, learning_rate=3e-3, licence="the pictures are their owner's"),
        "unet-lite0": Segmenter(
            build=LiteUNet, learning_rate=3e-3,
            licence="Apache-2.0 (ImageNet weights of EfficientNet-Lite0); the pictures are their owner's",
        ),
    }
)  # fmt: skip
