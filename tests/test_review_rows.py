"""From a row of the two reviews of this package to its tests, and back.

A first version was reviewed twice: public bug reports of people who do this job were tried on it ("files"), and it was killed,
attacked and fed with rubbish ("reliability"). Each row that was a fault has a test, marked with `row("files 1")`, which failed before
the fault was fixed. `python tests/test_review_rows.py "files 1"` names the tests of a row, and without a row those of all.
"""

import ast
import sys
from pathlib import Path

import pytest

ROWS = {
    "files 1": "the voxel size stands in qform and pixdim alone, as in ACDC, and the sform holds ones",
    "files 2": "a mask cannot be opened in ITK though its scan can, because of a sheared or rounded sform",
    "files 3": "sform and qform differ, and the mask takes one form and other codes",
    "files 4": "both codes are 0, and the mask lies elsewhere",
    "files 5": "grey masks, images in place of masks, and stray voxels become classes",
    "files 6": "a folder of nnU-Net is answered as if nothing were there",
    "files 7": "mask values such as 1.00002 are refused in words that contradict themselves",
    "files 8": "units of metre and micron, and impossible voxels, are believed",
    "files 9": "scans of one patient land on both sides of the split",
    "files 10": "the axis of the slices is chosen file by file",
    "files 11": "workers hang for ever where /dev/shm is small",
    "files 12": "cases without foreground cannot be used",
    "files 13": "names that the platform's encoding lacks end in a traceback and cost an epoch",
    "files 14": "a mask with an identity matrix gets the wrong advice",
    "files 15": "python3 is another program's kernel",
    "files 16": "braces in paths",
    "files 17": "regions, a BOM, Latin-1 and back slashes in dataset.json end in Python's words",
    "files 18": ".mha, .nrrd, .dcm, .NII.GZ and .img are not seen in folders, or answered wrongly",
    "files kind K": "a run whose data moved is not told of --data",
    "files remark 1": "a wrong checksum of gzip passes",
    "files remark 2": "voxels beyond float32 warn above the error",
    "files remark 3": "letters that the font lacks warn",
    "files remark 4": "test images that were not unpacked are problems of `check`",
    "reliability 1": "a damaged .nii.gz is read as good",
    "reliability 2": "two trainings into one folder mix",
    "reliability 3": "a training that diverged counts as done",
    "reliability 4": "--resume goes on with other voxels, masks or code",
    "reliability 5": "dataset.json can rewrite a file outside of its folder",
    "reliability 6": "a download that never ends",
    "reliability 7": "a damaged resume.pt or weights pass, or end in a traceback",
    "reliability 8": "wrong types in plans, and damaged kept results",
    "reliability 9": "a $ in a name breaks pictures",
    "reliability 10": "a small file takes 4 GB",
    "reliability 11": "a kernel goes on, files that are no notebooks end the course, endless prints, a limit by the clock",
    "reliability 12": "rubbish in dataset.json",
    "reliability 13": "rubbish in a run's config.json",
    "reliability 14": "odd NIfTI headers and formats end in tracebacks or warnings",
    "reliability 15": "impossible geometry is believed",
    "reliability 16": "numbers and places on the command line end in tracebacks",
    "reliability 17": "a failed training bars its folder, --out takes any folder, the course takes nan and an empty name",
    "reliability 18": "Ctrl-C while workers are forked is lost",
    "reliability 19": "temporary files of killed processes stay for ever",
    "reliability 20": "a phantom that was cut in half counts as finished",
    "reliability 21": "a closed pipe and a full standard output",
    "reliability 22": "strange answers of servers, and Retry-After",
    "reliability 23": "damaged archives, and two processes that unpack into one folder",
    "reliability 24": "two networks share a folder",
    "reliability 25": "a float image among the masks takes 13 s",
}


def marked(folder=Path(__file__).parent):
    """{row: ["file.py::test", ...]} of all marks."""
    tests = {}
    for path in sorted(folder.glob("test_*.py")):
        for function in ast.parse(path.read_text(encoding="utf-8")).body:
            for mark in getattr(function, "decorator_list", ()):
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.row":
                    for row in mark.args:
                        tests.setdefault(ast.literal_eval(row), []).append(f"tests/{path.name}::{function.name}")
    return tests


def test_each_row_of_the_reviews_has_a_test_and_each_mark_is_a_row():
    assert list(ROWS) == sorted(marked(), key=list(ROWS).index)


@pytest.mark.parametrize("row", ["files 9", "reliability 22"])
def test_the_way_from_a_row_to_its_tests(row, capsys):
    tell([row])
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{row}: {ROWS[row]}" and len(said) > 2
    for line in said[1:]:
        path, _, name = line.strip().partition("::")
        text = (Path(__file__).parents[1] / path).read_text(encoding="utf-8")
        assert f'"{row}"' in text and f"def {name}(" in text


def tell(rows):
    """Print rows, or all, each with its tests."""
    tests = marked()
    for row in rows or ROWS:
        print(f"{row}: {ROWS[row]}", *(f"    {test}" for test in tests[row]), sep="\n")


if __name__ == "__main__":
    tell(sys.argv[1:])
