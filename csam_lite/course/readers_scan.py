"""The reader's own scan in notebook 09: a file, a folder of scans or DICOM slices, with or without masks.

    mine = course.my_scan("~/scans/p7.nii.gz", default=dataset)
    run, reasons = course.network_for(mine)     # which network runs, and why
    scan = course.read_mine(mine, run)          # with the channels that the network takes
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from csam_lite.common.errors import InputError
from csam_lite.common.files import whole_file
from csam_lite.course.lessons import CourseScan, data_folder, load_network, load_scan, match_channels
from csam_lite.data.dataset import Case, Dataset, find_dataset, patient_of
from csam_lite.data.labels import zones
from csam_lite.data.nifti import read_nifti, stem_of, volumes_in
from csam_lite.data.other_formats import is_dicom_folder
from csam_lite.data.scan import mask_values, read_scan
from csam_lite.training.run import PRETRAINED, Run, pretrained
from csam_lite.training.transfer import LAYOUT

FEWEST_PATIENTS = 3  # with masks, so that a small network can be trained on two and tested on one


@dataclass(frozen=True)
class MyScan:
    """What the reader gave: `folder`, which `survey` reads, and the data set in it with the names that are
    known."""

    folder: Path
    dataset: Dataset

    @property
    def labelled(self) -> tuple[Case, ...]:
        """The cases that have a mask."""
        return tuple(case for case in self.dataset.cases if case.label)


def my_scan(path: str = "", mask: str = "", classes: str = "", default: Dataset | None = None) -> MyScan:
    """What the reader wants to segment.

    path: a file, a folder of scans, or a folder of DICOM slices; "" takes the `default`. mask: of one file.
    classes: the names of the values in the masks, in their order, separated by commas; "" keeps the names of
    dataset.json, where there is one. Files stay where they are: where a folder is needed, a list of them is
    written into `course_data/my_scan_...`. Raises InputError for what cannot be used.
    """
    if not path and not mask:
        if default is None:
            raise InputError('MY_SCAN = "": give the path of a file or of a folder')
        return MyScan(default.root, default)
    place = Path(path).expanduser()
    if not path or not place.exists():
        raise InputError(f"MY_SCAN = {path!r}: no such file or folder; check the name")
    if place.is_dir() and not is_dicom_folder(place):
        if mask:
            raise InputError(f"MY_MASK = {mask!r}: belongs to one file, but MY_SCAN is a folder; put the "
                             "masks into labels/ beside images/, under the names of the images")
        dataset = find_dataset(place)
        mine = MyScan(place, dataset)
        if not classes:
            return mine
        if any(case.channel_files for case in dataset.cases):
            raise InputError(f"{place}: each channel is a file of its own; name the labels in dataset.json")
    else:
        dataset = _one_volume(_from_dicom(place) if place.is_dir() else place, mask)
    if classes:
        dataset = replace(dataset, labels=_named(dataset, classes))
    folder = _listed(dataset)
    return MyScan(folder, find_dataset(folder))


def network_for(mine: MyScan, quick: bool = True, seed: int = 0) -> tuple[Run, list[str]]:
    """The network that segments the reader's scan, and the reasons for it, one sentence each.

    The network that ships runs where the masks hold PZ and TZ, and where there are too few masks to train on.
    Otherwise a small network is trained on the reader's own masks. Raises InputError as `load_network` does.
    """
    names, known = ", ".join(mine.dataset.classes), pretrained()
    patients = len({case.patient for case in mine.labelled})
    if zones(mine.dataset.labels) and len(mine.dataset.labels) == 2:
        run, reasons = known, ["The network that ships runs, because your masks hold PZ and TZ."]
    elif patients >= FEWEST_PATIENTS:
        dataset = replace(mine.dataset, cases=mine.labelled)
        run = load_network(dataset, quick, seed, train=True)
        count = len(run.facts.split["train"])
        reasons = [f"A small network was trained on {count} of your volumes, because your masks hold "
                   f"{names}, and the network that ships knows PZ and TZ of the prostate only."]
        if names.startswith("class "):
            reasons.append('If these classes are PZ and TZ, set MY_CLASSES = "PZ, TZ" (in the order of their '
                           "values): then the network that ships runs.")
    else:
        why = (f"masks of at least {FEWEST_PATIENTS} patients are needed to train another one" if patients
               else "you have no masks to train another one on")
        run, reasons = known, [f"The network that ships runs, because {why}. It knows PZ and TZ of the "
                               "prostate only: on any other organ its mask means nothing."]
    scan = load_scan(mine.dataset, mine.dataset.cases.index(_shown(mine, run)))
    return run, [*reasons, *_fit(run, scan)]


def read_mine(mine: MyScan, run: Run) -> CourseScan:
    """The reader's scan, with the channels that the network takes; the label is None where its classes are
    not the network's.

    Of a folder it is the first scan without a mask, else the first on which the network was not trained.
    Raises InputError as `read_scan` does.
    """
    scan = load_scan(mine.dataset, mine.dataset.cases.index(_shown(mine, run)))
    names = run.facts.channels
    if not set(names) <= set(scan.channels):  # channels without known names
        scan = replace(scan, image=scan.image[:, :len(names)], channels=tuple(names[:scan.image.shape[1]]))
    if not _same_classes(mine.dataset, run):
        scan.label = None
    return match_channels(run, scan)


def fine_tune(mine: MyScan, quick: bool = True, seed: int = 0) -> Run | None:
    """The network that ships, trained further on the masks of at most half of the reader's patients; the
    others are held out. None where there are fewer than FEWEST_PATIENTS. The next call returns the same run.
    """
    patients = len({case.patient for case in mine.labelled})
    if patients < FEWEST_PATIENTS:
        return None
    dataset, ships = replace(mine.dataset, cases=mine.labelled), pretrained()
    if set(ships.facts.channels) <= set(dataset.channels):
        dataset = dataset.only_channels(ships.facts.channels)
    layout = {name: getattr(ships.config, name) for name in LAYOUT}
    few = max(2, min(4, patients // 2))
    return load_network(dataset, quick, seed, train=True, start_from="pretrained", **layout,
                        test=patients - few, epochs=8 if quick else 60, minutes=0.0, learning_rate=0.001)


def _shown(mine: MyScan, run: Run) -> Case:
    cases = mine.dataset.cases
    trained = set() if run.folder == PRETRAINED else set(run.facts.split["train"])
    return next((case for case in cases if not case.label),
                next((case for case in cases if case.name not in trained), cases[0]))


def _same_classes(dataset: Dataset, run: Run) -> bool:
    """Whether class k of the data set means class k of the network."""
    numbered = dict(enumerate(dataset.classes, 1))
    both_zones = zones(numbered) and zones(numbered) == zones(run.facts.labels)
    return bool(both_zones) or list(dataset.classes) == list(run.facts.labels.values())


def _fit(run: Run, scan: CourseScan) -> list[str]:
    """How the scan's channels, spacing and plane meet the network's, one sentence each."""
    wanted, S = list(run.facts.channels), len(scan.image)
    if set(wanted) <= set(scan.channels):
        channels = f"Channels: the network takes {', '.join(wanted)}, and your scan has it."
    else:
        channels = (f"Channels: the network takes {', '.join(wanted)}, and your scan has "
                    f"{', '.join(scan.channels)}, of which the first is taken for it. "
                    "If it shows something else, the mask means nothing.")
    through, row, column = scan.spacing
    spacing = (f"Spacing: your slices lie {through:.1f} mm apart with pixels of {row:.2f} x {column:.2f} mm. "
               f"The network reads the slices as they are, and their pixels at {run.facts.spacing:.2f} mm.")
    if S > run.facts.num_slices:
        spacing += (f" It has slots for {run.facts.num_slices} slices, and your scan has {S}: it is read in "
                    "parts.")
    if through < 1.5 * max(row, column):
        spacing += (" Your voxels are nearly cubes. CSAM is made for thick slices, and a 3D network may do "
                    "better.")
    plane = f"Plane: your slices are {scan.plane}."
    if run.facts.planes == [scan.plane]:
        plane += " So were all that the network was trained on."
    return [channels, spacing, plane, *run.facts.remarks_on(scan)]


def _one_volume(image: Path, mask: str) -> Dataset:
    """The data set of one file; with the names of the dataset.json beside its folder, if that lists it."""
    label = Path(mask).expanduser() if mask else None
    if label and not label.is_file():
        raise InputError(f"MY_MASK = {mask!r}: no such file; check the name")
    for root in (image.parent, image.parent.parent):
        if (root / "dataset.json").is_file():
            with suppress(InputError):  # a dataset.json of another program
                dataset = find_dataset(root)
                same = [case for case in dataset.cases
                        if case.image.resolve() == image.resolve() and not case.channel_files]
                if same:
                    case = replace(same[0], label=label or same[0].label)
                    return replace(dataset, cases=(case,))
    values = sorted(set(mask_values(label)[1].ravel().tolist()) - {0}) if label else []
    count = read_scan(image).image.shape[1]
    channels = ("image",) if count == 1 else tuple(f"channel {c}" for c in range(count))
    name = stem_of(image)
    return Dataset(image.parent, (Case(name, patient_of(name), image, label),),
                   {value: f"class {value}" for value in values}, channels)


def _from_dicom(folder: Path) -> Path:
    """The folder itself where SimpleITK can read it, else the NIfTI file that dcm2niix makes of it."""
    if find_spec("SimpleITK"):
        return folder
    program = shutil.which("dcm2niix")
    if not program:
        raise InputError(
            f"{folder}: holds DICOM slices; install SimpleITK (pip install SimpleITK) or dcm2niix (pip "
            "install dcm2niix), and run this cell again"
        )
    target = data_folder() / f"my_scan_{_digest(str(folder.resolve()))}" / "from_dicom"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    done = subprocess.run([program, "-z", "y", "-o", str(target), str(folder)], capture_output=True)
    volumes = volumes_in(target)
    if done.returncode or not volumes:
        raise InputError(
            f"{folder}: dcm2niix makes no volume of it; open it in a viewer, and export it again"
        )
    if len(volumes) > 1:
        raise InputError(
            f"{folder}: dcm2niix makes {len(volumes)} volumes of it, in {target}; set MY_SCAN to one of them"
        )
    return volumes[0]


def _named(dataset: Dataset, classes: str) -> dict[int, str]:
    """The labels of the data set with the reader's names."""
    names = [name.strip() for name in classes.split(",")]
    if len(names) != len(dataset.labels) or not all(names):
        values = ", ".join(map(str, dataset.labels)) or "none"
        raise InputError(f"MY_CLASSES = {classes!r}: holds {len(names)} names, but the masks hold the values "
                         f"{values}; give one name for each, separated by commas")
    return dict(zip(dataset.labels, names))


