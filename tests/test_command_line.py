"""The commands as a user types them; bad input ends in one plain line and exit code 2, with nothing half-written."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from conftest import TINY, describe, write_nifti

from csam_lite.cli import _parser, main


def options(**given):
    return [text for name, value in given.items() for text in (f"--{name.replace('_', '-')}", str(value))]


def train(data, out, **given):
    return main(["train", *options(data=data, out=out, **TINY | dict(test=1, val=0, epochs=1) | given)])


def fails(code, capsys):
    """The one line that the command wrote."""
    assert code == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    return error


def nifti(path):
    return np.asanyarray(nibabel.load(path).dataobj)


def test_train_evaluate_predict_check(decathlon, tmp_path, capsys):
    out = tmp_path / "run"
    assert train(decathlon, out) == 0
    assert main(["evaluate", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "| whole gland |" in printed and "Mean Dice over PZ, TZ" in printed
    assert len((out / "test.csv").read_text(encoding="utf-8").splitlines()) == 1 + 3
    given = ["--part", "all", "--data", str(decathlon), "--csv", str(tmp_path / "all.csv"), "--masks", str(tmp_path / "masks")]
    assert main(["evaluate", str(out), *given, "--subjects"]) == 0
    assert len(list((tmp_path / "masks").iterdir())) == 4
    assert len((tmp_path / "all.csv").read_text(encoding="utf-8").splitlines()) == 1 + 4 * 3
    image = decathlon / "imagesTr" / "a.nii.gz"
    assert main(["predict", str(image), str(tmp_path / "mask.nii.gz"), "--run", str(out)]) == 0
    np.testing.assert_array_equal(nifti(tmp_path / "mask.nii.gz"), nifti(tmp_path / "masks" / "a.nii.gz"))
    assert nibabel.load(tmp_path / "mask.nii.gz").shape == nibabel.load(image).shape
    assert main(["check", str(decathlon)]) == 0
    assert "No problems found" in capsys.readouterr().out


def spoil(folder, how):
    """Spoil case b of the data set; return what the error must name."""
    image, label = folder / "imagesTr" / "b.nii.gz", folder / "labelsTr" / "b.nii.gz"
    voxels, mask = nifti(image).copy(), nifti(label).copy()
    if how == "missing":
        image.unlink()
    elif how == "truncated":
        image.write_bytes(image.read_bytes()[:2000])
    elif how == "not nifti":
        image.write_bytes(b"hello")
    elif how == "other shape":
        write_nifti(label, mask[:-1])
    elif how == "other affine":
        write_nifti(label, mask, np.diag([0.5, 0.5, 3.3, 1]))
    elif how == "undeclared":
        write_nifti(label, np.where(mask == 2, 5, mask).astype(np.uint8))
    elif how == "fractions":
        write_nifti(label, mask * 0.5)
    elif how == "2D":
        write_nifti(image, voxels[..., 0])
    elif how in ("nan", "inf"):
        voxels[3, 4, 2] = float(how)
        write_nifti(image, voxels)
    elif how == "constant":
        write_nifti(image, np.ones_like(voxels))
    elif how == "no voxels":
        write_nifti(image, voxels[:0])
    elif how == "empty mask":
        write_nifti(label, mask * 0)
    elif how == "one zone":
        write_nifti(label, (mask > 0).astype(np.uint8))
    elif how == "channels":
        write_nifti(image, np.stack([voxels, voxels], -1))
    return label if how in ("other shape", "other affine", "undeclared", "fractions", "empty mask", "one zone") else image


SPOILED = ["missing", "truncated", "not nifti", "other shape", "other affine", "undeclared", "fractions", "2D", "nan", "inf", "constant",
           "no voxels", "empty mask", "one zone", "channels"]


@pytest.mark.parametrize("how", SPOILED)
def test_bad_cases_are_named_by_check_and_train(decathlon, tmp_path, capsys, how):
    named = spoil(decathlon, how)
    for command in (lambda: main(["check", str(decathlon)]), lambda: train(decathlon, tmp_path / "run", test=0)):
        assert command() == 2
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err and str(named) in captured.out + captured.err
    error = captured.err.strip().splitlines()[-1]
    assert error.startswith("error: ") and ("; " in error), error  # what is wrong, then what to do
    assert not (tmp_path / "run").exists()


def test_check_lists_every_problem(decathlon, capsys):
    spoil(decathlon, "nan")
    write_nifti(decathlon / "labelsTr" / "c.nii.gz", nifti(decathlon / "labelsTr" / "c.nii.gz")[:-1])
    assert main(["check", str(decathlon)]) == 2
    captured = capsys.readouterr()
    assert "| b " in captured.out and "| c " in captured.out and "2 problem(s)" in captured.err


@pytest.mark.parametrize("what, match", [
    ("folder", "no such folder"), ("empty", "holds no scans"), ("no labels", "labelsTr/ has none"), ("json", "not a Decathlon description"),
    ("unlabelled", "no masks"), ("orphan", "has a partner")])
def test_bad_folders(decathlon, tmp_path, capsys, what, match):
    folder = decathlon
    if what == "folder":
        folder = tmp_path / "nowhere"
    elif what == "empty":
        (folder := tmp_path / "empty").mkdir()
    elif what == "no labels":
        for path in (folder / "labelsTr").iterdir():
            path.unlink()
    elif what == "json":
        (folder / "dataset.json").write_text('{"training": [')
    elif what == "unlabelled":
        folder = folder / "imagesTr"
    else:
        (folder / "dataset.json").unlink()
        (folder / "imagesTr" / "b.nii.gz").unlink()
    error = fails(train(folder, tmp_path / "run"), capsys)
    assert match in error and str(folder) in error
    assert not (tmp_path / "run").exists()


@pytest.mark.row("reliability 16")
@pytest.mark.parametrize("given, match", [
    (dict(network="vnet"), "--network vnet: choose one of"), (dict(attention="spatial"), "unknown attention"), (dict(pixels=4), "--pixels 4"),
    (dict(epochs=0), "--epochs 0"), (dict(precision="fp16"), "needs a GPU"), (dict(sampling="mean"), "--sampling mean"),
    (dict(spacing=-1), "--spacing -1"), (dict(seed=-1), "--seed -1"), (dict(learning_rate="nan"), "--learning-rate nan"),
    (dict(fold=1), "needs --folds"), (dict(network="unetpp", levels=1), "--levels 1"), (dict(network="unet3d", levels=2), "--levels 2"),
    (dict(folds=9, fold=9), "fold 9 of 9"), (dict(test=4), "too few"), (dict(pixels=10**9), "--pixels 1000000000: must lie between"),
    (dict(num_slices=10**9), "--num-slices"), (dict(spacing=1e-9), "--spacing 1e-09: must be 0.01 mm or more"),
    (dict(learning_rate=1e300), "--learning-rate 1e+300"), (dict(seed=10**20), "--seed"), (dict(levels=10**6), "--levels 1000000"),
    (dict(batch_size=10**20), "--batch-size"), (dict(workers=10**9), "--workers 1000000000: must lie between 0 and 256")])
def test_bad_options(decathlon, tmp_path, capsys, given, match):
    assert match in fails(train(decathlon, tmp_path / "run", **given), capsys)
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_not_there(decathlon, tmp_path, capsys):
    assert "holds no run" in fails(main(["evaluate", str(tmp_path)]), capsys)
    image = decathlon / "imagesTr" / "a.nii.gz"
    assert "holds no run" in fails(main(["predict", str(image), str(tmp_path / "m.nii.gz"), "--run", str(tmp_path)]), capsys)


def test_other_labels_than_those_of_the_training(decathlon, tmp_path, capsys):
    assert train(decathlon, tmp_path / "run") == 0
    describe(decathlon, "abcd", labels={"0": "background", "1": "TZ", "2": "PZ"})
    assert "are not those of the training" in fails(main(["evaluate", str(tmp_path / "run")]), capsys)


LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = int(sys.argv.pop(1))
from csam_lite.cli import main
import torch, nibabel
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.stress(trial="disk full at every write of a command", found=0)
@pytest.mark.skipif(sys.platform == "win32", reason="limits on file size are POSIX")
def test_a_full_disk_leaves_nothing_half_written(decathlon, run, phantoms, tmp_path):
    def limited(limit, *arguments):
        return subprocess.run([sys.executable, "-c", LIMITED, str(limit), *map(str, arguments)], capture_output=True, encoding="utf-8", cwd=tmp_path)

    done = limited(3000, "train", *options(data=decathlon, out=tmp_path / "run", **TINY | dict(test=1, val=0, epochs=1)))
    assert done.returncode == 2 and "safetensors: cannot be written" in done.stderr and "Traceback" not in done.stderr
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]
    json.loads((tmp_path / "run" / "config.json").read_text(encoding="utf-8"))
    done = limited(300, "predict", phantoms / "imagesTr" / "prostate_00.nii.gz", tmp_path / "m" / "mask.nii.gz", "--run", run.folder)
    assert done.returncode == 2 and "mask.nii.gz: cannot be written" in done.stderr and "Traceback" not in done.stderr
    assert not list((tmp_path / "m").iterdir())
    done = limited(10_000, "phantom", tmp_path / "ph", "--volumes", "1")
    assert done.returncode == 2 and "cannot be written" in done.stderr
    assert not [path for path in (tmp_path / "ph").rglob("*") if path.is_file()]


def test_interrupted_writes_leave_nothing(tmp_path):
    from csam_lite.common.files import whole_file

    (tmp_path / "f").write_text("old", encoding="utf-8")
    with pytest.raises(KeyboardInterrupt), whole_file(tmp_path / "f") as part:
        part.write_text("half", encoding="utf-8")
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["f"] and (tmp_path / "f").read_text(encoding="utf-8") == "old"


def test_import_is_light():
    code = """if True:
        import sys
        import csam_lite
        print("torch" in sys.modules, "numpy" in sys.modules)
        from csam_lite import CSAM
        print("monai" in sys.modules, "matplotlib" in sys.modules)"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True).stdout.split() == ["False"] * 4


