"""What the checks of notebooks 02 to 04 share: features to try an answer on, and properties of answers in
torch."""

from collections.abc import Callable

import torch

from csam_lite.core.attention import Attention
from csam_lite.course.checks import (
    Answer,
    Property,
    Verdict,
    Wrong,
    answer,
    same_gradients,
    same_shape,
    same_values,
    states,
    torch_generator,
    verify,
)


def features() -> torch.Tensor:
    """x (3, 4, 3, 5, 6): three volumes whose values lie at different levels; no value is 0."""
    x = torch.randn(3, 4, 3, 5, 6, generator=torch_generator(0))
    return x + torch.tensor([0.0, 1.0, -0.5])[:, None, None, None, None]


NEGATIVE = (
    "take the sizes from x.shape; a maximum can be negative: start from no 0, and take no ReLU or abs of it"
)


def below_zero(x: torch.Tensor) -> torch.Tensor:
    """Some of x (B, S, C, H, W): fewer volumes, slices, rows and columns, and all values negative."""
    return (x - x.amax() - 0.5)[:2, :3, :, :4, :5]


def leaves_inputs(function: Callable, **inputs: torch.Tensor) -> Property:
    """The property that function(*inputs) writes into none of its inputs; the keywords are the reader's
    names."""
    @states(f"{' and '.join(inputs)} {'stays as it was' if len(inputs) == 1 else 'stay as they were'}")
    def unchanged() -> None:
        given = [tensor.clone() for tensor in inputs.values()]
        answer(function, *given)
        for name, before, after in zip(inputs, inputs.values(), given):
            same_values(after, before, f"{name}, looked at after your function has run",
                        "do not change it in place (*=, +=, x[...] = ...); compute a new tensor")
    return unchanged


def passes_gradients(function: Callable, ours: Callable, **inputs: torch.Tensor) -> Property:
    """The property that the results of function(*inputs) pass on the same gradients as those of
    ours(*inputs)."""
    @states(f"Gradients reach {' and '.join(inputs)}")
    def gradients() -> None:
        same_gradients(lambda *given: answer(function, *given), ours, *inputs.values(), names=list(inputs))
    return gradients


def same_gate_module(
    name: str, function: Answer, ours: Attention, layer: torch.nn.Module, hint: str
) -> Verdict:
    """Verify that function(x, layer) is the attention `ours`, of which `layer` is the MLP or the convolution.

    Tries the shape, that x stays as it was, the gate, the values and the gradients. `hint` names usual
    causes of other values.
    """
    x = features()
    on = f"x of shape {tuple(x.shape)}"
    pooled = [dim for dim in ours.pooled if dim > 0]
    place = {"BC": "channel", "BHW": "pixel"}[ours.axes]

    def gated(given: torch.Tensor) -> torch.Tensor:
        return answer(function, given, layer)

    @states("The output has the shape of x")
    def shape() -> None:
        same_shape(gated(x.clone()), x.shape, on)

    @states(
        f"A volume has one gate for each {place}, the same along {', '.join('BSCHW'[dim] for dim in pooled)}"
    )
    def gate() -> None:
        ratio = gated(x.clone()) / x
        spread = (ratio.amax(pooled) - ratio.amin(pooled)).max().item()
        if not spread < 1e-4:
            raise Wrong(f"on {on}: expected output / x to be one number for each {place} of a volume, "
                        f"found that it varies by {spread:.3g}")

    @states(f"The values are those of csam_lite.{type(ours).__name__}")
    def values() -> None:
        same_values(gated(x.clone()), ours(x), on, hint)

    @states("Also for a batch of another size, and where all features are negative")
    def negative() -> None:
        below = below_zero(x)
        on = f"x of shape {tuple(below.shape)}, all below 0"
        same_values(gated(below.clone()), ours(below), on, NEGATIVE)

    @states(f"The gradients are those of csam_lite.{type(ours).__name__}")
    def gradients() -> None:
        same_gradients(gated, ours, x, names=["x"], part=layer)

    return verify(name, shape, leaves_inputs(gated, x=x), gate, values, negative, gradients)
