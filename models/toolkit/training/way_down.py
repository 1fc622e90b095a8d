"""EfficientNet-Lite0 as the way down of a net that finds places, and what joins its maps up again."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, Self, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.toolkit.training.backbone import fold_stem, load_efficientnet

_Net = TypeVar("_Net", bound=nn.Module)
MEAN, DEVIATION = 127, 128.0
"""What bytes are normalised by."""
_SLOWER = 0.1
"""How fast what is pretrained learns beside what is new."""
_RARE = 0.1
"""Probability of any defect in a fresh net's map: at a half the first epochs go into learning rarity, and at the true
share, about 0.01, Dice has next to no slope (drawn plates, 12 epochs: Dice 0.62 from 0.01, 0.91 from 0.1)."""


class Twice(nn.Sequential):
    """Two 3 x 3 convolutions, each normalised and rectified."""

    def __init__(self, inputs: int, outputs: int) -> None:
        layers: list[nn.Module] = []
        for width in (inputs, outputs):
            layers += [nn.Conv2d(width, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(True)]
        super().__init__(*layers)


class Up(nn.Module):
    """Double the map, put the finer one of the way down beside it, and convolve both."""

    def __init__(self, inputs: int, beside: int, outputs: int) -> None:
        super().__init__()
        self.enlarge = nn.ConvTranspose2d(inputs, outputs, 2, 2)
        self.join = Twice(outputs + beside, outputs)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Give N x outputs x H x W of `coarse` (H/2 x W/2) and `fine` (H x W)."""
        return cast(Tensor, self.join(torch.cat([self.enlarge(coarse), fine], dim=1)))


class LiteDown(nn.Module):
    """EfficientNet-Lite0 with its ImageNet weights down to 1/16; sides of the picture are multiples of 16.

    The stem and every normalisation's statistics stay as ImageNet left them: batches of a few pictures would wash them out.
    """

    _taps = MappingProxyType({1: 16, 3: 24, 5: 40, 11: 112})
    """Blocks done and channels there, at 1/2, 1/4, 1/8 and 1/16 of the side."""

    def __init__(self) -> None:
        super().__init__()
        net = load_efficientnet()
        self.stem = fold_stem(net).requires_grad_(False)
        self.blocks = nn.ModuleList(list(cast(nn.ModuleList, net._blocks))[: max(self._taps)])

    def train(self, mode: bool = True) -> Self:
        """Set the mode of everything but the normalisations."""
        super().train(mode)
        self.blocks.eval()
        return self

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Give the maps of bytes N x H x W x 3: 16, 24, 40 and 112 channels at 1/2, 1/4, 1/8 and 1/16 of the side."""
        # at the right and below alone, as the net was trained; the mean is what the stem's normalisation maps to zero
        padded = functional.pad(pictures.permute(0, 3, 1, 2).float(), (0, 1, 0, 1), value=MEAN)
        x = functional.relu6(self.stem(padded))
        maps: list[Tensor] = []
        for number, block in enumerate(self.blocks, start=1):
            x = block(x)
            if number in self._taps:
                maps.append(x)
        return maps


def rare_head(inputs: int, labels: int) -> nn.Conv2d:
    """Give the last layer, begun where each defect is rare (Lin et al. 2017)."""
    head = nn.Conv2d(inputs, labels, 1)
    nn.init.normal_(head.weight, std=0.01)
    nn.init.constant_(cast(Tensor, head.bias), math.log(_RARE / (1 - _RARE) / labels))
    return head


def learning_groups(net: nn.Module, rate: float) -> list[dict[str, Any]]:
    """Give the optimiser's groups of parameters: what ImageNet has taught already learns slower, so it isn't washed out."""
    ways = [module for module in net.modules() if isinstance(module, LiteDown)]
    taught = [each for way in ways for each in way.blocks.parameters()]
    kept = {id(each) for each in taught}
    fresh = [each for each in net.parameters() if each.requires_grad and id(each) not in kept]
    groups: list[dict[str, Any]] = [{"params": fresh, "lr": rate}]
    return [*groups, {"params": taught, "lr": _SLOWER * rate}] if taught else groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture(Generic[_Net]):
    """How to build a net for a number of labels, and how fast it may learn."""

    build: Callable[[int], _Net]
    learning_rate: float
    licence: str