def test_import_is_quick():
    code = "import time, csam_lite; print(time.process_time())"
    assert float(subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True).stdout) < 1


def test_demo_leaves_all_that_it_promises(tmp_path, capsys):
    from csam_lite.course.demo import demo

    demo(tmp_path / "demo", volumes=4, progress=False, epochs=1, pixels=32, levels=3, base_channels=4)
    found = {str(path.relative_to(tmp_path / "demo")) for path in (tmp_path / "demo").rglob("*") if path.is_file()}
    promised = {"dice.csv", "dice.md", "masks.png", "gates.png", "history.png", "attention.html", "run/best.safetensors", "phantoms/dataset.json"}
    assert promised <= found
    assert any(name.startswith("predictions") and name.endswith(".nii.gz") for name in found)
    before = os.path.getmtime(tmp_path / "demo" / "run" / "last.safetensors")
    demo(tmp_path / "demo", volumes=4, progress=False, epochs=1, pixels=32, levels=3, base_channels=4)  # goes on where it stopped: nothing to train
    assert os.path.getmtime(tmp_path / "demo" / "run" / "last.safetensors") == before


def test_code_is_clean():
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "--no-cache", str(root)], capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout




def test_resume_keeps_the_options_of_the_run(decathlon, tmp_path, capsys):
    assert train(decathlon, tmp_path / "run", attention="none", epochs=2) == 0
    assert main(["train", "--out", str(tmp_path / "run"), "--resume"]) == 0
    assert "--attention all" in fails(main(["train", "--out", str(tmp_path / "run"), "--resume", "--attention", "all"]), capsys)
    assert "holds no run" in fails(main(["train", "--data", str(decathlon), "--out", str(tmp_path / "typo"), "--resume"]), capsys)
    assert "--data: is missing" in fails(main(["train", "--out", str(tmp_path / "new")]), capsys)


