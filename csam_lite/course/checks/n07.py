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
    exercise,
    number,
    numbers,
    numpy_generator,
    same_values,
    seed_of,
    states,
    torch_generator,
    verify,
)
from csam_lite.course.checks._tensors import leaves_inputs


@exercise
def entropy(function: Callable) -> bool | None:
    """function(p): class probabilities (S, K, H, W) -> entropy (S, H, W) divided by log K, so from 0 to 1."""

    @states("Equal probabilities give 1, a certain answer gives 0")
    def ends() -> None:
        for K in (2, 3, 5):
            equal = torch.full((1, K, 2, 2), 1 / K)
            on = f"{K} classes of equal probability"
            same_values(numbers(answer(function, equal), on), torch.ones(1, 2, 2), on, "divide by log K")
        certain = torch.zeros(1, 3, 1, 2)
        certain[:, 1] = 1
        on = "a certain answer (probability 1 for one class)"
        same_values(
            numbers(answer(function, certain), on),
            torch.zeros(1, 1, 2),
            on,
            "0 * log 0 is NaN for a computer and 0 for the entropy",
        )

    @states("Other probabilities give one number for each voxel")
    def between() -> None:
        on = "random probabilities (4, 3, 5, 6), some of them 0"
        for p in (_probabilities(), _probabilities().flip(0)):
            same_values(
                numbers(answer(function, p.clone()), on),
                torch.special.entr(p).sum(1) / np.log(3),
                on,
                "sum over the class axis only",
            )

    untouched = leaves_inputs(lambda p: answer(function, p), p=_probabilities())
    return verify("entropy", ends, between, untouched)


@exercise
def flat(function: Callable) -> bool | None:
    """function(gate): a gate of any shape with axis B first -> each volume has its mean everywhere."""

    @states("The mean of a slice gate that you can average by hand")
    def by_hand() -> None:
        gate = torch.tensor([[0.2, 0.4, 0.9], [0.0, 0.5, 1.0]])
        _flat(function, gate, "the slice gates of two volumes (2, 3)")

    @states("Semantic (B, C) and positional (B, H, W) gates too, each volume on its own")
    def any_gate() -> None:
        generator = torch_generator(0)
        kept = (2, 1, 3, 1, 1), (2, 1, 1, 4, 3), (3, 4, 1, 1, 1)  # as override_gates gives them
        for shape in ((3, 5), (2, 4, 6), (1, 7), *kept):
            powers = torch.arange(1, shape[0] + 1).view(-1, *[1] * (len(shape) - 1))  # unlike means
            _flat(function, torch.rand(shape, generator=generator) ** powers, f"a random gate {shape}")

    untouched = leaves_inputs(lambda gate: answer(function, gate), gate=torch.tensor([[0.2, 0.4, 0.9]]))
    return verify("flat", by_hand, any_gate, untouched)


