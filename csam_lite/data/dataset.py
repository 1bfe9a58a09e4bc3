"""A folder of scans: which cases it holds, whose they are, and how patients are split."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from csam_lite.common.errors import InputError
from csam_lite.data.labels import to_classes, zones
from csam_lite.data.nifti import read_nifti, stem_of, suffix_of, volumes_in
from csam_lite.data.remarks import Remarks
from csam_lite.data.scan import Scan, mask_values, number_of_slices, read_scan

MOST_LABELS = (
    20  # different values in the masks of a folder without names for them: more look like grey values
)
DONE = {"drop": "left out", "keep": "kept", "remap": "remapped"}
FEWEST_VOXELS = 10  # of a value in all masks of such a folder: fewer look like a slip of the pen
_AGAIN = re.compile(
    r"([_-](frame|phase|ph|visit|session|ses|tp|timepoint|time|run|acq)[_-]?\d+"
    r"|[_-](ses|run|acq|dir|echo|rec)-[a-z0-9]+|[_-](pre|post|baseline|bl|followup|follow-up|fu)\d*"
    r"|[_-](ed|es|t[12]w?|adc|dwi|flair))+$", re.IGNORECASE)
_BIDS = re.compile(r"(sub-[a-z0-9]+)([_-]|$)", re.IGNORECASE)
_PATIENT_AND_STUDY = re.compile(r"(\d{5,})_\d{5,}$")  # as in PI-CAI
_CHANNEL = re.compile(r"(.+)_(\d{4})$")  # as nnU-Net names the channels of a case


@dataclass(frozen=True)
class Case:
    """One volume: its files and the patient it shows. `label` is None for an unlabelled one.

    channel_files: further channels, where each channel has a file of its own (nnU-Net); `image` is the first.
    """

    name: str
    patient: str
    image: Path
    label: Path | None
    channel_files: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the case."""
        return (self.image, *self.channel_files, *([self.label] if self.label else []))


@dataclass(frozen=True)
class Dataset:
    """The cases of one folder.

    labels: {value in the masks: name} without background. channels: their names. remapped: the cases whose
    lone zone was corrected on disk (data_scripts/get_msd_prostate.py --one-zone remap), which are fine.
    stored_channels: of the files, where `only_channels` has chosen some of them. doubts: why the masks of a
    folder that names no labels may be none.
    """

    root: Path
    cases: tuple[Case, ...]
    labels: dict[int, str]
    channels: tuple[str, ...]
    remapped: frozenset[str] = frozenset()
    stored_channels: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the foreground classes 1..K-1, in the order of the network's outputs."""
        return tuple(self.labels.values())

    @property
    def zones(self) -> tuple[int, int] | None:
        """(value of PZ, value of TZ), or None where the labels are not the two prostate zones."""
        return zones(self.labels)

    def depth(self, case: Case) -> int:
        """Number of slices of a case. Raises InputError as `read_nifti` does."""
        return number_of_slices(case.image)

    def only_channels(self, names: Sequence[str]) -> Dataset:
        """The same cases, of which only the channels with these names are read, in this order.

        Raises InputError for an unknown one, and for one that is named twice.
        """
        if unknown := [name for name in names if name not in self.channels]:
            raise InputError(
                f"{self.root}: has no channel {', '.join(unknown)}; it has {', '.join(self.channels)}"
            )
        if len(set(names)) < len(names):
            raise InputError(f"--channels {'+'.join(names)}: name each channel once")
        return replace(self, channels=tuple(names), stored_channels=self.stored_channels or self.channels)

    def read(self, case: Case, one_zone: str = "error", empty: str = "error",
             remarks: Remarks | None = None) -> Scan | None:
        """Read a case as a Scan whose label holds the classes 0..K-1. See `read_scan` for the errors.

        one_zone: what to do with a prostate mask that lacks one of its two zones, as two cases of MSD Task05
        do: "error" raises InputError, "remap" turns a lone PZ into TZ, "keep" takes it as it is, "drop"
        returns None. empty: what to do with a mask that holds no foreground, as many do where lesions are
        sought: "error", "keep" or "drop". remarks: gathers what was done, and what the file's geometry needs
        to have said.
        """
        remarks = Remarks() if remarks is None else remarks
        scan = read_scan(case.image, case.label, self.labels, case.channel_files)
        stored = self.stored_channels or self.channels
        if scan.image.shape[1] != len(stored):
            raise InputError(f"{case.image}: has {scan.image.shape[1]} channel(s), the set has {len(stored)} "
                             f"({', '.join(stored)}); correct the file, or modality in dataset.json")
        scan.image = scan.image[:, [stored.index(name) for name in self.channels]]
        for remark in scan.remarks:
            remarks.add(case.name, remark)
        if case.label is None:
            return scan
        present = set(np.unique(scan.label)) - {0}
        if not present:
            if empty == "error":
                raise InputError(f"{case.label}: the mask is empty; draw it, or, if there is nothing to "
                                 "draw, choose --empty keep, or drop")
            remarks.add(case.name, f"The mask is empty; {DONE[empty]} (--empty {empty}).")
            if empty == "drop":
                return None
        if self.zones and len(present & set(self.zones)) == 1 and case.name not in self.remapped:
            (pz, tz), lone = self.zones, (present & set(self.zones)).pop()
            if one_zone == "remap" and lone == pz:
                scan.label[scan.label == pz] = tz
            elif one_zone not in ("keep", "drop"):
                choice = f"remap (it becomes {self.labels[tz]})" if lone == pz else "correct the mask"
                raise InputError(
                    f"{case.label}: holds only {self.labels[lone]}, one of the two zones, likely "
                    "mislabelled; "
                    f"choose --one-zone drop, {choice}, or keep"
                )
            done = f"{DONE[one_zone]} (--one-zone {one_zone})"
            remarks.add(case.name, f"The mask held only {self.labels[lone]}; {done}.")
            if one_zone == "drop":
                return None
        scan.label = to_classes(scan.label, self.labels)
        return scan


