"""The notebooks as files: copied for work, and stamped with the address of a fork."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from csam_lite.cli import main
from csam_lite.common.errors import InputError
from csam_lite.course.notebooks import sources_hash
from csam_lite.course.stamp import Address, read_address, stamp

nbformat = pytest.importorskip("nbformat", reason="the course needs csam-lite[course]")

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def test_copies_have_no_outputs_and_overwrite_nothing(tmp_path, capsys):
    assert main(["course", "--copy", str(tmp_path / "work")]) == 0
    assert [path.name for path in sorted((tmp_path / "work").iterdir())] == [path.name for path in NOTEBOOKS]
    for path in NOTEBOOKS:
        copied, original = nbformat.read(tmp_path / "work" / path.name, 4), nbformat.read(path, 4)
        nbformat.validate(copied)
        assert [cell.source for cell in copied.cells] == [cell.source for cell in original.cells]
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in copied.cells)
    (tmp_path / "work" / NOTEBOOKS[0].name).write_text("my work", encoding="utf-8")
    assert main(["course", "--copy", str(tmp_path / "work")]) == 2
    assert "exists" in capsys.readouterr().err
    assert (tmp_path / "work" / NOTEBOOKS[0].name).read_text(encoding="utf-8") == "my work"


@pytest.fixture
def fork(tmp_path):
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    for name in ("pyproject.toml", "README.md", "CONTRIBUTING.md", "CITATION.cff"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_a_stamp_changes_every_address_and_no_output(fork):
    original = read_address(fork)
    before = {path: path.read_bytes() for path in fork.rglob("*.*") if path.is_file()}
    name = "another/one" if original.repository == "someone/my-fork" else "someone/my-fork"  # a fork runs this test, too
    changed = stamp(f"{name}@v2.1", fork)
    assert read_address(fork) == Address(name, "v2.1") and len(changed) > len(NOTEBOOKS)
    for path in changed:
        text = path.read_text(encoding="utf-8")
        assert f"github.com/{original.repository}" not in text and original.site not in text
        assert f"/github/{original.repository}" not in text
    for guide in ("README.md", "CONTRIBUTING.md"):  # git clones into a folder of the repository's name
        text = (fork / guide).read_text(encoding="utf-8")
        assert f"git clone https://github.com/{name} && cd {name.split('/')[1]}\n" in text
    for path in NOTEBOOKS:
        stamped = nbformat.read(fork / "notebooks" / path.name, 4)
        assert sources_hash(stamped) == sources_hash(nbformat.read(path, 4))
        assert f"github/{name}/blob/v2.1/notebooks/{path.name}" in stamped.cells[0].source
        assert f"git+https://github.com/{name}@v2.1\"" in stamped.cells[1].source
    stamp(f"{original.repository}@{original.tag}", fork)
    assert {path: path.read_bytes() for path in before} == before


def test_another_change_of_the_setup_cell_makes_outputs_old():
    notebook = nbformat.read(NOTEBOOKS[0], 4)
    before = sources_hash(notebook)
    notebook.cells[1].source += "\nimport json"
    assert sources_hash(notebook) != before


@pytest.mark.parametrize("place", ["fork", "someone/fork", "someone/fork@", "a/b/c@main",
                                   "some one/fork@main", "a/b@v1/x"])
def test_a_place_that_is_none_changes_nothing(place, fork):
    before = {path: path.read_bytes() for path in fork.rglob("*.*") if path.is_file()}
    with pytest.raises(InputError, match="OWNER/REPO@TAG"):
        stamp(place, fork)
    assert {path: path.read_bytes() for path in before} == before


def test_a_stamp_needs_a_clone(tmp_path):
    with pytest.raises(InputError, match="run this in a clone"):
        stamp("someone/fork@v1", tmp_path)


def test_the_notebooks_have_the_address_of_the_repository():
    address = read_address(ROOT)
    for path in NOTEBOOKS:
        text = json.dumps([cell.source for cell in nbformat.read(path, 4).cells[:2]])
        assert f"/github/{address.repository}/blob/{address.tag}/notebooks/{path.name}" in text
        assert address.install in text
