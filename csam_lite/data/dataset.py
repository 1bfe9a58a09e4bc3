"""A folder of scans: which cases it holds, whose they are, and how patients are split."""

import json
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from csam_lite.common.errors import InputError
from csam_lite.data.labels import to_classes, zones
from csam_lite.data.scan import number_of_slices, read_nifti, read_scan

_AGAIN = re.compile(r"([_-](frame|phase|ph|visit|session|ses|tp)[_-]?\d+|[_-](ed|es|t[12]w?|adc))+$", re.IGNORECASE)


@dataclass(frozen=True)
class Case:
    """One volume: its files and the patient it shows. `label` is None for an unlabelled one."""

    name: str
    patient: str
    image: Path
    label: Path | None


@dataclass(frozen=True)
class Dataset:
    """The cases of one folder. `labels` is {value in the masks: name} without background, `channels` the channels' names.

    `remapped` names the cases whose lone zone was corrected on disk (data_scripts/get_msd_prostate.py --one-zone remap): they are fine.
    """

    root: Path
    cases: tuple
    labels: dict
    channels: tuple
    remapped: frozenset = frozenset()
    stored_channels: tuple = ()  # of the files, where `only_channels` has chosen some of them

    @property
    def classes(self):
        """Names of the foreground classes 1..K-1, in the order of the network's outputs."""
        return tuple(self.labels.values())

    @property
    def zones(self):
        """(value of PZ, value of TZ), or None where the labels are not the two prostate zones."""
        return zones(self.labels)

    def depth(self, case):
        """Number of slices of a case."""
        return number_of_slices(case.image)

    def only_channels(self, names):
        """The same cases, of which only the channels with these names are read, in this order. Raises InputError for an unknown one."""
        if unknown := [name for name in names if name not in self.channels]:
            raise InputError(f"{self.root}: has no channel {', '.join(unknown)}; it has {', '.join(self.channels)}")
        return replace(self, channels=tuple(names), stored_channels=self.stored_channels or self.channels)

    def read(self, case, one_zone="error"):
        """Read a case as a Scan whose label holds the classes 0..K-1. See `read_scan` for the errors.

        one_zone: what to do with a prostate mask that lacks one of its two zones, as two cases of MSD Task05 do: "error" raises
        InputError, "remap" turns a lone PZ into TZ, "keep" takes it as it is, "drop" returns None.
        """
        scan = read_scan(case.image, case.label, self.labels)
        stored = self.stored_channels or self.channels
        if scan.image.shape[1] != len(stored):
            raise InputError(f"{case.image}: has {scan.image.shape[1]} channel(s), the set has {len(stored)} ({', '.join(stored)}); "
                             "correct the file, or modality in dataset.json")
        scan.image = scan.image[:, [stored.index(name) for name in self.channels]]
        if case.label is None:
            return scan
        present = set(np.unique(scan.label)) - {0}
        if not present:
            raise InputError(f"{case.label}: the mask is empty; draw it, or take the case out")
        if self.zones and len(present & set(self.zones)) == 1 and case.name not in self.remapped:
            (pz, tz), lone = self.zones, (present & set(self.zones)).pop()
            if one_zone == "drop":
                return None
            if one_zone == "remap" and lone == pz:
                scan.label[scan.label == pz] = tz
            elif one_zone != "keep":
                raise InputError(f"{case.label}: holds only {self.labels[lone]}, one of the two zones, likely mislabelled; choose --one-zone drop, "
                                 f"{'remap (it becomes ' + self.labels[tz] + ')' if lone == pz else 'correct the mask'}, or keep")
        scan.label = to_classes(scan.label, self.labels)
        return scan


