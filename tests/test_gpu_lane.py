"""The notebooks on a make-believe GPU: no tensor on the CPU meets one on the GPU, and none is drawn without
cpu().

`pytest -m gpu_lane` runs all of them; a plain `pytest` runs one of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import fake_gpu
import pytest

pytest.importorskip("papermill", reason="the course needs csam-lite[course]")

from csam_lite.course.execute import run_course  # noqa: E402

pytestmark = pytest.mark.skipif(bool(fake_gpu.missing()), reason=fake_gpu.missing())

TESTS = Path(__file__).resolve().parent
NOTEBOOKS = sorted((TESTS.parent / "notebooks").glob("[0-9][0-9]_*.ipynb"))
CHEAP = "05_csam_unet"  # has most of what can go wrong: networks, gates, training, figures


@pytest.fixture
def gpu_everywhere(tmp_path, monkeypatch):
    """Every Python process that a test starts has the make-believe GPU."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("import fake_gpu\nfake_gpu.install()\n", encoding="utf-8")
    paths = [str(tmp_path / "site"), str(TESTS), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))


def run(code: str) -> subprocess.CompletedProcess:
    code = "import fake_gpu, torch\nfake_gpu.install()\nx = torch.ones(2, 3, device='cuda')\n" + code
    return subprocess.run([sys.executable, "-c", code], cwd=TESTS, capture_output=True, encoding="utf-8")


REFUSED = [
    ("x + torch.ones(2, 3)", "Expected all tensors to be on the same device"),
    ("x.cpu() @ x.T", "Expected all tensors to be on the same device"),
    ("torch.nn.Linear(3, 2)(x)", "Expected all tensors to be on the same device"),
    ("x[torch.tensor([0])] = torch.zeros(1, 3)", "Expected all tensors to be on the same device"),
    ("torch.ones(2)[torch.tensor([1], device='cuda')]", "indices should be either on cpu"),
    ("x.numpy()", "can't convert cuda:0 device type tensor to numpy"),
    ("import numpy; numpy.asarray(x)", "can't convert cuda:0 device type tensor to numpy"),
]


def test_the_make_believe_gpu_refuses_what_cuda_refuses():
    done = run(f"for code in {[code for code, _ in REFUSED]!r}:\n    try:\n        exec(code)\n        print('accepted')\n"
               "    except Exception as error:\n        print(str(error).splitlines()[0])\n")
    said = done.stdout.splitlines()
    assert len(said) == len(REFUSED), done.stderr
    for (code, message), line in zip(REFUSED, said):
        assert message in line, (code, line)


def test_the_make_believe_gpu_computes():
    done = run("layer = torch.nn.Linear(3, 2).to('cuda')\n"
               "optimizer = torch.optim.AdamW(layer.parameters())\n"
               "layer(x * 2).square().sum().backward()\n"
               "before = layer.weight.detach().cpu().clone()\n"
               "optimizer.step()\n"
               "assert layer.weight.grad.device == x.device != torch.ones(1).device\n"
               "assert not torch.equal(before, layer.weight.cpu())\n"
               "assert (x + x).cpu().numpy().sum() == 12 and float(x.sum()) == 6\n"
               "assert x[torch.tensor([0])].shape == (1, 3) and (x + torch.tensor(1.0)).device == x.device\n")
    assert done.returncode == 0, done.stderr


@pytest.mark.gpu_lane
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_on_a_gpu(path, request, gpu_everywhere, tmp_path):
    if path.stem != CHEAP and "gpu_lane" not in request.config.option.markexpr:
        pytest.skip("takes a minute; run it with -m gpu_lane")
    run_course(out=tmp_path / "out", names=[path.stem], timeout=900)
    assert (tmp_path / "out" / path.name).exists()
