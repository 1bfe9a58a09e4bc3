"""Answers to the exercises of 04_slice_attention: wrong ones that its checks must reject, and unlike right ones that they must accept."""

import torch
from torch import nn

from csam_lite.core.attention import SliceAttention
from csam_lite.core.masks import centred_slots


def gate_right(x, mlp):
    return (mlp(x.amax((2, 3, 4))) + mlp(x.mean((2, 3, 4)))).sigmoid()[:, :, None, None, None]


def gate_by_loops(x, mlp):
    stack = []
    for volume in x:
        highest = torch.stack([one.max() for one in volume])
        mean = torch.stack([one.sum() / one.numel() for one in volume])
        stack.append(1 / (1 + torch.exp(-mlp(highest[None]) - mlp(mean[None]))))
    return torch.cat(stack).reshape(len(x), -1, 1, 1, 1)


class GateModule(nn.Module):
    def forward(self, x, mlp):
        flat = x.flatten(2)
        return torch.sigmoid(mlp(flat.max(2).values) + mlp(flat.mean(2))).view(*flat.shape[:2], 1, 1, 1)


def five(z):
    return z[:, :, None, None, None]


def mean_cut(x, mlp):
    with torch.no_grad():
        mean = x.mean((2, 3, 4))
    return five((mlp(x.amax((2, 3, 4))) + mlp(mean)).sigmoid())


GATE_WRONG = {
    "maximum only": lambda x, mlp: five(mlp(x.amax((2, 3, 4))).sigmoid()),
    "statistics added before the MLP": lambda x, mlp: five(mlp(x.amax((2, 3, 4)) + x.mean((2, 3, 4))).sigmoid()),
    "a sigmoid on each term": lambda x, mlp: five(mlp(x.amax((2, 3, 4))).sigmoid() + mlp(x.mean((2, 3, 4))).sigmoid()),
    "no sigmoid": lambda x, mlp: five(mlp(x.amax((2, 3, 4))) + mlp(x.mean((2, 3, 4)))),
    "pooled over the volumes": lambda x, mlp: gate_right(x.mean(0, keepdim=True).expand_as(x), mlp),
    "softmax over the slices": lambda x, mlp: five((mlp(x.amax((2, 3, 4))) + mlp(x.mean((2, 3, 4)))).softmax(1)),
    "gradient cut": lambda x, mlp: gate_right(x, mlp).detach(),
    "gradient of the mean cut": mean_cut,
    "features cut": lambda x, mlp: gate_right(x.detach(), mlp),
    "the maximum never below 0": lambda x, mlp: five((mlp(x.relu().amax((2, 3, 4))) + mlp(x.mean((2, 3, 4)))).sigmoid()),
    "140 numbers in each slice": lambda x, mlp: five((mlp(x.amax((2, 3, 4))) + mlp(x.sum((2, 3, 4)) / 140)).sigmoid()),
    "shape (B, S)": lambda x, mlp: gate_right(x, mlp).flatten(1),
    "the gated features": lambda x, mlp: x * gate_right(x, mlp),
    "raises": lambda x, mlp: mlp(x),
}


def draw_right(mean, diag, factor):
    common = torch.randn(factor.shape[0], factor.shape[2], 1)
    return mean + (factor @ common).squeeze(2) + diag.sqrt() * torch.randn_like(mean)


def draw_by_torch(mean, diag, factor):
    return torch.distributions.LowRankMultivariateNormal(mean, factor, diag).rsample()


def draw_by_cholesky(mean, diag, factor):
    root = torch.linalg.cholesky(factor @ factor.mT + torch.diag_embed(diag))
    return mean + torch.einsum("bst,bt->bs", root, torch.randn_like(mean))


def drawn(mean, diag, factor, noise):
    """A draw with other noise of mean 0 and variance 1; noise(shape) -> tensor."""
    common = (factor @ noise((len(mean), factor.shape[2], 1))).squeeze(2)
    return mean + common + diag.sqrt() * noise(mean.shape)


