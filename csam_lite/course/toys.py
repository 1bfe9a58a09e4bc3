"""Toy tasks of the course, and networks that learn them in seconds.

The first two tasks are solved by one gate each, and by no network that sees each slice alone.

    x, label = two_channels(volumes=16)              # only the volume shows which channel is true
    x, label = one_stays(volumes=16)                 # only the stack shows which disc stays
    network = ToyNetwork(2, SemanticAttention(2))    # a gate, then two convolutions
    losses = fit(network, two_channels)
    share_found(network, *two_channels(64, seed=1))  # in how many slices the network points at the right disc

Axes: B volumes, S slices, C channels, H and W pixels. Discs stand in the cells of a grid of 4 x 4, so that
they do not touch each other.
"""

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

CELLS, CELL, RADIUS = 4, 7, 2  # cells along a side, pixels of a cell, pixels
DEPTH = 12                     # slices of the stacks of `between`

SIDE = torch.arange(16)        # rows and columns of the pictures of `after_the_dot`
DISC = ((SIDE[:, None] - 10) ** 2 + (SIDE - 8) ** 2 <= 12).float()
DOT = ((SIDE[:, None] - 3) ** 2 + (SIDE - 4) ** 2 <= 2).float()

Pair = tuple[torch.Tensor, torch.Tensor]  # x (B, S, C, H, W), label (B, S, H, W)
Task = Callable[..., Pair]                # called with the number of volumes and `seed`


def two_channels(volumes: int, slices: int = 8, seed: int = 0) -> Pair:
    """x (B, S, 2, H, W) and label (B, S, H, W): a disc in each channel of each slice; that of the true
    channel is labelled.

    A coin flip decides for each volume which channel is true. The only sign of it is that in one slice of the
    stack the true disc is twice as bright.
    """
    generator = torch.Generator().manual_seed(seed)
    cells = torch.rand(volumes, slices, CELLS**2, generator=generator).argsort(2)  # the first two differ
    x = discs(cells[:, :, :2])  # (B, S, 2, H, W)
    volume, true = torch.arange(volumes), torch.randint(2, (volumes,), generator=generator)
    label = x[volume, :, true].clone()
    x[volume, torch.randint(slices, (volumes,), generator=generator), true] *= 2
    return x + 0.05 * torch.randn(x.shape, generator=generator), label


def one_stays(volumes: int, slices: int = 8, others: int = 3, seed: int = 0) -> Pair:
    """x (B, S, 1, H, W) and label (B, S, H, W): equal discs in each slice. The labelled disc stays at one
    place in the whole stack, and the others jump."""
    generator = torch.Generator().manual_seed(seed)
    stays = torch.randint(CELLS**2, (volumes, 1, 1), generator=generator).expand(-1, slices, -1)
    order = torch.rand(volumes, slices, CELLS**2, generator=generator)
    order = order.scatter(2, stays, 2.0).argsort(2)  # the disc that stays comes last
    label = discs(stays).squeeze(2)
    x = (discs(order[:, :, :others]).sum(2) + label).unsqueeze(2)
    return x + 0.05 * torch.randn(x.shape, generator=generator), label


def drifting(x: torch.Tensor, label: torch.Tensor, drift: float) -> Pair:
    """The stacks of `one_stays` whose labelled disc moves to the right by `drift` pixels from slice to slice.

    What leaves a picture comes in at its other side. A part of a pixel is the mean of two whole moves.
    """
    x, moved = x.clone(), label.clone()
    for s in range(x.shape[1]):
        whole = math.floor(drift * (s - 4))
        rest = drift * (s - 4) - whole
        left, right = (torch.roll(label[:, s], step, dims=2) for step in (whole, whole + 1))
        moved[:, s] = (1 - rest) * left + rest * right
        without = torch.where(label[:, s] > 0, x[:, s, 0] - 1, x[:, s, 0])  # its noise stays
        x[:, s, 0] = torch.where(moved[:, s] > 0, torch.maximum(without, moved[:, s]), without)
    return x, (moved >= 0.5).float()


def discs(cells: torch.Tensor) -> torch.Tensor:
    """One disc of ones on zeros for each number of a cell: cells (...) -> (..., H, W)."""
    at = torch.arange(CELL) - (CELL - 1) / 2
    disc = (at[:, None] ** 2 + at ** 2 <= RADIUS**2 + 1).float()
    x = F.one_hot(cells, CELLS**2).float().unflatten(-1, (CELLS, CELLS))
    return torch.kron(x, disc)


