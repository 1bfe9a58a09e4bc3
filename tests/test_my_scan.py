"""Notebook 09 on a scan of the reader's own: from MY_SCAN to a mask that SimpleITK opens at the right place."""

import shutil
import stat
import sys

import nibabel
import numpy as np
import pytest

from csam_lite import course
from csam_lite.common.errors import InputError
from csam_lite.course import readers_scan
from csam_lite.data.dataset import find_dataset
from csam_lite.data.scan import read_scan

SimpleITK = pytest.importorskip("SimpleITK", reason="a second reader of images: pip install 'csam-lite[data]'")


@pytest.fixture
def minutes(request):
    """For tests that execute the notebook; plain pytest runs that of the DICOM series alone."""
    if "course" not in request.config.option.markexpr:
        pytest.skip("takes a minute; run it with -m course")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CSAM_LITE_DATA", raising=False)
    return tmp_path


def first_case(folder):
    return sorted((folder / "imagesTr").iterdir())[0], sorted((folder / "labelsTr").iterdir())[0]


def only_t2(path, target):
    """The first channel of a phantom in a file of its own."""
    nifti = nibabel.load(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.asanyarray(nifti.dataobj)[..., 0], nifti.affine), target)
    return target


def plain_folder(phantoms, root, masks=True):
    """images/ and, with `masks`, labels/, of which nothing has a name."""
    for image in sorted((phantoms / "imagesTr").iterdir())[:4]:
        only_t2(image, root / "images" / image.name)
        if masks:
            (root / "labels").mkdir(exist_ok=True)
            shutil.copy(phantoms / "labelsTr" / image.name, root / "labels" / image.name)
    return root


def dicom_series(phantoms, folder):
    """The T2 of the first phantom as a hospital's scanner would write it: a file for each slice, oblique."""
    image = SimpleITK.ReadImage(str(only_t2(first_case(phantoms)[0], folder.parent / "t2.nii.gz")))
    folder.mkdir()
    turned, Z = image.GetDirection(), image.GetSize()[2]
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for z in range(Z):
        plane = SimpleITK.Cast(image[:, :, z], SimpleITK.sitkInt16)
        tags = {"0008|0060": "MR", "0008|0008": "ORIGINAL\\PRIMARY\\M", "0020|000d": "1.2.3", "0020|000e": "1.2.3.4",
                "0008|0018": f"1.2.3.4.{z + 1}", "0020|0013": str(z + 1), "0010|0010": "Phantom", "0010|0020": "P7",
                "0008|0020": "20260102", "0008|0030": "101500",
                "0020|0032": "\\".join(map(str, image.TransformIndexToPhysicalPoint((0, 0, z)))),
                "0020|0037": "\\".join(str(turned[i]) for i in (0, 3, 6, 1, 4, 7)),
                "0018|0050": str(image.GetSpacing()[2])}
        for tag, value in tags.items():
            plane.SetMetaData(tag, value)
        plane.SetSpacing(image.GetSpacing()[:2])
        writer.SetFileName(str(folder / f"IM{Z - z:04}.dcm"))  # the order of the names is not that of the slices
        writer.Execute(plane)
    return folder


def run_notebook(out, **parameters):
    """Execute notebook 09 with these parameters; return what it printed and the text of its tables, and its mask."""
    nbformat = pytest.importorskip("nbformat", reason="the course needs csam-lite[course]")
    pytest.importorskip("papermill", reason="the course needs csam-lite[course]")
    from csam_lite.course.execute import run_course
    from csam_lite.course.notebooks import printed

    run_course(out=out, names=["09"], timeout=900, more=parameters)
    notebook = nbformat.read(next(out.glob("09*.ipynb")), 4)
    masks = list((out / "course_data" / "my_masks").glob("*_mask.nii.gz"))
    assert len(masks) == 1 and list(masks[0].parent.glob("*.html"))
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    tables = [output.data.get("text/plain", "") for cell in cells for output in cell.outputs if output.output_type == "display_data"]
    return "\n".join([*map(printed, cells), *tables]), masks[0]


def assert_on_the_grid(mask, scan):
    """Size, spacing, origin and directions of the mask are the scan's, for SimpleITK (scan: its image)."""
    mask = SimpleITK.ReadImage(str(mask))
    assert mask.GetSize() == scan.GetSize()[:3]
    for X, Y, Z in ((0, 0, 0), tuple(n - 1 for n in mask.GetSize()), (mask.GetSize()[0] - 1, 0, 3)):
        apart = np.subtract(mask.TransformIndexToPhysicalPoint((X, Y, Z)), corner_of(scan, X, Y, Z))
        assert np.abs(apart).max() < 0.1, apart
    return mask


