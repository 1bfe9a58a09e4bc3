r"""The three attentions of CSAM and the module that chains them: the paper on one page.

Source: Hung et al., "CSAM: A 2.5D Cross-Slice Attention Module for Anisotropic Volumetric Medical Image
Segmentation", WACV 2024 (arXiv 2311.04942).

Feature maps F of a volume have the shape (B, S, C, H, W): B volumes, S slices, C channels, H x W pixels. CSAM
multiplies F by three gates, one after the other. Every number in a gate lies between 0 and 1, and each
gate is computed from what the gates before it have left of F:

    semantic     F <- F * A_sem     A_sem (B, 1, C, 1, 1)     which channels matter in this volume?
    positional   F <- F * A_pos     A_pos (B, 1, 1, H, W)     which pixels matter, the same for all slices?
    slice        F <- F * A_sl      A_sl  (B, S, 1, 1, 1)     which slices matter?

A gate only weighs what is there. It never moves a feature from one slice to another, so that it cannot add,
align or copy content between slices, and it cannot make a feature larger. Each gate is computed from two
statistics, a maximum and a mean of F over all axes that the gate does not have. The slices meet in these
statistics for the first two gates, and in the MLP for the slice attention, which knows a slice by its place
in the stack, not by its thickness.

Volumes of different depths share a batch through `mask` (B, S), which is True where a slice is real. Padded
slices do not change any real slice, whatever they hold, and leave as zeros. Every volume needs at least one
real slice, because over none there is neither a maximum nor a mean.

Not in the released code: masks and slots, `least_hidden`, the start of the semantic weights, the draw that
keeps its gradient, and `fast`.
"""

import torch
from torch import Tensor, nn

from .fast import multiply_gates
from .masks import centred_slots, into_slots, max_over, mean_over, without_padding
from .slice_normal import LowRankNormal, check_sampling


class Attention(nn.Module):
    """One gate and the multiplication by it. The three attentions differ only in `axes` and in `scores`."""

    name: str  # of the gate, for example "slice"
    axes: str  # the axes that the gate has, for example "BS"; F is pooled over the others

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Sigmoid()  # a module, so that a forward hook can read its output (gates.py)

    def forward(self, F: Tensor, mask: Tensor | None = None) -> Tensor:
        """F (B, S, C, H, W), mask (B, S) bool or None -> F times the gate. ValueError for other shapes."""
        F, mask = without_padding(F, mask)
        # F <- F * A
        return F * self.gate_of(F, mask).to(F.dtype)

    def gate_of(self, F: Tensor, mask: Tensor | None = None) -> Tensor:
        """The gate A, for example (B, S, 1, 1, 1), of F (B, S, C, H, W), which is 0 in padded slices."""
        # m = max F,   a = mean F,   over the axes that the gate does not have
        m, a = max_over(F, self.pooled, mask), mean_over(F, self.pooled, mask)
        return self.gate_from(m, a, mask)

    def gate_from(self, m: Tensor, a: Tensor, mask: Tensor | None = None) -> Tensor:
        """The gate A from the maximum m and the mean a of F; all three have five dimensions that fit to F."""
        precision = next(self.parameters()).dtype
        with torch.autocast(m.device.type, enabled=False):  # as precise as the weights: it is little work
            # A = sigmoid( scores(m, a) )
            return self.gate(self.scores(m.to(precision), a.to(precision), mask))

    def scores(self, m: Tensor, a: Tensor, mask: Tensor | None) -> Tensor:
        """The gate before its sigmoid."""
        raise NotImplementedError

    @property
    def pooled(self) -> tuple[int, ...]:
        """The dimensions of F over which this attention pools."""
        return tuple(dim for dim, axis in enumerate("BSCHW") if axis not in self.axes)


class SemanticAttention(Attention):
    """One gate for each channel, from everything the channel holds in the volume."""

    name, axes = "semantic", "BC"

    def __init__(self, channels: int, reduction: int = 16, least_hidden: int = 1) -> None:
        super().__init__()
        hidden = max(channels // reduction, least_hidden)  # C/r; the released code gets 0 below 16 channels
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        # Behind a leaky ReLU m and a are mostly positive, so that a hidden unit whose weights sum to less
        # than 0 would rarely be active and rarely learn. Its weights change their sign. Biases start at 0.
        with torch.no_grad():
            self.mlp[0].weight *= self.mlp[0].weight.sum(1, keepdim=True).sign()
            self.mlp[0].bias.zero_()

    def scores(self, m: Tensor, a: Tensor, mask: Tensor | None) -> Tensor:
        m, a = m.flatten(1), a.flatten(1)  # (B, C) each
        # A_sem = sigmoid( MLP(m) + MLP(a) ),   MLP: C -> C/r -> C, the same for both, ReLU inside
        scores = self.mlp(m) + self.mlp(a)  # (B, C)
        return scores[:, None, :, None, None]  # (B, 1, C, 1, 1)


class PositionalAttention(Attention):
    """One gate for each pixel, the same in all slices, from what the stack holds there."""

    name, axes = "positional", "BHW"

    def __init__(self, kernel_size: int = 7) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size {kernel_size} must be odd, so that the map keeps its size")
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2)

    def scores(self, m: Tensor, a: Tensor, mask: Tensor | None) -> Tensor:
        # P = [ m ; a ]   (B, 2, H, W), channels last in memory, where the convolution is faster
        P = torch.cat([m, a], dim=1).squeeze(2).contiguous(memory_format=torch.channels_last)
        # A_pos = sigmoid( Conv7x7(P) ),   2 -> 1 channel, padded with zeros
        return self.conv(P).unsqueeze(1)  # (B, 1, 1, H, W)