def test_nothing_to_evaluate(decathlon, tmp_path, capsys):
    assert train(decathlon, tmp_path / "run", test=0) == 0
    assert "no patient is in its test part" in fails(main(["evaluate", str(tmp_path / "run")]), capsys)
    assert main(["evaluate", str(tmp_path / "run"), "--part", "train"]) == 0


def test_a_run_knows_its_data_from_any_folder(decathlon, tmp_path, monkeypatch):
    monkeypatch.chdir(decathlon.parent)
    assert train(decathlon.name, tmp_path / "run") == 0
    monkeypatch.chdir("/")
    assert main(["evaluate", str(tmp_path / "run")]) == 0


def test_every_case_dropped(decathlon, tmp_path, capsys):
    for path in (decathlon / "labelsTr").iterdir():
        write_nifti(path, (nifti(path) > 0).astype(np.uint8))
    assert "every training case is left out; choose --one-zone keep" in fails(train(decathlon, tmp_path / "run", one_zone="drop"), capsys)


@pytest.mark.row("reliability 16")
def test_a_place_that_cannot_be_written(decathlon, tmp_path, capsys):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    assert "cannot be written" in fails(train(decathlon, tmp_path / "file"), capsys)
    assert train(decathlon, tmp_path / "run") == 0
    for place, says in ((".", ".: is a folder; give the name of a file"), (tmp_path, f"{tmp_path}: is a folder; give the name of a file")):
        assert says in fails(main(["evaluate", str(tmp_path / "run"), "--csv", str(place)]), capsys)


