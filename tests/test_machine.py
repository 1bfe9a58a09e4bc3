"""What notebook 00 says of the machine: the floors, the folder, and what to do about each."""

import tomllib
from pathlib import Path

import pytest

from csam_lite.course.checks import n00


def test_machine_is_fine_here(capsys):
    assert n00.machine() is True
    out = capsys.readouterr().out
    assert "[FAIL]" not in out and out.count("[OK]") == len(n00.FLOORS) + 4


@pytest.mark.parametrize("floors, says", [({"torch": "99.0"}, "torch>=99.0"), ({"no_such_package": "1.0"}, "no_such_package>=1.0")])
def test_machine_says_what_to_do(floors, says, capsys):
    assert n00.machine(floors) is False
    out = capsys.readouterr().out
    assert out.count("[FAIL]") == 1 and says in out.split("what to do:")[1]


def test_machine_needs_a_folder_it_can_write(tmp_path, capsys):
    assert n00.machine({}, folder=tmp_path / "none") is False
    assert "[FAIL] the working folder" in capsys.readouterr().out


def test_floors_are_those_of_the_package():
    listed = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    floors = dict(line.split(">=") for line in listed)
    assert n00.FLOORS == {name: floors[name] for name in n00.FLOORS}


def test_versions_are_compared_as_numbers():
    assert n00._numbers("2.13.0+cpu") == (2, 13, 0) > n00._numbers("2.8")
    assert n00._numbers("3.0rc1") >= n00._numbers("2.9")
