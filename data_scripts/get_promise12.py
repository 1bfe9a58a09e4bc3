"""Get the training part of PROMISE12: 50 T2 scans from four centres with masks of the WHOLE gland: 0
background, 1 prostate, no zones.

324 MB; Zenodo record 8026660, Litjens et al. 2014, doi 10.1016/j.media.2013.12.002; its terms are in
LICENSE.TXT of the record.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from csam_lite.common.errors import InputError, missing
from csam_lite.common.files import whole_file
from csam_lite.data.download import extract, fetch, whole_folder
from csam_lite.data.other_formats import as_nifti
from csam_lite.data.public_sets import is_there, new_dataset, write_dataset

from common import options, run

if TYPE_CHECKING:
    import SimpleITK as sitk

URL = "https://zenodo.org/records/8026660/files/training_data.zip?download=1"
MD5 = "f6d23994117c989daf07e5291edd0aea"
LABELS = {"0": "background", "1": "prostate"}


def get(
    folder: str | Path, archive: str | Path | None = None, url: str | None = None, md5: str | None = None
) -> Path:
    """Make `folder` a Decathlon folder of PROMISE12 (whole gland) and return it; a folder that is there needs
    no network.

    Needs SimpleITK, which reads the MetaImage files; values, spacing, origin and directions stay. Raises
    InputError: see `fetch` and `extract` in csam_lite.data.download; SimpleITK is missing; a case that is
    broken.
    """
    folder = Path(folder)
    if is_there(folder, name="PROMISE12"):
        return folder
    try:
        import SimpleITK as sitk
    except ImportError as error:
        raise missing("PROMISE12", "SimpleITK", "data") from error
    source = fetch(
        archive, url or URL, folder.absolute().with_name("PROMISE12_training_data.zip"), md5 or MD5, room=4
    )
    with whole_folder(folder) as work:
        unpacked = extract(source, work / "unpacked")
        masks = {
            path.name.removesuffix("_segmentation.mhd"): path
            for path in sorted(unpacked.rglob("Case*_segmentation.mhd"))
        }
        if not masks:
            raise InputError(
                f"{source}: has no CaseNN_segmentation.mhd; give the file training_data.zip of PROMISE12"
            )
        for case, path in masks.items():
            try:
                image, mask = sitk.ReadImage(path.with_name(f"{case}.mhd")), sitk.ReadImage(path)
            except RuntimeError as error:  # SimpleITK's own message has many lines
                raise InputError(
                    f"{source}: {case}.mhd or its mask is missing or broken; get the archive again"
                ) from error
            if image.GetSize() != mask.GetSize():
                raise InputError(
                    f"{source}: {case} has {image.GetSize()} voxels, its mask {mask.GetSize()}; get the "
                    "archive again"
                )
            _save(image, work / f"imagesTr/{case}.nii.gz")
            _save(mask > 0, work / f"labelsTr/{case}.nii.gz")
        shutil.rmtree(unpacked)
        write_dataset(
            work,
            new_dataset(
                "PROMISE12", masks, LABELS, reference="Zenodo record 8026660; masks of the whole gland"
            ),
        )
    print(
        f"{folder}: ready, {len(masks)} cases with masks of the whole gland (1 prostate, no zones); {source} "
        "is not needed any more"
    )
    return folder


def _save(volume: sitk.Image, target: Path) -> None:
    """Write a SimpleITK volume as NIfTI, with nibabel, because SimpleITK's own writer raises no error on a
    full disk."""
    import nibabel

    with whole_file(target) as path:
        nibabel.save(as_nifti(volume, target), path)


def main(argv: list[str] | None = None) -> int:
    args = options(__doc__, "data/promise12").parse_args(argv)
    return run(get, folder=args.out, archive=args.archive, url=args.url, md5=args.md5)


if __name__ == "__main__":
    sys.exit(main())
