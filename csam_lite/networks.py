"""U-Net and U-Net++ with one CSAM per encoder level, as the paper's released code builds them.

Volume in, volume out: (B, S, C, H, W). Inside, all convolutions are 2D and see the slices as one long batch (B*S, C, H, W);
only CSAM looks across the slices. Without CSAM a network is a plain 2D one.
"""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from csam_lite.attention import CSAM, GATES


class SliceNetwork(nn.Module):
    """What U-Net and U-Net++ share: their blocks' widths, one CSAM per gated level, and the way through the slices.

    attention: which gates, "all", "none", "semantic+slice" or any iterable of names out of `GATES`.
    csam: further options of CSAM, e.g. uncertain=True, start=0.9, form="residual".
    Raises ValueError for an unknown gate, or an image too small for the number of levels.
    """

    def __init__(self, num_slices, base_channels, levels, attention, csam, gated_levels):
        super().__init__()
        gates = {name: True for name in gate_names(attention)}
        self.num_slices, self.levels = num_slices, levels
        self.widths = [base_channels * 2**level for level in range(levels)]
        self.csam = nn.ModuleList(
            CSAM(num_slices, width, **{name: name in gates for name in GATES}, **csam)
            for width in self.widths[:gated_levels])

    def encode(self, blocks, x, mask):
        """Features of each level, finest first, as they come and gated, from x (B, S, C, H, W). The path down is not gated."""
        B, S, _, H, W = x.shape
        if min(H, W) < 2**self.levels:
            raise ValueError(f"{H} x {W} pixels are too few for {self.levels} levels: give at least {2**self.levels}, or fewer levels")
        if mask is not None:
            x = x.masked_fill(~mask.bool()[:, :, None, None, None], 0)  # padding may hold anything, even NaN
        x = x.flatten(0, 1)  # (B*S, C, H, W)
        features = []
        for block in blocks:
            features.append(block(F.max_pool2d(features[-1], 2) if features else x))
        gated = [csam(f.unflatten(0, (B, S)), mask).flatten(0, 1) for csam, f in zip(self.csam, features)]
        return features, gated


class UNet(SliceNetwork):
    """U-Net whose skip connections and bottleneck pass through a CSAM.

    forward: x (B, S, Cin, H, W), mask (B, S) bool or None -> logits (B, S, K, H, W), K = `num_classes` with background.
    """

    def __init__(self, in_channels, num_classes, num_slices, base_channels=64, levels=5, attention=GATES, **csam):
        super().__init__(num_slices, base_channels, levels, attention, csam, gated_levels=levels)
        self.down = nn.ModuleList(ConvBlock(*pair) for pair in pairwise([in_channels, *self.widths]))
        self.up = nn.ModuleList(Up(*pair) for pair in pairwise(reversed(self.widths)))
        self.heads = nn.ModuleList([nn.Conv2d(base_channels, num_classes, 1)])

    def forward(self, x, mask=None):
        *skips, features = self.encode(self.down, x, mask)[1]
        for up, skip in zip(self.up, reversed(skips)):
            features = up(features, skip)
        return self.heads[0](features).unflatten(0, x.shape[:2])  # (B, S, K, H, W)


class UNetPlusPlus(SliceNetwork):
    """U-Net++: nodes X(i, j) at level i, column j. A CSAM gates what the first column X(i, 0) passes on to its own level.

    The deepest level has one node only, so nothing of it is gated. (The released code builds a CSAM there and never calls
    it. Here it does not exist, so that every parameter trains; the outputs are the released network's.)

    forward: x (B, S, Cin, H, W), mask (B, S) bool or None -> logits (B, S, K, H, W) of the last column; in training the
    list of all levels - 1 columns' logits, whose losses are summed (deep supervision).
    """

    def __init__(self, in_channels, num_classes, num_slices, base_channels=64, levels=5, attention=GATES, **csam):
        super().__init__(num_slices, base_channels, levels, attention, csam, gated_levels=levels - 1)
        first = [ConvBlock(*pair) for pair in pairwise([in_channels, *self.widths])]
        self.nodes = nn.ModuleList(  # nodes[i][j] is X(i, j): it reads j earlier nodes of its level and one from below
            nn.ModuleList([first[i], *(ConvBlock(j * width + 2 * width, width) for j in range(1, levels - i))])
            for i, width in enumerate(self.widths))
        self.heads = nn.ModuleList(nn.Conv2d(base_channels, num_classes, 1) for _ in range(levels - 1))

    def forward(self, x, mask=None):
        column, gated = self.encode([level[0] for level in self.nodes], x, mask)  # X(i, 0)
        rows = [[node] for node in gated]  # rows[i]: what the next node of level i reads from its own level
        for j in range(1, self.levels):
            column = [self.nodes[i][j](torch.cat([*rows[i], upsample(column[i + 1], column[i])], dim=1)) for i in range(self.levels - j)]
            for row, node in zip(rows, column):
                row.append(node)
        heads = zip(self.heads, rows[0][1:]) if self.training else [(self.heads[-1], rows[0][-1])]
        logits = [head(node).unflatten(0, x.shape[:2]) for head, node in heads]  # each (B, S, K, H, W)
        return logits if self.training else logits[0]


class ConvBlock(nn.Sequential):
    """Twice (3x3 convolution, instance normalisation, leaky ReLU) on slices (B*S, C, H, W)."""

    def __init__(self, in_channels, out_channels):
        super().__init__(*(
            layer for channels in (in_channels, out_channels)
            for layer in (nn.Conv2d(channels, out_channels, 3, padding=1), nn.InstanceNorm2d(out_channels), nn.LeakyReLU(0.01))))


class Up(nn.Module):
    """Upsample to the skip's size, convolve to its width, join both and convolve."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.block = ConvBlock(2 * out_channels, out_channels)
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)

    def forward(self, x, skip):
        return self.block(torch.cat([self.conv(upsample(x, skip)), skip], dim=1))


def upsample(x, like):
    """x (N, C, h, w) -> (N, C, H, W), the size of `like`: any image size works, not only multiples of 2."""
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=True)


def gate_names(attention):
    """The gates that `attention` names, in the order of `GATES`: "all", "none", "semantic+slice", ("slice",) ...

    Raises ValueError for an unknown name.
    """
    if isinstance(attention, str):
        attention = {"all": GATES, "none": ()}.get(attention) or [name for name in attention.split("+") if name != "none"]
    unknown = set(attention) - set(GATES)
    if unknown:
        raise ValueError(f"unknown attention {', '.join(sorted(unknown))}: choose from {', '.join(GATES)}, joined by +, or all, or none")
    return tuple(name for name in GATES if name in attention)
