"""Measure a trained network on labelled scans, subject by subject."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from csam_lite.common.errors import InputError
from csam_lite.common.progress import progress_bar
from csam_lite.data.dataset import Case, Dataset, find_dataset
from csam_lite.data.labels import to_values, zones
from csam_lite.data.remarks import Remarks
from csam_lite.data.scan import Scan, write_like
from csam_lite.inference.predict import class_probabilities
from csam_lite.metrics.calibration import calibration_error, organ_box, reliability
from csam_lite.metrics.overlap import measure
from csam_lite.training.run import Run, check_data_is_there


def evaluate(
    run: Run,
    data: str | Path | None = None,
    part: str = "test",
    one_zone: str | None = None,
    masks: str | Path | None = None,
    progress: bool = True,
    empty: str | None = None,
) -> list[dict]:
    """Segment the cases of one part of the run's split, each on its scan's own grid: the rows of `measure` of
    every case, with its name, its patient and the calibration error.

    masks: a folder to write the masks to, CASE.nii.gz, on each scan's grid; InputError where scans or their
    own masks lie in it. The other parameters, and the other errors, are those of `segmented`.
    """
    rows = []
    for case, scan, probabilities in segmented(run, data, part, one_zone, progress, empty):
        if masks:
            _check_masks_folder(Path(masks), case)
            mask = to_values(probabilities.argmax(1).astype(np.uint8), run.facts.labels)
            write_like(scan, {Path(masks) / f"{case.name}.nii.gz": mask})
        measured, _ = measure_scan(run, scan, probabilities)
        rows += [{"case": case.name, "patient": case.patient} | row for row in measured]
    return rows


def _check_masks_folder(folder: Path, case: Case) -> None:
    """Raises InputError where files of the case lie in the folder for new masks, which could replace them."""
    taken = [file for file in case.files if file.parent.resolve() == folder.expanduser().resolve()]
    if taken:
        raise InputError(f"--masks {folder}: holds {taken[0].name} of the data set, and masks of the same "
                         "name would replace its files; choose another folder")


def segmented(
    run: Run,
    data: str | Path | None = None,
    part: str = "test",
    one_zone: str | None = None,
    progress: bool = True,
    empty: str | None = None,
) -> Iterator[tuple[Case, Scan, np.ndarray]]:
    """Yield (case, scan, class probabilities (S, K, H, W) on its own grid) for one part of the run's split.

    data: the folder, if it is not where it was in training. part: "test", "val", "train", or "all" for every
    labelled case of the folder (then it may be another data set with the same labels). one_zone, empty: as
    in Config, the run's own if not given. After the last case, remarks on the cases are written to standard
    error. Raises InputError for unusable data or an empty part.
    """
    if part != "all" and not run.facts.split[part]:
        raise InputError(
            f"{run.folder}: no patient is in its {part} part; use --part all, or train with --{part} above 0"
        )
    dataset = dataset_of(run, data)
    wanted = None if part == "all" else set(run.facts.split[part])
    cases = [case for case in dataset.cases if wanted is None or case.name in wanted]
    if not cases or (wanted and len(cases) < len(wanted)):
        raise InputError(
            f"{dataset.root}: holds {len(cases)} of the {len(wanted or ())} cases of the run's {part} part; "
            "give the folder of the training, or --part all"
        )
    one_zone, empty = one_zone or run.config.one_zone, empty or run.config.empty
    count, remarks = 0, Remarks()
    with progress_bar(cases, desc="evaluating", unit="volume", disable=not progress) as bar:
        for case in bar:
            if (scan := dataset.read(case, one_zone, empty, remarks)) is not None:
                count += 1
                yield case, scan, class_probabilities(run, scan)
    remarks.tell(dataset.root)
    if not count:
        raise InputError(f"{dataset.root}: every case of the {part} part is left out; "
                         "choose --one-zone keep or remap, or --empty keep")


def measure_scan(run: Run, scan: Scan, probabilities: np.ndarray) -> tuple[list[dict], list[np.ndarray]]:
    """(rows, tables) of a labelled scan and its class probabilities (S, K, H, W).

    The rows are those of `measure`, each with "ece", the calibration error of that class. The tables are
    those of `reliability_of_classes`, from which it comes.
    """
    labels = run.facts.labels
    mask = probabilities.argmax(1)
    rows = measure(mask, scan.label, scan.spacing, labels.values(), is_prostate=bool(zones(labels)))
    tables = reliability_of_classes(probabilities, scan.label)
    return [row | {"ece": calibration_error(table)} for row, table in zip(rows, tables)], tables


def reliability_of_classes(probabilities: np.ndarray, label: np.ndarray) -> list[np.ndarray]:
    """Reliability tables (calibration.py) of probabilities (S, K, H, W) and label (S, H, W) inside the
    organ's box: of each class but background, and of all these together.
    """
    box = organ_box(probabilities.argmax(1), label)
    classes = range(1, probabilities.shape[1])
    tables = [reliability(probabilities[:, k][box], label[box] == k) for k in classes]
    return [*tables, reliability(1 - probabilities[:, 0][box], label[box] > 0)]


def dataset_of(run: Run, data: str | Path | None) -> Dataset:
    """The labelled cases of `data`, or of the run's own folder, with the run's labels and channels.

    Raises InputError where there are none, or others.
    """
    if not data:
        check_data_is_there(run.config, run.folder)
    dataset, labels = find_dataset(data or run.config.data, labelled=True), run.facts.labels
    if not (dataset.root / "dataset.json").is_file() and list(dataset.labels) == list(labels):
        dataset = replace(dataset, labels=labels)  # a plain folder has no names for its classes
    if dataset.labels != labels:
        raise InputError(
            f"{dataset.root}: its labels {dataset.labels} are not those of the training {labels}; "
            "unify them first"
        )
    return _with_channels_of(run, dataset)


def _with_channels_of(run: Run, dataset: Dataset) -> Dataset:
    """The data set with the channels that the network reads, in its order.

    Raises InputError where one has to be chosen of several without names. Where the names differ, a line on
    standard error says what is read as what; another number of channels is left to `network_input`.
    """
    trained, found = tuple(run.facts.channels), dataset.channels
    if set(trained) <= set(found):
        is_named = run.config.channels or (dataset.root / "dataset.json").is_file()
        if len(found) > len(trained) and not is_named:
            raise InputError(f"{dataset.root}: its scans have {len(found)} channels without names, the "
                             f"network was trained on {len(trained)}; name them in dataset.json")
        return dataset.only_channels(trained)
    if len(trained) == len(found):
        print(f"{dataset.root}: its channels {', '.join(found)} are read as the network's, "
              f"{', '.join(trained)}", file=sys.stderr)
    return dataset