def find_dataset(folder: str | Path, labelled: bool = False) -> Dataset:
    """What a folder holds; images are not read yet.

    Understands the Decathlon layout (dataset.json, imagesTr/, labelsTr/), nnU-Net's (each channel in a file
    of its own, CASE_0000.nii.gz), plain images/ + labels/ folders, whose labels may have names in
    dataset.json, and a folder of volumes without masks. With `labelled` (to train or evaluate), cases without
    a mask are left out, and a listed file that is missing is an error; otherwise reading its case will tell.
    Raises InputError for a folder without scans, or without what was asked for.
    """
    root = Path(folder).expanduser()
    try:
        root.is_dir()
    except OSError as error:
        raise InputError(f"{str(root)[:200]}: cannot be read ({error.strerror}); check the name") from error
    if root.is_file():
        raise InputError(f"{root}: is a file; give the folder that holds the scans")
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; check the name, or make a phantom set: "
                         f"python -m csam_lite phantom {root}")
    dataset = _described(root) if (root / "dataset.json").is_file() else _plain(root)
    if repeated := [
        name for name, count in Counter(case.name for case in dataset.cases).items() if count > 1
    ]:
        raise InputError(
            f"{root}: several images are named {repeated[0]}; give each volume a name of its own, "
            "its label the same"
        )
    if not dataset.cases:
        raise InputError(
            f"{root}: holds no scans{_other_files(root)}; expected dataset.json, images/ and labels/ with "
            ".nii.gz files, or .nii.gz files"
        )
    return _labelled(dataset) if labelled else dataset


def _labelled(dataset: Dataset) -> Dataset:
    """The cases with masks, all of whose files are there. Raises InputError, also where the masks are
    doubtful."""
    cases = tuple(case for case in dataset.cases if case.label)
    if not cases:
        raise InputError(
            f"{dataset.root}: holds {len(dataset.cases)} images but no masks; put them in labels/ under the "
            "images' names"
        )
    for file in (file for case in cases for file in case.files):
        if not file.exists():
            raise InputError(
                f"{file}: is listed or has a partner, but is missing; copy it there, or take its case out"
            )
    if dataset.doubts:
        raise InputError(f"{dataset.root}: {dataset.doubts[0]}")
    return replace(dataset, cases=cases)


