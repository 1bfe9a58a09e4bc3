"""Names of classes, channels, networks, files and folders that are no plain letters: drawn, printed and stored as they are."""

import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import TINY, blob, describe, write_nifti

from csam_lite.cli import main

TRAIN = [text for name, value in (TINY | {"epochs": 1, "test": 1, "val": 1}).items() for text in (f"--{name.replace('_', '-')}", str(value))]
TEX = ["$\\undefined$", "$$", "a$\\frac{$b", "$", "50 $ and $ 5", "x_{1}^2 % # & ~ \\", "<b>|a|</b>"]


@pytest.mark.row("reliability 9")
@pytest.mark.stress(trial="names that look like formulas", found=6)
@pytest.mark.parametrize("name", TEX)
def test_a_dollar_in_a_name_is_no_formula(name, tmp_path):
    """In all pictures: of masks, gates, cuts, training, differences, the stack, reliability."""
    import matplotlib.pyplot as plt

    from csam_lite.common.figures import save_figure
    from csam_lite.core.gates import NamedArray
    from csam_lite.data.scan import read_scan
    from csam_lite.experiments.figures import plot_differences, plot_reliability, plot_stack
    from csam_lite.explorer.figures import plot_gates
    from csam_lite.inference.figures import plot_masks
    from csam_lite.training.figures import plot_history

    image, mask = blob((24, 20, 5), np.random.default_rng(0))
    scan = read_scan(write_nifti(tmp_path / "x.nii.gz", image), write_nifti(tmp_path / "m.nii.gz", mask))
    (tmp_path / "history.csv").write_text(f'epoch,loss,val_dice,"val_dice_{name}"\n1,2,0.5,0.5\n', encoding="utf-8")
    row = {"network": name, "metric": "dice", "difference": 0.1, "low": 0.0, "high": 0.2}
    record = {name: {"slice": NamedArray(np.full((1, 5), 0.5), ("B", "S"))}}
    figures = [plot_masks(scan, [name, name], scan.label, title=name), plot_history(tmp_path / "history.csv"),
               plot_differences([row], name, ["dice"]), plot_stack({name: [{"class": name, "position": 0.5, "dice": 0.5}]}),
               plot_reliability({name: {name: np.ones((10, 3))}}), plot_gates(record, np.zeros((5, 8, 8)), 1.0, title=name)]
    for number, figure in enumerate(figures):
        texts = [text.get_text() for text in figure.findobj(plt.Text)]
        assert number == 5 or any(name in text for text in texts), number
        save_figure(figure, tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").stat().st_size > 1000


def rename(decathlon, classes=("Außenzone $\\undefined$", "移行域"), channel="T2 $$"):
    (decathlon / "imagesTr" / "a.nii.gz").rename(decathlon / "imagesTr" / "Müller 王 $x$.nii.gz")
    (decathlon / "labelsTr" / "a.nii.gz").rename(decathlon / "labelsTr" / "Müller 王 $x$.nii.gz")
    labels = {"0": "background", "1": classes[0], "2": classes[1]}
    describe(decathlon, ["Müller 王 $x$", "b", "c", "d"], labels=labels, modality={"0": channel})
    return decathlon.rename(decathlon.with_name("Daten für O'Neil (2) {x}"))


any_letters = pytest.mark.skipif(sys.getfilesystemencoding() != "utf-8", reason="this Python's file names have ASCII letters alone")


@pytest.mark.row("files remark 3")
@any_letters
@pytest.mark.filterwarnings("error:Glyph")  # a warning would reach the user with a line of source
def test_names_of_any_script_go_through_every_command(decathlon, tmp_path, capsys):
    data = rename(decathlon)
    run, scan = tmp_path / "Läufe $1" / "r", data / "imagesTr" / "Müller 王 $x$.nii.gz"
    for arguments in (["check", data], ["train", "--data", data, "--out", run, *TRAIN],
                      ["evaluate", run, "--part", "all", "--masks", tmp_path / "Masken"], ["predict", scan, tmp_path / "ä.nii.gz", "--run", run],
                      ["explore", run, scan, "--label", data / "labelsTr" / scan.name, "--out", tmp_path / "ß.html", "--draws", "0"],
                      ["gates", run, "--volumes", "2", "--csv", tmp_path / "é.csv"]):
        assert main([str(argument) for argument in arguments]) == 0, capsys.readouterr()
    assert "Außenzone $\\undefined$" in capsys.readouterr().out
    assert (tmp_path / "Masken" / scan.name).exists() and "Müller 王 $x$" in (run / "all.csv").read_text(encoding="utf-8")


@pytest.mark.row("files 13")
@any_letters
@pytest.mark.skipif(sys.platform == "win32", reason="the C locale of POSIX stands for cp1252")
def test_names_that_the_encoding_of_the_terminal_lacks(decathlon, tmp_path):
    """Check and train print them escaped, and store them whole."""
    describe(decathlon, "abcd", labels={"0": "background", "1": "Außenzone $\\undefined$", "2": "移行域"})
    data, run = decathlon, tmp_path / "run"
    plain = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "OMP_NUM_THREADS": "1"}
    plain.pop("PYTHONIOENCODING", None)

    def commands(data, run):  # in one process, because each start takes seconds
        code = ("import sys\nfrom csam_lite.cli import main\n_, data, run, *train = sys.argv\n"
                "for arguments in (['check', data], ['train', '--data', data, '--out', run, *train], ['evaluate', run, '--part', 'all']):\n"
                "    print('command', arguments[0])\n    assert main(arguments) == 0\n")
        done = subprocess.run([sys.executable, "-c", code, *map(str, (data, run, *TRAIN))], env=plain, capture_output=True, cwd=tmp_path)
        assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")[-2000:]
        return done.stdout.split(b"command ")[1:]

    checked, _, evaluated = commands(data, run)
    assert b"Au\\xdfenzone" in checked and b"Au\\xdfenzone" in evaluated
    (tmp_path / "Müller").mkdir()
    for folder in ("images", "labels"):
        data.joinpath({"images": "imagesTr", "labels": "labelsTr"}[folder]).rename(tmp_path / "Müller" / folder)
        (tmp_path / "Müller" / folder / "a.nii.gz").rename(tmp_path / "Müller" / folder / "Jörg.nii.gz")
    commands("Müller", "Läufe")
    assert "Jörg" in (tmp_path / "Läufe" / "all.csv").read_text(encoding="utf-8")
    for name in ("history.csv", "all.csv"):
        assert "Außenzone $\\undefined$" in (run / name).read_text(encoding="utf-8")


@pytest.mark.row("reliability 24")
def test_networks_that_would_share_a_folder_are_refused(tmp_path, capsys):
    plan = tmp_path / "plan.toml"
    plan.write_text('data = "x"\nout = "y"\n[networks."a b"]\n[networks."a/b"]\nattention = "none"\n', encoding="utf-8")
    assert main(["compare", str(plan)]) == 2
    assert "the networks 'a b' and 'a/b' would share the folders a_b-...; give one of them another name" in capsys.readouterr().err


@pytest.mark.row("reliability 9")
def test_a_scan_whose_name_is_no_utf8_is_explored(run, phantoms, tmp_path, capsys):
    scan = tmp_path / "M\udcfcller.nii.gz"
    try:
        scan.write_bytes((phantoms / "imagesTr" / "prostate_00.nii.gz").read_bytes())
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system takes no such name")
    for arguments in (["explore", run.folder, scan, "--out", tmp_path / "p.html", "--draws", "0"],
                      ["predict", scan, tmp_path / "m\udcfc.nii.gz", "--run", run.folder]):
        assert main([str(argument) for argument in arguments]) == 0, capsys.readouterr().err
    assert "M\\udcfcller" in (tmp_path / "p.html").read_text(encoding="utf-8")