DRAW_WRONG = {
    "coin flips": lambda m, d, f: drawn(m, d, f, lambda shape: torch.randn(shape).sign()),
    "centred uniform noise": lambda m, d, f: drawn(m, d, f, lambda shape: (torch.rand(shape) - 0.5) * 12**0.5),
    "noise cut off at 2": lambda m, d, f: drawn(m, d, f, lambda shape: torch.randn(shape).clamp(-2, 2)),
    "the first volume for all": lambda m, d, f: draw_right(m[:1].expand_as(m), d, f),
    "half of the factor cut": lambda m, d, f: draw_right(m, d, 0.5 * f + 0.5 * f.detach()),
    "sample() instead of rsample()": lambda m, d, f: torch.distributions.LowRankMultivariateNormal(m, f, d).sample(),
    "the mean": lambda m, d, f: m + 0 * d + 0 * f.sum(2),
    "variance as standard deviation": lambda m, d, f: m + (f @ torch.randn(len(m), f.shape[2], 1)).squeeze(2) + d * torch.randn_like(m),
    "no common noise": lambda m, d, f: m + (d + f.square().sum(2)).sqrt() * torch.randn_like(m),
    "no own noise": lambda m, d, f: m + (f @ torch.randn(len(m), f.shape[2], 1)).squeeze(2) + 0 * d,
    "one noise for all volumes": lambda m, d, f: m + (f @ torch.randn(f.shape[2])) + d.sqrt() * torch.randn(m.shape[1]),
    "uniform noise": lambda m, d, f: m + (f @ torch.rand(len(m), f.shape[2], 1)).squeeze(2) + d.sqrt() * torch.rand_like(m),
    "no mean": lambda m, d, f: draw_right(0 * m, d, f),
    "the mean detached": lambda m, d, f: draw_right(m.detach(), d, f),
    "fixed seed": lambda m, d, f: (torch.manual_seed(0), draw_right(m, d, f))[1],
    "a column too many": lambda m, d, f: draw_right(m, d, f)[:, :, None],
}


def step(module, x=None):
    module.train()
    module.zero_grad(set_to_none=True)
    y = module(torch.rand(2, 6, 4, 8, 8) if x is None else x)
    if y.requires_grad:
        (y * torch.randn_like(y)).sum().backward()
    return [parameter.grad for parameter in module.parameters()]


def arrives_right(module):
    x = torch.rand(2, 6, 4, 8, 8, requires_grad=True)
    y = module(x)
    (y * torch.randn_like(y)).sum().backward()
    return all(p.grad is not None and bool(p.grad.any()) for p in module.parameters())


def arrives_by_autograd(module):
    y = module(torch.randn(2, 6, 4, 8, 8))
    if not y.requires_grad:
        return False
    grads = torch.autograd.grad(y.square().sum(), list(module.parameters()), allow_unused=True)
    return min(0.0 if grad is None else float(grad.abs().sum()) for grad in grads) > 0


def arrives_by_a_step(module):
    before = [parameter.detach().clone() for parameter in module.parameters()]
    y = module(torch.rand(2, 6, 4, 8, 8))
    if y.requires_grad:
        y.square().sum().backward()
    torch.optim.SGD(module.parameters(), lr=1.0).step()
    return all(not torch.equal(old, new) for old, new in zip(before, module.parameters()))


def keeps_the_last(module):
    step(module)
    for p in module.parameters():
        arrived = p.grad is not None and bool(p.grad.any())
    return arrived


def some(module, chosen):
    """A right test of the parameters that are chosen, and of no other."""
    grads = step(module)
    names = [name for name, _ in module.named_parameters()]
    return all(grad is not None and bool(grad.any()) for name, grad in zip(names, grads) if chosen(name, names))


