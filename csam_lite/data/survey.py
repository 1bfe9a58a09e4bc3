"""Check a whole data set before anything is trained on it: every problem of every case, in one table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from csam_lite.common.errors import InputError
from csam_lite.common.progress import progress_bar
from csam_lite.data.dataset import Dataset, find_dataset, perhaps_one_patient
from csam_lite.data.nifti import stem_of, volumes_in
from csam_lite.data.remarks import LISTED, Remarks, some
from csam_lite.data.scan import Scan

UNUSUAL = 4  # times the median spacing: a voxel so long, or so short, deserves a remark


@dataclass(frozen=True)
class _Seen:
    """What is kept of a scan: its name, shape (S, C, H, W), spacing, voxels of each class (None without
    mask), and more."""

    name: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    voxels: np.ndarray | None
    plane: str
    looks_like_a_mask: bool


def survey(folder: str | Path, one_zone: str = "error", progress: bool = True,
           empty: str = "error") -> tuple[list[dict[str, object]], list[dict[str, str]]]:
    """Read every case of a folder. Returns (facts, problems).

    facts: rows {fact, value} that describe the set. problems: rows {case, problem} as training would meet
    them. Images without masks that are listed in a set with masks and are not there, such as test images that
    were not unpacked, are a fact and no problem. Raises InputError where the folder itself cannot be
    understood.
    """
    dataset, absent = _without_absent(find_dataset(folder))
    problems = [{"case": "all", "problem": doubt} for doubt in dataset.doubts]
    seen, remarks = [], Remarks()
    for case in progress_bar(
        dataset.cases, desc="checking", unit="volume", disable=not progress, leave=False
    ):
        try:
            if (scan := dataset.read(case, one_zone, empty, remarks)) is not None:
                seen.append(_seen(case.name, scan, len(dataset.labels) + 1))
        except InputError as error:
            problems.append({"case": case.name, "problem": str(error)})
    facts = _description(dataset, seen, remarks)
    if absent:
        value = f"{len(absent)} images without masks are not there: {some(absent)} (remark, no problem)"
        facts.append({"fact": "remark on images not there", "value": value})
    return facts, problems


def _without_absent(dataset: Dataset) -> tuple[Dataset, list[str]]:
    """The data set without the cases that have neither a mask nor an image file, and the names of those. All
    cases stay where none has a mask."""
    absent = {case.name for case in dataset.cases if not case.label and not case.image.exists()}
    if not any(case.label for case in dataset.cases):
        absent = set()
    cases = tuple(case for case in dataset.cases if case.name not in absent)
    return replace(dataset, cases=cases), sorted(absent)


def _seen(name: str, scan: Scan, classes: int) -> _Seen:
    voxels = None if scan.label is None else np.bincount(scan.label.ravel(), minlength=classes)
    return _Seen(
        name,
        scan.image.shape,
        scan.spacing,
        voxels,
        scan.plane,
        _looks_like_a_mask(scan),
    )


def _description(dataset: Dataset, seen: Sequence[_Seen], remarks: Remarks) -> list[dict[str, object]]:
    """The rows {fact, value}."""
    labelled = [case for case in dataset.cases if case.label]
    volumes = Counter(case.patient for case in dataset.cases)
    several = [f"{patient} ({count})" for patient, count in sorted(volumes.items()) if count > 1]
    rows = {
        "volumes": f"{len(dataset.cases)}, {len(labelled)} with masks",
        "patients": f"{len(volumes)}, with several volumes: {some(several)}" if several else len(volumes),
        "labels": some([f"{value} {name}" for value, name in dataset.labels.items()])
        or "none: can be segmented, not trained on",
    }
    if groups := perhaps_one_patient(volumes):
        rows["remark on patients"] = (
            f"may be one patient each: {some([' and '.join(names[:3]) for names in groups])}; "
            'if so, name the patients ("patient" in each entry of dataset.json)'
        )
    if seen:
        rows |= _geometry(dataset, seen) | _labels(dataset, seen)
    shared = Counter(case.label for case in labelled)
    if several_cases := [path.name for path, count in shared.items() if count > 1]:
        rows["remark on masks"] = (
            f"of several cases: {some(several_cases)}; if that is a mistake, correct dataset.json"
        )
    names = {case.name for case in dataset.cases}
    if others := [f"{case.name} ({case.label.name})" for case in labelled
                  if case.name != stem_of(case.label) in names]:
        rows["remark on names"] = (
            f"the mask is named as another image: {some(others)}; if that is a mistake, correct dataset.json"
        )
    if unlisted := _unlisted(dataset):
        rows["remark on files"] = f"beside the listed images lie others, which are left out: {some(unlisted)}"
    if masks := sum(scan.looks_like_a_mask for scan in seen):
        rows["remark on images"] = f"{masks} images hold few whole numbers only: masks by mistake?"
    for number, line in enumerate(remarks.lines(listed=None), 1):
        rows[f"remark on cases {number}"] = line
    return [{"fact": fact, "value": value} for fact, value in rows.items()]


def _geometry(dataset: Dataset, seen: Sequence[_Seen]) -> dict[str, str]:
    depths, planes = (Counter(values) for values in zip(*((scan.shape[0], scan.plane) for scan in seen)))
    rows = {
        "channels": ", ".join(dataset.channels),
        "slices (volumes)": ", ".join(f"{depth} ({count})" for depth, count in sorted(depths.items())),
        "planes": ", ".join(f"{plane} {count}" for plane, count in planes.most_common()),
        "in-plane size": " x ".join(_range(scan.shape[axis] for scan in seen) for axis in (2, 3)) + " pixels",
        "through-plane spacing": f"{_range(scan.spacing[0] for scan in seen)} mm",
        "in-plane spacing": f"{_range(mm for scan in seen for mm in scan.spacing[1:])} mm",
        "anisotropy": f"{_range(scan.spacing[0] / max(scan.spacing[1:]) for scan in seen)} (through-plane : "
                      "in-plane)",
    }
    lengths = np.array([scan.spacing for scan in seen])
    times = lengths / np.median(lengths, axis=0)
    if far := [scan.name for scan, t in zip(seen, times) if t.max() > UNUSUAL or t.min() < 1 / UNUSUAL]:
        rows["remark on spacing"] = (
            f"more than {UNUSUAL} times as coarse or as fine as usual: {some(far)}; is a unit wrong?"
        )
    if len(planes) > 1:
        rows["remark on planes"] = (
            "slices of different planes look different; train on one plane, or know why not"
        )
    return rows


def _unlisted(dataset: Dataset) -> list[str]:
    """The names of volumes in the folders of the images that belong to no case."""
    files = {file.resolve() for case in dataset.cases for file in case.files}
    unlisted = []
    for folder in sorted({case.image.parent for case in dataset.cases}):
        with suppress(InputError, OSError):  # what is wrong with the folder is told of its cases
            unlisted += [path.name for path in volumes_in(folder) if path.resolve() not in files]
    return unlisted


def _labels(dataset: Dataset, seen: Sequence[_Seen]) -> dict[str, str]:
    """Of each label: in how many volumes it stands, and on how many voxels."""
    voxels = np.array([scan.voxels for scan in seen if scan.voxels is not None])  # (volumes, classes)
    if not len(voxels):
        return {}
    rows = {}
    for index, (value, name) in enumerate(dataset.labels.items(), 1):
        holding, total = int((voxels[:, index] > 0).sum()), int(voxels[:, index].sum())
        if index <= LISTED:
            doubt = " (remark: by mistake?)" if holding == 1 < len(voxels) - 1 or total < 10 else ""
            rows[f"label {value} {name}"] = f"{holding} volumes, {total} voxels{doubt}"
        if holding < len(voxels) and index <= LISTED:
            rows[f"without {name}"] = f"{len(voxels) - holding} volumes (remark, no problem)"
    if len(dataset.labels) > LISTED:
        rows["other labels"] = f"{len(dataset.labels) - LISTED} more values"
    return rows


def _looks_like_a_mask(scan: Scan) -> bool:
    values = np.unique(scan.image)
    return len(values) <= 10 and bool((values == np.rint(values)).all())


def _range(values: Iterable[float]) -> str:
    ordered = sorted(round(value, 2) for value in values)
    return f"{ordered[0]:g}" if ordered[0] == ordered[-1] else f"{ordered[0]:g}-{ordered[-1]:g}"