@exercise
def changed(function: Callable) -> bool | None:
    """function(before, after): two masks (S, H, W) -> the part of the foreground whose class differs.

    Foreground is what has a class above 0 in at least one mask.
    """

    @states("The part in masks that you can count by hand")
    def by_hand() -> None:
        before, after = np.zeros((2, 1, 2, 4), np.uint8)
        before[0, 0], after[0, 0] = [1, 1, 2, 0], [1, 2, 2, 2]
        _ratio(function, before, after, 0.5, "before 1 1 2 0, after 1 2 2 2: 2 of 4 foreground voxels differ")

    @states("Background that stays background does not count")
    def background() -> None:
        before, after = np.zeros((2, 5, 10, 10), np.uint8)
        before[0, 0, :4], after[0, 0, :3] = 1, 1
        _ratio(function, before, after, 0.25, "4 voxels before, 3 of them after, 496 voxels of background")

    @states("Foreground is what has a class in at least one of the masks")
    def apart() -> None:
        before, after = np.zeros((2, 3, 2, 4), np.uint8)
        before[0, 0], after[2, 1, :2] = 1, 2
        _ratio(
            function,
            before,
            after,
            1.0,
            "4 voxels before and 2 others after, in another slice",
            "divide by the voxels of both masks together, not by those of the larger one",
        )
        before[:], after[:] = 0, 0
        before[1, 0, 0] = 1
        _ratio(function, before, after, 1.0, "1 voxel before, none after")

    @states("All slices of the stack count together")
    def every_slice() -> None:
        generator = numpy_generator(1)
        before = generator.integers(0, 3, (4, 5, 6), np.uint8)
        before[1:3] = 0
        after = np.where(
            generator.random(before.shape) < 0.7, before, generator.integers(0, 3, before.shape, np.uint8)
        )
        either = (before > 0) | (after > 0)
        _ratio(
            function, before, after, (before != after).sum() / either.sum(), "two random masks of 4 slices"
        )

    @states("The part stays the same if before and after change places")
    def both_ways() -> None:
        before, after = np.zeros((2, 1, 4, 4), np.uint8)
        before[0, 0, :1], after[0] = 1, 1
        for pair in ((before, after), (after, before)):
            _ratio(function, *pair, 15 / 16, "1 voxel in one mask, 16 in the other, 1 of them in both")

    @states("The part is 0 for equal masks (also empty ones), and 1 for masks that share nothing")
    def ends() -> None:
        empty, full = np.zeros((1, 3, 3), np.uint8), np.ones((1, 3, 3), np.uint8)
        _ratio(function, full, full.copy(), 0.0, "two equal masks")
        _ratio(function, full, 2 * full, 1.0, "a mask of class 1 and one of class 2")
        _ratio(function, empty, empty.copy(), 0.0, "two empty masks, of which nothing can change")

    @states("The masks stay as they were")
    def untouched() -> None:
        before, after = np.ones((2, 1, 3, 3), np.uint8)
        answer(function, before, after)
        if not (before == 1).all() or not (after == 1).all():
            raise Wrong(
                "on two masks of ones: your function changed a mask; do not write into before or after"
            )

    return verify("changed", by_hand, background, apart, every_slice, both_ways, ends, untouched)


@exercise
def effects(function: Callable) -> bool | None:
    """function(network, x) -> {(CSAM, gate): part of the masks that changes if it alone is flat}."""

    def parts_of(network: UNet, x: torch.Tensor) -> dict:
        parts = answer(function, network, x.clone())
        if not isinstance(parts, dict):
            raise Wrong(f"on a U-Net of 2 levels: expected a dict, found {type(parts).__name__}")
        return parts

    @states("One number for each gate of each CSAM")
    def every_gate() -> None:
        network, x, expected = _case(0, 1)
        with torch.random.fork_rng():
            other = UNet(1, 3, num_slices=6, base_channels=4, levels=3, attention="semantic+slice").eval()
        keys = {(f"csam.{level}", gate) for level in range(3) for gate in ("semantic", "slice")}
        for on, unet, wanted in (
            ("a U-Net of 2 levels", network, set(expected)),
            ("a U-Net of 3 levels without positional gates", other, keys),
        ):
            if set(parts := parts_of(unet, x)) != wanted:
                raise Wrong(
                    f"on {on}: expected a dict with the keys {sorted(wanted)}, found "
                    f"{sorted(parts, key=str)}; record_gates knows the keys of each network"
                )

    def compared(seed: int, volumes: int, hint: str, voxels: int | None = None) -> None:
        network, x, expected = _case(seed, volumes, voxels)
        parts = parts_of(network, x)
        for key, value in expected.items():
            mask = "" if voxels is None else f", whose mask has {voxels} voxels of foreground"
            on = f"network {seed}{mask}, gate {key}, {volumes} volume{'s' if volumes > 1 else ''}"
            if not abs((part := number(parts[key], on)) - value) <= 0.002:
                raise Wrong(f"on {on}: expected {value:.3f}, found {part:.3f}; {hint}")

    @states("Each intervention is made alone and compared with the unchanged network")
    def one_volume() -> None:
        for seed in (0, 1):
            hint = (
                "replace one gate at a time by its own mean, end the context before the next one, and "
                "compare masks, not logits"
            )
            compared(seed, 1, hint)

    @states("In a batch the gate of each volume becomes the mean of this volume")
    def two_volumes() -> None:
        hint = (
            "torch.mean mixes the volumes; hand your function of 07.1 to override_gates, and count all "
            "volumes together"
        )
        for seed in (5, 6, 7):
            compared(seed, 2, hint)

    @states("The part is right where a mask has one voxel of foreground, and 0 where no mask has any")
    def few_voxels() -> None:
        for voxels in (1, 0):
            compared(0, 1, "divide as in 07.2, by 1 if there is no foreground", voxels)

    @states("The network is not changed")
    def leaves_it() -> None:
        network, x, _ = _case(0, 1)
        with torch.no_grad():
            before = network(x)
            answer(function, network, x)
            if not torch.equal(before, network(x)):
                raise Wrong(
                    "on a U-Net of 2 levels: the network gives other logits after your function; "
                    "use the context `with override_gates(...)`"
                )

    return verify("effects", every_gate, one_volume, two_volumes, few_voxels, leaves_it)