FINDS_WRONG = {
    "the last parameter only": keeps_the_last,
    "weights only": lambda module: some(module, lambda name, names: "weight" in name),
    "linear layers only": lambda module: step(module) and all(
        p.grad is not None and bool(p.grad.any()) for m in module.modules() if isinstance(m, nn.Linear) for p in m.parameters()),
    "parameters of layers only": lambda module: step(module) and all(
        p.grad is not None and bool(p.grad.any()) for child in module.children() for p in child.parameters()),
    "biases only": lambda module: some(module, lambda name, names: "bias" in name),
    "first and last only": lambda module: some(module, lambda name, names: name in (names[0], names[-1])),
    "always True": lambda module: True,
    "always False": lambda module: False,
    "any instead of all": lambda module: any(grad is not None and bool(grad.any()) for grad in step(module)),
    "None only": lambda module: all(grad is not None for grad in step(module)),
    "skips None": lambda module: all(bool(grad.any()) for grad in step(module) if grad is not None),
    "asks requires_grad": lambda module: all(parameter.requires_grad for parameter in module.parameters()),
    "asks the output": lambda module: module(torch.rand(2, 6, 4, 8, 8)).requires_grad,
    "no backward": lambda module: all(parameter.grad is not None for parameter in module.parameters()),
    "the input's gradient": lambda module: (x := torch.rand(2, 6, 4, 8, 8, requires_grad=True), step(module, x), bool(x.grad.any()))[2],
    "raises": lambda module: module(torch.rand(6, 4, 8, 8)),
}


def slots_right(mask, D):
    return centred_slots(*mask.shape, D, mask.device, mask)


def slots_by_loops(mask, D):
    out = torch.zeros(mask.shape, dtype=torch.long)
    for b, row in enumerate(mask.tolist()):
        real = [s for s, here in enumerate(row) if here]
        below = (D - (real[-1] - real[0] + 1)) // 2
        for s in real:
            out[b, s] = s - real[0] + below
    return out


def slots_as_floats(mask, D):
    where = torch.arange(mask.shape[1]).float()
    low, high = [torch.tensor([[float(f(row.nonzero()))] for row in mask]) for f in (torch.min, torch.max)]
    return where - low + ((D - 1 - high + low) / 2).floor()


def shifted(mask, D, by):
    return slots_right(mask, D) + by


SLOTS_WRONG = {
    "no centring": lambda mask, D: torch.arange(mask.shape[1]).expand(mask.shape),
    "padding counts": lambda mask, D: torch.arange(mask.shape[1]).expand(mask.shape) + (D - mask.shape[1]) // 2,
    "real slices counted, gaps forgotten": lambda mask, D: mask.cumsum(1) - 1 + (D - mask.sum(1, keepdim=True)) // 2,
    "rounded up": lambda mask, D: mask.int().argmax(1, keepdim=True) * -1 + torch.arange(mask.shape[1])
                                  + (D - mask.sum(1, keepdim=True) + 1) // 2,
    "one too high": lambda mask, D: shifted(mask, D, 1),
    "at the upper end": lambda mask, D: slots_right(mask, D) + (D - mask.sum(1, keepdim=True) + 1) // 2,
    "upside down": lambda mask, D: D - 1 - slots_right(mask, D),
    "half a slot": lambda mask, D: slots_right(mask, D) + 0.5 * ((D - mask.sum(1, keepdim=True)) % 2),
    "one volume only": lambda mask, D: slots_right(mask[:1], D)[0],
    "raises": lambda mask, D: mask[D],
}


def gate_of_the_library(x, mlp):
    attention = SliceAttention(x.shape[1])
    attention.mlp = mlp
    return attention.gate_of(x)


WRONG = {"slice_gate": GATE_WRONG, "draw": DRAW_WRONG, "finds_cut": FINDS_WRONG, "slots": SLOTS_WRONG}
RIGHT = {
    "slice_gate": {
        "gate_right": gate_right,
        "gate_by_loops": gate_by_loops,
        "GateModule": GateModule(),
        "the library": gate_of_the_library,
    },
    "draw": {
        "draw_right": draw_right,
        "draw_by_torch": draw_by_torch,
        "draw_by_cholesky": draw_by_cholesky,
    },
    "finds_cut": {
        "arrives_right": arrives_right,
        "arrives_by_autograd": arrives_by_autograd,
        "arrives_by_a_step": arrives_by_a_step,
    },
    "slots": {
        "slots_right": slots_right,
        "slots_by_loops": slots_by_loops,
        "slots_as_floats": slots_as_floats,
        "lists": lambda mask, D: slots_by_loops(mask, D).tolist(),
    },
}

