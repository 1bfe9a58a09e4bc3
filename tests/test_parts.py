"""An experiment on several machines: parts without locks, and what joins them."""

import json
import shutil

import pytest
from test_compare import PLAN

from csam_lite.cli import main
from csam_lite.common.errors import InputError
from csam_lite.experiments.compare import compare
from csam_lite.experiments.parts import collect, compare_part, parse_part


@pytest.fixture(scope="module")
def plan(phantoms, tmp_path_factory):
    path = tmp_path_factory.mktemp("plan") / "plan.toml"
    path.write_text(PLAN.format(data=phantoms, out="nowhere", extra=""), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def parts(plan):
    """Folders of two parts of three, and of the third."""
    folders = [plan.parent / f"part{number}" for number in (1, 2, 3)]
    for number, folder in enumerate(folders, 1):
        compare_part(plan, f"{number}/3", out=str(folder), progress=False)
    return folders


def runs_in(folder):
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir())


def test_each_run_belongs_to_one_part(parts):
    names = [name for folder in parts for name in runs_in(folder)]
    assert len(names) == len(set(names)) == 4 and all(runs_in(folder) for folder in parts)
    assert not [path for folder in parts for path in folder.rglob("*.lock")]
    assert [bool(json.loads(next(folder.glob("experiment-*of3.json")).read_text(encoding="utf-8"))["costs"]) for folder in parts] == [True, False, False]


def test_a_finished_part_is_not_trained_again(plan, parts, monkeypatch):
    monkeypatch.setattr("csam_lite.training.trainer.train", None)  # whoever calls it fails
    assert [folder.name for folder in compare_part(plan, "2/3", out=str(parts[1]), progress=False)] == runs_in(parts[1])


def test_joined_parts_give_the_tables_of_one_machine(plan, parts, tmp_path):
    whole = compare(plan, out=str(tmp_path / "whole"), progress=False)
    joined = collect(plan, parts, out=str(tmp_path / "joined"))
    assert joined[1] == whole[1] and len(joined[1]) > 5
    timed = ("ms/step", "peak MB")
    assert [{name: value for name, value in row.items() if name not in timed} for row in joined[0]] == [
        {name: value for name, value in row.items() if name not in timed} for row in whole[0]]
    assert all(row["ms/step"] > 0 for row in joined[0])
    assert (tmp_path / "joined" / "patients.csv").read_text(encoding="utf-8") == (tmp_path / "whole" / "patients.csv").read_text(encoding="utf-8")
    assert not list((tmp_path / "joined").rglob("resume.pt")) and not list((tmp_path / "joined").glob(".part-*"))
    again = collect(plan, parts, out=str(tmp_path / "joined"))  # what was copied is kept
    assert again == joined
    assert json.loads((tmp_path / "joined" / "experiment.json").read_text(encoding="utf-8"))["date"].count("2") < 9  # no date twice


def test_missing_runs_are_named_and_can_be_done_here(plan, parts, tmp_path):
    out = tmp_path / "joined"
    with pytest.raises(InputError, match=r"1 of 4 runs are missing or unfinished: all_gates-seed0-fold0; collect them too"):
        collect(plan, [parts[0], parts[2]], out=str(out))
    assert len(runs_in(out)) == 3 and not (out / "compare.md").exists()
    scores, _ = compare(plan, out=str(out), progress=False)
    assert [row["seeds"] for row in scores] == [2, 2] and (out / "compare.md").exists()


def test_an_unfinished_run_is_not_joined(plan, parts, tmp_path):
    cut = shutil.copytree(parts[1], tmp_path / "cut")
    (cut / "all_gates-seed0-fold0" / "held_out.csv").unlink()
    with pytest.raises(InputError, match="1 of 4 runs are missing or unfinished: all_gates-seed0-fold0"):
        collect(plan, [parts[0], cut, parts[2]], out=str(tmp_path / "joined"))


def test_other_options_other_data_and_other_scores_are_refused(plan, parts, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text(plan.read_text(encoding="utf-8").replace("epochs = 1", "epochs = 2"))
    with pytest.raises(InputError, match="was run with another epochs"):
        collect(other, parts, out=str(tmp_path / "a"))
    changed = shutil.copytree(parts[1], tmp_path / "changed")
    record = next(changed.glob("experiment*.json"))
    record.write_text(json.dumps(json.loads(record.read_text(encoding="utf-8")) | {"data": "0" * 32}))
    with pytest.raises(InputError, match="is from other data"):
        collect(plan, [parts[0], changed], out=str(tmp_path / "b"))
    twice = shutil.copytree(parts[1], tmp_path / "twice")
    table = twice / "all_gates-seed0-fold0" / "held_out.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("0.", "1.", 1))
    with pytest.raises(InputError, match="was also done elsewhere, with other scores"):
        collect(plan, [*parts, twice], out=str(tmp_path / "c"))
    with pytest.raises(InputError, match="holds no experiment.json"):
        collect(plan, [tmp_path], out=str(tmp_path / "d"))


@pytest.mark.parametrize("text", ["0/3", "4/3", "2", "a/b", "1/0", "-1/3", "1/3/5", ""])
def test_a_part_that_does_not_exist_is_refused(text):
    with pytest.raises(InputError, match="must be a number and the number of parts, such as 2/8"):
        parse_part(text)


def test_parts_cannot_share_hours(plan, tmp_path):
    hours = tmp_path / "hours.toml"
    hours.write_text("hours = 1\n" + plan.read_text(encoding="utf-8").replace("epochs = 1", ""))
    for command in (["--part", "1/2"], ["--collect", str(tmp_path)]):
        assert main(["compare", str(hours), "--out", str(tmp_path / "out"), *command]) == 2
    assert not (tmp_path / "out").exists()


def test_the_command_line_joins_parts(plan, parts, tmp_path, capsys):
    assert main(["compare", str(plan), "--out", str(parts[2]), "--part", "3/3"]) == 0
    assert main(["compare", str(plan), "--out", str(tmp_path / "out"), "--collect", *map(str, parts)]) == 0
    printed = capsys.readouterr().out
    assert "1 runs are done" in printed and "| all gates | plain     | dice " in printed
