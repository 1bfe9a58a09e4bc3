"""Answers to the exercises of 03_positional_attention: wrong ones that its checks must reject, and unlike right ones that they must accept."""

import numpy as np
import torch
from scipy.ndimage import correlate
from torch import nn

from csam_lite.course.toys import one_stays


def two_maps(x):
    return torch.stack([x.amax((1, 2)), x.mean((1, 2))], 1)


def gated(x, logits):
    return x * torch.sigmoid(logits)[:, None]


def attention(x, conv):
    return gated(x, conv(two_maps(x)))


def without_graph(x, conv):
    with torch.no_grad():
        gate = torch.sigmoid(conv(two_maps(x)))
    return x * gate[:, None]


def loop_maps(x):
    out = torch.empty(len(x), 2, *x.shape[3:])
    for b, volume in enumerate(x):
        flat = volume.flatten(0, 1)  # (S*C, H, W)
        out[b, 0], out[b, 1] = flat.max(0).values, flat.sum(0) / len(flat)
    return out


def volume_by_volume(x, conv):
    return torch.stack([torch.einsum("schw,hw->schw", v, conv(two_maps(v[None]))[0, 0].sigmoid()) for v in x])


class Gate(nn.Module):
    def forward(self, x, conv):
        highest, mean = x.flatten(1, 2).max(1).values, x.flatten(1, 2).mean(1)
        return gated(x, conv(torch.cat([highest[:, None], mean[:, None]], 1)))


def kernel(of_maximum=0.0, of_mean=40.0, bias=-30.0, side=1):
    weight = torch.zeros(1, 2, 7, 7)
    where = slice(3 - side // 2, 4 + side // 2)
    weight[0, 0, where, where], weight[0, 1, where, where] = of_maximum / side**2, of_mean / side**2
    return lambda: (weight, torch.tensor([bias]))


def one_weight():
    weight = torch.zeros(1, 2, 7, 7)
    weight[0, 1, 3, 3] = 40.0
    return weight, torch.tensor([-30.0])


def in_place(x, conv):
    x *= torch.sigmoid(conv(two_maps(x)))[:, None]
    return x


def reaches(gate):
    """One weight on the mean, and a bias, whose gates just reach `gate` on every disc that stays and 1 - gate on every
    disc that jumps, on the volumes of the check."""
    x, label = one_stays(32, seed=2)
    mean, stays, jumps = x.mean((1, 2)), label[:, 0] > 0, ((x[:, :, 0] > 0.5) & (label == 0)).any(1)
    low, high = mean[jumps].max().item(), mean[stays].min().item()
    logit = np.log(gate / (1 - gate))
    return kernel(0.0, 2 * logit / (high - low), -logit * (high + low) / (high - low))


def opens_on_the_disc_that_stays(answer):
    """Whether the weights do what the text of exercise 03.3 asks, computed with scipy."""
    weight, bias = (np.asarray(part, float) for part in answer())
    x, label = (tensor.numpy() for tensor in one_stays(32, seed=2))
    maps = x[:, :, 0].max(1), x[:, :, 0].mean(1)  # (B, H, W) each
    logits = bias + sum(correlate(map_, kernel[None], mode="constant") for map_, kernel in zip(maps, weight[0]))
    stays, jumps = label[:, 0] > 0, ((x[:, :, 0] > 0.5) & (label == 0)).any(1)
    return bool((logits[stays] > np.log(9)).all() and (logits[jumps] < -np.log(9)).all())


WRONG = {
    "maps": {
        "detached": lambda x: two_maps(x).detach(),
        "exchanged": lambda x: two_maps(x).flip(1),
        "slices kept": lambda x: torch.stack([x.amax(2), x.mean(2)], 2),
        "channels kept": lambda x: torch.stack([x.amax(1), x.mean(1)], 1),
        "pixels pooled": lambda x: torch.stack([x.amax((3, 4)), x.mean((3, 4))], 1),
        "volumes pooled": lambda x: two_maps(x).mean(0, keepdim=True).expand(len(x), -1, -1, -1),
        "the mean of the channels' maxima": lambda x: torch.stack([x.amax((1, 2)), x.amax(2).mean(1)], 1),
        "the sum": lambda x: torch.stack([x.amax((1, 2)), x.sum((1, 2))], 1),
        "one map": lambda x: x.mean((1, 2)),
        "the maximum never below 0": lambda x: torch.stack([x.relu().amax((1, 2)), x.mean((1, 2))], 1),
    },
    "positional_attention": {
        "the gate alone": lambda x, conv: torch.sigmoid(conv(two_maps(x)))[:, None],
        "no sigmoid": lambda x, conv: x * conv(two_maps(x))[:, None],
        "a gate for each slice": lambda x, conv: x * torch.stack([torch.sigmoid(conv(two_maps(x[:, [s]]))) for s in range(x.shape[1])], 1),
        "a gate for each channel": lambda x, conv: torch.stack([attention(x[:, :, [c]], conv)[:, :, 0] for c in range(x.shape[2])], 2),
        "maps exchanged": lambda x, conv: gated(x, conv(two_maps(x).flip(1))),
        "softmax over pixels": lambda x, conv: x * conv(two_maps(x)).flatten(1).softmax(1).reshape(len(x), 1, 1, *x.shape[3:]),
        "graph cut": without_graph,
        "input cut": lambda x, conv: gated(x, conv(two_maps(x.detach()))),
        "in place": in_place,
        "residual": lambda x, conv: x + attention(x, conv),
        "the maximum never below 0": lambda x, conv: gated(x, conv(torch.stack([x.relu().amax((1, 2)), x.mean((1, 2))], 1))),
        "12 numbers at each pixel": lambda x, conv: gated(x, conv(torch.stack([x.amax((1, 2)), x.sum((1, 2)) / 12], 1))),
        "maximum of each volume in all": lambda x, conv: gated(x, conv(two_maps(x).amax(0, keepdim=True).expand(len(x), -1, -1, -1))),
    },
    "by_hand": {
        "reads the maximum": kernel(of_maximum=40.0, of_mean=0.0, bias=-25.0),
        "always open": kernel(0.0, 0.0, 9.0),
        "always shut": kernel(0.0, 0.0, -9.0),
        "a gate of 0.895": reaches(0.895),
        "inverted": kernel(of_mean=-40.0, bias=30.0),
        "too weak": kernel(of_mean=4.0, bias=-3.0),
        "no bias": kernel(bias=0.0),
        "averages over 7 x 7": kernel(side=7),
        "one tensor": lambda: torch.zeros(1, 2, 7, 7),
        "kernel of another size": lambda: (torch.zeros(1, 2, 3, 3), torch.zeros(1)),
    },
}
RIGHT = {
    "maps": {"stack": two_maps, "loop": loop_maps},
    "positional_attention": {"function": attention, "loop and einsum": volume_by_volume, "module": Gate()},
    "by_hand": {"mean at the pixel": one_weight, "a gate of 0.905": reaches(0.905), "mean, with less of the maximum": kernel(-2.0, 40.0, -28.0)},
}

STILL_RIGHT = {"by_hand": opens_on_the_disc_that_stays}

EQUIVALENT = {
    "maps": {
        "».shape[3:]": "x[:1] has the same H and W",
    },
    "positional_attention": {
        "[«-1», 0]": "of one volume, the last is the first",
        "[0, «-1»]": "of one channel, the last is the first",
        "torch.stack([«x[": "two_maps gets volumes one by one here, and of one volume x[:1] is all",
        "«x[:1]».mean": "two_maps gets volumes one by one here",
        "«x[-1:]».mean": "two_maps gets volumes one by one here",
    },
}
