"""Find the stretch of picture where wear can be: the flank that the balls run on, a slanted band before a fixed camera.

Grease and chips in the grooves beside it look like pits to any detector, and a pit there would not be one. The band
is read off the masks of the training pictures alone, so that it can be checked on places kept out of training.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.toolkit.features import MIRRORS, mirror

MARGIN_CELLS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """The cells with low <= y + slope * x <= high; x to the right, y down, both in cells."""

    slope: float
    low: float
    high: float

    def cells(self, *, grid_width: int, grid_height: int) -> npt.NDArray[np.bool_]:
        """Return the band as grid_height x grid_width."""
        y, x = np.mgrid[0:grid_height, 0:grid_width]
        place = y + self.slope * x
        return np.asarray((place >= self.low) & (place <= self.high))

    def mirrored(self, *, grid_width: int, grid_height: int) -> npt.NDArray[np.bool_]:
        """Return the band in all mirror images: 4 x grid_height x grid_width."""
        cells = self.cells(grid_width=grid_width, grid_height=grid_height)
        return np.stack([mirror(cells, number) for number in range(MIRRORS)]).astype(np.bool_)


def fit_band(share: npt.NDArray[np.float32]) -> Band:
    """Fit a line through all masked cells (N x h x w) by least squares and widen it to hold them all, and two more."""
    _, y, x = np.nonzero(share > 0)
    slope = -float(np.polyfit(x, y, deg=1)[0])
    place = y + slope * x
    return Band(slope=slope, low=float(place.min()) - MARGIN_CELLS, high=float(place.max()) + MARGIN_CELLS)
