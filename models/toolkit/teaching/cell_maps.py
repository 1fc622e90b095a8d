"""Pictures with masks as maps of frozen features, and what their cells may teach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import local

import cv2
import numpy as np
import numpy.typing as npt
import onnx

from bridge.inference.manifest import InputSpec
from models.toolkit.graphs.backbone import TAPS, load_backbone
from models.toolkit.graphs.quantize import quantize_backbone
from models.toolkit.graphs.session import open_model
from models.toolkit.pictures.folder import LabelledFolder, Sample, read_mask
from models.toolkit.pictures.prepared import IMAGE, MIRRORS, Preparer, choose_input, mirrored
from models.toolkit.progress import Progress
from models.toolkit.teaching.cell_graph import CELL_PX, MAP_TAPS
from models.toolkit.threads import each_in_threads

# A cell is a defect from this masked share on; cells with less, and neighbours of defects, teach nothing.
MIN_MASKED_SHARE = 0.05
SMALLEST_AREA_PX, LARGEST_AREA_PX = 102_400, 330_000
"""Below, the features see too little of anything; above, an INT8 graph takes more than about 30 ms on one thread."""
_SMALL_SHARE = 10  # percent of the defective pictures whose defect may be smaller than a cell
MEMORY_BYTES = 2_300_000_000
_BYTES_PX = 2 * (TAPS["early"] / CELL_PX**2 + TAPS["deep"] / (2 * CELL_PX) ** 2)
"""What the maps of all pictures may take, and what they take for each pixel of a view: 2.1 bytes."""
_GAMMA, _GAIN = 0.35, 0.35
Bool = npt.NDArray[np.bool_]
Half = npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureMaps:
    """One picture's views: `early` V x 40 x H/8 x W/8, `deep` V x 112 x H/16 x W/16, the masked share of cells V x H/8 x W/8."""

    early: Half
    deep: Half
    share: npt.NDArray[np.float32]

    def taps(self, view: int) -> dict[str, npt.NDArray[np.float32]]:
        """Give one view as inputs of the graphs behind the backbone."""
        return {"early": self.early[view][None].astype(np.float32), "deep": self.deep[view][None].astype(np.float32)}


def cell_input(folder: LabelledFolder) -> InputSpec:
    """Choose the input's size: nine of ten defective pictures have a defect of at least a cell.

    Within limits: what an INT8 graph does in about 30 ms, and what the maps of very many pictures take.
    """
    shares = [share for sample in folder.samples if sample.mask is not None and (share := _largest_defect(sample)) > 0]
    smallest = float(np.percentile(shares, _SMALL_SHARE)) if shares else 1.0
    affordable = min(MEMORY_BYTES / (_BYTES_PX * len(folder.samples)), LARGEST_AREA_PX)
    area = max(min(CELL_PX**2 / smallest, affordable), SMALLEST_AREA_PX)
    return choose_input(folder.samples, area_px=round(area))


def _largest_defect(sample: Sample) -> float:
    """Give the share of the picture that its largest connected defect covers."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(read_mask(sample), connectivity=8)
    return float(stats[1:, cv2.CC_STAT_AREA].max(initial=0)) / (sample.width * sample.height)


def map_backbone(samples: Sequence[Sample], spec: InputSpec, *, int8: bool, seed: int) -> onnx.ModelProto:
    """Give the backbone with both taps, in INT8 with ranges from some of these pictures, or in float32; raises DataError.

    The head is fitted on the features of the very backbone that ships: put behind an INT8 backbone, a head that was fitted
    on float32 features gave logits that were off by 4 in the mean (magnetic tiles), and thresholds that meant nothing.
    """
    whole = load_backbone(MAP_TAPS, width=spec.width, height=spec.height)
    if not int8:
        return whole
    return quantize_backbone(whole, samples, spec, seed=seed)


def read_maps(
    backbone: onnx.ModelProto,
    samples: Sequence[Sample],
    spec: InputSpec,
    *,
    good: str | None,
    seed: int,
    progress: Progress,
) -> list[PictureMaps]:
    """Compute the maps of every picture, its first view as it is, the others mirrored and otherwise exposed.

    As many of the four views are kept, in float16, as fit into `MEMORY_BYTES`. Raises DataError.
    """
    affordable = MEMORY_BYTES / (_BYTES_PX * spec.width * spec.height * len(samples))
    views = int(min(max(affordable, 1), MIRRORS))
    own = local()

    def one(sample: Sample) -> PictureMaps:
        if not hasattr(own, "session"):
            own.session, own.preparer = open_model(backbone), Preparer(spec)
        tensor = own.preparer.tensor(sample)
        share = own.preparer.cells(sample, stride=CELL_PX)
        if sample.label == good:
            share = np.zeros_like(share)
        draw = np.random.default_rng([seed, int(sample.sha256[:8], 16)])
        found = [own.session.run(list(MAP_TAPS), {IMAGE: _view(tensor, number, draw)}) for number in range(views)]
        return PictureMaps(
            early=np.concatenate([early for early, _ in found]).astype(np.float16),
            deep=np.concatenate([deep for _, deep in found]).astype(np.float16),
            share=np.stack([mirrored(share, number, rows=0, columns=1) for number in range(views)]).astype(np.float32),
        )

    return each_in_threads(one, samples, progress=progress)


def _view(tensor: npt.NDArray[np.uint8], number: int, draw: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Give a mirror image, each but the first with another gamma and gain: lamps age, and exposures differ."""
    if number == 0:
        return tensor
    gamma, gain = np.exp(draw.uniform(-_GAMMA, _GAMMA)), np.exp(draw.uniform(-_GAIN, _GAIN))
    curve = np.clip(255 * gain * (np.arange(256) / 255) ** gamma, 0, 255).astype(np.uint8)
    return np.asarray(curve[mirrored(tensor, number)], np.uint8)


def defect_cells(share: npt.NDArray[np.float32]) -> Bool:
    """Tell which cells (rows x columns) are a defect; the best-covered one counts where no share is large."""
    peak = share.max()
    return np.asarray((share > 0) & ((share >= MIN_MASKED_SHARE) | (share >= peak)), np.bool_)


def background_cells(share: npt.NDArray[np.float32]) -> Bool:
    """Tell which cells are neither a defect nor beside one."""
    touched = np.asarray(share > 0, np.uint8)
    return np.asarray(cv2.dilate(touched, np.ones((3, 3), np.uint8)) == 0, np.bool_)
