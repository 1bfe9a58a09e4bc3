"""Checks of 04_slice_attention: the slice gate, the draw, the reader's own test of the gradient, and the
slots."""

from collections.abc import Callable

import torch
from torch import nn

from csam_lite.core.attention import SliceAttention
from csam_lite.core.masks import centred_slots
from csam_lite.core.slice_normal import SliceNormal
from csam_lite.course.checks import (
    CUT,
    Answer,
    Property,
    Verdict,
    Wrong,
    answer,
    exercise,
    numbers,
    same_gradients,
    same_shape,
    same_values,
    seed_of,
    shuffled,
    states,
    torch_generator,
    verify,
)
from csam_lite.course.checks._tensors import NEGATIVE, below_zero, leaves_inputs

DRAWS = 20000


@exercise
def slice_gate(gate: Answer) -> Verdict:
    """gate(x, mlp) -> A_sl (B, S, 1, 1, 1) of x (B, S, C, H, W), whose S slices fill all D slots; mlp: (B, D)
    -> (B, D)."""
    x = 2 * torch.randn(3, 6, 5, 4, 7, generator=torch_generator(4))
    ours = _attention(6)

    def theirs(given: torch.Tensor) -> torch.Tensor:
        return answer(gate, given, ours.mlp)

    @states("The gate has the axes (B, S, 1, 1, 1)")
    def shape() -> None:
        same_shape(theirs(x.clone()), (3, 6, 1, 1, 1), "x of shape (3, 6, 5, 4, 7)")

    @states("The gate is sigmoid(MLP(maximum) + MLP(mean)), one number for each slice")
    def values() -> None:
        same_values(
            theirs(x.clone()),
            ours.gate_of(x),
            "random x",
            "take the maximum and the mean over C, H, W of each slice; each goes through the MLP alone; "
            "then comes the sum, then the sigmoid",
        )

    @states("Also for x of another size, and where all features are negative")
    def negative() -> None:
        below, of_three = below_zero(x), _attention(3)
        same_values(answer(gate, below.clone(), of_three.mlp), of_three.gate_of(below),
                    f"x of shape {tuple(below.shape)}, all below 0", NEGATIVE)

    @states("A volume has the same gate alone and in a batch")
    def alone() -> None:
        same_values(theirs(x[1:2].clone()), ours.gate_of(x[1:2]), "the second volume alone",
                    "pool each volume for itself")

    @states(
        "Gradients reach the features, through the maximum and through the mean, and every layer of the MLP"
    )
    def gradients() -> None:
        same_gradients(theirs, ours.gate_of, x, names=["x"], part=ours.mlp)

    return verify("slice gate", shape, values, negative, alone, leaves_inputs(theirs, x=x), gradients)