class ToyNetwork(nn.Module):
    """x (B, S, C, H, W) -> logits (B, S, H, W): the gate, if there is one, then two 3x3 convolutions of each
    slice."""

    def __init__(self, channels: int, gate: nn.Module | None = None, width: int = 8) -> None:
        super().__init__()
        self.gate = gate
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1), nn.LeakyReLU(0.1), nn.Conv2d(width, 1, 3, padding=1)
        )
        # Few pixels are labelled, so that from a bias of 0 the first steps would shut the gate for good.
        nn.init.constant_(self.convolutions[2].bias, -4.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.gate is not None:
            x = self.gate(x)
        return self.convolutions(x.flatten(0, 1)).squeeze(1).unflatten(0, x.shape[:2])


def fit(
    network: nn.Module, task: Task, steps: int = 200, volumes: int = 8, rate: float = 0.01, seed: int = 0
) -> list[float]:
    """Train on new volumes of `task` at each step, and return the loss of each step. The same seed gives the
    same training."""
    optimizer, losses = torch.optim.Adam(network.parameters(), lr=rate), []
    for step in range(steps):
        x, label = task(volumes, seed=1_000_000 * (seed + 1) + step)
        loss = F.binary_cross_entropy_with_logits(network(x), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def share_found(network: nn.Module, x: torch.Tensor, label: torch.Tensor) -> float:
    """The share of slices whose pixel with the highest logit lies in the label, 0 to 1."""
    highest = network(x).flatten(2).argmax(2, keepdim=True)  # (B, S, 1)
    return label.flatten(2).gather(2, highest).mean().item()


def slice_network(classes: int, width: int = 8) -> nn.Sequential:
    """A network of 2D convolutions that sees each slice alone: (N, 1, H, W) -> logits (N, classes, H, W)."""
    layers: list[nn.Module] = []
    for inner in (1, width):
        layers += [nn.Conv2d(inner, width, 3, padding=1), nn.InstanceNorm2d(width), nn.LeakyReLU()]
    return nn.Sequential(*layers, nn.Conv2d(width, classes, 1))


def two_discs(count: int = 8, slices: int = 6, size: int = 32, seed: int = 0) -> Pair:
    """Noisy x (B, S, 1, H, W) with a large disc (class 1) and a small one (2), and y (B, S, H, W)."""
    g = torch.Generator().manual_seed(seed)
    y, at = torch.zeros(count, slices, size, size, dtype=torch.long), torch.arange(size)
    for volume in y:
        for k, radius in ((1, 5), (2, 2)):
            row, column = torch.randint(8, 24, (2,), generator=g)
            volume[2:5, (at[:, None] - row) ** 2 + (at - column) ** 2 <= radius**2] = k
    x = y - 0.5 + 0.7 * torch.randn(y.shape, generator=g)
    return x[:, :, None], y


def between(volumes: int, seed: int = 0, begins: int | None = None, last: int = DEPTH) -> Pair:
    """x (B, S, 1, H, W) and label (B, S, H, W): the same blob in every slice, and from some slice on a band.

    Slices are counted from 1. The band begins in slice `begins`, or at random in 7 to `last`. The blob is
    labelled in the four slices from five to two slices below the first slice with the band.
    """
    generator = torch.Generator().manual_seed(seed)
    band = torch.randint(7, last + 1, (volumes, 1), generator=generator)
    if begins is not None:
        band[:] = begins
    s = torch.arange(1, DEPTH + 1)
    x = torch.zeros(volumes, DEPTH, 1, 10, 10)
    x[..., 4:8, 3:7] = 1                                                       # the blob
    label = x[:, :, 0] * ((s >= band - 5) & (s < band - 1))[:, :, None, None]  # four slices
    x[:, :, :, :2] = 2.0 * (s >= band)[:, :, None, None, None]                 # the band
    return x + 0.05 * torch.randn(x.shape, generator=generator), label


def after_the_dot(volumes: int, seed: int = 0, at: int | None = None) -> Pair:
    """x (B, S, 1, H, W) and label (B, S, H, W): the same disc in all eight slices, and a dot in one of them.

    Slices are counted from 1. The dot is in slice `at`, or at random in 2 to 8. The disc is labelled in this
    slice and in all slices above it.
    """
    generator, slices = torch.Generator().manual_seed(seed), 8
    dot = torch.randint(2, slices + 1, (volumes, 1), generator=generator)
    if at is not None:
        dot[:] = at
    s = torch.arange(1, slices + 1)
    x = DISC + 2 * DOT * (s == dot)[:, :, None, None, None]
    label = DISC * (s >= dot)[:, :, None, None]
    return x + 0.05 * torch.randn(x.shape, generator=generator), label.long()


def train_new(make_gate: Callable[[], nn.Module | None], task: Task, seed: int,
              steps: int = 300) -> ToyNetwork:
    """A `ToyNetwork` of one channel with the gate that `make_gate` returns; the seed decides start and
    training."""
    torch.manual_seed(seed)
    network = ToyNetwork(1, make_gate())
    fit(network, task, steps=steps, seed=seed)
    return network.eval()


@torch.no_grad()
def dice(network: nn.Module, x: torch.Tensor, label: torch.Tensor) -> float:
    """Dice of all volumes together, with a probability above one half as the mask."""
    mask = network(x) > 0
    return float(2 * (mask * label).sum() / (mask.sum() + label.sum()))


class StackNetwork(nn.Module):
    """Three convolutions, each of which looks `up` slices up and down: (B, S, 1, H, W) -> logits
    (B, S, 2, H, W)."""

    def __init__(self, up: int, width: int = 8) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inner, outer in ((1, width), (width, width), (width, 2)):
            layers.append(nn.Conv3d(inner, outer, (2 * up + 1, 3, 3), padding=(up, 1, 1)))
            layers.append(nn.LeakyReLU(0.1))
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x.transpose(1, 2)).transpose(1, 2)  # convolutions want (B, C, S, H, W)
