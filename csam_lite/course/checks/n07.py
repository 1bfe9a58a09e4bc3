"""Checks of 07_see_attention: entropy, a flat gate, how much of a mask changed, the effect of every gate."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from csam_lite.core.attention import CSAM
from csam_lite.core.gates import override_gates, record_gates
from csam_lite.core.networks import UNet
from csam_lite.course.checks import (
    Wrong,
    answer,
    numpy_generator,
    same_values,
    seed_of,
    torch_generator,
    verify,
)


def entropy(function: Callable) -> bool | None:
    """function(p): class probabilities (S, K, H, W) -> entropy (S, H, W) divided by log K, so from 0 to 1."""

    def ends() -> None:
        """equal probabilities give 1, a certain answer gives 0"""
        for K in (2, 3, 5):
            equal = torch.full((1, K, 2, 2), 1 / K)
            same_values(torch.as_tensor(answer(function, equal)), torch.ones(1, 2, 2),
                        f"{K} classes of equal probability", "divide by log K")
        certain = torch.zeros(1, 3, 1, 2)
        certain[:, 1] = 1
        same_values(torch.as_tensor(answer(function, certain)), torch.zeros(1, 1, 2),
                    "a certain answer (probability 1 for one class)",
                    "0 * log 0 is NaN for a computer and 0 for the entropy")

    def between() -> None:
        """other probabilities give one number for each voxel"""
        p = torch.randn(4, 3, 5, 6, generator=torch_generator(0)).mul(2).softmax(1)
        expected = torch.special.entr(p).sum(1) / np.log(3)
        same_values(torch.as_tensor(answer(function, p)), expected, "random probabilities (4, 3, 5, 6)",
                    "sum over the class axis only")

    return verify("entropy", ends, between)


def flat(function: Callable) -> bool | None:
    """function(gate): a gate of any shape with axis B first -> each volume has its mean everywhere."""

    def by_hand() -> None:
        """the mean of a slice gate that you can average by hand"""
        gate = torch.tensor([[0.2, 0.4, 0.9], [0.0, 0.5, 1.0]])
        _flat(function, gate, "the slice gates of two volumes (2, 3)")

    def any_gate() -> None:
        """semantic (B, C) and positional (B, H, W) gates too, each volume on its own"""
        generator = torch_generator(0)
        for shape in ((3, 5), (2, 4, 6), (1, 7)):
            powers = torch.arange(1, shape[0] + 1).view(-1, *[1] * (len(shape) - 1))  # unlike means
            _flat(function, torch.rand(shape, generator=generator) ** powers, f"a random gate {shape}")

    def untouched() -> None:
        """the given gate itself is not changed"""
        gate = torch.tensor([[0.2, 0.4, 0.9]])
        answer(function, gate)
        if not torch.equal(gate, torch.tensor([[0.2, 0.4, 0.9]])):
            raise Wrong(f"on a gate (1, 3): expected it unchanged, found {gate.tolist()}; return a new "
                        "tensor")

    return verify("flat", by_hand, any_gate, untouched)


def changed(function: Callable) -> bool | None:
    """function(before, after): two masks (S, H, W) -> the part of the foreground whose class differs.

    Foreground is what has a class above 0 in at least one mask.
    """

    def by_hand() -> None:
        """the part in masks that you can count by hand"""
        before, after = np.zeros((2, 1, 2, 4), np.uint8)
        before[0, 0], after[0, 0] = [1, 1, 2, 0], [1, 2, 2, 2]
        _ratio(function, before, after, 0.5, "before 1 1 2 0, after 1 2 2 2: 2 of 4 foreground voxels differ")

    def background() -> None:
        """background that stays background does not count"""
        before, after = np.zeros((2, 5, 10, 10), np.uint8)
        before[0, 0, :4], after[0, 0, :3] = 1, 1
        _ratio(function, before, after, 0.25, "4 voxels before, 3 of them after, 496 voxels of background")

    def both_ways() -> None:
        """the part stays the same if before and after change places"""
        before, after = np.zeros((2, 1, 4, 4), np.uint8)
        before[0, 0, :1], after[0] = 1, 1
        for pair in ((before, after), (after, before)):
            _ratio(function, *pair, 15 / 16, "1 voxel in one mask, 16 in the other, 1 of them in both")
        before, after = numpy_generator(1).integers(0, 3, (2, 3, 4, 5)).astype(np.uint8)
        expected = ((before != after).sum() / ((before > 0) | (after > 0)).sum()).item()
        for pair in ((before, after), (after, before)):
            _ratio(function, *pair, expected, "two random masks (3, 4, 5) of the classes 0, 1 and 2")

    def ends() -> None:
        """the part is 0 for equal masks (also empty ones), and 1 for masks that share nothing"""
        empty, full = np.zeros((1, 3, 3), np.uint8), np.ones((1, 3, 3), np.uint8)
        _ratio(function, full, full.copy(), 0.0, "two equal masks")
        _ratio(function, full, 2 * full, 1.0, "a mask of class 1 and one of class 2")
        _ratio(function, empty, empty.copy(), 0.0, "two empty masks, of which nothing can change")

    return verify("changed", by_hand, background, both_ways, ends)


def effects(function: Callable) -> bool | None:
    """function(network, x) -> {(CSAM, gate): part of the mask that changes if it alone becomes its mean}."""

    def every_gate() -> None:
        """one number for each gate of each CSAM"""
        network, x, expected = _case(0)
        parts = answer(function, network, x)
        if not isinstance(parts, dict) or set(parts) != set(expected):
            found = sorted(parts, key=str) if isinstance(parts, dict) else type(parts).__name__
            raise Wrong(f"on a U-Net of 2 levels: expected a dict with the keys {sorted(expected)}, found "
                        f"{found}")

    def numbers() -> None:
        """each intervention is made alone and compared with the unchanged network"""
        for seed in (0, 1):
            network, x, expected = _case(seed)
            parts = answer(function, network, x)
            for key, value in expected.items():
                if not abs(float(parts[key]) - value) <= 0.005:
                    raise Wrong(f"on network {seed}, gate {key}: expected {value:.3f}, found "
                                f"{float(parts[key]):.3f}; "
                                "replace one gate at a time by its own mean (lambda gate: gate.mean()), and "
                                "compare masks, not logits")

    def leaves_it() -> None:
        """the network is not changed"""
        network, x, _ = _case(0)
        with torch.no_grad():
            before = network(x)
            answer(function, network, x)
            if not torch.equal(before, network(x)):
                raise Wrong("on a U-Net of 2 levels: the network gives other logits after your function; "
                            "use the context `with override_gates(...)`")

    return verify("effects", every_gate, numbers, leaves_it)


def _flat(function: Callable, gate: torch.Tensor, on: str) -> None:
    expected = gate.flatten(1).mean(1).view(-1, *[1] * (gate.ndim - 1)).expand_as(gate)
    result = torch.as_tensor(answer(function, gate.clone()))
    try:
        result = result.expand_as(gate)  # an axis of length one may stand for all, as in override_gates
    except RuntimeError:
        raise Wrong(f"on {on}: expected shape {tuple(gate.shape)}, or 1 for some axes, found "
                    f"{tuple(result.shape)}; "
                    "keepdim=True keeps an axis") from None
    same_values(result, expected, on, "each volume has its own mean, over all axes but B")


def _ratio(function: Callable, before: np.ndarray, after: np.ndarray, expected: float, on: str) -> None:
    part = float(answer(function, before.copy(), after.copy()))
    if not abs(part - expected) < 1e-6:
        raise Wrong(f"on {on}: expected {expected:.4f}, found {part:.4f}")


def _case(seed: int) -> tuple[UNet, torch.Tensor, dict[tuple[str, str], float]]:
    """A small U-Net whose gates have patterns, one volume x (1, S, 1, H, W), and the effect of each gate."""
    state = torch.random.get_rng_state()
    torch.manual_seed(seed_of(seed))
    network, x = UNet(1, 3, num_slices=6, base_channels=4, levels=2).eval(), torch.randn(1, 6, 1, 16, 16)
    for module in network.modules():
        if isinstance(module, CSAM):
            for last in (module.semantic.mlp[2], module.positional.conv, module.slice.mlp[2]):
                torch.nn.init.normal_(last.weight, std=1.0)
    torch.random.set_rng_state(state)
    expected = {}
    with torch.no_grad():
        with record_gates(network) as record:
            before = network(x).argmax(2).numpy()
        for key in [(name, gate) for name, gates in record.items() for gate in gates]:
            with override_gates(network, {key: torch.mean}):
                after = network(x).argmax(2).numpy()
            union = (before > 0) | (after > 0)
            expected[key] = float((before != after).sum() / max(union.sum(), 1))
    return network, x, expected
