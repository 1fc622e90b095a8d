"""Compute the frozen backbone's features once for every picture and its mirror images, and keep them on disk."""

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import nn

from models.toolkit.ball_screw.data import Picture, load_mask_cells, load_rgb
from models.toolkit.pictures.prepared import MIRRORS, mirrored
from models.toolkit.training.backbone import CELL_PX, FEATURES


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSet:
    """Features (pictures x 4 x 152 x h x w, float16) and the masked share of each cell (pictures x 4 x h x w, float32)."""

    features: npt.NDArray[np.float16]
    cells: npt.NDArray[np.float32]


def cache_path(pictures: Sequence[Picture], *, width: int, height: int) -> Path:
    """Name the cache file after what went into it: file names and sizes, input size, taps."""
    parts = [f"{p.path.name}:{p.path.stat().st_size}" for p in pictures]
    key = hashlib.sha256("\n".join([*parts, f"{width}x{height}:{FEATURES}"]).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"linegate-features-{key}.npy"


def compute_features(pictures: Sequence[Picture], trunk: nn.Module, *, width: int, height: int) -> FeatureSet:
    """Return the features of all pictures, from the cache in the temporary folder where an earlier run left them."""
    grid_height, grid_width = height // CELL_PX, width // CELL_PX
    cells = np.zeros((len(pictures), MIRRORS, grid_height, grid_width), dtype=np.float32)
    for index, picture in enumerate(pictures):
        share = load_mask_cells(picture.mask, grid_width=grid_width, grid_height=grid_height)
        for number in range(MIRRORS):
            cells[index, number] = mirrored(share, number, rows=0, columns=1)
    path = cache_path(pictures, width=width, height=height)
    if not path.is_file():
        _fill_cache(path, pictures, trunk, width=width, height=height)
    features = np.load(path, mmap_mode="r")
    return FeatureSet(features=features, cells=cells)


def _fill_cache(path: Path, pictures: Sequence[Picture], trunk: nn.Module, *, width: int, height: int) -> None:
    """Write the feature file beside its final name and rename it, so that a killed run leaves no half cache.

    onnxruntime does the work, several times faster than torch on a CPU, and in the very arithmetic that ships.
    """
    shape = (len(pictures), MIRRORS, FEATURES, height // CELL_PX, width // CELL_PX)
    partial = path.with_suffix(".partial")
    store = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float16, shape=shape)
    session = _open_trunk(trunk, path.with_suffix(".onnx"), width=width, height=height)
    for index, picture in enumerate(pictures):
        rgb = load_rgb(picture.path, width=width, height=height)
        for number in range(MIRRORS):
            (features,) = session.run(None, {"image": mirrored(rgb, number, rows=0, columns=1)[None]})
            store[index, number] = features[0]
    store.flush()
    del store
    partial.rename(path)


def _open_trunk(trunk: nn.Module, path: Path, *, width: int, height: int) -> onnxruntime.InferenceSession:
    """Export the backbone alone and open it on all cores."""
    example = torch.zeros((1, height, width, 3), dtype=torch.uint8)
    with torch.inference_mode():
        torch.onnx.export(trunk, (example,), str(path), opset_version=17, dynamo=False, input_names=["image"])
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
