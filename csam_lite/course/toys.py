"""Two toy tasks of the course, each solved by one gate and by no network that sees slice by slice, and a network that learns them in seconds.

    x, label = two_channels(volumes=16)              # notebook 02: which channel tells the truth, the whole volume alone knows
    x, label = one_stays(volumes=16)                 # notebook 03: which disc stays, the whole stack alone knows
    network = ToyNetwork(2, SemanticAttention(2))    # a gate, then two convolutions; without the gate a plain 2D network
    losses = fit(network, two_channels)
    share_found(network, *two_channels(64, seed=1))  # in how many slices the network points at the right disc

Axes: B volumes, S slices, C channels, H and W pixels. Discs stand in the cells of a grid of 4 x 4, so that none touches another.
"""

import torch
from torch import nn
from torch.nn import functional as F

CELLS, CELL, RADIUS = 4, 7, 2  # cells along a side, pixels of a cell, pixels


def two_channels(volumes, slices=8, seed=0):
    """x (B, S, 2, H, W) and label (B, S, H, W): a disc in each channel of each slice; the label is that of the true channel.

    Which channel is true is a coin flip for each volume. The only sign of it: in one slice of the stack its disc is twice as bright.
    """
    generator = torch.Generator().manual_seed(seed)
    cells = torch.rand(volumes, slices, CELLS**2, generator=generator).argsort(2)  # the first two cells of each slice differ
    x = discs(cells[:, :, :2])  # (B, S, 2, H, W)
    volume, true = torch.arange(volumes), torch.randint(2, (volumes,), generator=generator)
    label = x[volume, :, true].clone()
    x[volume, torch.randint(slices, (volumes,), generator=generator), true] *= 2
    return x + 0.05 * torch.randn(x.shape, generator=generator), label


def one_stays(volumes, slices=8, others=3, seed=0):
    """x (B, S, 1, H, W) and label (B, S, H, W): like discs in each slice; one stays where it is in the whole stack, the others jump."""
    generator = torch.Generator().manual_seed(seed)
    stays = torch.randint(CELLS**2, (volumes, 1, 1), generator=generator).expand(-1, slices, -1)
    order = torch.rand(volumes, slices, CELLS**2, generator=generator).scatter(2, stays, 2.0).argsort(2)  # the one that stays comes last
    label = discs(stays).squeeze(2)
    x = (discs(order[:, :, :others]).sum(2) + label).unsqueeze(2)
    return x + 0.05 * torch.randn(x.shape, generator=generator), label


def discs(cells):
    """One disc of ones on zeros for each number of a cell: cells (...) -> (..., H, W)."""
    at = torch.arange(CELL) - (CELL - 1) / 2
    disc = (at[:, None] ** 2 + at ** 2 <= RADIUS**2 + 1).float()
    x = F.one_hot(cells, CELLS**2).float().unflatten(-1, (CELLS, CELLS))
    return torch.kron(x, disc)


class ToyNetwork(nn.Module):
    """x (B, S, C, H, W) -> logits (B, S, H, W): the gate, if there is one, then two 3x3 convolutions on each slice for itself."""

    def __init__(self, channels, gate=None, width=8):
        super().__init__()
        self.gate = gate
        self.convolutions = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.LeakyReLU(0.1), nn.Conv2d(width, 1, 3, padding=1))
        nn.init.constant_(self.convolutions[2].bias, -4.0)  # few pixels are labelled: without it, the first steps shut the gate for good

    def forward(self, x):
        if self.gate is not None:
            x = self.gate(x)
        return self.convolutions(x.flatten(0, 1)).squeeze(1).unflatten(0, x.shape[:2])


def fit(network, task, steps=200, volumes=8, rate=0.01, seed=0):
    """Train on fresh volumes of `task` at each step; the losses, a list of `steps` numbers. The same seed gives the same training."""
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
def share_found(network, x, label):
    """The share of slices whose pixel with the highest logit lies in the label, 0 to 1."""
    highest = network(x).flatten(2).argmax(2, keepdim=True)  # (B, S, 1)
    return label.flatten(2).gather(2, highest).mean().item()
