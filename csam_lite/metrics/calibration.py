"""Does a network know how sure it may be? Of all voxels given 0.8 for a class, eight of ten should be of that class."""

import numpy as np

BINS = 10


def reliability(probability: np.ndarray, truth: np.ndarray, bins: int = BINS) -> np.ndarray:
    """The reliability diagram of one class (DeGroot and Fienberg 1983) as an array (bins, 3): voxels, sum of probability, sum of truth.

    probability, truth: arrays of the same shape, float in [0, 1] and bool. Bin i holds probabilities from i/bins to (i+1)/bins.
    Such arrays add up over classes, subjects and runs.
    """
    at = np.minimum((probability.ravel() * bins).astype(int), bins - 1)
    columns = (None, probability.ravel(), truth.ravel())
    return np.stack([np.bincount(at, weights=weights, minlength=bins) for weights in columns], axis=1).astype(float)


def calibration_error(table: np.ndarray) -> float:
    """Expected calibration error (Naeini et al. 2015) of a reliability table: mean over voxels of |bin's probability - bin's truth|."""
    voxels, probability, truth = table.T
    return float(np.abs(probability - truth).sum() / voxels.sum()) if voxels.sum() else float("nan")


def organ_box(*masks: np.ndarray) -> tuple[slice, slice, slice]:
    """Slices (S, H, W) of the smallest box around all that is not 0 in the masks; the whole volume where all is 0.

    Calibration is counted inside it: the easy background far away would hide every error.
    """
    found = np.any([mask > 0 for mask in masks], axis=0)
    if not found.any():
        return (slice(None),) * 3
    return tuple(slice(where.min(), where.max() + 1) for where in np.nonzero(found))