EQUIVALENT = {
    "slice_gate": {
        "«one.detach()».numel()": "only the size is used here",
        "mlp(«highest»)": "the batch axis of one volume is added by broadcasting",
        "mlp(«mean»)": "the batch axis of one volume is added by broadcasting",
        "len(«stack»)": "the list has one gate for each volume",
        "«x».shape[:2]": "x and flat have the same B and S",
        "«-1»": "the axis that is left over has the size 1",
        "«x[:1]».shape[1]": "x[:1] has as many slices as x",
        "«x[-1:]».shape[1]": "x[-1:] has as many slices as x",
    },
    "draw": {
        "«mean».shape[0]": "mean and factor have the same B",
        "«diag».shape[0]": "diag and factor have the same B",
        "«factor[:1]».shape[2]": "factor[:1] has the same R",
        "«factor[-1:]».shape[2]": "factor[-1:] has the same R",
        "«mean + (factor @ common).squeeze(2) - diag": "noise and minus noise have the same distribution",
        "«mean - ": "noise and minus noise have the same distribution",
        "«common.detach()»": "the noise depends on no parameter",
        "randn_like(«diag»)": "mean and diag have the same shape",
        "randn_like(«mean.detach()»)": "only the shape is used here",
    },
    "finds_cut": {
        "randn_like(": "every loss that depends on all parameters will do",
        "«(y * torch.randn_like(y)).": "every loss that depends on all parameters will do",
        "«y": "every loss that depends on all parameters will do",
        "«p.grad.any()»": "a tensor of one bool is a bool",
        "torch.rand": "random input of another size or distribution will do, if the module reads it",
        "«return -False»": "-False is 0, and so False",
        "module(«x[": "one volume is enough input",
        "«module.parameters()»": "autograd.grad takes every collection of tensors",
        "«grad.": "every measure of size will do that is 0 for zeros alone",
        "«parameter.detach()».detach()": "detach() twice is detach()",
        "«parameter».clone()": "torch.equal compares values",
        "SGD(module.parameters())": "every learning rate will do, and SGD has one by default",
        "lr=«": "every learning rate will do",
        "«torch.equal(new, old)»": "torch.equal does not depend on the order",
        "«old.detach()»": "torch.equal compares values",
        "«new.detach()»": "torch.equal compares values",
        "«zip(module.parameters(), before)»": "torch.equal does not depend on the order",
    },
    "slots": {
        "lambda mask, D: «slots_by_loops(mask, D)»": "a tensor is as good as lists",
        "detach()": "whole numbers have no gradient",
        ".round()»": "whole numbers stay as they are",
        "«mask[:1]».": "centred_slots takes the places of all volumes from the mask",
        "«mask[-1:]».": "centred_slots takes the places of all volumes from the mask",
        "out = «torch.": "every number of a real slice is overwritten, and floats may hold whole numbers",
        "enumerate(«mask»)": "the loops read a tensor as they read a list",
        "below = «(D - (real[-1] - real[0] + 1)) / 2»": "assigning to a tensor of whole numbers rounds down",
        "«real[": "the first of the first is the first, the last of the last is the last",
        "where = «torch.arange(mask.shape[1])»": "whole numbers or floats",
        "mask.shape[«-1»]": "axis 1 of two is the last one",
        "«f(row.nonzero())»": "torch.tensor takes a tensor of one number",
        "«(torch.max, torch.min)»": "first and last may change their roles: the formula has the same value",
        "«(D - 1 - high + low) // 2»": "// rounds down already",
    },
}
