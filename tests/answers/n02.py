"""Answers to the exercises of 02_semantic_attention: wrong ones that its checks must reject, and unlike right ones that they must accept."""

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


WRONG = {
    "statistics": {
        "slices kept": lambda x: (x.amax((3, 4)), x.mean((3, 4))),
        "channels pooled": lambda x: (x.amax((1, 2, 3, 4)), x.mean((1, 2, 3, 4))),
        "volumes pooled": lambda x: (x.amax((0, 1, 3, 4)).expand(len(x), -1), x.mean((0, 1, 3, 4)).expand(len(x), -1)),
        "exchanged": lambda x: (x.mean((1, 3, 4)), x.amax((1, 3, 4))),
        "mean of each slice's maximum": lambda x: (x.amax((3, 4)).mean(1), x.mean((1, 3, 4))),
        "maximum of the absolute values": lambda x: (x.abs().amax((1, 3, 4)), x.mean((1, 3, 4))),
        "one tensor": lambda x: x.amax((1, 3, 4)),
        "axes kept": lambda x: (x.amax((1, 3, 4), keepdim=True), x.mean((1, 3, 4), keepdim=True)),
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
        "residual": lambda x, mlp: x + attention(x, mlp),
    },
    "by_hand": {
        "gates exchanged": weights(HAND[0], HAND[1], -HAND[2], HAND[3]),
        "too weak": weights(HAND[0], HAND[1], HAND[2] / 10, HAND[3]),
        "always open": weights(torch.zeros(2, 2), torch.zeros(2), torch.zeros(2, 2), torch.full((2,), 9.0)),
        "each channel for itself": weights(torch.eye(2), torch.zeros(2), 10 * torch.eye(2), torch.zeros(2)),
        "each channel against a threshold": weights(torch.eye(2), torch.full((2,), -1.5), 20 * torch.eye(2), torch.full((2,), -3.0)),
        "first channel always": weights(torch.zeros(2, 2), torch.zeros(2), torch.zeros(2, 2), torch.tensor([9.0, -9.0])),
        "three tensors": lambda: HAND[:3],
        "biases of a wrong shape": weights(HAND[0], torch.zeros(1), HAND[2], HAND[3]),
    },
    "masked_statistics": {
        "no mask": lambda x, mask: (x.amax((1, 3, 4)), x.mean((1, 3, 4))),
        "zeros for padding": lambda x, mask: ((x * mask[..., None, None, None]).amax((1, 3, 4)), masked(x, mask)[1]),
        "divided by S": lambda x, mask: (masked(x, mask)[0], (x * mask[..., None, None, None]).mean((1, 3, 4))),
        "depth counted, place not": lambda x, mask: masked(x, torch.arange(x.shape[1]) < mask.sum(1, keepdim=True)),
        "padding multiplied by 0": lambda x, mask: (
            masked(x, mask)[0], (x * mask[..., None, None, None]).mean((1, 3, 4)) / mask.float().mean(1, keepdim=True)),
        "mask inverted": lambda x, mask: masked(x, ~mask),
        "exchanged": lambda x, mask: masked(x, mask)[::-1],
        "first volume's mask": lambda x, mask: masked(x, mask[:1].expand(len(x), -1)),
    },
}
RIGHT = {
    "statistics": {"two calls": lambda x: (x.amax((1, 3, 4)), x.mean((1, 3, 4))), "loops": loop_statistics},
    "semantic_attention": {"function": attention, "loop and einsum": volume_by_volume, "module": Gate()},
    "by_hand": {
        "differences": weights(*HAND),
        "one hidden unit": weights(torch.tensor([[20.0, -20.0], [0.0, 0.0]]), torch.zeros(2),
                                   torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.tensor([-2.0, 2.0])),
        "lists": weights([[2, -2], [-2, 2]], [0, 0], [[6, -6], [-6, 6]], [0, 0]),
    },
    "masked_statistics": {"fill": masked, "loop, as a list": masked_loop},
}
