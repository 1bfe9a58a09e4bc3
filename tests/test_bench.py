"""The published way of computing CSAM, which `bench` races against, is the same function."""

import time

import pytest
import torch

from csam_lite import CSAM
from csam_lite.common.figures import save_figure
from csam_lite.experiments.benchmark import Published, bench, growth, slopes
from csam_lite.experiments.figures import plot_time_growth
from csam_lite.experiments.timing import peak_memory, race


def test_published_computes_the_same_outputs_and_gradients():
    csam, x = CSAM(5, 8), torch.randn(2, 5, 8, 6, 7)
    results = []
    for module in (csam, Published(csam)):
        csam.zero_grad()
        own = x.clone().requires_grad_()
        out = module(own)
        (out * torch.arange(out.numel()).view_as(out).cos()).sum().backward()
        results.append([out, own.grad, *(parameter.grad.clone() for parameter in csam.parameters())])
    for ours, published in zip(*results):
        torch.testing.assert_close(ours, published, rtol=1e-4, atol=1e-5)


def test_bench_names_every_contender():
    rows = bench(slices=3, pixels=16, base_channels=4, levels=2, volumes=2, repeats=1)
    assert [row["what"] for row in rows] == [
        "module, 4 x 16 x 16: published", "module, 4 x 16 x 16: CSAM", "module, 4 x 16 x 16: floor",
        "module, 8 x 8 x 8: published", "module, 8 x 8 x 8: CSAM", "module, 8 x 8 x 8: floor",
        "training step: plain", "training step: CSAM", "training step: published", "4 volumes: four passes", "4 volumes: one batch"]
    assert all(row["milliseconds"] > 0 for row in rows) and rows[0]["ratio"] == rows[6]["ratio"] == 1
    assert all(row["megabytes"] > 0 for row in rows if "floor" not in row["what"])


def test_peak_memory_counts_what_is_held_at_once():
    x = torch.randn(1000, 1000)
    assert peak_memory(lambda: (x + 1).sum()) == pytest.approx(4e6, rel=0.01)

    def three():
        a = x + 1
        b = a + 1
        del a
        return b + 1

    assert peak_memory(three) == pytest.approx(8e6, rel=0.01)


def test_race_is_fair_and_counts_real_time():
    turns = []
    seconds = race({"a": lambda: turns.append("a"), "b": lambda: (turns.append("b"), time.sleep(0.2))}, repeats=3)
    assert turns == ["a", "b"] * 4 and seconds["a"] < 0.2 <= seconds["b"]


def test_growth_and_its_slopes(tmp_path):
    rows = growth(slices=2, pixels=8, channels=4, volumes=1, repeats=1)
    assert {row["axis"] for row in rows} == {"slices", "pixels", "channels", "volumes", "threads"}
    for row in rows:  # as if it grew in proportion
        row["milliseconds"] = row["voxels"] * 1e-3
    assert slopes(rows) == pytest.approx({"slices": 1, "pixels": 1, "channels": 1, "volumes": 1})
    save_figure(plot_time_growth(rows, slopes(rows)), tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 5000
