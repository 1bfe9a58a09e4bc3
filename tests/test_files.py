"""Whole files or none, and nothing left behind by processes that were killed."""

import os
import signal
import subprocess
import sys
import time

import pytest

from csam_lite.common.errors import InputError
from csam_lite.common.files import whole_file

KILLED_WHILE_WRITING = """
import sys, time
from csam_lite.common.files import whole_file
with whole_file(sys.argv[1]) as part:
    part.write_text("half", encoding="utf-8")
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.mark.row("reliability 19")
def test_what_a_killed_process_left_is_removed_by_the_next_write(tmp_path):
    target = tmp_path / "table.csv"
    writer = subprocess.Popen([sys.executable, "-c", KILLED_WHILE_WRITING, str(target)], stdout=subprocess.PIPE, encoding="utf-8")
    assert writer.stdout.readline() == "writing\n"
    with whole_file(tmp_path / "other.csv") as part:  # while the first still writes: its part stays
        part.write_text("whole", encoding="utf-8")
    assert len(list(tmp_path.glob(".part-*"))) == 1
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert len(list(tmp_path.glob(".part-*"))) == 1 and not target.exists()
    with whole_file(tmp_path / "third.csv") as part:
        part.write_text("whole", encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.csv", "third.csv"]


def test_parts_of_other_machines_go_after_a_week_and_other_hidden_files_never(tmp_path):
    names = [".part-otherhost-1-a", ".part-otherhost-2-b", ".part-notes", ".keep"]
    for name in names:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - 8 * 24 * 3600,) * 2)
    os.utime(tmp_path / names[1])
    with whole_file(tmp_path / "x") as part:
        part.touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".keep", ".part-notes", ".part-otherhost-2-b", "x"]


@pytest.mark.parametrize("name", ["n" * 248 + ".nii.gz", "ä" * 120 + ".nii.gz", "y" * 255])
def test_a_file_may_have_as_long_a_name_as_the_system_takes(name, tmp_path):
    if not name.isascii() and sys.getfilesystemencoding() != "utf-8":
        pytest.skip("this Python's file names have ASCII letters alone")
    with whole_file(tmp_path / name) as part:
        assert part.name.endswith(name[-7:]) and part.name.startswith(".part-")
        part.write_text("whole", encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    (tmp_path / "x").write_text("old", encoding="utf-8")
    with pytest.raises(InputError, match="x: cannot be written .*choose another folder"), whole_file(tmp_path / "x") as part:
        part.write_text("half", encoding="utf-8")
        raise OSError(5, "Input/output error")
    assert (tmp_path / "x").read_text(encoding="utf-8") == "old" and len(list(tmp_path.iterdir())) == 1
