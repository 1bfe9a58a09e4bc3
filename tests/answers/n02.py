"""Answers to the exercises of 02_semantic_attention: wrong ones that its checks must reject, and unlike right ones that they must accept."""

import numpy as np
import torch
from torch import nn


def gated(x, logits):
    return x * torch.sigmoid(logits)[:, None, :, None, None]


def attention(x, mlp):
    return gated(x, mlp(x.amax((1, 3, 4))) + mlp(x.mean((1, 3, 4))))


def without_graph(x, mlp):
    with torch.no_grad():
        gate = torch.sigmoid(mlp(x.amax((1, 3, 4))) + mlp(x.mean((1, 3, 4))))
    return x * gate[:, None, :, None, None]


def volume_by_volume(x, mlp):
    out = []
    for volume in x:  # (S, C, H, W)
        flat = volume.transpose(0, 1).flatten(1)  # (C, S*H*W)
        gate = 1 / (1 + torch.exp(-mlp(flat.max(1).values[None]) - mlp(flat.mean(1)[None])))
        out.append(torch.einsum("schw,c->schw", volume, gate[0]))
    return torch.stack(out)


class Gate(nn.Module):
    def forward(self, x, mlp):
        return attention(x, mlp)


def loop_statistics(x):
    highest, mean = torch.zeros(len(x), x.shape[2]), torch.zeros(len(x), x.shape[2])
    for b in range(len(x)):
        for c in range(x.shape[2]):
            highest[b, c], mean[b, c] = x[b, :, c].max(), x[b, :, c].sum() / x[b, :, c].numel()
    return highest, mean


def weights(a, b, c, d):
    return lambda: (a, b, c, d)


HAND = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]), torch.zeros(2), 10 * torch.tensor([[1.0, -1.0], [-1.0, 1.0]]), torch.zeros(2)


def masked(x, mask):
    wide = mask[:, :, None, None, None]
    real = mask.sum(1)[:, None] * x.shape[3] * x.shape[4]
    return x.masked_fill(~wide, -torch.inf).amax((1, 3, 4)), x.masked_fill(~wide, 0).sum((1, 3, 4)) / real


def masked_loop(x, mask):
    kept = [volume[real].transpose(0, 1).flatten(1) for volume, real in zip(x, mask)]
    return [torch.stack([volume.amax(1) for volume in kept]), torch.stack([volume.mean(1) for volume in kept])]


def in_place(x, mlp):
    x *= torch.sigmoid(mlp(x.amax((1, 3, 4))) + mlp(x.mean((1, 3, 4))))[:, None, :, None, None]
    return x


def fills_the_callers_x(x, mask):
    highest, mean = masked(x, mask)
    x[~mask] = -torch.inf
    return highest, mean


def compares(strength):
    """Weights whose gates at half brightness have the logit +-strength / 2."""
    difference = [[1.0, -1.0], [-1.0, 1.0]]
    return weights(difference, [0, 0], [[strength, -strength], [-strength, strength]], [0, 0])


def opens_the_higher(answer):
    """Whether the weights do what the text of exercise 02.3 asks, computed without the library."""
    W1, b1, W2, b2 = (np.asarray(part, float) for part in answer())

    def mlp(v):
        return W2 @ np.maximum(W1 @ v + b1, 0) + b2

    for high, low, mean in ((2, 1, 0.03), (4, 2, 0.06), (1, 0.5, 0.015), (-1, -2, -2.97)):
        for true in (0, 1):
            highest = np.array([low, high] if true else [high, low])
            gate = 1 / (1 + np.exp(-mlp(highest) - mlp(np.full(2, mean))))
            if not (gate[true] > 0.9 and gate[1 - true] < 0.1):
                return False
    return True


