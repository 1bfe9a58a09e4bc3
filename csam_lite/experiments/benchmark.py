"""What CSAM costs on this machine, beside the plain network and the published formula: module, training step,
and how the cost grows."""

import math
from collections.abc import Callable

import torch
from torch import nn

from csam_lite.common.device import best_device
from csam_lite.core.attention import CSAM
from csam_lite.core.networks import UNet
from csam_lite.experiments.timing import bandwidth, peak_memory, race, training_step


class Published(nn.Module):
    """The function of a given CSAM without a drawn slice gate, computed as the released code computes it.

    It works on one volume at a time, each stage reads the features that the stage before has written, and a
    maximum is a chain of `max` along one axis after the other. It shares the weights of the CSAM.
    """

    def __init__(self, csam: CSAM) -> None:
        super().__init__()
        self.csam = csam

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """x (B, S, C, H, W) -> the same shape. `mask` is not used: the released code has none."""
        return torch.stack([self.gate_volume(volume) for volume in x])

    def gate_volume(self, x: torch.Tensor) -> torch.Tensor:
        """x (S, C, H, W) -> the same shape."""
        mlp, conv, mlp_s = self.csam.semantic.mlp, self.csam.positional.conv, self.csam.slice.mlp
        gate = mlp(chained_max(x, (0, 2, 3)).flatten(1)) + mlp(x.mean((0, 2, 3)).flatten()[None])  # (1, C)
        x = x * gate.sigmoid()[:, :, None, None]
        maps = torch.cat([chained_max(x, (0, 1)), x.mean((0, 1), keepdim=True)], dim=1)  # (1, 2, H, W)
        x = x * conv(maps).sigmoid()
        gate = mlp_s(chained_max(x, (1, 2, 3)).flatten()[None]) + mlp_s(x.mean((1, 2, 3))[None])  # (1, S)
        return x * gate.sigmoid().T[:, :, None, None]


def chained_max(x: torch.Tensor, dims: tuple[int, ...]) -> torch.Tensor:
    """Maximum over `dims`, one after the other, dimensions kept; every step also writes the places of its
    maxima."""
    for dim in dims:
        x = x.max(dim, keepdim=True)[0]
    return x


def bench(
    slices: int = 20,
    pixels: int = 128,
    base_channels: int = 16,
    levels: int = 6,
    volumes: int = 1,
    repeats: int = 7,
    compiled: bool = False,
) -> list[dict]:
    """Rows (what, milliseconds, ratio, megabytes): forward + backward of CSAM at each scale of a U-Net, a
    training step of that U-Net, and four volumes in one batch beside four passes.

    Times are medians over `repeats` turns of contenders that take turns. ratio: time over that of the first
    contender of its group. megabytes: the most that is held at once beyond inputs and weights. A "floor" row
    is the time that the memory alone needs: F and its gradient are read, the output and the gradient of F
    written, F read once more on the way back, at the bandwidth measured here. compiled: also time the module
    under torch.compile.
    """
    device = best_device()
    floor, rows = bandwidth(), []
    for level in range(levels):
        C, P = base_channels * 2**level, pixels // 2**level
        shape = (volumes, slices, C, P, P)
        rows += _rows(f"module, {C} x {P} x {P}", _modules(shape, device, compiled), repeats)
        rows.append(
            {
                "what": f"module, {C} x {P} x {P}: floor",
                "milliseconds": 1000 * 5 * 4 * math.prod(shape) / floor,
            }
        )
    size = (1, 3, slices, base_channels, levels)
    nets = {"plain": UNet(*size, attention="none"), "CSAM": UNet(*size), "published": UNet(*size)}
    for level, csam in enumerate(nets["published"].csam):
        nets["published"].csam[level] = Published(csam)
    steps = {
        name: training_step(net.to(device), (volumes, slices, 1, pixels, pixels))
        for name, net in nets.items()
    }
    rows += _rows("training step", steps, repeats)
    shape = (4, slices, base_channels, pixels, pixels)
    csam = CSAM(slices, base_channels).to(device)
    single = pass_of(csam, (1, *shape[1:]), device)
    contenders = {
        "four passes": lambda: [single() for _ in range(4)],
        "one batch": pass_of(csam, shape, device),
    }
    return rows + _rows("4 volumes", contenders, repeats)


