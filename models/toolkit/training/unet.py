"""Nets that give a map of each defect: bytes of a picture in, a logit for each label and pixel out.

U-Net: Ronneberger, Fischer, Brox 2015, with padded convolutions, so that the map is as large as the picture, and batch
normalisation (Ioffe, Szegedy 2015). `unet-lite0` has EfficientNet-Lite0 with its ImageNet weights as its way down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from models.toolkit.training.way_down import DEVIATION, MEAN, Architecture, LiteDown, Twice, Up, rare_head

_WIDTHS = (16, 32, 64, 128)


class UNet(nn.Module):
    """Four resolutions, 16 to 128 channels, from random weights; sides of the picture are multiples of 8."""

    def __init__(self, labels: int, widths: Sequence[int] = _WIDTHS) -> None:
        super().__init__()
        self.down = nn.ModuleList(Twice(a, b) for a, b in zip((3, *widths), widths, strict=False))
        self.up = nn.ModuleList(Up(b, a, a) for a, b in pairwise(widths))
        self.head = rare_head(widths[0], labels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module is not self.head:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, pictures: Tensor) -> Tensor:
        """Give N x labels x H x W logits for bytes N x H x W x 3."""
        x = (pictures.permute(0, 3, 1, 2).float() - MEAN) / DEVIATION
        maps: list[Tensor] = []
        for level, convolve in enumerate(self.down):
            x = convolve(functional.max_pool2d(x, 2) if level else x)
            maps.append(x)
        for join, fine in zip(reversed(self.up), reversed(maps[:-1]), strict=True):
            x = join(x, fine)
        return cast(Tensor, self.head(x))


class LiteUNet(nn.Module):
    """EfficientNet-Lite0 down to 1/16, joined up again to 1/2 of the side; sides of the picture are multiples of 16.

    The logits are then doubled to full size in a bilinear way.
    """

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.down = LiteDown()
        self.up = nn.ModuleList([Up(112, 40, 64), Up(64, 24, 32), Up(32, 16, 16)])
        self.head = rare_head(16, labels)

    def forward(self, pictures: Tensor) -> Tensor:
        """Give N x labels x H x W logits for bytes N x H x W x 3."""
        *finer, x = self.down(pictures)
        for join, fine in zip(self.up, reversed(finer), strict=True):
            x = join(x, fine)
        return functional.interpolate(self.head(x), scale_factor=2.0, mode="bilinear", align_corners=False)


SEGMENTERS: Mapping[str, Architecture[nn.Module]] = MappingProxyType(
    {
        "unet": Architecture(build=UNet, learning_rate=3e-3, licence="the pictures are their owner's"),
        "unet-lite0": Architecture(
            build=LiteUNet, learning_rate=3e-3,
            licence="Apache-2.0 (ImageNet weights of EfficientNet-Lite0); the pictures are their owner's",
        ),
    }
)  # fmt: skip