WRONG = {
    "statistics": {
        "slices kept": lambda x: (x.amax((3, 4)), x.mean((3, 4))),
        "channels pooled": lambda x: (x.amax((1, 2, 3, 4)), x.mean((1, 2, 3, 4))),
        "volumes pooled": lambda x: (x.amax((0, 1, 3, 4)).expand(len(x), -1), x.mean((0, 1, 3, 4)).expand(len(x), -1)),
        "exchanged": lambda x: (x.mean((1, 3, 4)), x.amax((1, 3, 4))),
        "mean of each slice's maximum": lambda x: (x.amax((3, 4)).mean(1), x.mean((1, 3, 4))),
        "maximum of the absolute values": lambda x: (x.abs().amax((1, 3, 4)), x.mean((1, 3, 4))),
        "detached": lambda x: (x.amax((1, 3, 4)).detach(), x.mean((1, 3, 4)).detach()),
        "one tensor": lambda x: x.amax((1, 3, 4)),
        "axes kept": lambda x: (x.amax((1, 3, 4), keepdim=True), x.mean((1, 3, 4), keepdim=True)),
        "a dict": lambda x: {"m": x.amax((1, 3, 4)), "a": x.mean((1, 3, 4))},
        "stacked on axis 1": lambda x: torch.stack([x.amax((1, 3, 4)), x.mean((1, 3, 4))], 1),
        "the maximum never below 0": lambda x: (x.relu().amax((1, 3, 4)), x.mean((1, 3, 4))),
        "the mean detached": lambda x: (x.amax((1, 3, 4)), x.mean((1, 3, 4)).detach()),
    },
    "semantic_attention": {
        "the gate alone": lambda x, mlp: attention(torch.ones_like(x), mlp),
        "the gate without x": lambda x, mlp: torch.sigmoid(mlp(x.amax((1, 3, 4))) + mlp(x.mean((1, 3, 4))))[:, None, :, None, None],
        "a gate for each slice": lambda x, mlp: x * torch.sigmoid(mlp(x.amax((3, 4))) + mlp(x.mean((3, 4))))[..., None, None],
        "statistics added before the MLP": lambda x, mlp: gated(x, mlp(x.amax((1, 3, 4)) + x.mean((1, 3, 4)))),
        "softmax": lambda x, mlp: x * (mlp(x.amax((1, 3, 4))) + mlp(x.mean((1, 3, 4)))).softmax(1)[:, None, :, None, None],
        "two sigmoids": lambda x, mlp: gated(x, mlp(x.amax((1, 3, 4)))) + gated(x, mlp(x.mean((1, 3, 4)))),
        "maximum alone": lambda x, mlp: gated(x, mlp(x.amax((1, 3, 4)))),
        "pooled over the batch": lambda x, mlp: gated(x, (mlp(x.amax((0, 1, 3, 4))) + mlp(x.mean((0, 1, 3, 4))))[None]),
        "graph cut": without_graph,
        "input cut": lambda x, mlp: attention(x.detach(), mlp) + 0 * x,
        "in place": in_place,
        "residual": lambda x, mlp: x + attention(x, mlp),
        "the maximum never below 0": lambda x, mlp: gated(x, mlp(x.relu().amax((1, 3, 4))) + mlp(x.mean((1, 3, 4)))),
        "120 numbers in each channel": lambda x, mlp: gated(x, mlp(x.amax((1, 3, 4))) + mlp(x.sum((1, 3, 4)) / 120)),
    },
    "by_hand": {
        "gates exchanged": weights(HAND[0], HAND[1], -HAND[2], HAND[3]),
        "too weak": weights(HAND[0], HAND[1], HAND[2] / 10, HAND[3]),
        "always open": weights(torch.zeros(2, 2), torch.zeros(2), torch.zeros(2, 2), torch.full((2,), 9.0)),
        "each channel for itself": weights(torch.eye(2), torch.zeros(2), 10 * torch.eye(2), torch.zeros(2)),
        "each channel against a threshold": weights(torch.eye(2), torch.full((2,), -1.5), 20 * torch.eye(2), torch.full((2,), -3.0)),
        "right at one brightness": weights(HAND[0], torch.full((2,), -0.9), HAND[2], HAND[3]),
        "no comparison before the ReLU": weights(torch.eye(2), torch.zeros(2), HAND[2], HAND[3]),
        "a gate of 0.895": compares(2 * 2.14),
        "first channel always": weights(torch.zeros(2, 2), torch.zeros(2), torch.zeros(2, 2), torch.tensor([9.0, -9.0])),
        "three tensors": lambda: HAND[:3],
        "biases of a wrong shape": weights(HAND[0], torch.zeros(1), HAND[2], HAND[3]),
    },
    "masked_statistics": {
        "no mask": lambda x, mask: (x.amax((1, 3, 4)), x.mean((1, 3, 4))),
        "a fill of -10": lambda x, mask: (x.masked_fill(~mask[..., None, None, None], -10).amax((1, 3, 4)), masked(x, mask)[1]),
        "writes into x": fills_the_callers_x,
        "detached": lambda x, mask: [part.detach() for part in masked(x, mask)],
        "zeros for padding": lambda x, mask: ((x * mask[..., None, None, None]).amax((1, 3, 4)), masked(x, mask)[1]),
        "divided by S": lambda x, mask: (masked(x, mask)[0], (x * mask[..., None, None, None]).mean((1, 3, 4))),
        "depth counted, place not": lambda x, mask: masked(x, torch.arange(x.shape[1]) < mask.sum(1, keepdim=True)),
        "padding multiplied by 0": lambda x, mask: (
            masked(x, mask)[0], (x * mask[..., None, None, None]).mean((1, 3, 4)) / mask.float().mean(1, keepdim=True)),
        "mask inverted": lambda x, mask: masked(x, ~mask),
        "exchanged": lambda x, mask: masked(x, mask)[::-1],
        "first volume's mask": lambda x, mask: masked(x, mask[:1].expand(len(x), -1)),
        "from the first to the last real slice": lambda x, mask: masked(x, (mask.cumsum(1) > 0) & (mask.flip(1).cumsum(1) > 0).flip(1)),
        "one slice is too few": lambda x, mask: [torch.where(mask.sum(1, keepdim=True) > 1, part, 0) for part in masked(x, mask)],
    },
}
RIGHT = {
    "statistics": {"two calls": lambda x: (x.amax((1, 3, 4)), x.mean((1, 3, 4))), "loops": loop_statistics,
                   "one tensor (2, B, C)": lambda x: torch.stack([x.amax((1, 3, 4)), x.mean((1, 3, 4))])},
    "semantic_attention": {"function": attention, "loop and einsum": volume_by_volume, "module": Gate()},
    "by_hand": {
        "differences": weights(*HAND),
        "one hidden unit": weights(torch.tensor([[20.0, -20.0], [0.0, 0.0]]), torch.zeros(2),
                                   torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.tensor([-2.0, 2.0])),
        "a gate of 0.905": compares(2 * 2.254),
        "lists": weights([[2, -2], [-2, 2]], [0, 0], [[6, -6], [-6, 6]], [0, 0]),
    },
    "masked_statistics": {"fill": masked, "loop, as a list": masked_loop},
}