def growth(
    slices: int = 32, pixels: int = 64, channels: int = 16, volumes: int = 2, repeats: int = 5
) -> list[dict]:
    """Rows (axis, size, voxels, milliseconds): forward + backward of CSAM while one axis grows and the others
    stay.

    The axes are slices, pixels (H = W), channels, volumes and, on a CPU, threads.
    """
    device = best_device()
    usual = {"volumes": volumes, "slices": slices, "channels": channels, "pixels": pixels}
    threads = torch.get_num_threads()
    sizes = {"slices": [slices * 2**i for i in range(4)], "pixels": [pixels * 2**i for i in range(3)],
             "channels": [channels * 2**i for i in range(4)], "volumes": [volumes * 2**i for i in range(4)]}
    if device.type == "cpu":
        sizes["threads"] = sorted({1, max(threads // 2, 1), threads})
    rows = []
    for axis, steps in sizes.items():
        runs, shapes = {}, {}
        for size in steps:
            B, S, C, P = ((usual | {axis: size})[name] for name in usual)
            shapes[size] = (B, S, C, P, P)
            runs[size] = pass_of(CSAM(S, C).to(device), shapes[size], device)
            if axis == "threads":
                runs[size] = _with_threads(size, runs[size])
        seconds = race(runs, repeats)
        rows += [
            {
                "axis": axis,
                "size": size,
                "voxels": math.prod(shapes[size]),
                "milliseconds": 1000 * seconds[size],
            }
            for size in steps
        ]
    torch.set_num_threads(threads)
    return rows


def slopes(rows: list[dict]) -> dict[str, float]:
    """{axis: slope} of the straight line through log(milliseconds) over log(voxels) of `growth`'s rows; 1 is
    growth in proportion."""
    import numpy as np

    slope = {}
    for axis in dict.fromkeys(row["axis"] for row in rows if row["axis"] != "threads"):
        voxels, times = np.log(
            [[row["voxels"], row["milliseconds"]] for row in rows if row["axis"] == axis]
        ).T
        slope[axis] = float(np.polyfit(voxels, times, 1)[0])
    return slope


def pass_of(
    module: nn.Module, shape: tuple[int, ...], device: torch.device | str = "cpu"
) -> Callable[[], None]:
    """A function that does one forward and one backward pass of `module` on features of `shape` (B, S, C, H,
    W)."""
    x, gradient = torch.randn(shape, device=device, requires_grad=True), torch.ones(shape, device=device)

    def run():
        module(x).backward(gradient)
        x.grad = None
        module.zero_grad()

    return run


def _modules(shape: tuple[int, ...], device: torch.device, compiled: bool) -> dict[str, Callable[[], None]]:
    csam = CSAM(shape[1], shape[2]).to(device)
    contenders = {"published": Published(csam), "CSAM": csam}
    if compiled:
        contenders["CSAM, compiled"] = torch.compile(csam, dynamic=False)
    return {name: pass_of(module, shape, device) for name, module in contenders.items()}


def _rows(name: str, contenders: dict[str, Callable[[], None]], repeats: int) -> list[dict]:
    seconds = race(contenders, repeats)
    first = next(iter(seconds.values()))
    return [{"what": f"{name}: {contender}", "milliseconds": 1000 * taken, "ratio": taken / first,
             "megabytes": peak_memory(contenders[contender]) / 2**20} for contender, taken in seconds.items()]


def _with_threads(count: int, run: Callable[[], None]) -> Callable[[], None]:
    def counted() -> None:
        torch.set_num_threads(count)
        run()

    return counted