def corner_of(scan, X, Y, Z):
    return scan.TransformIndexToPhysicalPoint((X, Y, Z) if scan.GetDimension() == 3 else (X, Y, Z, 0))[:3]


def centre(mask):
    """The middle of what is not 0, in mm of the patient (LPS)."""
    statistics = SimpleITK.LabelShapeStatisticsImageFilter()
    statistics.Execute(SimpleITK.Cast(mask > 0, SimpleITK.sitkUInt8))
    return np.array(statistics.GetCentroid(1))


def in_its_place(mask, reference, millimetres=15):
    return np.linalg.norm(centre(mask) - centre(SimpleITK.ReadImage(str(reference)))) < millimetres


def test_a_dicom_series_ends_as_a_mask_in_its_place(here, phantoms):
    folder = dicom_series(phantoms, here / "series")
    text, path = run_notebook(here / "out", MY_SCAN=str(folder))
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    mask = assert_on_the_grid(path, reader.Execute())
    assert in_its_place(mask, first_case(phantoms)[1])
    assert "The network that ships runs, because you have no masks" in text and "axial. So were all" in text and "masks of 3 patients or more" in text


@pytest.mark.course
def test_a_plain_folder(minutes, here, phantoms):
    """Without names a network is trained on the reader's masks; with names the one that ships runs."""
    root = plain_folder(phantoms, here / "scans")
    text, path = run_notebook(here / "out", MY_SCAN=str(root))
    assert "A small network was trained on 3 of your volumes" in text and 'MY_CLASSES = "PZ, TZ"' in text
    assert_on_the_grid(path, SimpleITK.ReadImage(str(root / "images" / path.name.replace("_mask", ""))))
    text, path = run_notebook(here / "again", MY_SCAN=str(root), MY_CLASSES="PZ, TZ")
    assert "The network that ships runs, because your masks hold PZ and TZ" in text and ", Dice " in text
    mask = assert_on_the_grid(path, SimpleITK.ReadImage(str(root / "images" / path.name.replace("_mask", ""))))
    assert in_its_place(mask, root / "labels" / path.name.replace("_mask", ""))


@pytest.mark.course
def test_a_folder_of_images_without_masks(minutes, here, phantoms):
    root = plain_folder(phantoms, here / "scans", masks=False)
    text, path = run_notebook(here / "out", MY_SCAN=str(root / "images"))
    assert "4, 0 with masks" in text and "you have no masks" in text
    name = path.name.replace("_mask", "")
    mask = assert_on_the_grid(path, SimpleITK.ReadImage(str(root / "images" / name)))
    assert in_its_place(mask, phantoms / "labelsTr" / name)


@pytest.mark.course
def test_one_file_with_its_mask(minutes, here, phantoms):
    image, label = first_case(phantoms)
    scan = only_t2(image, here / "my scan.nii.gz")
    text, path = run_notebook(here / "out", MY_SCAN=str(scan), MY_MASK=str(label), MY_CLASSES="PZ, TZ")
    mask = assert_on_the_grid(path, SimpleITK.ReadImage(str(scan)))
    assert in_its_place(mask, label) and ", reference " in text


@pytest.mark.course
def test_a_heart(minutes, here, shared):
    """Other classes: a network is trained on these hearts, and the scan shown is one that it has not seen."""
    folder = shared / "data" / "acdc"
    if not folder.is_dir():
        pytest.skip("no acdc in ../shared/data")
    text, path = run_notebook(here / "out", MY_SCAN=str(folder.resolve()))
    name = path.name.replace("_mask", "")
    assert "knows PZ and TZ of the prostate only" in text
    scan = SimpleITK.ReadImage(str(folder / "imagesTr" / name))
    assert in_its_place(assert_on_the_grid(path, scan), folder / "labelsTr" / name, 40)


# What the reader may give, without the notebook

def test_which_network_runs(here, phantoms):
    mine = course.my_scan(str(plain_folder(phantoms, here / "scans")), classes="PZ, TZ")
    run, reasons = course.network_for(mine)
    assert mine.dataset.classes == ("PZ", "TZ") and run.facts.channels == ["T2"]
    assert reasons[0] == "The network that ships runs, because your masks hold PZ and TZ."
    assert course.read_mine(mine, run).label.max() == 2
    image, label = first_case(phantoms)
    whole_gland = here / "gland.nii.gz"
    nifti = nibabel.load(label)
    nibabel.save(nibabel.Nifti1Image((np.asanyarray(nifti.dataobj) > 0).astype(np.uint8), nifti.affine), whole_gland)
    mine = course.my_scan(str(only_t2(image, here / "t2.nii.gz")), str(whole_gland))
    run, reasons = course.network_for(mine)
    assert "at least 3 patients" in reasons[0] and course.read_mine(mine, run).label is None