STILL_RIGHT = {"by_hand": opens_the_higher}
EQUIVALENT = {
    "statistics": {
        "lambda x: «[x.amax((1, 3, 4)), x.mean((1, 3, 4))]»": "a list of both is as good as one tensor",
        "«torch.ones(len(x), x.shape[2])»": "every number of the new tensor is overwritten",
        "».shape[2]": "x[:1] has as many channels as x",
        "len(«highest»)": "highest has as many rows as x",
        "len(«mean»)": "mean has as many rows as x",
        "«x.detach()»[b, :, c].numel()": "only the size is used here",
        "x[b, :, «b»].numel()": "all channels have the same size",
    },
    "semantic_attention": {
        "«volume.transpose(1, 0)»": "transpose does not depend on the order of the two axes",
        "mlp(«flat.max(1).values»)": "the batch axis of one volume is added by broadcasting",
        "mlp(«flat.mean(1)»)": "the batch axis of one volume is added by broadcasting",
        "(«-1»)": "axis 1 of two is the last one",
        "«gate[:1]»[0]": "the first of the first is the first",
        "«gate[-1:]»[0]": "of one volume, the last is the first",
        "gate[«-1»]": "of one volume, the last is the first",
    },
    "masked_statistics": {
        "«mask.detach()»": "a mask has no gradient",
        "«wide.detach()»": "a mask has no gradient",
        "«real.detach()»": "a mask has no gradient",
        "mask.sum(«-1»)": "axis 1 of two is the last one",
        "«x[:1]».shape[": "x[:1] has the same H and W",
        "«x[-1:]».shape[": "x[-1:] has the same H and W",
        "«volume[real].transpose(1, 0)»": "transpose does not depend on the order of the two axes",
        "(«-1»)": "axis 1 of two is the last one",
    },
}