@pytest.mark.row("files kind K")
def test_a_run_whose_scans_have_moved_is_told_of_data(decathlon, tmp_path, capsys):
    assert train(decathlon, tmp_path / "run", epochs=2) == 0
    moved = decathlon.rename(tmp_path / "elsewhere")
    run = str(tmp_path / "run")
    for arguments in (["evaluate", run], ["gates", run, "--volumes", "2"], ["train", "--out", run, "--resume"]):
        error = fails(main(arguments), capsys)
        assert f"{run}: its scans are no longer at {decathlon}; give their folder with --data" in error
    for arguments in (["evaluate", run], ["train", "--out", run, "--resume"]):
        assert main([*arguments, "--data", str(moved)]) == 0  # as the message says


def test_masks_never_replace_the_files_of_their_data_set(decathlon, tmp_path, monkeypatch, capsys):
    assert train(decathlon, tmp_path / "run") == 0
    before = {path: path.read_bytes() for path in decathlon.rglob("*.nii.gz")}
    (tmp_path / "link").symlink_to(decathlon / "labelsTr")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(decathlon)
    for place in (decathlon / "imagesTr", decathlon / "labelsTr", tmp_path / "link", "~/link", "labelsTr", "imagesTr/../labelsTr"):
        error = fails(main(["evaluate", str(tmp_path / "run"), "--part", "all", "--masks", str(place)]), capsys)
        assert f"--masks {place}: holds a.nii.gz of the data set" in error and error.endswith("choose another folder")
        assert {path: path.read_bytes() for path in decathlon.rglob("*.nii.gz")} == before
    assert main(["evaluate", str(tmp_path / "run"), "--part", "all", "--masks", str(decathlon / "new")]) == 0