def test_a_sagittal_scan_is_told_that_its_mask_means_nothing(here):
    rng = np.random.default_rng(0)
    affine = np.array([[0, 0, 4, 0], [0.7, 0, 0, 0], [0, 0.7, 0, 0], [0, 0, 0, 1.0]])
    nibabel.save(nibabel.Nifti1Image(rng.random((64, 64, 12), np.float32), affine), here / "side.nii.gz")
    reasons = course.network_for(course.my_scan(str(here / "side.nii.gz")))[1]
    assert "Plane: your slices are sagittal." in reasons
    assert "trained on axial slices, so do not trust the mask" in reasons[-1]


def test_a_listed_file_keeps_the_names_of_its_folder(here, phantoms):
    mine = course.my_scan(str(first_case(phantoms)[0]))
    assert mine.dataset.classes == ("PZ", "TZ") and mine.dataset.channels == ("T2", "ADC")
    assert len(mine.dataset.cases) == 1 == len(mine.labelled)


REFUSED = {
    "no such place": (dict(path="nowhere"), "MY_SCAN = 'nowhere': no such file or folder"),
    "nothing": (dict(), 'MY_SCAN = ""'),
    "a mask alone": (dict(mask="m.nii.gz"), "MY_SCAN = ''"),
    "a mask of a folder": (dict(path="scans", mask="m.nii.gz"), "belongs to one file"),
    "no such mask": (dict(path="scans/images/prostate_00.nii.gz", mask="m.nii.gz"), "MY_MASK = 'm.nii.gz': no such"),
    "too few names": (dict(path="scans", classes="PZ"), "holds 1 names, but the masks hold the values 1, 2"),
    "an empty name": (dict(path="scans", classes="PZ,"), "one name for each"),
    "names without masks": (dict(path="scans/images", classes="PZ"), "values none"),
}


@pytest.mark.parametrize("given, message", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_used_is_refused_in_one_line(given, message, here, phantoms):
    plain_folder(phantoms, here / "scans")
    with pytest.raises(InputError) as refused:
        course.my_scan(**given)
    assert message in str(refused.value) and "\n" not in str(refused.value)


DCM2NIIX = """#!{python}
import pathlib, shutil, sys
out = pathlib.Path(sys.argv[sys.argv.index("-o") + 1])
for number in range({count}):
    shutil.copy({file!r}, out / f"series_{{number}}.nii.gz")
"""


@pytest.mark.parametrize("count, answer", [(1, None), (0, "makes no volume"), (2, "makes 2 volumes")])
def test_without_simpleitk_dcm2niix_converts(count, answer, here, phantoms, monkeypatch):
    """A stand-in for the program, because it is not installed everywhere."""
    folder = dicom_series(phantoms, here / "series")
    monkeypatch.setattr(readers_scan, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(here))
    with pytest.raises(InputError, match=r"install SimpleITK \(pip install SimpleITK\) or dcm2niix"):
        course.my_scan(str(folder))
    program = here / "dcm2niix"
    program.write_text(DCM2NIIX.format(python=sys.executable, count=count, file=str(here / "t2.nii.gz")),
                       encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    if answer:
        with pytest.raises(InputError, match=answer):
            course.my_scan(str(folder))
    else:
        (case,) = course.my_scan(str(folder)).dataset.cases
        assert case.image.name == "series_0.nii.gz" and case.label is None


def test_cases_are_written_turned_with_the_affine_that_belongs_to_it(tmp_path, phantoms):
    """The axes of the files differ, and `read_scan` makes the same scan and mask of all of them."""
    turns = {"same": [[0, 1], [1, 1], [2, 1]], "turned": [[1, 1], [2, -1], [0, 1]]}
    case = find_dataset(phantoms, labelled=True).cases[0]
    course.write_turned(tmp_path / "out", {name: case for name in turns}, turns, channel=1)
    files = [[tmp_path / "out" / part / f"{name}.nii.gz" for part in ("images", "labels")] for name in turns]
    same, turned = (nibabel.load(image) for image, _ in files)
    assert nibabel.aff2axcodes(same.affine) != nibabel.aff2axcodes(turned.affine) and turned.shape != same.shape
    first, second = (read_scan(*pair) for pair in files)
    assert np.array_equal(first.image, second.image) and np.array_equal(first.label, second.label)
    assert first.image.shape[1] == 1 and first.label.any()