def find_dataset(folder, labelled=False):
    """Read what a folder holds, no voxels yet.

    Understands the Decathlon layout (dataset.json, imagesTr/, labelsTr/), plain images/ + labels/ folders, and a folder of NIfTI
    files without masks. With `labelled` (to train or evaluate), cases without a mask are left out, and a listed file that is missing is
    an error; otherwise reading its case will tell. Raises InputError for a folder without scans, or without what was asked for.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; check the name, or make a phantom set: python -m csam_lite phantom {root}")
    dataset = _decathlon(root) if (root / "dataset.json").is_file() else _plain(root)
    if repeated := [name for name, count in Counter(case.name for case in dataset.cases).items() if count > 1]:
        raise InputError(f"{root}: several images are named {repeated[0]}; give each volume a name of its own, its label the same")
    if not dataset.cases:
        raise InputError(f"{root}: holds no scans; expected dataset.json (Decathlon), images/ and labels/ with .nii.gz files, or .nii.gz files")
    if labelled:
        cases = tuple(case for case in dataset.cases if case.label)
        if not cases:
            raise InputError(f"{root}: holds {len(dataset.cases)} images but no masks; put them in labels/ under the images' names")
        for file in (file for case in cases for file in (case.image, case.label)):
            if not file.is_file():
                raise InputError(f"{file}: is listed or has a partner, but is missing; copy it there, or take its case out")
        dataset = replace(dataset, cases=cases)
    return dataset


def split(cases, seed, test=0.2, val=0.1, folds=None, fold=0):
    """Split cases into (train, val, test) lists by patient: no patient is in two of them.

    test, val: a fraction of all patients, or their number if 1 or more (0 for none). With `folds`, test is fold number `fold`
    (0-based) of that many instead: every patient is tested once. The same seed gives the same split.
    Raises InputError where too few patients are left to train on.
    """
    patients = sorted({case.patient for case in cases})
    order = [patients[i] for i in np.random.default_rng(seed).permutation(len(patients))]

    def number(part):
        return int(part) if part >= 1 or part == 0 else max(1, round(part * len(patients)))

    if folds:
        if not 0 <= fold < folds <= len(patients):
            raise InputError(f"fold {fold} of {folds} of {len(patients)} patients does not exist; folds are numbered from 0, at most one a patient")
        tested = order[fold::folds]
    else:
        tested = order[:number(test)]
    rest = [patient for patient in order if patient not in tested]
    parts = rest[number(val):], rest[:number(val)], tested
    if not parts[0]:
        raise InputError(f"{len(patients)} patients ({', '.join(patients[:3])} ...) are too few for {len(tested)} to test and {number(val)} to "
                         'validate; lower --test or --val, or name the patients ("patient" in each entry of dataset.json)')
    return tuple([case for case in cases if case.patient in part] for part in parts)


def patient_of(name):
    """The patient in a file name: what stands before last parts such as _frame01, _ph08, _ED, _visit2, _T2w."""
    return _AGAIN.sub("", name) or name


def _decathlon(root):
    path = root / "dataset.json"
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        labels = _numbered(info.get("labels", {}))
        if not all(0 <= value <= 255 for value in labels):
            raise ValueError("labels must be 0 to 255")
        channels = _numbered(info.get("modality") or info.get("channel_names") or {"0": "image"})
        entries = [(entry["image"], entry["label"], entry.get("patient")) for entry in info.get("training", [])]
        entries += [(entry["image"] if isinstance(entry, dict) else entry, None, None) for entry in info.get("test", [])]
        cases = tuple(_case(root / image, label and root / label, patient) for image, label, patient in entries)
        one_zone = info.get("one_zone", {})
        remapped = frozenset(one_zone["cases"] if one_zone.get("choice") == "remap" else ())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: is not a Decathlon description ({type(error).__name__}: {error}); compare it with one that "
                         "`python -m csam_lite phantom DIR` writes") from error
    if cases and not any(case.label and case.label.is_file() for case in cases) and any(case.label for case in cases):
        raise InputError(f"{root}: dataset.json names masks but labelsTr/ has none of them; copy the masks there")
    return Dataset(root, cases, {value: name for value, name in labels.items() if value != 0}, tuple(channels.values()), remapped)


def _plain(root):
    images = next((root / name for name in ("images", "imagesTr") if (root / name).is_dir()), root)
    masks = next((root / name for name in ("labels", "labelsTr") if (root / name).is_dir()), None)
    label_of = {} if masks is None else {_stem(path): path for path in _nifti(masks)}
    cases = [_case(path, label_of.pop(_stem(path), None)) for path in _nifti(images)]
    cases += [_case(images / path.name, path) for path in label_of.values()]  # masks whose image is missing
    values = sorted({int(value) for case in cases if case.label for value in _values(case.label)} - {0})
    shapes = [shape for case in cases[:1] if (shape := _shape(case.image))]
    channels = shapes[0][-1] if shapes and len(shapes[0]) > 3 else 1
    return Dataset(root, tuple(cases), {value: f"class {value}" for value in values}, tuple(f"channel {c}" for c in range(channels)))


def _values(path):
    """The whole values 0 to 255 in a mask; none where it cannot be read, which `Dataset.read` will say."""
    try:
        return [value for value in np.unique(read_nifti(path)[1]) if value in range(256)]
    except InputError:
        return []


def _shape(path):
    """The shape of an image; None where it cannot be read."""
    try:
        return read_nifti(path)[1].shape
    except InputError:
        return None


def _case(image, label, patient=None):
    return Case(_stem(image), patient or patient_of(_stem(image)), image, label)


def _numbered(mapping):
    """{"0": "background"} (Decathlon) or {"background": 0} (nnU-Net) -> {0: "background"}, in order of the numbers."""
    pairs = [(int(key), value) if str(key).isdigit() else (int(value), key) for key, value in mapping.items()]
    return dict(sorted(pairs))


def _stem(path):
    return path.name.removesuffix(".gz").removesuffix(".nii")


def _nifti(folder):
    return sorted(path for pattern in ("*.nii", "*.nii.gz") for path in folder.glob(pattern) if not path.name.startswith("."))
