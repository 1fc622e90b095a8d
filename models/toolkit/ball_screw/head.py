"""Train a small convolutional head on frozen cell features, supervised by masks and by the picture's label."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.toolkit.ball_screw.features import FeatureSet
from models.toolkit.pictures.prepared import MIRRORS
from models.toolkit.training.backbone import FEATURES

# A cell is a defect from this masked share on; cells with less, and neighbours of defects, teach nothing.
MIN_MASKED_SHARE = 0.05
# The share of the highest background cells that is learned from: nearly all others are easy.
HARD_NEGATIVES = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSettings:
    """How a head is made; `hidden` is its number of channels, `feature_dropout` a share of whole channels."""

    hidden: int = 32
    epochs: int = 20
    batch: int = 8
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    feature_dropout: float = 0.2


class CellHead(nn.Module):
    """Turn cell features (N x 152 x h x w) into one logit a cell (N x 1 x h x w)."""

    def __init__(self, *, hidden: int, mean: Tensor, deviation: Tensor, feature_dropout: float) -> None:
        super().__init__()
        self.register_buffer("mean", mean.reshape(1, -1, 1, 1))
        self.register_buffer("deviation", deviation.reshape(1, -1, 1, 1))
        self.feature_dropout = feature_dropout
        self.squeeze = nn.Conv2d(FEATURES, hidden, kernel_size=1)
        self.look = nn.Conv2d(hidden, hidden, kernel_size=3, padding=1)
        self.judge = nn.Conv2d(hidden, 1, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        """Return raw logits; zero has no special meaning before calibration."""
        gain, offset = 1 / self.deviation, -self.mean / self.deviation
        if self.training:
            # Whole channels are dropped by scaling gain and offset: one pass over the features, not two.
            kept = torch.rand(features.shape[0], FEATURES, 1, 1) >= self.feature_dropout
            scale = kept.float() / (1 - self.feature_dropout)
            gain, offset = gain * scale, offset * scale
        x = functional.relu(self.squeeze(torch.addcmul(offset, features, gain)))
        return self.judge(functional.relu(self.look(x)))

    def folded(self) -> nn.Sequential:
        """Return the same function for export, its standardisation merged into the first (1 x 1) convolution."""
        squeeze = nn.Conv2d(FEATURES, self.squeeze.out_channels, kernel_size=1)
        weight = self.squeeze.weight / self.deviation
        squeeze.weight = nn.Parameter(weight.detach().clone())
        squeeze.bias = nn.Parameter((self.squeeze.bias - (weight * self.mean).sum(dim=(1, 2, 3))).detach().clone())
        return nn.Sequential(squeeze, nn.ReLU(), self.look, nn.ReLU(), self.judge).eval()


def image_logit(cells: Tensor) -> Tensor:
    """Return the highest cell logit of each picture (N): a verdict then always has a region to show for it."""
    return cells.amax(dim=(1, 2, 3))


def feature_moments(features: npt.NDArray[np.float16], rows: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel over the unmirrored training pictures (every third of them)."""
    sample = torch.from_numpy(features[list(rows)[::3], 0].astype(np.float32))
    return sample.mean(dim=(0, 2, 3)), sample.std(dim=(0, 2, 3)) + 1e-3


def head_loss(cells: Tensor, share: Tensor) -> Tensor:
    """Return the training loss of a batch: defect cells, the hardest background cells, and the picture's verdict.

    `cells` are logits N x 1 x h x w, `share` is the masked share, N x h x w.
    """
    logits = cells[:, 0]
    peak = share.amax(dim=(1, 2), keepdim=True)
    # The cell with most of a pit counts even where the pit is smaller than the least share.
    positive = (share > 0) & ((share >= MIN_MASKED_SHARE) | (share >= peak))
    near = functional.max_pool2d((share > 0).float()[:, None], kernel_size=3, stride=1, padding=1)[:, 0] > 0
    background = logits[~near]
    hardest = background.topk(max(1, int(background.numel() * HARD_NEGATIVES))).values
    loss = functional.softplus(hardest).mean()
    if bool(positive.any()):
        loss = loss + functional.softplus(-logits[positive]).mean()
    label = (peak[:, 0, 0] > 0).float()
    return loss + functional.binary_cross_entropy_with_logits(image_logit(cells), label)


def draw_windows(data: FeatureSet, rows: npt.NDArray[np.int64], order: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Draw a random mirror image of each row and a window of half its width: half the work, and more variety."""
    width = data.features.shape[-1]
    window = width // 2
    features, share = [], []
    for row in rows:
        mirrored, left = order.integers(0, MIRRORS), order.integers(0, width - window + 1)
        features.append(data.features[row, mirrored, :, :, left : left + window])
        share.append(data.cells[row, mirrored, :, left : left + window])
    stacked = np.stack(features).astype(np.float32)
    return torch.from_numpy(stacked), torch.from_numpy(np.stack(share))


def train_head(data: FeatureSet, rows: Sequence[int], settings: HeadSettings, *, seed: int) -> CellHead:
    """Train a head on the given rows, one window of each in every epoch; the seed fixes the result."""
    torch.manual_seed(seed)
    order = np.random.default_rng(seed)
    mean, deviation = feature_moments(data.features, rows)
    head = CellHead(hidden=settings.hidden, mean=mean, deviation=deviation, feature_dropout=settings.feature_dropout)
    steps = settings.epochs * ((len(rows) + settings.batch - 1) // settings.batch)
    optimiser = torch.optim.AdamW(head.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=settings.learning_rate, total_steps=steps)
    head.train()
    for _ in range(settings.epochs):
        shuffled = order.permutation(np.asarray(rows))
        for start in range(0, len(shuffled), settings.batch):
            features, share = draw_windows(data, shuffled[start : start + settings.batch], order)
            loss = head_loss(head(features), share)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return head.eval()