def split(cases: Sequence[Case], seed: int, test: float = 0.2, val: float = 0.1, folds: int | None = None,
          fold: int = 0) -> tuple[list[Case], list[Case], list[Case]]:
    """Split cases into (train, val, test) lists by patient: no patient is in two of them.

    test, val: a fraction of all patients, or their number if 1 or more (0 for none). With `folds`, test is
    fold number `fold` (0-based) of that many instead: every patient is tested once. The same seed gives the
    same split. Raises InputError where too few patients are left to train on.
    """
    patients = sorted({case.patient for case in cases})
    order = [patients[i] for i in np.random.default_rng(seed).permutation(len(patients))]

    def number(part: float) -> int:
        return int(part) if part >= 1 or part == 0 else max(1, round(part * len(patients)))

    if folds:
        if not 0 <= fold < folds <= len(patients):
            raise InputError(
                f"fold {fold} of {folds} of {len(patients)} patients does not exist; folds are numbered "
                "from 0, at most one a patient"
            )
        tested = order[fold::folds]
    else:
        tested = order[:number(test)]
    rest = [patient for patient in order if patient not in tested]
    parts = rest[number(val):], rest[:number(val)], tested
    if not parts[0]:
        raise InputError(
            f"{len(patients)} patients ({', '.join(patients[:3])} ...) are too few for {len(tested)} to test "
            f'and {number(val)} to validate; lower --test or --val, or name the patients ("patient" in each '
            "entry of dataset.json)"
        )
    return tuple([case for case in cases if case.patient in part] for part in parts)


def patient_of(name: str) -> str:
    """The patient in the name of a volume.

    This is what stands before last parts such as _frame01, _ph08, _ED, _visit2, _run-1, _followup, _T2w; the
    part sub-X of a BIDS name; the first of two long numbers, as in 10005_1000005 (PI-CAI).
    """
    for pattern in (_BIDS, _PATIENT_AND_STUDY):
        if match := pattern.match(name):
            return match[1]
    return _AGAIN.sub("", name) or name


def perhaps_one_patient(patients: Iterable[str]) -> list[list[str]]:
    """Groups of patients whose names differ in the last part only, such as p01_a and p01_b, where other
    groups differ too.

    A number before the last part makes a patient likely; names that all begin alike (prostate_00,
    prostate_01) are cases of one study, and no group.
    """
    groups: dict[str, list[str]] = {}
    for patient in sorted(set(patients)):
        start = re.split(r"[_-][^_-]*$", patient)[0]
        if start != patient and re.search(r"\d", start):
            groups.setdefault(start, []).append(patient)
    return [names for names in groups.values() if len(names) > 1] if len(groups) > 1 else []


