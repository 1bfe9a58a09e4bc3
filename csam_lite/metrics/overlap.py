"""How good a mask is: Dice, surface distances in mm, volume, Dice by third of the organ."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence

import numpy as np

from csam_lite.common.tables import Row, finite_mean

UNIONS = ("whole gland", "all classes")  # rows of all classes together, not part of a mean over classes
PROSTATE, OTHER = ("apex", "mid", "base"), ("inferior", "mid", "superior")  # thirds, inferior to superior
NOT_MEASURED = ("case", "patient", "class", "seed")  # columns that say what was measured, not how well

Spacing = tuple[float, float, float]  # through-plane, row, column, in mm


def measure(
    mask: np.ndarray,
    reference: np.ndarray,
    spacing: Spacing,
    classes: Iterable[str],
    is_prostate: bool = False,
) -> list[dict]:
    """A row for each class of one subject, and one for all classes together where there are several.

    dice                   of the class; NaN where it is in neither mask
    hd95_mm, assd_mm       95th percentile of the Hausdorff distance and average symmetric surface distance in
                           mm; NaN where one mask is empty
    volume_ml, reference_ml   of the mask and of the reference
    dice_apex, dice_mid, dice_base   by third of the stack, see `thirds`; of organs other than the prostate
                           dice_inferior, dice_mid, dice_superior

    mask, reference: (S, H, W) of classes 0..K-1. spacing: through-plane, row, column in mm. classes: the
    names of 1..K-1. The values belong to this subject alone: nothing is pooled over subjects.
    """
    classes = list(classes)
    wanted = [(label, [k]) for k, label in enumerate(classes, 1)]
    if len(classes) > 1:
        wanted.append((UNIONS[0] if is_prostate else UNIONS[1], list(range(1, len(classes) + 1))))
    names = PROSTATE if is_prostate else OTHER
    return [
        {"class": label} | _measure_class(np.isin(mask, values), np.isin(reference, values), spacing, names)
        for label, values in wanted
    ]


def measure_slices(mask: np.ndarray, reference: np.ndarray, classes: Iterable[str]) -> list[dict]:
    """Dice slice by slice: a row of class, position, dice for each slice that holds the class in the
    reference.

    mask, reference: (S, H, W) of classes 0..K-1. position: 0 at the most inferior such slice, 1 at the most
    superior; 0.5 where there is only one.
    """
    rows = []
    for k, label in enumerate(classes, 1):
        held = np.flatnonzero((reference == k).any((1, 2)))
        for s in held:
            position = (s - held[0]) / (held[-1] - held[0]) if len(held) > 1 else 0.5
            score = dice(mask[s] == k, reference[s] == k)
            rows.append({"class": label, "position": float(position), "dice": score})
    return rows


def thirds(reference: np.ndarray) -> tuple[slice, slice, slice]:
    """Three slices of the axis S that divide a volume by the thirds of its organ, inferior to superior.

    reference: (S, H, W) bool. The slices that hold the organ are divided into three parts of equal length, up
    to rounding. The slices beyond its ends belong to the end thirds, so that a mask that runs too far counts
    there. Of an empty reference the first two are empty and the last is the whole volume.
    """
    held = np.flatnonzero(reference.any((1, 2)))
    cuts = [0, 0, 0, len(reference)]
    if len(held):
        first, count = int(held[0]), int(held[-1] + 1 - held[0])
        cuts[1:3] = first + round(count / 3), first + round(2 * count / 3)
    bottom, middle, top = (slice(start, end) for start, end in zip(cuts, cuts[1:]))
    return bottom, middle, top


def dice(p: np.ndarray, r: np.ndarray) -> float:
    """2 |p and r| / (|p| + |r|) of two boolean arrays or tensors of one shape, NaN if both are empty."""
    total = int(p.sum()) + int(r.sum())
    return 2 * int((p & r).sum()) / total if total else math.nan


def surface_distances(p: np.ndarray, r: np.ndarray, spacing: Spacing) -> tuple[float, float]:
    """(95th percentile of the Hausdorff distance, average symmetric surface distance) in mm, computed by
    MONAI.

    p, r: (S, H, W) bool. Both are NaN where one mask is empty.
    """
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


def summarise(rows: Sequence[Row]) -> list[dict]:
    """Mean over subjects by class: a row each of class, subjects, found, and the means of the finite values.

    `found` counts the subjects with a mask where the reference has one, because the distances are means over
    those alone.
    """
    summary = []
    for label in dict.fromkeys(row["class"] for row in rows):
        of_class = [row for row in rows if row["class"] == label]
        columns = [column for column in of_class[0] if column not in NOT_MEASURED]
        means = {column: finite_mean(row[column] for row in of_class) for column in columns}
        real = [row for row in of_class if row["reference_ml"] > 0]
        count = f"{sum(row['volume_ml'] > 0 for row in real)}/{len(real)}"
        summary.append({"class": label, "subjects": len(of_class), "found": count} | means)
    return summary


def mean_dice(rows: Sequence[Row]) -> float:
    """Mean Dice over the classes (without their union) of the means over subjects."""
    return finite_mean(line["dice"] for line in summarise(rows) if line["class"] not in UNIONS)


def _measure_class(p: np.ndarray, r: np.ndarray, spacing: Spacing, names: Sequence[str]) -> dict[str, float]:
    """The measurements of one class from its mask p and its reference r, (S, H, W) bool."""
    voxel_ml = math.prod(spacing) / 1000
    hd95, assd = surface_distances(p, r, spacing)
    row = {
        "dice": dice(p, r), "hd95_mm": hd95, "assd_mm": assd,
        "volume_ml": p.sum() * voxel_ml, "reference_ml": r.sum() * voxel_ml,
    }  # fmt: skip
    return row | {f"dice_{name}": dice(p[third], r[third]) for name, third in zip(names, thirds(r))}
