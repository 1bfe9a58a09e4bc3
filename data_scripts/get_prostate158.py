"""Get Prostate158: T2 and ADC at 3 tesla, zones by a radiologist, written as 0 background, 1 PZ, 2 TZ
(published: 1 central gland, 2 PZ).

139 cases (--part train, 2.8 GB) or 19 more (--part test, a folder of its own; its md5 is asked from Zenodo at
run time). Zenodo records 6481141 and 6592345, Adams et al. 2022, doi 10.1016/j.compbiomed.2022.105817; the
licence stands on the record's page.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np

from csam_lite.common.errors import InputError
from csam_lite.common.files import whole_file
from csam_lite.data.download import extract, fetch, whole_folder, zenodo_md5
from csam_lite.data.geometry import like
from csam_lite.data.nifti import read_nifti
from csam_lite.data.public_sets import is_there, new_dataset, relabel, write_dataset

from common import options, run

RECORDS = {"train": "6481141", "test": "6592345"}
MD5 = {"train": "a0d5361b7c4cbf3f17f7ccb9a2e1739c"}
CHANNELS = {"t2": ("T2",), "t2+adc": ("T2", "ADC")}


def get(folder: str | Path, part: str = "train", channels: str = "t2", archive: str | Path | None = None,
        url: str | None = None, md5: str | None = None) -> Path:
    """Make `folder` a Decathlon folder of Prostate158 and return it; a folder that is there needs no network.

    `channels` "t2" gives 3D images, "t2+adc" 4D ones like those of the MSD set (the ADC map must lie on the
    grid of the T2 image). Raises InputError: see `fetch` and `extract` in csam_lite.data.download; a case
    whose files are broken or do not fit together.
    """
    name, folder, file = f"Prostate158 {part}", Path(folder), f"prostate158_{part}.zip"
    dataset = new_dataset(name, [], modality=CHANNELS[channels], reference=f"Zenodo record {RECORDS[part]}")
    if is_there(folder, name=name, modality=dataset["modality"]):
        return folder
    if md5 is None and part not in MD5:
        md5 = zenodo_md5(RECORDS[part], file)
        print(f"{file}: md5 {md5}, from Zenodo just now")
    url = url or f"https://zenodo.org/records/{RECORDS[part]}/files/{file}?download=1"
    source = fetch(archive, url, folder.absolute().with_name(file), md5 or MD5[part], room=2)
    with whole_folder(folder) as work:
        unpacked = extract(source, work / "unpacked")
        folders = sorted(path.parent for path in unpacked.rglob("t2.nii.gz"))
        cases = {
            f"prostate158_{path.name}": path
            for path in folders
            if (path / "t2_anatomy_reader1.nii.gz").exists()
        }
        if not cases:
            raise InputError(
                f"{source}: has no case with t2.nii.gz and t2_anatomy_reader1.nii.gz; give the archive of "
                "Prostate158"
            )
        for case, path in cases.items():
            _images(path, work / f"imagesTr/{case}.nii.gz", channels)
            relabel(path / "t2_anatomy_reader1.nii.gz", work / f"labelsTr/{case}.nii.gz", (0, 2, 1))
        shutil.rmtree(unpacked)
        write_dataset(
            work, new_dataset(name, cases, modality=CHANNELS[channels], reference=dataset["reference"])
        )
    print(
        f"{folder}: ready, {len(cases)} cases with labels, {len(folders) - len(cases)} left out that have "
        "none; "
        f"{source} is not needed any more"
    )
    return folder


def _images(path: Path, target: Path, channels: str) -> None:
    """Write the image of a case to `target`. Raises InputError where its files do not fit together."""

    t2, values = read_nifti(path / "t2.nii.gz")
    labels = read_nifti(path / "t2_anatomy_reader1.nii.gz")[1]
    if labels.shape != values.shape:
        raise InputError(
            f"case {path.name}: its labels have the shape {labels.shape}, its T2 image {values.shape}; "
            "get the archive again"
        )
    if channels == "t2":
        target.parent.mkdir(exist_ok=True)
        (path / "t2.nii.gz").rename(target)
        return
    adc, more = read_nifti(path / "adc.nii.gz")
    if more.shape != values.shape or not np.allclose(adc.affine, t2.affine, atol=1e-3):
        raise InputError(f"case {path.name}: adc.nii.gz is not on the grid of t2.nii.gz; use --channels t2")
    with whole_file(target) as file:
        file.write_bytes(like(t2, np.stack([values, more], -1).astype(np.float32), zipped=True))


def main(argv: list[str] | None = None) -> int:
    parser = options(__doc__, "data/prostate158_train or data/prostate158_test")
    parser.set_defaults(out=None)
    parser.add_argument(
        "--part",
        choices=list(RECORDS),
        default="train",
        help="the 139 training cases (default) or the 19 test cases",
    )
    parser.add_argument(
        "--channels",
        choices=list(CHANNELS),
        default="t2",
        help="T2 alone (default), or T2 and ADC in one 4D image",
    )
    args = parser.parse_args(argv)
    folder = args.out or f"data/prostate158_{args.part}"
    return run(
        get,
        folder=folder,
        part=args.part,
        channels=args.channels,
        archive=args.archive,
        url=args.url,
        md5=args.md5,
    )


if __name__ == "__main__":
    sys.exit(main())