def _probabilities() -> torch.Tensor:
    """p (4, 3, 5, 6), of which class 0 is impossible in slice 0 and class 2 in the last slice."""
    logits = 2 * torch.randn(4, 3, 5, 6, generator=torch_generator(0))
    logits[0, 0], logits[-1, 2] = -torch.inf, -torch.inf
    return logits.softmax(1)


def _flat(function: Callable, gate: torch.Tensor, on: str) -> None:
    expected = gate.flatten(1).mean(1).view(-1, *[1] * (gate.ndim - 1)).expand_as(gate)
    result = numbers(answer(function, gate.clone()), on)
    try:
        result = result.expand_as(gate)  # an axis of length one may stand for all, as in override_gates
    except RuntimeError:
        raise Wrong(
            f"on {on}: expected shape {tuple(gate.shape)}, or 1 for some axes, found "
            f"{tuple(result.shape)}; "
            "keepdim=True keeps an axis"
        ) from None
    same_values(result, expected, on, "each volume has its own mean, over all axes but B")


def _ratio(
    function: Callable, before: np.ndarray, after: np.ndarray, expected: float, on: str, hint: str = ""
) -> None:
    part = number(answer(function, before.copy(), after.copy()), on)
    if not abs(part - expected) < 1e-6:
        raise Wrong(f"on {on}: expected {expected:.4f}, found {part:.4f}" + (f"; {hint}" if hint else ""))


def _case(
    seed: int, volumes: int, voxels: int | None = None
) -> tuple[UNet, torch.Tensor, dict[tuple[str, str], float]]:
    """A small U-Net whose gates have patterns, x (B, S, 1, H, W), and the effect of each gate.

    Later volumes are mostly empty, so that their gates have other means, and a fifth of the voxels is
    foreground, so that it matters by what is divided. If `voxels` is a number, the mask has as many voxels of
    foreground; with 0 it stays empty whatever the gates are.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(seed))
        network = UNet(1, 3, num_slices=6, base_channels=4, levels=2).eval()
        x = torch.randn(volumes, 6, 1, 16, 16)
        x[1:, :2], x[1:, 2:] = 5 * x[1:, :2], 0
        for module in network.modules():
            if isinstance(module, CSAM):
                for last in (module.semantic.mlp[2], module.positional.conv, module.slice.mlp[2]):
                    torch.nn.init.normal_(last.weight, std=1.0)

    def flatten(gate: torch.Tensor) -> torch.Tensor:
        return gate.flatten(1).mean(1).view(-1, *[1] * (gate.ndim - 1))

    expected = {}
    with torch.no_grad():
        logits = network(x)
        above = (logits[:, :, 1:].amax(2) - logits[:, :, 0]).flatten().sort(descending=True).values
        most = len(above) // 5 if voxels is None else voxels
        network.heads[0].bias[0] += above[most - 1:most + 1].mean() if most else above[0] + 1000
        with record_gates(network) as record:
            before = network(x).argmax(2)
        for key in [(name, gate) for name, gates in record.items() for gate in gates]:
            with override_gates(network, {key: flatten}):
                after = network(x).argmax(2)
            union = (before > 0) | (after > 0)
            expected[key] = float((before != after).sum() / union.sum().clamp(min=1))
    return network, x, expected
