"""Measure a trained network on labelled scans, subject by subject."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from csam_lite.common.errors import InputError
from csam_lite.common.progress import progress_bar
from csam_lite.data.dataset import find_dataset
from csam_lite.data.labels import to_values, zones
from csam_lite.data.scan import write_like
from csam_lite.inference.predict import class_probabilities
from csam_lite.metrics.calibration import calibration_error, organ_box, reliability
from csam_lite.metrics.overlap import measure

if TYPE_CHECKING:
    from csam_lite.data.dataset import Case
    from csam_lite.data.scan import Scan
    from csam_lite.training.run import Run


def evaluate(run: Run, data: str | Path | None = None, part: str = "test", one_zone: str | None = None,
             masks: str | Path | None = None, progress: bool = True) -> list[dict]:
    """Segment the cases of one part of the run's split, on each scan's own grid, and measure them: the rows of `measure` for every case.

    masks: a folder to write the masks to, CASE.nii.gz, on each scan's grid. The rest, and the errors, are `segmented`'s.
    """
    rows = []
    for case, scan, probabilities in segmented(run, data, part, one_zone, progress):
        if masks:
            write_like(scan, {Path(masks) / f"{case.name}.nii.gz": to_values(probabilities.argmax(1).astype(np.uint8), run.facts.labels)})
        rows += [{"case": case.name, "patient": case.patient} | row for row in measure_scan(run, scan, probabilities)[0]]
    return rows


def segmented(run: Run, data: str | Path | None = None, part: str = "test", one_zone: str | None = None,
              progress: bool = True) -> Iterator[tuple[Case, Scan, np.ndarray]]:
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
    with progress_bar(cases, desc="evaluating", unit="volume", disable=not progress) as bar:
        for case in bar:
            if (scan := dataset.read(case, one_zone or run.config.one_zone)) is not None:
                found = True
                yield case, scan, class_probabilities(run, scan)
    if not found:
        raise InputError(f"{dataset.root}: every case of the {part} part is left out by --one-zone drop; choose keep or remap")


def measure_scan(run: Run, scan: Scan, probabilities: np.ndarray) -> tuple[list[dict], list[np.ndarray]]:
    """(rows, tables) of a labelled scan: the rows of `measure`, each with "ece", how far the probability of that class is from its frequency,
    and the reliability tables behind it."""
    rows = measure(probabilities.argmax(1), scan.label, scan.spacing, run.facts.labels.values(), is_prostate=bool(zones(run.facts.labels)))
    tables = reliability_of_classes(probabilities, scan.label)
    return [row | {"ece": calibration_error(table)} for row, table in zip(rows, tables)], tables


def reliability_of_classes(probabilities: np.ndarray, label: np.ndarray) -> list[np.ndarray]:
    """Reliability tables (calibration.py) of probabilities (S, K, H, W) and label (S, H, W) inside the organ's box: of each class but
    background, and of all these together."""
    box = organ_box(probabilities.argmax(1), label)
    tables = [reliability(probabilities[:, k][box], label[box] == k) for k in range(1, probabilities.shape[1])]
    return [*tables, reliability(1 - probabilities[:, 0][box], label[box] > 0)]