@exercise
def draw(sample: Answer) -> Verdict:
    """sample(mean, diag, factor) -> one draw (B, S) of Normal(mean, factor factor^T + diag(diag)), with
    gradients to all three."""
    generator = torch_generator(5)
    mean = torch.randn(1, 4, generator=generator)
    mean = torch.where(mean < 0, -1.0, 1.0) * (mean.abs() % 1 + 0.5)  # large enough for the tolerances
    diag = torch.tensor([[0.25, 1.0, 2.25, 0.5]])
    factor = torch.tensor([[[1.0, 0.0], [1.0, 0.5], [-1.0, 0.5], [0.0, 1.5]]])
    normal = SliceNormal(mean, diag, factor)
    many = [tensor.expand(DRAWS, *tensor.shape[1:]) for tensor in normal]
    on = f"{DRAWS} draws of one normal"

    @states("A draw has the axes (B, S)")
    def shape() -> None:
        same_shape(
            answer(sample, *(tensor[:3] for tensor in many)),
            (3, 4),
            "mean (3, 4), diag (3, 4), factor (3, 4, 2)",
        )

    @states("Two draws differ, and so do two volumes of one draw")
    def random() -> None:
        first, second = answer(sample, *many), answer(sample, *many)
        if torch.equal(first, second):
            raise Wrong("two calls gave the same numbers: is anything random in the draw?")
        if bool((first == first[:1]).all()):
            raise Wrong("all volumes got the same draw: draw noise for each volume")

    @states("The mean of many draws is `mean`")
    def centre() -> None:
        same_values(
            answer(sample, *many).mean(0),
            mean[0],
            on,
            "start from the mean, because the noise has the mean 0",
            0.08,
        )

    @states("The covariance of many draws is factor factor^T + diag(diag)")
    def spread() -> None:
        same_values(
            answer(sample, *many).detach().T.cov(),
            normal.covariance[0],
            on,
            "row and column are slices; `diag` is a variance, whose root scales the noise of each slice; "
            "the slices of a volume share the noise (B, R)",
            0.06,
        )

    @states(
        "The draws have the bell shape of a normal: of each noise, 68 % lies within one standard deviation"
    )
    def bell() -> None:
        zero, one = torch.zeros(DRAWS, 1), torch.ones(DRAWS, 1)
        for name, inputs in {"diag 1, factor 0": (zero, one, zero[:, :, None]),
                             "diag 0.0001, factor 1": (zero, 1e-4 * one, one[:, :, None])}.items():
            values = answer(sample, *inputs).detach().flatten()
            for width, expected, tolerance in ((1, 0.683, 0.02), (2, 0.954, 0.02), (2.5, 0.988, 0.006)):
                share = float((values.abs() < width).float().mean())
                if not abs(share - expected) < tolerance:
                    raise Wrong(
                        f"on mean 0, {name}: expected {expected:.0%} of the draws within {width} of 0, "
                        f"found {share:.0%}; the noise is standard normal, and not cut off: torch.randn"
                    )

    @states("Each volume has its own mean, diag and factor")
    def each_volume() -> None:
        two = [torch.cat([tensor, other]).repeat_interleave(DRAWS // 2, 0)
               for tensor, other in zip(normal, (mean + 2, diag.flip(1), factor.flip(1)))]
        hint = "do not use the first volume for all"
        for b, half in enumerate(answer(sample, *two).detach().chunk(2)):
            covariance = normal.covariance[0].flip(0, 1) if b else normal.covariance[0]
            same_values(half.mean(0), mean[0] + 2 * b, f"the mean of many draws of volume {b}", hint, 0.08)
            same_values(half.T.cov(), covariance, f"the covariance of many draws of volume {b}", hint, 0.1)

    @states("The draw passes the right gradients to mean, diag and factor")
    def gradients() -> None:
        leaves = [tensor.clone().requires_grad_() for tensor in normal]
        result = answer(sample, *(leaf.expand(DRAWS, *leaf.shape[1:]) for leaf in leaves))
        A = torch.arange(16.0).reshape(4, 4).cos()
        A = A + A.T
        if result.requires_grad:  # the mean of s A s^T over all draws is mean A mean^T + trace(A covariance)
            result = result.float()
            torch.einsum("bs,st,bt->b", result, A, result).mean().backward()
        expected = 2 * mean @ A, A.diag()[None], 2 * A @ factor
        for name, leaf, gradient in zip(("mean", "diag", "factor"), leaves, expected):
            if leaf.grad is None or not bool(leaf.grad.any()):
                raise Wrong(f"{name} got no gradient; {CUT} sample() cuts it, mean + noise * x does not")
            same_values(leaf.grad, gradient, f"the gradient in {name}, mean over {DRAWS} draws",
                        "a part of the gradient is cut, or the noise depends on the parameters", 0.15)

    return verify("the draw", shape, random, centre, spread, bell, each_volume, gradients)


@exercise
def finds_cut(arrives: Answer) -> Verdict:
    """arrives(module) -> True if every parameter of `module`, which reads x (2, 6, 4, 8, 8), gets a gradient
    that is not zero."""
    cases = {
        "a sound slice gate": (lambda: _attention(6), True),
        "a sound slice gate that draws": (lambda: SliceAttention(6, uncertain=True), True),
        'a gate with sampling="released"': (
            lambda: SliceAttention(6, uncertain=True, sampling="released"),
            False,
        ),
        "a gate whose MLP is detached (no .grad at all)": (lambda: _Gated(cut=torch.Tensor.detach), False),
        "a gate times 0 (each .grad is there, and zero)": (
            lambda: _Gated(cut=lambda gate: 1 + 0 * gate),
            False,
        ),
        "a gate with a layer that it never calls": (lambda: _Gated(forgotten=True), False),
        "a gate whose first layer alone is cut": (lambda: _Layers(cut="0."), False),
        "a gate whose last layer alone is cut": (lambda: _Layers(cut="2."), False),
        **{f"a gate of which {name} alone is cut": (lambda name=name: _Layers(cut=name), False)
           for name in ("0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias")},
        "a gate of which a parameter of its own, in no layer, is cut": (lambda: _Scaled(cut="scale"), False),
        "a gate of which the weight of a convolution is cut": (lambda: _Scaled(cut="conv"), False),
        "a sound gate with a convolution and a parameter in no layer": (lambda: _Scaled(), True),
        "a sound gate of three layers": (lambda: _Layers(), True),
        "a sound gate in which the first rows of a gradient are 0": (lambda: _Layers(dead=slice(3)), True),
        "a sound gate in which the last rows of a gradient are 0": (lambda: _Layers(dead=slice(3, 6)), True),
        "a sound gate whose gradients are small": (lambda: _Layers(scale=1e-4), True),
    }

    def case(name: str, make: Callable[[], nn.Module], sound: bool) -> Property:
        @states(f"Your test must say {sound} of {name}")
        def trial() -> None:
            torch.manual_seed(6)
            result = answer(arrives, make())
            if result not in (True, False) or bool(result) is not sound:
                raise Wrong(f"expected {sound}, found {result}")
        return trial

    trials = [case(name, *made) for name, made in shuffled(cases.items(), 6)]
    return verify("your test of the gradient", *trials)


@exercise
def slots(place: Answer) -> Verdict:
    """place(mask, D) -> the slot (B, S), a whole number, of every slice whose mask (B, S) is True; other
    entries do not matter."""
    full, short = torch.ones(1, 6).bool(), torch.tensor([[True] * 3])
    padded = torch.tensor([[1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 0], [0, 0, 0, 0, 0, 1]]).bool()
    gaps = torch.tensor([[0, 1, 0, 1, 1, 0], [1, 0, 0, 0, 0, 1]]).bool()
    drawn = torch.rand(4, 6, generator=torch_generator(7)) < 0.6
    drawn[:, 2] = True  # no volume is empty
    gaps = torch.cat([gaps, drawn])
    cases = {
        "A full volume stands in its own slots": (full, 6),
        "A volume of 3 slices stands in the middle of 7 slots": (short, 7),
        "Where the middle is impossible, one more slot stays free above than below": (short, 6),
        "Padding, before or behind, does not move a volume": (padded, 8),
        "A missing slice inside a volume keeps its slot": (gaps, 9),
    }

    def case(statement: str, mask: torch.Tensor, D: int) -> Property:
        @states(statement)
        def trial() -> None:
            on = f"mask {mask.int().tolist()}, D = {D}"
            result = numbers(answer(place, mask.clone(), D), on)
            same_shape(result, mask.shape, on)
            expected = centred_slots(*mask.shape, D, mask.device, mask)
            for real, placed, wanted in zip(mask, result, expected):
                if placed[real].tolist() != wanted[real].tolist():
                    found = [int(slot) if slot == slot // 1 else slot for slot in placed[real].tolist()]
                    raise Wrong(f"mask {real.int().tolist()}, D = {D}: real slices belong in the slots "
                                f"{wanted[real].tolist()}, found {found}")
        return trial

    return verify("slots", *(case(statement, *inputs) for statement, inputs in cases.items()),
                  leaves_inputs(lambda mask: answer(place, mask, 8), mask=padded))


def _attention(D: int) -> SliceAttention:
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(D))
        return SliceAttention(D)


class _Gated(nn.Module):
    """A gate of one layer, whose value passes through `cut`; with a second layer that is never called if
    `forgotten`."""

    def __init__(self, cut: Callable = lambda gate: gate, forgotten: bool = False) -> None:
        super().__init__()
        self.mlp = nn.Linear(6, 6)
        self.forgotten = nn.Linear(6, 6) if forgotten else None
        self.cut = cut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.cut(self.mlp(x.mean((2, 3, 4))).sigmoid())[:, :, None, None, None]


class _Layers(nn.Module):
    """A gate of three layers. Parameters whose name starts with `cut` get no gradient, and the others do.

    The outputs `dead` of the first layer are multiplied by 0, so that these rows of its gradient are 0.
    `scale` makes all gradients smaller.
    """

    def __init__(self, cut: str = "none", dead: slice = slice(0), scale: float = 1.0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        self.cut, self.dead, self.scale = cut, dead, scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = x.mean((2, 3, 4))  # (B, S)
        for number, layer in enumerate(self.layers):
            weight, bias = (parameter.detach() if f"{number}.{name}".startswith(self.cut) else parameter
                            for name, parameter in layer.named_parameters())
            gate = torch.tanh(nn.functional.linear(gate, weight, bias))
            if number == 0:
                alive = torch.ones(6)
                alive[self.dead] = 0
                gate = gate * alive
        return x * (1 + self.scale * gate)[:, :, None, None, None]


class _Scaled(nn.Module):
    """A gate with a convolution and a parameter of its own, in no layer; the one named `cut` gets no
    gradient."""

    def __init__(self, cut: str = "none") -> None:
        super().__init__()
        self.conv, self.scale, self.cut = nn.Conv1d(1, 1, 3, padding=1), nn.Parameter(torch.ones(6)), cut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.conv.weight.detach() if self.cut == "conv" else self.conv.weight
        scale = self.scale.detach() if self.cut == "scale" else self.scale
        row = x.mean((2, 3, 4))[:, None]  # (B, 1, S)
        gate = nn.functional.conv1d(row, weight, self.conv.bias, padding=1)[:, 0] * scale
        return x * gate.sigmoid()[:, :, None, None, None]