class SliceAttention(Attention):
    """One gate for each slice, from one maximum and one mean of every slice in the stack.

    The MLP has D = `num_slices` inputs, one slot for each slice. A volume with fewer slices stands in the
    middle of the slots, between zeros. A deeper one raises ValueError (windows.py covers such a volume in
    overlapping parts). If `uncertain`, training draws the scores from a normal distribution; evaluation takes
    the mean score, so that two passes agree.
    """

    name, axes = "slice", "BS"

    def __init__(self, num_slices: int, expansion: int = 4, uncertain: bool = False, rank: int = 5,
                 sampling: str = "reparameterised") -> None:
        super().__init__()
        check_sampling(sampling)
        self.num_slices = num_slices
        hidden = expansion * num_slices
        self.mlp = nn.Sequential(nn.Linear(num_slices, hidden), nn.ReLU(), nn.Linear(hidden, num_slices))
        self.normal = LowRankNormal(num_slices, rank, sampling) if uncertain else None

    def scores(self, m: Tensor, a: Tensor, mask: Tensor | None) -> Tensor:
        slots = centred_slots(*m.shape[:2], self.num_slices, m.device, mask)  # (B, S): the slot of each slice
        m, a = (into_slots(x.flatten(1), slots, self.num_slices) for x in (m, a))  # (B, D) each
        # z = MLP_s(m) + MLP_s(a),   MLP_s: D -> 4D -> D, the same for both, ReLU inside
        z = self.mlp(m) + self.mlp(a)  # (B, D)
        if self.normal is None:
            # certain:     A_sl = sigmoid(s),   s = z in the slots of the slices
            s = z.gather(1, slots)  # (B, S)
        else:
            # uncertain:   A_sl = sigmoid(s),   s ~ Normal(mu, W W^T + diag(d)) in training, else s = mu;
            # three linear layers compute mu, W and d of the slots from ReLU(z) (slice_normal.py)
            s = self.normal.sample(self.normal(z.relu(), slots))  # (B, S)
        if mask is not None:
            s = s.masked_fill(~mask, -torch.inf)  # the gate of a padded slice is 0
        return s[:, :, None, None, None]  # (B, S, 1, 1, 1)


GATES = tuple(attention.name for attention in (SemanticAttention, PositionalAttention, SliceAttention))


class CSAM(nn.Module):
    """Cross-Slice Attention Module: the semantic, the positional and the slice attention, in this order.

    num_slices, channels   D, the depth of the deepest volume that it must see, and C
    semantic, positional, slice   each of the three can be switched off
    least_hidden  the semantic MLP has C // 16 hidden units, as published, but at least so many
    uncertain, rank, sampling     see SliceAttention and LowRankNormal
    fast         the same values and gradients in less time (fast.py); False runs the lines of this page

    The three learn 2Ch + h + C numbers (h hidden units), 99, and 8D^2 + 5D: 3979 for C = 64, D = 20, h = 4.
    """

    def __init__(self, num_slices: int, channels: int, *, semantic: bool = True, positional: bool = True,
                 slice: bool = True, least_hidden: int = 1, uncertain: bool = False, rank: int = 5,
                 sampling: str = "reparameterised", fast: bool = True) -> None:
        super().__init__()
        self.semantic = SemanticAttention(channels, least_hidden=least_hidden) if semantic else None
        self.positional = PositionalAttention() if positional else None
        self.slice = SliceAttention(num_slices, 4, uncertain, rank, sampling) if slice else None
        self.fast = fast

    @property
    def attentions(self) -> list[Attention]:
        """The attentions that are switched on, in the order in which they act."""
        return [module for module in (self.semantic, self.positional, self.slice) if module is not None]

    def forward(self, F: Tensor, mask: Tensor | None = None) -> Tensor:
        """F (B, S, C, H, W), mask (B, S) bool or None -> the gated F. Raises ValueError for other shapes."""
        F, mask = without_padding(F, mask)
        if self.fast:
            return multiply_gates(self.attentions, F, mask)
        for attention in self.attentions:
            F = attention(F, mask)
        return F
