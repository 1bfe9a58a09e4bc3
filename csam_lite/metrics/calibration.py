"""Does a network know how sure it may be? Of all voxels with probability 0.8, eight of ten should be of the
class.
"""

from __future__ import annotations

import numpy as np

BINS = 10


def reliability(probability: np.ndarray, truth: np.ndarray, bins: int = BINS) -> np.ndarray:
    """The reliability diagram of one class (DeGroot and Fienberg 1983) as an array (bins, 3) float.

    The columns are the number of voxels, the sum of their probabilities and the sum of their truth.
    probability, truth: arrays of one shape, float in [0, 1] and bool. Bin i holds probabilities from i/bins
    to (i+1)/bins. Such arrays add up over classes, subjects and runs.
    """
    probability = probability.ravel()
    bin_of_voxel = np.minimum((probability * bins).astype(int), bins - 1)
    columns = (None, probability, truth.ravel())
    counts = [np.bincount(bin_of_voxel, weights=weights, minlength=bins) for weights in columns]
    return np.stack(counts, axis=1).astype(float)


def calibration_error(table: np.ndarray) -> float:
    """Expected calibration error (Naeini et al. 2015) of a reliability table (bins, 3); NaN for an empty one.

    It is the mean over voxels of |mean probability of the voxel's bin - mean truth of the bin|.
    """
    voxels, probability, truth = table.T
    return float(np.abs(probability - truth).sum() / voxels.sum()) if voxels.sum() else float("nan")


def organ_box(*masks: np.ndarray) -> tuple[slice, slice, slice]:
    """Slices (S, H, W) of the smallest box around all that is not 0 in the masks (S, H, W); the whole volume
    where all is 0.

    Calibration is counted inside this box, because the easy background far away would hide every error.
    """
    foreground = np.any([mask > 0 for mask in masks], axis=0)
    if not foreground.any():
        return slice(None), slice(None), slice(None)
    S, H, W = (slice(where.min(), where.max() + 1) for where in np.nonzero(foreground))
    return S, H, W
