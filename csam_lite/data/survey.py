"""Look a whole data set over before anything is trained on it: every problem of every case, in one table."""

from collections import Counter

import numpy as np

from csam_lite.common.errors import InputError
from csam_lite.common.progress import progress_bar
from csam_lite.data.dataset import find_dataset


def survey(folder, one_zone="error", progress=True):
    """Read every case of a folder. Returns (facts, problems).

    facts: rows {fact, value} that describe the set. problems: rows {case, problem} as training would meet them.
    Raises InputError where the folder itself cannot be understood.
    """
    dataset = find_dataset(folder)
    problems, scans, dropped = [], [], 0
    for case in progress_bar(dataset.cases, desc="checking", unit="volume", disable=not progress, leave=False):
        try:
            scan = dataset.read(case, one_zone)
            if scan is None:
                dropped += 1
                continue
            scans.append((scan.image.shape, scan.spacing, set(scan.label[scan.label > 0].tolist()) if scan.label is not None else None,
                          case.label is None and _looks_like_a_mask(scan)))
        except InputError as error:
            problems.append({"case": case.name, "problem": str(error)})
    return _facts(dataset, scans, dropped), problems


def _facts(dataset, scans, dropped):
    labelled = [case for case in dataset.cases if case.label]
    facts = {
        "volumes": f"{len(dataset.cases)}, {len(labelled)} with masks",
        "patients": len({case.patient for case in dataset.cases}),
        "labels": ", ".join(f"{value} {name}" for value, name in dataset.labels.items()) or "none: can be segmented, not trained on",
    }
    if scans:
        shapes, spacings, present, masks = zip(*scans)
        facts |= {
            "channels": ", ".join(dataset.channels),
            "slices: volumes": ", ".join(f"{depth}: {count}" for depth, count in sorted(Counter(shape[0] for shape in shapes).items())),
            "in-plane size": f"{_range(shape[2] for shape in shapes)} x {_range(shape[3] for shape in shapes)} pixels",
            "through-plane spacing": f"{_range(spacing[0] for spacing in spacings)} mm",
            "in-plane spacing": f"{_range(mm for spacing in spacings for mm in spacing[1:])} mm",
            "anisotropy": f"{_range(spacing[0] / max(spacing[1:]) for spacing in spacings)} (through-plane : in-plane)",
        }
        for index, name in enumerate(dataset.classes, 1):
            if lacking := sum(index not in found for found in present if found is not None):
                facts[f"without {name}"] = f"{lacking} volumes (remark, no problem)"
        if any(masks):
            facts["remark"] = f"{sum(masks)} images hold few whole numbers only: masks by mistake?"
    if dropped:
        facts["left out by --one-zone drop"] = f"{dropped} volumes with one zone only"
    return [{"fact": fact, "value": value} for fact, value in facts.items()]


def _looks_like_a_mask(scan):
    values = np.unique(scan.image)
    return len(values) <= 10 and bool((values == values.astype(int)).all())


def _range(values):
    values = sorted(round(value, 2) for value in values)
    return f"{values[0]:g}" if values[0] == values[-1] else f"{values[0]:g}-{values[-1]:g}"
