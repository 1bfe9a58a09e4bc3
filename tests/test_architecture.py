"""The house: which room may import which, and that the core stands alone."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "csam_lite"
# From the ground up. A room may import rooms on lower floors, and no other room on its own floor.
FLOORS = [{"common", "core"}, {"data", "metrics"}, {"training"}, {"inference"}, {"explorer", "experiments"}, {"course"}, {"cli"}]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def arrows():
    """(importing file, room it imports) for every import of our own, also inside functions and for type checkers only."""
    for path in PACKAGE.rglob("*.py"):
        if path.parent == PACKAGE and path.name in ("__init__.py", "__main__.py"):
            continue  # they name what lies below, and the command line
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                parents = path.parent.parts[len(PACKAGE.parts) - 1:]
                modules = [".".join([*parents[:len(parents) - node.level + 1], *filter(None, [node.module])])]
            elif isinstance(node, ast.ImportFrom):
                below = {entry.stem for entry in PACKAGE.iterdir()}
                whole = [f"csam_lite.{alias.name}" for alias in node.names if node.module == "csam_lite" and alias.name in below]
                modules = whole or [node.module]
            elif isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            else:
                continue
            for module in modules:
                parts = module.split(".")
                if parts[0] == "csam_lite" and len(parts) > 1:
                    yield path.relative_to(PACKAGE), parts[1]


def room_of(path):
    return path.parts[0].removesuffix(".py")


def test_every_room_has_a_floor():
    rooms = {entry.name.removesuffix(".py") for entry in PACKAGE.iterdir() if entry.suffix == ".py" or (entry / "__init__.py").exists()}
    assert rooms - {"__init__", "__main__"} == set(FLOOR)


def test_imports_lead_down():
    up = [f"{path} imports {room}" for path, room in arrows()
          if room in FLOOR and room != room_of(path) and FLOOR[room] >= FLOOR[room_of(path)]]
    assert not up


def test_the_walk_sees_imports():
    found = set(arrows())
    assert (Path("core/attention.py"), "core") in found and (Path("cli.py"), "course") in found and len(found) > 100


def test_the_core_imports_torch_and_the_standard_library_alone():
    for path in (PACKAGE / "core").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else \
                [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            for name in names:
                top = name.split(".")[0]
                assert top == "torch" or top in sys.stdlib_module_names, f"{path.name} imports {name}"


def test_the_core_runs_when_it_is_copied_alone(tmp_path):
    shutil.copytree(PACKAGE / "core", tmp_path / "mine", ignore=shutil.ignore_patterns("__pycache__"))
    script = ("import sys, torch\nfrom mine.networks import UNet\nfrom mine.gates import record_gates\n"
              "net = UNet(1, 3, 6, base_channels=4, levels=3)\n"
              "with record_gates(net) as record:\n    net(torch.randn(1, 5, 1, 16, 16)).sum().backward()\n"
              "assert set(record['csam.0']) == {'semantic', 'positional', 'slice'} and 'csam_lite' not in sys.modules")
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, encoding="utf-8", env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("build", ["CSAM(6, 8, {}=1)", "CSAM(6, 8, slice=False, {}=1)", "CSAM(6, 8, semantic=False, positional=False, {}=1)",
                                   "UNet(1, 3, 6, {}=1)", "UNet(1, 3, 6, attention='none', {}=1)", "UNetPlusPlus(1, 3, 6, attention='none', {}=1)"])
def test_a_misspelt_option_is_an_error_whichever_gates_are_on(build):
    from csam_lite import CSAM, UNet, UNetPlusPlus

    with pytest.raises(TypeError, match="unexpected keyword argument 'typo'"):
        eval(build.format("typo"), {"CSAM": CSAM, "UNet": UNet, "UNetPlusPlus": UNetPlusPlus})


@pytest.mark.parametrize("command", (["--help"], ["train", "--help"], ["phantom", "PH", "--volumes", "2"], ["check", "PH"]))
def test_a_command_that_needs_no_network_does_not_wait_for_torch(command, tmp_path):
    (tmp_path / "run.py").write_text(
        "import sys\nfrom csam_lite.cli import main\n"
        "if sys.argv[1] == 'check': main(['phantom', 'PH', '--volumes', '2'])\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "print({'torch', 'monai', 'matplotlib'} & set(sys.modules), file=sys.stderr)", encoding="utf-8")
    done = subprocess.run([sys.executable, "run.py", *command], cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
                          encoding="utf-8", env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)})
    assert done.returncode == 0 and done.stderr.splitlines()[-1] == "set()", done.stderr
