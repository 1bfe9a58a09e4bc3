"""What CSAM costs on this machine: module and training step, against the plain network and the formula as published; and how it grows."""

import math

import torch
from torch import nn

from csam_lite.common.device import best_device
from csam_lite.core.attention import CSAM
from csam_lite.core.networks import UNet
from csam_lite.experiments.timing import bandwidth, peak_memory, race, training_step


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


def bench(slices=20, pixels=128, base_channels=16, levels=6, volumes=1, repeats=7, compile=False):
    """Rows (what, milliseconds, ratio, megabytes): forward + backward of CSAM at each scale of a U-Net, a training step of that U-Net, and
    four volumes in one batch against four passes.

    Times are medians over `repeats` of contenders that take turns. ratio: time over that of the first contender of its group. megabytes:
    the most that is held at once beyond inputs and weights. "floor" rows say what the memory alone allows: F and its gradient are read,
    the output and the gradient of F written, F read once more on the way back, at the bandwidth measured on the spot. compile: let
    torch.compile contend too.
    """
    device = best_device()
    floor, rows = bandwidth(), []
    for level in range(levels):
        C, P = base_channels * 2**level, pixels // 2**level
        shape = (volumes, slices, C, P, P)
        rows += _rows(f"module, {C} x {P} x {P}", _modules(shape, device, compile), repeats)
        rows.append({"what": f"module, {C} x {P} x {P}: floor", "milliseconds": 1000 * 5 * 4 * math.prod(shape) / floor})
    nets = {"plain": UNet(1, 3, slices, base_channels, levels, attention="none"), "CSAM": UNet(1, 3, slices, base_channels, levels)}
    nets["published"] = UNet(1, 3, slices, base_channels, levels)
    for level, csam in enumerate(nets["published"].csam):
        nets["published"].csam[level] = Published(csam)
    steps = {name: training_step(net.to(device), (volumes, slices, 1, pixels, pixels)) for name, net in nets.items()}
    rows += _rows("training step", steps, repeats)
    shape = (4, slices, base_channels, pixels, pixels)
    csam = CSAM(slices, base_channels).to(device)
    one = pass_of(csam, (1, *shape[1:]), device)
    return rows + _rows("4 volumes", {"four passes": lambda: [one() for _ in range(4)], "one batch": pass_of(csam, shape, device)}, repeats)


def growth(slices=32, pixels=64, channels=16, volumes=2, repeats=5):
    """Rows (axis, size, voxels, milliseconds): forward + backward of CSAM as one axis grows and the others stay: slices, pixels (H = W),
    channels, volumes, threads (on a CPU)."""
    device = best_device()
    usual, threads = {"volumes": volumes, "slices": slices, "channels": channels, "pixels": pixels}, torch.get_num_threads()
    sizes = {"slices": [slices * 2**i for i in range(4)], "pixels": [pixels * 2**i for i in range(3)],
             "channels": [channels * 2**i for i in range(4)], "volumes": [volumes * 2**i for i in range(4)]}
    if device.type == "cpu":
        sizes["threads"] = sorted({1, max(threads // 2, 1), threads})
    rows = []
    for axis, own in sizes.items():
        runs, shapes = {}, {}
        for size in own:
            B, S, C, P = ((usual | {axis: size})[name] for name in usual)
            shapes[size] = (B, S, C, P, P)
            runs[size] = pass_of(CSAM(S, C).to(device), shapes[size], device)
            if axis == "threads":
                runs[size] = _with_threads(size, runs[size])
        seconds = race(runs, repeats)
        rows += [{"axis": axis, "size": size, "voxels": math.prod(shapes[size]), "milliseconds": 1000 * seconds[size]} for size in own]
    torch.set_num_threads(threads)
    return rows


def slopes(rows):
    """{axis: slope} of the straight line through log(milliseconds) over log(voxels) of `growth`'s rows; 1 is growth in proportion."""
    import numpy as np

    found = {}
    for axis in dict.fromkeys(row["axis"] for row in rows if row["axis"] != "threads"):
        voxels, times = np.log([[row["voxels"], row["milliseconds"]] for row in rows if row["axis"] == axis]).T
        found[axis] = float(np.polyfit(voxels, times, 1)[0])
    return found


def pass_of(module, shape, device: torch.device | str = "cpu"):
    """A function that does one forward and one backward pass of `module` on features of `shape` (B, S, C, H, W)."""
    x, gradient = torch.randn(shape, device=device, requires_grad=True), torch.ones(shape, device=device)

    def run():
        module(x).backward(gradient)
        x.grad = None
        module.zero_grad()

    return run


def _modules(shape, device, compile):
    csam = CSAM(shape[1], shape[2]).to(device)
    contenders = {"published": Published(csam), "CSAM": csam} | ({"CSAM, compiled": torch.compile(csam, dynamic=False)} if compile else {})
    return {name: pass_of(module, shape, device) for name, module in contenders.items()}


def _rows(name, contenders, repeats):
    seconds = race(contenders, repeats)
    first = next(iter(seconds.values()))
    return [{"what": f"{name}: {contender}", "milliseconds": 1000 * own, "ratio": own / first,
             "megabytes": peak_memory(contenders[contender]) / 2**20} for contender, own in seconds.items()]


def _with_threads(count, run):
    def counted():
        torch.set_num_threads(count)
        run()

    return counted
