"""Outputs and gradients equal those of the released modules (two lines completed, so that they run), within 1e-5."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from golden.make import load

from csam_lite import CSAM, PositionalAttention, SemanticAttention, SliceAttention, UNet, UNetPlusPlus

TOLERANCE = dict(rtol=1e-5, atol=1e-5)
INPUTS = 64  # that differ by rounding


@pytest.fixture(params=["small", "seed0", "seed1"])
def golden(request):
    """Tensors of the released code: small ones that are kept here (golden/make.py made them), large ones beside the repository."""
    if request.param == "small":
        return load(Path(__file__).parent / "golden" / "released_small.npz")
    with np.load(request.getfixturevalue("shared") / "golden" / f"released_{request.param}.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays}


@pytest.fixture(params=[True, False], ids=["fast", "plain"])
def fast(request):
    """Which of the two paths of CSAM is used."""
    return request.param


def weights(golden, prefix):
    """Released parameters whose key starts with `prefix`, in their order."""
    return {key: value for key, value in golden.items()
            if key.startswith(prefix) and "/grad" not in key and key.rsplit(".")[-1] in ("weight", "bias")}


def copy(golden, parts):
    """Copy released weights one by one: `parts` is [(module, key prefix)]. Returns {released key: our parameter}."""
    twin = {}
    for module, prefix in parts:
        for (key, value), parameter in zip(weights(golden, prefix).items(), module.parameters(), strict=True):
            assert parameter.shape == value.shape, key
            parameter.data.copy_(value)
            twin[key] = parameter
    return twin


def assert_same(golden, name, module, x, twin):
    """Outputs within 1e-5, in float64; in float32 outputs and gradients within 1e-5 of the largest one.

    A processor adds up in an order of its own. Where two numbers are equal but for rounding, this decides which of them
    is the maximum that gets the gradient, and the released tensors hold one choice. So one of some inputs that
    differ by rounding alone must lead to the released gradients.
    """
    released = golden[f"{name}/out"]
    module.eval()
    torch.testing.assert_close(deepcopy(module).double()(x.double()[None])[0], released.double(), **TOLERANCE)
    torch.testing.assert_close(module(x[None])[0], released, rtol=0, atol=1e-5 * max(float(released.abs().max()), 1))
    for attempt in range(INPUTS):
        try:
            return assert_same_gradients(golden, name, module, x * (1 + 1e-6 * torch.randn_like(x)) if attempt else x, twin)
        except AssertionError:
            if attempt == INPUTS - 1:
                raise


def assert_same_gradients(golden, name, module, x, twin):
    x = x.clone()[None].requires_grad_()  # released tensors have no B axis
    module.zero_grad()
    (module(x)[0] * golden[f"{name}/probe"]).sum().backward()
    released = golden[f"{name}/grad_x"]
    scale = max(released.abs().max(), 1)
    torch.testing.assert_close(x.grad[0] / scale, released / scale, **TOLERANCE)
    compared = 0
    for key, parameter in twin.items():
        if (released := golden.get(key.replace(f"{name}/", f"{name}/grad/"))) is not None:
            # A bias before an instance normalisation has gradient zero: what is left is rounding, to be measured by its layer's.
            scale = max(released.abs().max(), golden[key.rsplit(".", 1)[0].replace(f"{name}/", f"{name}/grad/") + ".weight"].abs().max(), 1)
            torch.testing.assert_close(parameter.grad / scale, released / scale, **TOLERANCE)
            compared += 1
    assert compared >= 2


def test_attentions_and_csam(golden, fast):
    S, C = golden["x"].shape[:2]
    for name, module in {
        "semantic": SemanticAttention(C), "positional": PositionalAttention(), "slice": SliceAttention(S),
        "csam": CSAM(S, C, fast=fast),
    }.items():
        assert_same(golden, name, module, golden["x"], copy(golden, [(module, f"{name}/")]))


def test_low_rank_normal(golden):
    x = golden["x"][None]
    attention = SliceAttention(x.shape[1], uncertain=True).eval()
    copy(golden, [(attention, "slice_uncertain/")])
    seen = []
    attention.normal.register_forward_hook(lambda module, inputs, normal: seen.append(normal))
    torch.testing.assert_close(attention(x)[0], golden["slice_uncertain/out_mean"], **TOLERANCE)
    for field, value in {**seen[0]._asdict(), "cov": seen[0].covariance}.items():
        torch.testing.assert_close(value, golden[f"slice_uncertain/{field}"], **TOLERANCE)


def test_unet(golden, fast):
    S, C = golden["net_x"].shape[:2]
    keys = [key.split("/")[1].split(".")[2] for key in weights(golden, "unet/encoder.conv")]
    base = golden["unet/encoder.conv.0.conv.0.weight"].shape[0]
    net = UNet(C, golden["unet/out"].shape[1], S, base_channels=base, levels=1 + max(map(int, keys)), fast=fast)
    twin = copy(golden, [(net.down, "unet/encoder.conv"), (net.csam, "unet/encoder.attentions"), (net.up, "unet/decoder"),
                         (net.heads[0], "unet/conv_final")])
    assert len(twin) == len(list(net.parameters()))
    assert_same(golden, "unet", net, golden["net_x"], twin)


def test_unet_plus_plus(golden, fast):
    S, C = golden["net_x"].shape[:2]
    levels = 1 + max(int(key.split(".")[1]) for key in weights(golden, "unetpp/conv"))
    base = golden["unetpp/conv.0.0.conv.0.weight"].shape[0]
    net = UNetPlusPlus(C, golden["unetpp/out"].shape[1], S, base_channels=base, levels=levels, fast=fast)
    called = [(csam, f"unetpp/attentions.{level}.") for level, csam in enumerate(net.csam)]  # all but the deepest
    twin = copy(golden, [(net.nodes, "unetpp/conv"), *called, (net.heads, "unetpp/final")])
    assert len(twin) == len(list(net.parameters()))
    assert_same(golden, "unetpp", net, golden["net_x"], twin)
