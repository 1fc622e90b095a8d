"""A net that finds boxes without suppressing any afterwards: bytes in; a heat map of centres, sides and offsets out.

"Objects as Points" (Zhou, Wang, Kraehenbuehl 2019): an object is the middle of its box, a peak in the heat map of its label; its
sides and how far its middle lies in the cell are read there. EfficientNet-Lite0 with its ImageNet weights is the way down.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.toolkit.training.way_down import Architecture, LiteDown, Up, rare_head

STRIDE = 4
"""Side of a cell of the heat map, in pixels of the input."""
_WIDTH = 32
NO_PEAK = -1e4
"""Logit of what fills the list where there are fewer peaks."""
_LONGEST = 12.0
"""Limit of a side's logarithm, in cells: exp() stays finite whatever a net in its first steps says."""


class Maps(NamedTuple):
    """What the net says, N x channels x H/4 x W/4: logits of middles for each label, logarithms of sides in cells, offsets."""

    heat: Tensor
    sides: Tensor
    offsets: Tensor


class Peaks(NamedTuple):
    """The K strongest peaks of N pictures, the strongest first: logits and labels N x K, corners N x K x 4 in input pixels."""

    logits: Tensor
    labels: Tensor
    corners: Tensor


class LiteDetector(nn.Module):
    """EfficientNet-Lite0 down to 1/16, joined up again to 1/4 of the side, and three heads; sides are multiples of 16."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.down = LiteDown()
        self.up = nn.ModuleList([Up(112, 40, 64), Up(64, 24, _WIDTH)])
        self.heat = _head(rare_head(_WIDTH, labels))
        self.sides = _head(nn.Conv2d(_WIDTH, 2, 1))
        self.offsets = _head(nn.Conv2d(_WIDTH, 2, 1))

    def begin_at(self, sides: tuple[float, float]) -> None:
        """Let the fresh net say that every box has these sides, in pixels of the input."""
        last = cast(nn.Conv2d, self.sides[-1])
        nn.init.zeros_(last.weight)
        last.bias = nn.Parameter(torch.tensor([math.log(side / STRIDE) for side in sides]))

    def forward(self, pictures: Tensor) -> Maps:
        """Give the maps of bytes N x H x W x 3."""
        *finer, x = self.down(pictures)
        for join, fine in zip(self.up, reversed(finer[1:]), strict=True):
            x = join(x, fine)
        return Maps(self.heat(x), self.sides(x), self.offsets(x))


def _head(last: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1), nn.ReLU(True), last)


def decode(maps: Maps, count: int) -> Peaks:
    """Read the `count` strongest peaks: cells that no neighbour of their label exceeds, so that a box is found once.

    Peaks are told apart by logits, for scores of 1 are all alike.
    """
    heat, (rows, columns) = maps.heat, maps.heat.shape[2:]
    is_peak = heat >= functional.max_pool2d(heat, 3, 1, 1)
    logits, places = torch.topk(torch.where(is_peak, heat, NO_PEAK).flatten(1), count)
    labels = torch.div(places, rows * columns, rounding_mode="trunc")
    cells = places - labels * (rows * columns)
    down = torch.div(cells, columns, rounding_mode="trunc")
    corner = torch.stack([cells - down * columns, down], 1).float()
    wanted = cells[:, None].expand(-1, 2, -1)
    middle = corner + maps.offsets.flatten(2).gather(2, wanted)
    half = torch.exp(maps.sides.flatten(2).gather(2, wanted).clamp(max=_LONGEST)) / 2
    ends = torch.cat([middle - half, middle + half], 1) * STRIDE
    across, along = (ends[:, axis::2].clamp(0, STRIDE * side) for axis, side in ((0, columns), (1, rows)))
    return Peaks(logits, labels, torch.stack([across[:, 0], along[:, 0], across[:, 1], along[:, 1]], 2))


DETECTORS: Mapping[str, Architecture[LiteDetector]] = MappingProxyType(
    {
        "detect-lite0": Architecture(
            build=LiteDetector, learning_rate=3e-3,
            licence="Apache-2.0 (ImageNet weights of EfficientNet-Lite0); the pictures are their owner's",
        ),
    }
)  # fmt: skip
