"""What CSAM costs on this machine: module and training step, against the plain network and the formula as published."""

import time

import torch
from torch import nn

from csam_lite.attention import CSAM
from csam_lite.networks import UNet


class Published(nn.Module):
    """The same function with the weights of a (certain) CSAM, computed as the released code does: one volume at a time, each stage on the
    features that the stage before has written, maxima as a chain of `max` along one axis after the other."""

    def __init__(self, csam):
        super().__init__()
        self.csam = csam

    def forward(self, x, mask=None):
        return torch.stack([self.one(volume) for volume in x])

    def one(self, x):
        """x (S, C, H, W)."""
        mlp, conv, mlp_s = self.csam.semantic.mlp, self.csam.positional.conv, self.csam.slice.mlp
        gate = mlp(chained_max(x, (0, 2, 3)).flatten(1)) + mlp(x.mean((0, 2, 3)).flatten()[None])  # (1, C)
        x = x * gate.sigmoid()[:, :, None, None]
        maps = torch.cat([chained_max(x, (0, 1)), x.mean((0, 1), keepdim=True)], dim=1)  # (1, 2, H, W)
        x = x * conv(maps).sigmoid()
        gate = mlp_s(chained_max(x, (1, 2, 3)).flatten()[None]) + mlp_s(x.mean((1, 2, 3))[None])  # (1, S)
        return x * gate.sigmoid().T[:, :, None, None]


def chained_max(x, dims):
    """Maximum over `dims`, dimensions kept, along one after the other; every step also writes where it found its maximum."""
    for dim in dims:
        x = x.max(dim, keepdim=True)[0]
    return x


def bench(slices=20, pixels=128, base_channels=16, levels=6, volumes=1, repeats=7):
    """Rows (what, milliseconds, ratio): forward + backward of CSAM at each scale of a U-Net, and of one training step of that U-Net.

    Times are medians over `repeats` of contenders that take turns, so that a busy machine is unfair to none. ratio: time over that of the
    first contender of its group.
    """
    rows = []
    for level in range(levels):
        C, P = base_channels * 2**level, pixels // 2**level
        csam = CSAM(slices, C)
        shape = (volumes, slices, C, P, P)
        rows += _race(f"module, {C} x {P} x {P}", {"published": Published(csam), "CSAM": csam}, shape, repeats)
    nets = {"plain": UNet(1, 3, slices, base_channels, levels, attention="none"), "CSAM": UNet(1, 3, slices, base_channels, levels)}
    nets["published"] = UNet(1, 3, slices, base_channels, levels)
    for level, csam in enumerate(nets["published"].csam):
        nets["published"].csam[level] = Published(csam)
    return rows + _race("training step", nets, (volumes, slices, 1, pixels, pixels), repeats)


def _race(name, modules, shape, repeats):
    times = {contender: [] for contender in modules}
    for turn in range(repeats + 1):  # the first turn warms up and does not count
        for contender, module in modules.items():
            x = torch.randn(shape, requires_grad=name != "training step")
            start = time.perf_counter()
            out = module(x)
            out.backward(torch.ones_like(out))
            if turn:
                times[contender].append(time.perf_counter() - start)
    medians = {contender: sorted(own)[len(own) // 2] for contender, own in times.items()}
    first = next(iter(medians.values()))
    return [{"what": f"{name}: {contender}", "milliseconds": 1000 * median, "ratio": median / first} for contender, median in medians.items()]