def _described(root: Path) -> Dataset:
    """A folder with dataset.json: of the Decathlon, of nnU-Net, or plain with names for its labels."""
    path = root / "dataset.json"
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: is not in UTF-8 but in another encoding (Latin-1?); save it again as UTF-8"
        ) from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); correct its permissions") from error
    try:
        description = json.loads(content, object_pairs_hook=_once)
        labels = _numbered(description.get("labels", {}), "labels")
        if not all(0 <= value <= 255 for value in labels):
            raise ValueError("labels must be 0 to 255")
        if repeated := [name for name, count in Counter(labels.values()).items() if count > 1]:
            raise ValueError(f"labels: two values have the name {repeated[0]}")
        names = description.get("modality") or description.get("channel_names") or {"0": "image"}
        channels = _different(_numbered(names, "channels").values())
        entries = [_entry(root, entry) for entry in description.get("training", [])]
        entries += [replace(_entry(root, {"image": entry} if isinstance(entry, str) else entry), label=None)
                    for entry in description.get("test", [])]
        one_zone = description.get("one_zone", {})
        remapped = (
            frozenset(map(str, one_zone["cases"])) if one_zone.get("choice") == "remap" else frozenset()
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise InputError(
            f"{path}: is not a Decathlon description ({reason}); compare it with one that "
            "`python -m csam_lite phantom DIR` writes"
        ) from error
    labels = {value: name for value, name in labels.items() if value != 0}
    if not entries:
        listed = _plain(
            root,
            channels if "modality" in description or "channel_names" in description else None,
            "channel_names" in description,
        )
        return replace(listed, labels=labels, doubts=()) if labels else listed
    cases = tuple(entries)
    if any(case.label for case in cases) and not any(case.label and case.label.is_file() for case in cases):
        raise InputError(
            f"{root}: dataset.json names masks but labelsTr/ has none of them; copy the masks there"
        )
    return Dataset(root, cases, labels, channels, remapped)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object of JSON. Raises ValueError where a name stands twice in it, of which Python would keep the
    last."""
    counts = Counter(name for name, _ in pairs)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise ValueError(f"{twice[0][:40]!a} stands twice in one place")
    return dict(pairs)


def _entry(root: Path, entry: Mapping[str, object]) -> Case:
    """A case from its entry in dataset.json. Raises ValueError or KeyError."""
    if not isinstance(entry, dict):
        raise ValueError(f'a case must be {{"image": FILE, "label": FILE}}, not {str(entry)[:40]!a}')
    image, label, patient = entry["image"], entry.get("label"), entry.get("patient")
    place = [
        root / _text(name, "a file name").replace("\\", "/")
        for name in (image, *([label] if label is not None else []))
    ]
    if len(place) == 2 and place[0] == place[1]:
        raise ValueError(f"{image} is listed as the image and as the mask of one case")
    if any(len(os.fsencode(part)) > 255 for path in place for part in path.parts):
        raise ValueError("a file name is longer than 255 bytes")
    patient = (
        _text(str(patient) if isinstance(patient, int) else patient, "patient")
        if patient is not None
        else None
    )
    return _case(place[0], place[1] if len(place) > 1 else None, patient)


def _plain(root: Path, channels: tuple[str, ...] | None = None, unlabelled_too: bool = False) -> Dataset:
    """A folder of volumes, with or without a folder of masks; channels may lie in files of their own
    (nnU-Net).

    channels: their names, if known. unlabelled_too: imagesTs/ holds more cases, named as in nnU-Net.
    """
    images = next((root / name for name in ("images", "imagesTr") if (root / name).is_dir()), root)
    masks = next((root / name for name in ("labels", "labelsTr") if (root / name).is_dir()), None)
    label_of = {} if masks is None else {stem_of(path): path for path in volumes_in(masks)}
    cases = _grouped(volumes_in(images), label_of, len(channels or ()))
    named = {case.name for case in cases}
    if cases and label_of and not named & label_of.keys():
        mask, image = next(iter(label_of.values())).name, cases[0].image.name
        raise InputError(f"{masks}: no mask has the name of an image (a mask is {mask}, an image {image}); "
                         "give each mask the name of its image")
    cases += [
        _case(images / path.name, path) for name, path in label_of.items() if name not in named
    ]  # without image
    if unlabelled_too and (root / "imagesTs").is_dir():
        cases += _grouped(volumes_in(root / "imagesTs"), None, len(channels or ()))
    counts, doubts = _label_counts(case.label for case in cases if case.label)
    if channels is None:
        channels = tuple(f"channel {c}" for c in range(_number_of_channels(cases)))
    return Dataset(root, tuple(cases), {value: f"class {value}" for value in counts}, channels, doubts=doubts)


def _grouped(images: Sequence[Path], label_of: Mapping[str, Path] | None, channels: int) -> list[Case]:
    """The cases of these images; CASE_0000, CASE_0001 are channels of CASE if a mask has that name (or
    label_of is None)."""
    files: dict[str, dict[int, Path]] = {}
    for path in images:
        match = _CHANNEL.match(stem_of(path))
        if match and (label_of is None or stem_of(path) not in label_of and match[1] in label_of):
            files.setdefault(match[1], {})[int(match[2])] = path
        else:
            files.setdefault(stem_of(path), {})[-1] = path
    channels = channels or max((len(parts) for parts in files.values()), default=1)
    cases = []
    for name, parts in files.items():
        label = (label_of or {}).get(name)
        if -1 in parts:
            cases.append(Case(name, patient_of(name), parts[-1], label))
            continue
        suffix = suffix_of(next(iter(parts.values())))
        folder = next(iter(parts.values())).parent
        paths = [
            parts.get(c, folder / f"{name}_{c:04}{suffix}") for c in range(max(channels, max(parts) + 1))
        ]
        cases.append(Case(name, patient_of(name), paths[0], label, tuple(paths[1:])))
    return cases


def _label_counts(paths: Iterable[Path]) -> tuple[dict[int, int], tuple[str, ...]]:
    """{value: voxels} over all masks without 0, and what makes it doubtful that they are masks."""
    total, holders = np.zeros(256, np.int64), {}
    one_each = True  # whether no mask holds two values
    for path in paths:
        try:
            count = np.bincount(mask_values(path)[1].ravel(), minlength=256)
        except InputError:
            continue  # reading its case will say so
        total += count
        values = (np.flatnonzero(count[1:]) + 1).tolist()
        for value in values:
            holders.setdefault(value, []).append(path)
        one_each &= len(values) < 2
    counts = {value: int(total[value]) for value in sorted(holders)}
    doubts = []
    if len(counts) > MOST_LABELS:
        doubts.append(
            f"the masks hold {len(counts)} different values, as images do; are the folders of images and "
            "masks swapped, or were the masks smoothed? Export them again, or name the labels in "
            "dataset.json"
        )
    else:
        doubts += [
            f"the value {value} stands on {voxels} voxel(s) in all masks ({holders[value][0].name}), perhaps "
            "by mistake; "
            "correct the mask, or name the labels in dataset.json"
            for value, voxels in counts.items()
            if voxels < FEWEST_VOXELS
        ]
        if one_each and len(counts) > 1:
            examples = " and ".join(f"{value} ({holders[value][0].name})" for value in list(counts)[:2])
            doubts.append(f"each mask holds one value only, and not all the same one, such as {examples}; "
                          "write one value in all if it marks the same, or name the labels in dataset.json")
    return counts, tuple(doubts)


def _number_of_channels(cases: Sequence[Case]) -> int:
    """Channels of the first case; 1 where it cannot be read."""
    for case in cases[:1]:
        try:
            shape = read_nifti(case.image)[1].shape
        except InputError:
            return 1
        return (shape[3] if len(shape) > 3 else 1) + len(case.channel_files)
    return 1


def _case(image: Path, label: Path | None, patient: str | None = None) -> Case:
    return Case(stem_of(image), patient or patient_of(stem_of(image)), image, label)


def _numbered(names: Mapping[str, object], what: str) -> dict[int, str]:
    """{"0": "background"} (Decathlon) or {"background": 0} (nnU-Net) -> {0: "background"}, in order of the
    numbers. Raises ValueError for anything else."""
    if not isinstance(names, dict):
        raise ValueError(f'{what}: must give each number a name, as in {{"0": "background", "1": "PZ"}}')
    numbered: dict[int, str] = {}
    for key, value in names.items():
        if isinstance(value, list):
            raise ValueError(
                f"{what}: regions of nnU-Net, such as {value}, are not supported; give each value one name"
            )
        number, name = (key, value) if str(key).isdecimal() else (value, key)
        if isinstance(number, bool) or not str(number).isdecimal():
            raise ValueError(f"{what}: the number of {str(name)[:40]!a} is {str(number)[:40]!a}, and must be "
                             "a whole number of 0 or more")
        if int(number) in numbered:
            both = f"{numbered[int(number)]!a} and {str(name)[:40]!a}"
            raise ValueError(f"{what}: {both} have the same number {int(number)}")
        numbered[int(number)] = _text(name, what)
        if what == "labels" and name == "ignore":
            raise ValueError(
                'labels: nnU-Net\'s label "ignore" is not supported; draw these voxels, or make them '
                'background'
            )
    return dict(sorted(numbered.items()))


def _different(channels: Iterable[str]) -> tuple[str, ...]:
    """Names of channels, those that are alike with their number, because a channel is found by its name."""
    channels = tuple(channels)
    return tuple(
        name if channels.count(name) == 1 else f"{name} {number}" for number, name in enumerate(channels)
    )


def _text(value: object, what: str) -> str:
    """The value, if it is text that can be printed. Raises ValueError otherwise."""
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError(f"{what} must be text that can be printed, not {str(value)[:40]!a}")
    return value


def _other_files(root: Path) -> str:
    """What else lies in a folder without scans, as part of a message."""
    count = Counter(path.suffix.lower() for path in root.rglob("*") if path.is_file() and path.suffix)
    return f" but {count.most_common(1)[0][1]} files {count.most_common(1)[0][0]}" if count else ""
