"""Checks of 02_semantic_attention: the statistics, the gate, its weights set by hand, and padding."""

import torch
from torch import nn

from csam_lite.core.attention import SemanticAttention
from csam_lite.course.checks import (
    Answer,
    Verdict,
    Wrong,
    answer,
    exercise,
    numbers,
    parts,
    same_shape,
    same_values,
    states,
    verify,
)
from csam_lite.course.checks._tensors import (
    below_zero,
    features,
    leaves_inputs,
    passes_gradients,
    same_gate_module,
)

PAIR = ("the maximum", "the mean")
WEIGHTS = {"W1": (2, 2), "b1": (2,), "W2": (2, 2), "b2": (2,)}


@exercise
def statistics(function: Answer) -> Verdict:
    """function(x): the maximum and the mean of each channel of x (B, S, C, H, W) in its whole volume, (B, C)
    each."""
    x = features()

    def ours(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x.amax((1, 3, 4)), x.mean((1, 3, 4))

    def same_pair(x: torch.Tensor, on: str, hint: str) -> None:
        for name, result, expected in zip(PAIR, parts(answer(function, x.clone()), PAIR), ours(x)):
            same_values(result, expected, f"{on}, {name}", hint)

    @states("A volume of two slices and two channels, whose statistics you can read off")
    def by_hand() -> None:
        small = torch.tensor([[1.0, 3.0], [-4.0, -2.0], [5.0, 7.0], [-9.0, -1.0]]).reshape(1, 2, 2, 1, 2)
        same_pair(small, "the small volume", "pool over slices and pixels, for each channel alone")

    @states("A batch: each volume has its own statistics")
    def batch() -> None:
        for some in (x, below_zero(x)):
            same_pair(some, f"x of shape {tuple(some.shape)}", "pool over S, H and W and over no other axis")

    return verify(
        "statistics",
        by_hand,
        batch,
        leaves_inputs(function, x=x),
        passes_gradients(lambda given: parts(answer(function, given), PAIR), ours, x=x),
    )


@exercise
def semantic_attention(function: Answer) -> Verdict:
    """function(x, mlp): x times its semantic gate, as SemanticAttention; `mlp` is a module (B, C) -> (B,
    C)."""
    ours = SemanticAttention(3, reduction=1)
    for layer in (ours.mlp[0], ours.mlp[2]):
        nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(1))
        nn.init.constant_(layer.bias, 0.3)
    return same_gate_module(
        "semantic_attention",
        function,
        ours,
        ours.mlp,
        "the gate is sigmoid(mlp(maximum) + mlp(mean)): one sigmoid, and two calls of the MLP",
    )


@exercise
def by_hand(function: Answer) -> Verdict:
    """function(): W1 (2, 2), b1 (2,), W2 (2, 2), b2 (2,) of an MLP that opens the channel with the higher
    maximum and shuts the other one."""

    @states("Four tensors of the shapes (2, 2), (2,), (2, 2), (2,)")
    def shapes() -> None:
        for (name, shape), weight in zip(WEIGHTS.items(), parts(answer(function), tuple(WEIGHTS))):
            same_shape(numbers(weight, name), shape, name)

    @states("The gate is above 0.9 for the channel with the higher maximum and below 0.1 for the other one")
    def opens() -> None:
        attention = SemanticAttention(2, reduction=1)
        parameters = (
            attention.mlp[0].weight,
            attention.mlp[0].bias,
            attention.mlp[2].weight,
            attention.mlp[2].bias,
        )
        with torch.no_grad():
            for parameter, weight in zip(parameters, answer(function)):
                parameter.copy_(numbers(weight, "the weights"))
            for high, low, mean in (
                (2.0, 1.0, 0.03),
                (4.0, 2.0, 0.06),
                (1.0, 0.5, 0.015),
                (-1.0, -2.0, -2.97),
            ):
                for true in (0, 1):
                    highest = torch.tensor([low, high] if true else [high, low])[None, None, :, None, None]
                    gate = attention.gate_from(highest, torch.full_like(highest, mean)).flatten().tolist()
                    if not (gate[true] > 0.9 and gate[1 - true] < 0.1):
                        raise Wrong(
                            f"channel {true} has the maximum {high:g} and channel {1 - true} {low:g}, both "
                            f"the mean {mean:g}: expected gates above 0.9 and below 0.1, "
                            f"found {gate[true]:.2f} and {gate[1 - true]:.2f}"
                        )

    return verify("by_hand", shapes, opens)


@exercise
def masked_statistics(function: Answer) -> Verdict:
    """function(x, mask): maximum and mean (B, C) of the real slices alone; mask (B, S) is True where a slice
    is real."""
    x = features()
    x = x - x.amax() - 0.5  # all below zero, so that padding of zeros would be the maximum
    mask = torch.tensor([[True, True, True, True], [True, True, False, False], [False, True, True, False]])

    def ours(x: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
        kept = [volume[real] for volume, real in zip(x, mask)]
        return [torch.stack([volume.amax((0, 2, 3)) for volume in kept]),
                torch.stack([volume.mean((0, 2, 3)) for volume in kept])]

    def same_pair(x: torch.Tensor, mask: torch.Tensor, on: str, *hints: str) -> None:
        results = parts(answer(function, x.clone(), mask.clone()), PAIR)
        for name, result, expected, hint in zip(PAIR, results, ours(x, mask), hints):
            same_values(result, expected, f"{on}, {name}", hint)

    @states("With a mask that is True everywhere, the plain statistics")
    def full() -> None:
        same_pair(
            x,
            torch.ones(3, 4, dtype=torch.bool),
            "a full mask",
            "pool over S, H and W",
            "pool over S, H and W",
        )

    @states("Volumes of 4, 2 and 2 real slices, whose values are all negative")
    def padded() -> None:
        same_pair(x, mask, "padded volumes", "zeros in the padding are higher than all real values here",
                  "divide by the number of real slices, not by S")

    @states("A slice may also be missing inside a volume, and a volume may have one slice only")
    def inside() -> None:
        gaps = torch.tensor([[1, 0, 1, 1], [0, 0, 1, 0], [1, 0, 0, 1]]).bool()
        hint = "ask the mask for each slice; the real slices need not lie side by side"
        same_pair(x, gaps, "volumes in which slices are missing", hint, hint)

    @states("However negative the values are")
    def far_below() -> None:
        same_pair(x * 1e4, mask, "features near -40000", "only minus infinity is lower than every number", "")

    @states("What stands in the padding changes nothing")
    def any_padding() -> None:
        for padding, hint in (
            (50.0, "leave the padding out"),
            (torch.nan, "0 * NaN is NaN: fill the padding, do not multiply"),
        ):
            given = x.masked_fill(~mask[:, :, None, None, None], padding)
            same_pair(given, mask, f"padding of {padding:g}", hint, hint)

    return verify(
        "masked_statistics",
        full,
        padded,
        inside,
        far_below,
        any_padding,
        leaves_inputs(function, x=x, mask=mask),
        passes_gradients(
            lambda given: parts(answer(function, given, mask), PAIR), lambda given: ours(given, mask), x=x
        ),
    )
