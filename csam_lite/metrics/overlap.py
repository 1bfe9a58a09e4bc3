"""How good a mask is: Dice, surface distances in mm, volume, Dice by third of the organ."""

import math
import warnings
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from csam_lite.common.tables import finite_mean

UNIONS = ("whole gland", "all classes")  # rows of all classes together, not part of a mean over classes
PROSTATE, OTHER = ("apex", "mid", "base"), ("inferior", "mid", "superior")  # names of the thirds, inferior to superior


def measure(mask: np.ndarray, reference: np.ndarray, spacing: Sequence[float], classes: Collection[str],
            is_prostate: bool = False) -> list[dict]:
    """One row (dict) per class of one subject, and one for all classes together where there are several: Dice, 95th percentile Hausdorff
    and average symmetric surface distance in mm, volumes in ml, Dice by third of the stack.

    mask, reference: (S, H, W) of classes 0..K-1. spacing: (through-plane, row, column) in mm. Per subject, never pooled. A class that is
    in neither mask has no Dice (NaN). Distances are NaN where one mask is empty. The thirds divide the slices that hold the reference,
    inferior to superior: apex, mid and base of a prostate. Slices beyond its ends belong to the end thirds, so that a mask that runs
    too far counts there.
    """
    wanted = [(label, [k]) for k, label in enumerate(classes, 1)]
    if len(classes) > 1:
        wanted.append((UNIONS[0] if is_prostate else UNIONS[1], range(1, len(classes) + 1)))
    names = PROSTATE if is_prostate else OTHER
    return [{"class": label} | _measure_one(np.isin(mask, values), np.isin(reference, values), spacing, names)
            for label, values in wanted]


def measure_slices(mask: np.ndarray, reference: np.ndarray, classes: Iterable[str]) -> list[dict]:
    """Dice slice by slice: a row of class, position, dice for each slice that holds the class in the reference.

    position: 0 at the most inferior such slice, 1 at the most superior; 0.5 where there is only one.
    """
    rows = []
    for k, label in enumerate(classes, 1):
        held = np.flatnonzero((reference == k).any((1, 2)))
        for s in held:
            position = (s - held[0]) / (held[-1] - held[0]) if len(held) > 1 else 0.5
            rows.append({"class": label, "position": float(position), "dice": dice(mask[s] == k, reference[s] == k)})
    return rows


def _measure_one(p: np.ndarray, r: np.ndarray, spacing: Sequence[float], names: Sequence[str]) -> dict:
    voxel_ml = math.prod(spacing) / 1000
    hd95, assd = surface_distances(p, r, spacing)
    row = {"dice": dice(p, r), "hd95_mm": hd95, "assd_mm": assd, "volume_ml": p.sum() * voxel_ml, "reference_ml": r.sum() * voxel_ml}
    return row | {f"dice_{name}": dice(p[third], r[third]) for name, third in zip(names, thirds(r))}


def thirds(reference: np.ndarray) -> tuple[slice, slice, slice]:
    """The inferior, middle and superior third of the slices that hold the mask `reference` (S, H, W).

    Slices beyond the ends of the mask belong to the end thirds. Of an empty mask, the last third holds everything.
    """
    held = np.flatnonzero(reference.any((1, 2)))
    cuts = [0, 0, 0, len(reference)]
    if len(held):
        first, count = int(held[0]), int(held[-1] + 1 - held[0])
        cuts = [0, first + round(count / 3), first + round(2 * count / 3), len(reference)]
    return tuple(slice(start, stop) for start, stop in zip(cuts, cuts[1:]))


def dice(p: np.ndarray, r: np.ndarray) -> float:
    """2 |p and r| / (|p| + |r|) of two boolean arrays, NaN if both are empty."""
    total = int(p.sum()) + int(r.sum())
    return 2 * int((p & r).sum()) / total if total else math.nan


def surface_distances(p: np.ndarray, r: np.ndarray, spacing: Sequence[float]) -> tuple[float, float]:
    """(95th percentile Hausdorff distance, average symmetric surface distance) in mm of boolean (S, H, W), by MONAI; NaN if one is empty."""
    import torch
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

    if not p.any() or not r.any():
        return math.nan, math.nan
    box = tuple(slice(max(where.min() - 1, 0), where.max() + 2) for where in np.nonzero(p | r))
    pair = [torch.from_numpy(a[box])[None, None] for a in (p, r)]
    options = dict(include_background=True, spacing=list(spacing))
    with warnings.catch_warnings():  # MONAI 1.6 warns of a call that it makes itself
        warnings.filterwarnings("ignore", "monai.metrics.utils get_mask_edges", FutureWarning)
        hd95 = compute_hausdorff_distance(*pair, percentile=95, **options)
        assd = compute_average_surface_distance(*pair, symmetric=True, **options)
    return hd95.item(), assd.item()


def summarise(rows: list[dict]) -> list[dict]:
    """Mean over subjects by class: a row each of class, subjects, found, and the means of the finite values.

    `found` counts subjects with a mask where the reference has one: the distances are means over those alone.
    """
    summary = []
    for label in dict.fromkeys(row["class"] for row in rows):
        own = [row for row in rows if row["class"] == label]
        means = {column: finite_mean(row[column] for row in own) for column in own[0] if column not in ("case", "patient", "class", "seed")}
        real = [row for row in own if row["reference_ml"] > 0]
        summary.append({"class": label, "subjects": len(own), "found": f"{sum(row['volume_ml'] > 0 for row in real)}/{len(real)}"} | means)
    return summary


def mean_dice(rows: list[dict]) -> float:
    """Mean Dice over the classes (without their union) of the means over subjects: the one figure of a data set."""
    return finite_mean(line["dice"] for line in summarise(rows) if line["class"] not in UNIONS)
