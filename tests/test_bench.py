"""The published way of computing CSAM, which `bench` races against, is the same function."""

import torch

from csam_lite import CSAM
from csam_lite.bench import Published, bench


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
        "module, 4 x 16 x 16: published", "module, 4 x 16 x 16: CSAM", "module, 8 x 8 x 8: published", "module, 8 x 8 x 8: CSAM",
        "training step: plain", "training step: CSAM", "training step: published"]
    assert all(row["milliseconds"] > 0 for row in rows) and rows[0]["ratio"] == rows[4]["ratio"] == 1