@pytest.mark.parametrize("command", [["evaluate", "RUN"], ["gates", "RUN"], ["coverage"], ["lab", "grade", "."]])
@pytest.mark.parametrize("name", ["a.nii.gz", "config.json", "best.safetensors", "history.csv", "x.ipynb", "grades.csv.gz"])
def test_a_table_replaces_no_file_of_another_kind(command, name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text("mine", encoding="utf-8")
    assert f"--csv {name}: is a table; let the name end in .csv" in fails(main([*command, "--csv", name]), capsys)
    assert (tmp_path / name).read_text(encoding="utf-8") == "mine" and len(list(tmp_path.iterdir())) == 1


def test_an_export_and_a_page_of_results_replace_nothing_else(run, tmp_path, capsys):
    for name, command in (("config.json", ["export", run.folder, tmp_path / "config.onnx"]), ("a.nii.gz", ["tables", "--out", tmp_path / "a.nii.gz"])):
        (tmp_path / name).write_text("mine", encoding="utf-8")
        error = fails(main([str(argument) for argument in command]), capsys)
        assert name in error and ("choose another name" in error or "let the name end in .md" in error)
        assert (tmp_path / name).read_text(encoding="utf-8") == "mine"
    assert not (tmp_path / "config.onnx").exists()


@pytest.mark.row("reliability 16")
def test_what_is_no_picture_and_no_table_is_said_before_the_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("csam_lite.experiments.benchmark.bench", lambda *_: pytest.fail("timed first"))
    assert "--growth x.txt: is a picture; let the name end in .png" in fails(main(["bench", "--growth", "x.txt"]), capsys)
    (tmp_path / "in").mkdir()
    for place in (".", str(tmp_path)):
        assert f"{place}: is a folder; give the name of a file" in fails(main(["lab", "grade", str(tmp_path / "in"), "--csv", place]), capsys)


@pytest.mark.row("reliability 17")
def test_a_training_does_not_write_among_its_scans(decathlon, capsys):
    before = sorted(decathlon.rglob("*"))
    for out in (decathlon, decathlon / "imagesTr", decathlon / "labelsTr"):
        assert "is the folder of the scans; choose another --out" in fails(train(decathlon, out), capsys)
        assert sorted(decathlon.rglob("*")) == before


BELOW_A_FILE = {
    "phantom": ["phantom", "FILE/x", "--volumes", "1"], "demo": ["demo", "--out", "FILE/x", "--volumes", "4"],
    "train": ["train", "--data", "DATA", "--out", "FILE/x", "--pixels", "32", "--levels", "3", "--base-channels", "4", "--epochs", "1"],
    "evaluate": ["evaluate", "RUN", "--masks", "FILE/x"], "evaluate --csv": ["evaluate", "RUN", "--csv", "FILE/x.csv"],
    "predict": ["predict", "SCAN", "FILE/x/m.nii.gz", "--run", "RUN"],
    "explore": ["explore", "RUN", "SCAN", "--out", "FILE/x.html", "--draws", "0", "--no-live"], "tables": ["tables", "--out", "FILE/x.md"],
    "gates": ["gates", "RUN", "--volumes", "2", "--csv", "FILE/x.csv"], "coverage": ["coverage", "--repeats", "1", "--csv", "FILE/x.csv"],
    "compare": ["compare", "phantom", "--data", "DATA", "--out", "FILE/x"],
    "compare --part": ["compare", "phantom", "--data", "DATA", "--out", "FILE/x", "--part", "1/2"],
    "course": ["course", "--out", "FILE/x", "00"], "course --copy": ["course", "--copy", "FILE/x"], "site": ["site", "FILE/x"],
    "lab release": ["lab", "release", "02", "--out", "FILE/x"], "lab grade": ["lab", "grade", "HANDED", "--csv", "FILE/x.csv"]}


@pytest.mark.row("reliability 16")
@pytest.mark.stress(trial="places that cannot be written", found=2)
@pytest.mark.parametrize("name", BELOW_A_FILE)
def test_a_folder_below_a_file_is_one_line_for(name, run, phantoms, tmp_path, capsys):
    (tmp_path / "file").touch()
    (tmp_path / "handed" / "ann").mkdir(parents=True)
    (tmp_path / "handed" / "ann" / "x.ipynb").write_text("{", encoding="utf-8")
    places = {"FILE": tmp_path / "file", "RUN": run.folder, "DATA": phantoms, "SCAN": phantoms / "imagesTr" / "prostate_00.nii.gz",
              "HANDED": tmp_path / "handed"}
    arguments = [re.sub(r"^[A-Z]+", lambda match: str(places.get(match[0], match[0])), text) for text in BELOW_A_FILE[name]]
    error = fails(main(arguments), capsys)
    assert str(tmp_path / "file") in error and "unexpected" not in error and ("cannot be written" in error or "; choose another" in error)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "handed"]


