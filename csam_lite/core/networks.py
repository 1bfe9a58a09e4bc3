"""U-Net and U-Net++ with one CSAM per encoder level, as the paper's released code builds them.

Volume in, volume out: (B, S, C, H, W). Inside, all convolutions are 2D and see the slices as one long batch
(B*S, C, H, W); only CSAM looks across the slices. Without CSAM a network is a plain 2D one.
"""

from collections.abc import Iterable
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from .attention import CSAM, GATES


class SliceNetwork(nn.Module):
    """What U-Net and U-Net++ share: the widths of their blocks, one CSAM per gated level, and the way through
    the slices.

    attention    which gates: "all", "none", "semantic+slice" or any iterable of names out of `GATES`
    csam_class   CSAM, or a module with the same arguments in its place
    csam         further options of CSAM, for example uncertain=True

    Raises ValueError for an unknown gate, too few levels, or an image too small for the number of levels,
    TypeError for an unknown option.
    """

    takes_gates = True  # whether its arguments choose gates; baselines say False
    least_levels = 2  # a network with fewer levels cannot be built

    def __init__(self, num_slices: int, base_channels: int, levels: int) -> None:
        super().__init__()
        if levels < self.least_levels:
            raise ValueError(f"{levels} levels are too few: {type(self).__name__} needs {self.least_levels}")
        self.num_slices, self.levels = num_slices, levels
        self.widths = [base_channels * 2**level for level in range(levels)]

    def add_gates(self, gated_levels: int, attention: str | Iterable[str], csam_class: type[nn.Module],
                  csam: dict) -> None:
        """One CSAM for each gated level.

        Call it last, so that with one seed the convolutions start alike whatever the gates.
        """
        names = gate_names(attention)
        switches = {name: name in names for name in GATES}
        widths = self.widths[:gated_levels]
        self.csam = nn.ModuleList(csam_class(self.num_slices, width, **switches, **csam) for width in widths)

    @property
    def across_slices(self) -> nn.ModuleList:
        """The modules, one for each gated level, through which the slices of a volume meet."""
        return self.csam

    def encode(self, blocks: Iterable[nn.Module], x: torch.Tensor,
               mask: torch.Tensor | None) -> tuple[list, list]:
        """Features of each level, finest first, before and after the gates, from x (B, S, C, H, W).

        The path down is not gated.
        """
        B, S, _, H, W = x.shape
        if min(H, W) < 2**self.levels:
            raise ValueError(f"{H} x {W} pixels are too few for {self.levels} levels: "
                             f"give at least {2**self.levels}, or fewer levels")
        if mask is not None:
            x = x.masked_fill(~mask.bool()[:, :, None, None, None], 0)  # padding may hold anything, even NaN
        x = x.flatten(0, 1)  # (B*S, C, H, W)
        features: list[torch.Tensor] = []
        for block in blocks:
            features.append(block(F.max_pool2d(features[-1], 2) if features else x))
        gated = [module(f.unflatten(0, (B, S)), mask).flatten(0, 1)
                 for module, f in zip(self.across_slices, features)]
        return features, gated


class UNet(SliceNetwork):
    """U-Net whose skip connections and bottleneck pass through a CSAM.

    forward: x (B, S, Cin, H, W), mask (B, S) bool or None -> logits (B, S, K, H, W), K = `num_classes` with
    background.
    """

    least_levels = 1

    def __init__(self, in_channels: int, num_classes: int, num_slices: int, base_channels: int = 64,
                 levels: int = 5, attention: str | Iterable[str] = GATES,
                 csam_class: type[nn.Module] = CSAM, **csam) -> None:
        super().__init__(num_slices, base_channels, levels)
        self.down = nn.ModuleList(ConvBlock(*pair) for pair in pairwise([in_channels, *self.widths]))
        self.up = nn.ModuleList(Up(*pair) for pair in pairwise(reversed(self.widths)))
        self.heads = nn.ModuleList([nn.Conv2d(base_channels, num_classes, 1)])
        self.add_gates(levels, attention, csam_class, csam)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        *skips, features = self.encode(self.down, x, mask)[1]
        for up, skip in zip(self.up, reversed(skips)):
            features = up(features, skip)
        return self.heads[0](features).unflatten(0, x.shape[:2])  # (B, S, K, H, W)