def _listed(dataset: Dataset) -> Path:
    """A folder with a dataset.json that lists the files of the data set where they are."""
    cases = [{"image": str(case.image.resolve()), "patient": case.patient}
             | ({"label": str(case.label.resolve())} if case.label else {}) for case in dataset.cases]
    content = json.dumps({
        "labels": {"0": "background"} | {str(value): name for value, name in dataset.labels.items()},
        "modality": {str(c): name for c, name in enumerate(dataset.channels)},
        "training": cases}, indent=1)
    folder = data_folder() / f"my_scan_{_digest(content)}"
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / "dataset.json") as part:
        part.write_text(content + "\n", encoding="utf-8")
    return folder


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def write_turned(folder: Path, cases: Mapping[str, Case], turns: Mapping[str, Sequence[Sequence[int]]],
                 channel: int) -> None:
    """Write one channel of cases and their masks to `images/` and `labels/` of a new folder, with their axes
    in another order or direction, and with the affine that belongs to it.

    turns: {name: for each axis of the case's file, which axis it becomes, and 1 or -1 for its direction}.
    """
    import nibabel

    shutil.rmtree(folder, ignore_errors=True)
    for name, case in cases.items():
        for part, path in (("images", case.image), ("labels", case.label)):
            nifti, voxels = read_nifti(path)
            voxels = voxels[..., channel] if voxels.ndim == 4 else voxels
            image = nibabel.Nifti1Image(voxels, nifti.affine).as_reoriented(np.array(turns[name]))
            (folder / part).mkdir(parents=True, exist_ok=True)
            nibabel.save(image, folder / part / f"{name}.nii.gz")
