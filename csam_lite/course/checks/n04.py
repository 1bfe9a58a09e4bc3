"""Checks of 04_slice_attention: the slice gate, the draw, the reader's own test of the gradient, and the slots of short volumes."""

import torch
from torch import nn

from csam_lite.core.attention import SliceAttention
from csam_lite.core.masks import centred_slots
from csam_lite.core.slice_normal import SliceNormal
from csam_lite.course.checks import Wrong, answer, same_shape, same_values, verify


def slice_gate(gate):
    """gate(x, mlp) -> A_sl (B, S, 1, 1, 1) of x (B, S, C, H, W), all S = D slots full; mlp: (B, D) -> (B, D)."""
    generator = torch.Generator().manual_seed(4)
    x = 2 * torch.randn(3, 6, 5, 4, 7, generator=generator)
    oracle = _oracle(6)

    def shape():
        """the gate has axes (B, S, 1, 1, 1)"""
        same_shape(answer(gate, x, oracle.mlp), (3, 6, 1, 1, 1), "x of shape (3, 6, 5, 4, 7)")

    def values():
        """the gate is sigmoid(MLP(maximum) + MLP(mean)), one number a slice"""
        hint = "maximum and mean run over C, H, W of one slice; each goes through the MLP alone; then the sum, then the sigmoid"
        same_values(answer(gate, x, oracle.mlp), _gate_of(oracle, x), "random x", hint)

    def alone():
        """a volume has the same gate alone and in a batch"""
        same_values(answer(gate, x[1:2], oracle.mlp), _gate_of(oracle, x[1:2]), "the second volume alone", "pool each volume for itself")

    def gradients():
        """gradients reach the features and every layer of the MLP"""
        found = _gradients(lambda own: answer(gate, own, oracle.mlp), x, oracle.mlp)
        wanted = _gradients(lambda own: _gate_of(oracle, own), x, oracle.mlp)
        for name in wanted:
            if found[name] is None:
                raise Wrong(f"no gradient reaches {name}: look for .detach(), .data, .item() or torch.no_grad()")
            same_values(found[name], wanted[name], f"the gradient of {name}", tolerance=1e-3)

    return verify("slice gate", shape, values, alone, gradients)