@pytest.mark.row("reliability 17")
@pytest.mark.parametrize("name", ["config.json", "history.csv"])
def test_a_training_overwrites_no_file_of_something_else(name, decathlon, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text('{"mine": 1}', encoding="utf-8")
    assert f"holds a {name} of something else; choose another --out" in fails(train(decathlon, tmp_path / "mine"), capsys)
    assert (tmp_path / "mine" / name).read_text(encoding="utf-8") == '{"mine": 1}' and len(list((tmp_path / "mine").iterdir())) == 1


def test_a_full_memory_is_said_in_one_line(capsys):
    code = main(["bench", *options(pixels=4_000_000, levels=1, repeats=1)])
    assert "the memory is full; try a smaller --batch-size" in fails(code, capsys)


def test_what_nobody_foresaw_is_one_line_with_a_file_to_report(monkeypatch, capsys, tmp_path):
    def broken(*arguments, **options):
        raise RuntimeError("shapes do not match\nsecond line")

    monkeypatch.setattr("csam_lite.experiments.benchmark.bench", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["bench"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith("error: unexpected: RuntimeError: shapes do not match; please report it with ")
    report = Path(said[0].rpartition(" ")[2]).read_text(encoding="utf-8")
    assert "Traceback" in report and 'raise RuntimeError("shapes do not match' in report and "csam_lite 0." in report


def test_every_command_has_help(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    overview = capsys.readouterr().out
    commands = re.findall(r"(?m)^    (\w+) ", overview)
    assert "95 % intervals" in overview
    assert len(commands) >= 13 and {"train", "predict", "check", "coverage", "course"} <= set(commands)
    for command in commands:
        with pytest.raises(SystemExit, match="0"):
            main([command, "--help"])
        text = capsys.readouterr().out
        assert "usage: csam_lite " + command in text and "%%" not in text


ROOT = Path(__file__).resolve().parents[1]
SHOWN = re.compile(r"(?:python -m csam_lite|(?<=`)csam_lite) ((?:[a-z]+ )?[^`\n\"<]*)")


def shown_commands():
    """{command: file} of all commands in the texts and notebooks, without comments and remarks behind them."""
    found = {}
    for path in [*ROOT.glob("*.md"), *ROOT.glob("csam_lite/**/*.md"), *ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("csam_lite/**/*.toml")]:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".ipynb":
            text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
        table = [cell for line in text.splitlines() if line.startswith("| `") for cell in re.findall(r"`([^`]+)`", line.split(" | ")[0])]
        for line in SHOWN.findall(text) + (table if path.parent == ROOT else []):
            command = re.split(r"#|;|\(|\.\.\.|\s{3,}|, ", line)[0].split()
            if len(command) > 1 and command[0].islower():  # a word alone is the name of a command
                found[tuple(command)] = path.name
    return found


def test_every_command_that_a_text_shows_is_understood(capsys):
    """An older order of arguments stood in notebook 09."""
    commands = shown_commands()
    assert len(commands) > 25 and ("predict", "SCAN", "MASK", "--run", "RUN") in commands
    for command, file in commands.items():
        try:
            _parser().parse_args(command)
        except SystemExit:
            if "required: --" not in (said := capsys.readouterr().err):  # a text may show one option alone
                pytest.fail(f"{file}: csam_lite {' '.join(command)}\n{said.splitlines()[-1]}")


@pytest.mark.row("reliability 16")
@pytest.mark.parametrize("arguments, match", [
    (["bench", "--pixels", "0"], "--pixels 0: must lie between 1 and"), (["bench", "--repeats", "-5"], "--repeats -5"),
    (["bench", "--levels", "1000000"], "--levels 1000000"), (["phantom", "x", "--volumes", "0"], "--volumes 0"),
    (["demo", "--seed", "99999999999999999999"], "--seed 99999999999999999999: must lie between"),
    (["predict", "x.nii.gz", "y.nii.gz", "--draws", "0"], "--draws 0"), (["gates", "x", "--volumes", "1"], "--volumes 1")])
def test_numbers_beyond_their_bounds(arguments, match, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert match in fails(main(arguments), capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.row("reliability 21")
@pytest.mark.skipif(sys.platform == "win32", reason="shells and devices of POSIX")
@pytest.mark.parametrize("tail, code, says", [
    ("| true; exit ${PIPESTATUS[0]}", 141, ""),
    ("> /dev/full", 2, "standard output cannot be written (No space left on device)"),
    (">&-", 0, ""), ("2>&-", 0, "")])
def test_output_that_nobody_takes(decathlon, tail, code, says, tmp_path):
    command = f"{sys.executable} -c 'import sys, time; from csam_lite.cli import main; time.sleep(0.3); sys.exit(main(sys.argv[1:]))'"
    done = subprocess.run(["bash", "-c", f"{command} check {decathlon} {tail}"], capture_output=True, encoding="utf-8", cwd=tmp_path)
    assert done.returncode == code and says in done.stderr and len(done.stderr.splitlines()) == bool(says), done.stderr