class UNetPlusPlus(SliceNetwork):
    """U-Net++: nodes X(i, j) at level i, column j. A CSAM gates what the first column X(i, 0) passes on to
    its own level.

    The deepest level has one node only, so nothing of it is gated. (The released code builds a CSAM there and
    never calls it. Here it does not exist, so that every parameter trains; the outputs are the same as the
    released network's.)

    forward: x (B, S, Cin, H, W), mask (B, S) bool or None -> logits (B, S, K, H, W) of the last column; in
    training the list of the logits of all levels - 1 columns, whose losses are summed (deep supervision).
    """

    def __init__(self, in_channels: int, num_classes: int, num_slices: int, base_channels: int = 64,
                 levels: int = 5, attention: str | Iterable[str] = GATES,
                 csam_class: type[nn.Module] = CSAM, **csam) -> None:
        super().__init__(num_slices, base_channels, levels)
        first = [ConvBlock(*pair) for pair in pairwise([in_channels, *self.widths])]
        # nodes[i][j] is X(i, j): it reads j earlier nodes of its level and one from below
        self.nodes = nn.ModuleList(
            nn.ModuleList([first[i], *(ConvBlock((j + 2) * width, width) for j in range(1, levels - i))])
            for i, width in enumerate(self.widths))
        self.heads = nn.ModuleList(nn.Conv2d(base_channels, num_classes, 1) for _ in range(levels - 1))
        self.add_gates(levels - 1, attention, csam_class, csam)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor | list[torch.Tensor]:
        column, gated = self.encode([level[0] for level in self.nodes], x, mask)  # X(i, 0)
        rows = [[node] for node in gated]  # rows[i]: what the next node of level i reads from its own level
        for j in range(1, self.levels):
            below = [upsample(column[i + 1], column[i]) for i in range(self.levels - j)]
            column = [self.nodes[i][j](torch.cat([*rows[i], lower], dim=1)) for i, lower in enumerate(below)]
            for row, node in zip(rows, column):
                row.append(node)
        heads = zip(self.heads, rows[0][1:]) if self.training else [(self.heads[-1], rows[0][-1])]
        logits = [head(node).unflatten(0, x.shape[:2]) for head, node in heads]  # each (B, S, K, H, W)
        return logits if self.training else logits[0]


class ConvBlock(nn.Sequential):
    """Twice (3x3 convolution, instance normalisation, leaky ReLU) on slices (B*S, C, H, W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(*(
            layer for channels in (in_channels, out_channels)
            for layer in (nn.Conv2d(channels, out_channels, 3, padding=1), nn.InstanceNorm2d(out_channels),
                          nn.LeakyReLU(0.01))))


class Up(nn.Module):
    """Upsample to the skip's size, convolve to its width, join both and convolve."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.block = ConvBlock(2 * out_channels, out_channels)
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self.block(torch.cat([self.conv(upsample(x, skip)), skip], dim=1))


def upsample(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """x (N, C, h, w) -> (N, C, H, W), the size of `like`: any image size works, not only multiples of 2."""
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=True)


def gate_names(attention: str | Iterable[str]) -> tuple[str, ...]:
    """The gates named by `attention`, for example "all", "none", "semantic+slice" or ("slice",), in the order
    of `GATES`.

    Raises ValueError for an unknown name.
    """
    if isinstance(attention, str):
        attention = GATES if attention == "all" else [name for name in attention.split("+") if name != "none"]
    attention = tuple(attention)  # a generator could be read once only
    unknown = set(attention) - set(GATES)
    if unknown:
        raise ValueError(f"unknown attention {', '.join(sorted(unknown))}: "
                         f"choose from {', '.join(GATES)}, joined by +, or all, or none")
    return tuple(name for name in GATES if name in attention)