def draw(sample):
    """sample(mean, diag, factor) -> one draw (B, S) of Normal(mean, factor factor^T + diag(diag)), with gradients to all three."""
    generator = torch.Generator().manual_seed(5)
    mean = torch.randn(1, 4, generator=generator)
    diag = torch.tensor([[0.25, 1.0, 2.25, 0.5]])
    factor = torch.tensor([[[1.0, 0.0], [1.0, 0.5], [-1.0, 0.5], [0.0, 1.5]]])
    normal = SliceNormal(mean, diag, factor)
    many = [t.expand(20000, *t.shape[1:]) for t in normal]

    def shape():
        """a draw has axes (B, S)"""
        same_shape(answer(sample, *[t[:3] for t in many]), (3, 4), "mean (3, 4), diag (3, 4), factor (3, 4, 2)")

    def unlike():
        """two draws differ, and so do two volumes of one draw"""
        first, second = answer(sample, *many), answer(sample, *many)
        if torch.equal(first, second):
            raise Wrong("two calls gave the same numbers: is anything random in it?")
        if bool((first == first[:1]).all()):
            raise Wrong("all volumes got the same draw: draw noise for each volume")

    def centre():
        """the mean of many draws is `mean`"""
        same_values(answer(sample, *many).mean(0), mean[0], "20000 draws of one normal", "start from the mean, the noise has mean 0", 0.08)

    def spread():
        """the covariance of many draws is factor factor^T + diag(diag)"""
        found = answer(sample, *many).detach().T.cov()
        hint = "row, column: slices. `diag` is a variance, its root scales the own noise; the slices share the common noise (B, R)"
        same_values(found, normal.covariance[0], "20000 draws of one normal", hint, 0.05)

    def gradients():
        """the draw passes gradients to mean, diag and factor"""
        own = [t.clone().requires_grad_() for t in normal]
        result = answer(sample, *own)
        if result.requires_grad:
            (result * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
        for name, tensor in zip(("mean", "diag", "factor"), own):
            if tensor.grad is None or not bool(tensor.grad.any()):
                raise Wrong(f"{name} got no gradient: .sample() and .detach() cut the graph, mean + noise * something does not")
        same_values(own[0].grad, torch.tensor([[1.0, 2.0, 3.0, 4.0]]), "d(weighted sum of the draw) / d(mean)", "it enters once, unscaled")

    return verify("the draw", shape, unlike, centre, spread, gradients)


def finds_cut(arrives):
    """arrives(module) -> True if every parameter of `module`, which reads x (2, 6, 4, 8, 8), gets a gradient that is not zero."""
    cases = {
        "a sound slice gate": (lambda: _oracle(6), True),
        "a sound slice gate that draws": (lambda: SliceAttention(6, uncertain=True), True),
        'a gate with sampling="released"': (lambda: SliceAttention(6, uncertain=True, sampling="released"), False),
        "a gate whose MLP is detached (no .grad at all)": (_Detached, False),
        "a gate times 0 (each .grad is there, and zero)": (_TimesZero, False),
        "a gate with one layer that it never calls": (_Unused, False),
    }

    def property_of(name, make, sound):
        def holds():
            torch.manual_seed(6)
            found = answer(arrives, make())
            if bool(found) is not sound:
                raise Wrong(f"expected {sound}, found {found}")
        holds.__doc__ = f"your test must say {sound} of {name}"
        return holds

    return verify("your test of the gradient", *(property_of(name, *case) for name, case in cases.items()))


def slots(place):
    """place(mask, D) -> the slot (B, S), an integer, of every slice whose mask (B, S) is True; other entries do not matter."""
    full, short = torch.ones(1, 6).bool(), torch.tensor([[True] * 3])
    padded = torch.tensor([[True, True, True, True, False, False], [False, False, True, True, True, False], [False] * 5 + [True]])
    gap = torch.tensor([[False, True, False, True, True, False]])
    cases = {
        "a full volume stands in its own slots": (full, 6),
        "a volume of 3 slices stands in the middle of 7 slots": (short, 7),
        "where a centre is impossible, one slot more stays free above than below": (short, 6),
        "padding, before or behind, does not move a volume": (padded, 8),
        "a missing slice inside a volume keeps its slot": (gap, 9),
    }

    def property_of(name, mask, D):
        def holds():
            found = answer(place, mask, D)
            same_shape(found, mask.shape, f"mask {mask.int().tolist()}, D = {D}")
            wanted = centred_slots(*mask.shape, D, mask.device, mask)
            for b in range(len(mask)):
                real = mask[b]
                if found[b][real].tolist() != wanted[b][real].tolist():
                    raise Wrong(f"mask {mask[b].int().tolist()}, D = {D}: real slices belong in slots {wanted[b][real].tolist()}, "
                                f"found {found[b][real].tolist()}")
        holds.__doc__ = name
        return holds

    return verify("slots", *(property_of(name, *case) for name, case in cases.items()))


def _oracle(D):
    with torch.random.fork_rng():
        torch.manual_seed(D)
        return SliceAttention(D)


def _gate_of(oracle, x):
    return oracle.gate_of(x)


def _gradients(gate, x, mlp):
    """{name: gradient or None} of a loss that weighs slices unlike."""
    own = x.clone().requires_grad_()
    mlp.zero_grad(set_to_none=True)
    found = gate(own)
    if found.requires_grad:
        (found * torch.linspace(1, 2, found.numel()).reshape(found.shape)).sum().backward()
    return {"the features x": own.grad} | {f"mlp.{name}": parameter.grad for name, parameter in mlp.named_parameters()}


class _Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.mlp = nn.Linear(6, 6)

    def forward(self, x):
        return x * self.change(self.mlp(x.mean((2, 3, 4))).sigmoid())[:, :, None, None, None]


class _Detached(_Gated):
    def change(self, gate):
        return gate.detach()


class _TimesZero(_Gated):
    def change(self, gate):
        return 1 + 0 * gate


class _Unused(_Gated):
    def __init__(self):
        super().__init__()
        self.forgotten = nn.Linear(6, 6)

    def change(self, gate):
        return gate
