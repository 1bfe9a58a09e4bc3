"""How good a mask is: Dice, surface distances in mm, volume, Dice by third of the organ, calibration, subject by subject."""

import csv
import math
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from csam_lite.calibration import calibration_error, organ_box, reliability
from csam_lite.dataset import find_dataset, zones
from csam_lite.errors import InputError
from csam_lite.files import whole_file
from csam_lite.predict import class_probabilities, label_values
from csam_lite.scan import write_like

UNIONS = ("whole gland", "all classes")  # rows of all classes together, not part of a mean over classes
PROSTATE, OTHER = ("apex", "mid", "base"), ("inferior", "mid", "superior")  # names of the thirds, inferior to superior

# MONAI 1.6 warns of a call that it makes itself.
warnings.filterwarnings("ignore", "monai.metrics.utils get_mask_edges", FutureWarning)


def evaluate(run, data=None, part="test", one_zone=None, masks=None, progress=True):
    """Segment the cases of one part of the run's split, on each scan's own grid, and measure them: the rows of `measure` for every case.

    masks: a folder to write the masks to, CASE.nii.gz, on each scan's grid. The rest, and the errors, are `segmented`'s.
    """
    rows = []
    for case, scan, probabilities in segmented(run, data, part, one_zone, progress):
        if masks:
            write_like(scan, {Path(masks) / f"{case.name}.nii.gz": label_values(run, probabilities.argmax(1).astype(np.uint8))})
        rows += [{"case": case.name, "patient": case.patient} | row for row in measure_scan(run, scan, probabilities)[0]]
    return rows


def segmented(run, data=None, part="test", one_zone=None, progress=True):
    """Yield (case, scan, class probabilities (S, K, H, W) on its own grid) for the cases of one part of the run's split.

    data: the folder, if it is not where it was in training. part: "test", "val", "train", or "all" for every labelled case of the
    folder (then it may be another data set with the same labels). Raises InputError for unusable data or an empty part.
    """
    if part != "all" and not run.facts.split[part]:
        raise InputError(f"{run.folder}: no patient is in its {part} part; use --part all, or train with --{part} above 0")
    dataset = find_dataset(data or run.config.data, labelled=True)
    if not (dataset.root / "dataset.json").is_file() and list(dataset.labels) == list(run.facts.labels):
        dataset = replace(dataset, labels=run.facts.labels)  # a plain folder has no names of its own
    if dataset.labels != run.facts.labels:
        raise InputError(f"{dataset.root}: its labels {dataset.labels} are not those of the training {run.facts.labels}; unify them first")
    if dataset.channels != tuple(run.facts.channels) and set(run.facts.channels) < set(dataset.channels):
        dataset = dataset.only_channels(run.facts.channels)
    chosen = None if part == "all" else set(run.facts.split[part])
    cases = [case for case in dataset.cases if chosen is None or case.name in chosen]
    if not cases or (chosen and len(cases) < len(chosen)):
        raise InputError(f"{dataset.root}: holds {len(cases)} of the {len(chosen or ())} cases of the run's {part} part; "
                         "give the folder of the training, or --part all")
    found = False
    with tqdm(cases, desc="evaluating", unit="volume", disable=not progress) as bar:
        for case in bar:
            if (scan := dataset.read(case, one_zone or run.config.one_zone)) is not None:
                found = True
                yield case, scan, class_probabilities(run, scan)
    if not found:
        raise InputError(f"{dataset.root}: every case of the {part} part is left out by --one-zone drop; choose keep or remap")


def measure_scan(run, scan, probabilities):
    """(rows, tables) of a labelled scan: the rows of `measure`, each with "ece", how far the probability of that class is from its frequency,
    and the reliability tables behind it."""
    rows = measure(probabilities.argmax(1), scan.label, scan.spacing, run.facts.labels.values(), is_prostate=bool(zones(run.facts.labels)))
    tables = reliability_of_classes(probabilities, scan.label)
    return [row | {"ece": calibration_error(table)} for row, table in zip(rows, tables)], tables


def reliability_of_classes(probabilities, label):
    """Reliability tables (calibration.py) of probabilities (S, K, H, W) and label (S, H, W) inside the organ's box: of each class but
    background, and of all these together."""
    box = organ_box(probabilities.argmax(1), label)
    tables = [reliability(probabilities[:, k][box], label[box] == k) for k in range(1, probabilities.shape[1])]
    return [*tables, reliability(1 - probabilities[:, 0][box], label[box] > 0)]


def measure_slices(mask, reference, classes):
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


def measure(mask, reference, spacing, classes, is_prostate=False):
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
    thirds = PROSTATE if is_prostate else OTHER
    return [{"class": label} | _measure_one(np.isin(mask, values), np.isin(reference, values), spacing, thirds) for label, values in wanted]


def _measure_one(p, r, spacing, thirds):
    voxel_ml = math.prod(spacing) / 1000
    hd95, assd = surface_distances(p, r, spacing)
    row = {"dice": dice(p, r), "hd95_mm": hd95, "assd_mm": assd, "volume_ml": p.sum() * voxel_ml, "reference_ml": r.sum() * voxel_ml}
    slices = np.flatnonzero(r.any((1, 2)))
    cuts = [0, 0, 0, len(r)]
    if len(slices):
        first, count = slices[0], slices[-1] + 1 - slices[0]
        cuts = [0, first + round(count / 3), first + round(2 * count / 3), len(r)]
    for third, start, end in zip(thirds, cuts, cuts[1:]):
        row[f"dice_{third}"] = dice(p[start:end], r[start:end])
    return row


def dice(p, r):
    """2 |p and r| / (|p| + |r|) of two boolean arrays, NaN if both are empty."""
    total = int(p.sum()) + int(r.sum())
    return 2 * int((p & r).sum()) / total if total else math.nan


def surface_distances(p, r, spacing):
    """(95th percentile Hausdorff distance, average symmetric surface distance) in mm of boolean (S, H, W), by MONAI; NaN if one is empty."""
    import torch
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

    if not p.any() or not r.any():
        return math.nan, math.nan
    box = tuple(slice(max(where.min() - 1, 0), where.max() + 2) for where in np.nonzero(p | r))
    pair = [torch.from_numpy(a[box])[None, None] for a in (p, r)]
    hd95 = compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=list(spacing))
    assd = compute_average_surface_distance(*pair, include_background=True, symmetric=True, spacing=list(spacing))
    return hd95.item(), assd.item()


def summarise(rows):
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


def mean_dice(rows):
    """Mean Dice over the classes (without their union) of the means over subjects: the one figure of a data set."""
    return finite_mean(line["dice"] for line in summarise(rows) if line["class"] not in UNIONS)


def finite_mean(values):
    """Mean of the values that are finite; NaN where there are none (numpy's nanmean would warn)."""
    finite = [value for value in values if math.isfinite(value)]
    return float(np.mean(finite)) if finite else math.nan


def write_rows(rows, path):
    """Write rows as CSV, whole or not at all."""
    with whole_file(Path(path)) as part, open(part, "w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows({key: f"{value:.4f}" if isinstance(value, float) else value for key, value in row.items()} for row in rows)
