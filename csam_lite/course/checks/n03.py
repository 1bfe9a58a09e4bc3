"""Checks of 03_positional_attention: the two maps, the gate, and its weights set by hand."""

import torch
from torch import nn

from csam_lite.core.attention import PositionalAttention
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
    torch_generator,
    verify,
)
from csam_lite.course.checks._tensors import (
    NEGATIVE,
    below_zero,
    features,
    leaves_inputs,
    passes_gradients,
    same_gate_module,
)
from csam_lite.course.toys import one_stays


@exercise
def maps(function: Answer) -> Verdict:
    """function(x): the maximum and the mean of x (B, S, C, H, W) over slices and channels, in this order (B,
    2, H, W)."""
    x = features()

    def ours(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x.amax((1, 2)), x.mean((1, 2))], 1)

    @states("A volume of two slices of 1 x 2 pixels, whose maps you can read off")
    def by_hand() -> None:
        small = torch.tensor([[1.0, 6.0], [3.0, -2.0]]).reshape(1, 2, 1, 1, 2)
        same_values(answer(function, small.clone()), ours(small), "the small volume",
                    "the maximum comes first, then the mean")

    @states("A batch with several channels")
    def batch() -> None:
        same_values(answer(function, x.clone()), ours(x), f"x of shape {tuple(x.shape)}",
                    "pool over S and C; keep B, H and W")

    @states("Also for a batch of another size, and where all features are negative")
    def negative() -> None:
        below = below_zero(x)
        on = f"x of shape {tuple(below.shape)}, all below 0"
        same_values(answer(function, below.clone()), ours(below), on, NEGATIVE)

    return verify("maps", by_hand, batch, negative, leaves_inputs(function, x=x),
                  passes_gradients(function, ours, x=x))


@exercise
def positional_attention(function: Answer) -> Verdict:
    """function(x, conv): x times its positional gate, as PositionalAttention; `conv` maps (B, 2, H, W) to (B,
    1, H, W)."""
    ours = PositionalAttention()
    nn.init.normal_(ours.conv.weight, std=0.2, generator=torch_generator(1))
    nn.init.constant_(ours.conv.bias, 0.2)
    return same_gate_module(
        "positional_attention",
        function,
        ours,
        ours.conv,
        "the gate is sigmoid(conv(maps)); channel 0 of the maps is the maximum, channel 1 the mean",
    )


@exercise
def by_hand(function: Answer) -> Verdict:
    """function(): a weight (1, 2, 7, 7) and a bias (1,) whose gate is open on the disc that stays, and shut
    on discs that jump."""

    def tensors() -> list[torch.Tensor]:
        names = ("the weight", "the bias")
        return [numbers(part, name) for part, name in zip(parts(answer(function), names), names)]

    @states("A weight of the shape (1, 2, 7, 7) and a bias of the shape (1,)")
    def shapes() -> None:
        weight, bias = tensors()
        same_shape(weight, (1, 2, 7, 7), "the weight")
        same_shape(bias, (1,), "the bias")

    @states(
        "On 32 volumes, the gate is above 0.9 on every disc that stays and below 0.1 on every disc that jumps"
    )
    def opens() -> None:
        attention = PositionalAttention()
        # here no disc that jumps is in one place in more than 5 of the 8 slices
        x, label = one_stays(32, seed=2)
        with torch.no_grad():
            for parameter, value in zip((attention.conv.weight, attention.conv.bias), tensors()):
                parameter.copy_(value)
            gate = attention.gate_of(x)[:, 0, 0]  # (B, H, W)
        stays, jumps = label[:, 0] > 0, ((x[:, :, 0] > 0.5) & (label == 0)).any(1)
        highest, mean = x.amax((1, 2)), x.mean((1, 2))  # (B, H, W) each

        def at(place: torch.Tensor) -> str:
            return (f"at one pixel; there the maximum is {highest.flatten()[place]:.2f} "
                    f"and the mean {mean.flatten()[place]:.2f}")

        if not (least := gate[stays].min().item()) > 0.9:
            place = gate.masked_fill(~stays, torch.inf).argmin()
            raise Wrong(f"on discs that stay: expected a gate above 0.9, found {least:.2f} {at(place)}")
        if not (most := gate[jumps].max().item()) < 0.1:
            place = gate.masked_fill(~jumps, -torch.inf).argmax()
            raise Wrong(f"on discs that jump: expected a gate below 0.1, found {most:.2f} {at(place)}")

    return verify("by_hand", shapes, opens)
