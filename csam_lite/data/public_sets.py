"""Public prostate sets as Decathlon folders (dataset.json, imagesTr, labelsTr): what all share, and the MSD
prostate set.

Every zonal set has 0 background, 1 PZ (peripheral zone), 2 TZ (transition zone and the rest of the central
gland).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PureWindowsPath

import numpy as np

from csam_lite.common.errors import InputError
from csam_lite.common.files import whole_file
from csam_lite.common.locks import only_process
from csam_lite.data.download import extract, fetch, whole_folder
from csam_lite.data.geometry import like
from csam_lite.data.labels import ONE_ZONE
from csam_lite.data.nifti import read_nifti

ZONES = {"0": "background", "1": "PZ", "2": "TZ"}
MSD_URL = "https://msd-for-monai.s3-us-west-2.amazonaws.com/Task05_Prostate.tar"
MSD_MD5 = "35138f08b1efaef89d7424d2bcc928db"


def get_msd_prostate(folder: str | Path, one_zone: str = "keep", archive: str | Path | None = None,
                     url: str | None = None, md5: str | None = None) -> Path:
    """Make `folder` the prostate set of the Medical Segmentation Decathlon and return it; a folder that is
    there needs no network.

    32 labelled cases (T2 and ADC in one 4D image; labels 1 PZ, 2 TZ) and 16 without labels, 229 MB. Source:
    Task05_Prostate of medicaldecathlon.com, from Radboud University Medical Center; licence CC BY-SA 4.0.

    Some cases do not carry both zones (reported: two whose gland is class 1 where it should be 2). They are
    found in the labels, never by name. `one_zone` says what to do with them: "keep" leaves them in and warns;
    "drop" takes them out of the list in dataset.json (the files stay); "remap" turns class 1 into 2 where a
    case has class 1 alone (the published label goes to labelsTr_published); "error" is "keep", but raises at
    the end. Each choice starts from the published state, whatever was chosen before, and dataset.json holds
    the last one under "one_zone". `archive` is a copy of the tar file on this disk; `url` and `md5` are for a
    mirror. Raises InputError: see `fetch` and `extract` in csam_lite.data.download; a folder that holds
    something else or only a part of the set.
    """
    folder = Path(folder)
    if one_zone not in ONE_ZONE:
        raise InputError(f"one_zone is {one_zone!r}; choose one of {', '.join(ONE_ZONE)}")
    if not is_there(folder, labels=ZONES):
        source = fetch(
            archive, url or MSD_URL, folder.absolute().with_name("Task05_Prostate.tar"), md5 or MSD_MD5
        )
        with whole_folder(folder) as work:
            unpacked = extract(source, work / "unpacked")
            top = next((path.parent for path in unpacked.rglob("dataset.json")), unpacked)
            dataset = read_dataset(top) | {"labels": ZONES}
            if absent := missing(top, dataset):
                raise InputError(
                    f"{source}: lacks {len(absent)} files that its dataset.json lists ({absent[0]}); get it "
                    "again"
                )
            for path in list(top.iterdir()):
                path.rename(work / path.name)
            shutil.rmtree(unpacked)
            write_dataset(work, dataset | {"one_zone": _find_one_zone(work, dataset)})
        print(
            f"{folder}: ready, {len(dataset['training'])} cases with labels; {source} is not needed any more"
        )
    busy = f"{folder}: another process is changing this set; wait for it"
    with only_process(folder, busy):
        return _with_choice(folder, one_zone)


def _with_choice(folder: Path, one_zone: str) -> Path:
    """Make the set in `folder` follow the choice `one_zone`; return the folder."""
    dataset = read_dataset(folder)
    # a folder that another tool made has no record
    record = dataset.get("one_zone") or _find_one_zone(folder, dataset)
    _apply(folder, dataset | {"one_zone": record}, "keep" if one_zone == "error" else one_zone)
    if record["cases"]:
        _report(folder, record["cases"], one_zone)
    return folder


def is_there(folder: str | Path, **expected: object) -> bool:
    """Whether `folder` is a whole Decathlon folder; if so, a line on screen says it. False where it is
    missing or empty.

    Raises InputError where it holds something else: a listed file is missing, or an entry of dataset.json is
    not as `expected`.
    """
    folder = Path(folder)
    if not folder.exists() or folder.is_dir() and not any(folder.iterdir()):
        return False
    dataset = read_dataset(folder)
    if wrong := [key for key, value in expected.items() if dataset.get(key) != value]:
        raise InputError(
            f"{folder}: holds another set (its {wrong[0]}: {dataset.get(wrong[0])}); choose another folder "
            "with --out"
        )
    if absent := missing(folder, dataset):
        raise InputError(
            f"{folder}: is not whole, {len(absent)} files are missing ({absent[0]}); delete the folder and "
            "run again"
        )
    print(f"{folder}: is there, {len(dataset['training'])} cases with labels")
    return True


def missing(folder: str | Path, dataset: Mapping) -> list[str]:
    """The files that `dataset` (the content of dataset.json) lists and `folder` does not have."""
    return [name for name in _listed(dataset) if not (Path(folder) / name).is_file()]


def _listed(dataset: dict) -> list[str]:
    return [case[kind] for case in dataset["training"] for kind in ("image", "label")] + dataset.get(
        "test", []
    )


def read_dataset(folder: str | Path) -> dict:
    """The content of dataset.json. Raises InputError where it is missing or broken."""
    path = Path(folder) / "dataset.json"
    try:
        dataset = json.loads(path.read_text(encoding="utf-8-sig"))
        missing(folder, dataset)
        names = [*_listed(dataset), *_listed(dataset.get("one_zone") or {"training": []})]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path}: is missing or broken; delete its folder and run again, or choose another with --out"
        ) from error
    for name in names:
        place = PureWindowsPath(name)  # knows both kinds of slash and drive letters
        if place.anchor or ".." in place.parts:  # the choice "remap" writes where these names lead
            raise InputError(
                f"{path}: lists {name!r}, which leads out of the folder; delete the folder and run again, "
                "or choose another with --out"
            )
    return dataset


def write_dataset(folder: str | Path, dataset: Mapping) -> None:
    """Write dataset.json; `numTraining` is counted. Raises InputError where it cannot be written."""
    with whole_file(Path(folder) / "dataset.json") as path:
        path.write_text(
            json.dumps(dataset | {"numTraining": len(dataset["training"])}, indent=1), encoding="utf-8"
        )


def new_dataset(
    name: str,
    cases: Iterable[str],
    labels: Mapping[str, str] = ZONES,
    modality: Sequence[str] = ("T2",),
    **more: object,
) -> dict:
    """The content of dataset.json for `cases`, names whose files are imagesTr/NAME.nii.gz and
    labelsTr/NAME.nii.gz."""
    return {
        "name": name,
        **more,
        "tensorImageSize": "4D" if len(modality) > 1 else "3D",
        "labels": labels,
        "modality": {str(number): kind for number, kind in enumerate(modality)},
        "numTest": 0,
        "test": [],
        "training": [
            {"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"} for case in cases
        ],
    }


def relabel(source: str | Path, target: str | Path, new: Sequence[int]) -> None:
    """Write the labels of the NIfTI `source` to `target` as uint8, label k as `new[k]`; the geometry stays.

    Raises InputError where `source` is broken or has a label that `new` does not list.
    """
    geometry, values = read_nifti(source)
    if not np.isin(values, range(len(new))).all():
        raise InputError(
            f"{source}: has labels other than 0 to {len(new) - 1}; check that the archive is the right one"
        )
    content = like(geometry, np.array(new, np.uint8)[values.astype(int)], Path(target).name.endswith(".gz"))
    with whole_file(target) as path:
        path.write_bytes(content)


def _find_one_zone(folder: Path, dataset: Mapping) -> dict:
    """The record "one_zone": the cases without both zones, with the zones that they have, and the list as
    published."""
    zones = {
        _name(case): np.setdiff1d(read_nifti(Path(folder) / case["label"])[1], 0).astype(int).tolist()
        for case in dataset["training"]
    }
    return {
        "choice": "keep",
        "cases": {name: values for name, values in zones.items() if values != [1, 2]},
        "training": dataset["training"],
    }


def _apply(folder: Path, dataset: Mapping, choice: str) -> None:
    """Make the labels and dataset.json follow `choice`, from the published state."""
    record, kept = dataset["one_zone"], Path(folder) / "labelsTr_published"
    if record["choice"] == choice and read_dataset(folder) == dataset:
        return
    # a run that is stopped after this line is done again
    write_dataset(folder, dataset | {"one_zone": record | {"choice": "unfinished"}})
    for case in record["training"]:
        label, published = Path(folder) / case["label"], kept / Path(case["label"]).name
        if choice == "remap" and record["cases"].get(_name(case)) == [1]:
            if not published.exists():
                with whole_file(published) as path:
                    shutil.copyfile(label, path)
            relabel(published, label, (0, 2, 2))
        elif published.exists():
            with whole_file(label) as path:
                os.replace(published, path)
    with suppress(OSError):
        kept.rmdir()  # only where it is empty
    training = [case for case in record["training"] if choice != "drop" or _name(case) not in record["cases"]]
    write_dataset(folder, dataset | {"training": training, "one_zone": record | {"choice": choice}})


def _report(folder: Path, cases: Mapping[str, list[int]], choice: str) -> None:
    named = ", ".join(f"{name} (labels: {zones})" for name, zones in cases.items())
    line = f"{folder}: {len(cases)} cases do not have both zones: {named}"
    if choice == "error":
        raise InputError(f"{line}; the set is ready: run again with --one-zone drop, remap or keep")
    print(
        {
            "drop": f"{line}; they were taken out of dataset.json",
            "remap": f"{line}; 1 was turned into 2 where it stood alone, and `csam_lite train --one-zone "
                     "keep` takes them as they are",
            "keep": f"WARNING: {line}; they were kept, and `csam_lite check` and `csam_lite train` refuse "
                    "them until you choose --one-zone "
            "drop or remap, here (in the files) or there (for one run)",
        }[choice]
    )


def _name(case: Mapping[str, str]) -> str:
    return Path(case["label"]).name.removesuffix(".nii.gz")
