"""Volumes of different depths in one batch: padded slices enter no statistic and leave as zeros.

A mask (B, S) is True where a slice is real. In all functions F has the axes (B, S, C, H, W).
"""

import torch

SLICES = 1  # the dimension S of F


def without_padding(F: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
    """F with zeros in its padded slices, and the mask as bool. Raises ValueError for other shapes."""
    if F.dim() != 5:
        raise ValueError(f"expected features with the axes (B, S, C, H, W), got shape {tuple(F.shape)}")
    if mask is None:
        return F, None
    if mask.shape != F.shape[:2]:
        raise ValueError(f"expected mask (B, S) = {tuple(F.shape[:2])}, got {tuple(mask.shape)}")
    mask = mask.bool()
    return F.masked_fill(~on_features(mask), 0), mask


def max_over(F: torch.Tensor, dims: tuple[int, ...], mask: torch.Tensor | None = None) -> torch.Tensor:
    """Maximum of F over `dims`, dimensions kept; where S is among them, over the real slices only."""
    if mask is not None and SLICES in dims:
        F = F.masked_fill(~on_features(mask), -torch.inf)
    return F.amax(dims, keepdim=True) if dims else F  # amax(()) would reduce every dimension


def mean_over(F: torch.Tensor, dims: tuple[int, ...], mask: torch.Tensor | None = None) -> torch.Tensor:
    """Mean of F over `dims`, dimensions kept; where S is among them, over the real slices only. F must be 0
    in padded slices.

    The mean has at least the precision of float32, because a sum over many half-precision numbers can
    overflow.
    """
    precision = torch.promote_types(F.dtype, torch.float32)
    mean = F.mean(dims, keepdim=True, dtype=precision) if dims else F.to(precision)
    if mask is None or SLICES not in dims:
        return mean
    return mean / on_features(mask.to(mean.dtype).mean(1, keepdim=True))  # mean over real slices only


def on_features(mask: torch.Tensor) -> torch.Tensor:
    """mask (B, S) as (B, S, 1, 1, 1), which broadcasts to F."""
    return mask[:, :, None, None, None]


def centred_slots(B: int, S: int, num_slices: int, device: torch.device,
                  mask: torch.Tensor | None = None) -> torch.Tensor:
    """The slot (B, S), out of `num_slices`, in which each slice stands: the real slices of a volume stand in
    the middle.

    A gap between real slices keeps its slots and counts in the depth. Raises ValueError for a volume deeper
    than `num_slices`.
    """
    slice_index = torch.arange(S, device=device).expand(B, S)
    first, last = 0, S - 1
    if mask is not None:
        first = slice_index.masked_fill(~mask, S).amin(1, keepdim=True)  # (B, 1)
        last = slice_index.masked_fill(~mask, -1).amax(1, keepdim=True)  # (B, 1)
    depth = last - first + 1
    if S > num_slices and bool(torch.as_tensor(depth > num_slices).any()):
        deepest = int(torch.as_tensor(depth).max())
        raise ValueError(f"a volume of {deepest} slices is deeper than num_slices={num_slices}; "
                         "predict it in windows (windows.py) or build the network with more slices")
    slots = slice_index - first + (num_slices - depth) // 2
    return slots.clamp(0, num_slices - 1)  # clamps padded slices only


def into_slots(values: torch.Tensor, slots: torch.Tensor, num_slices: int) -> torch.Tensor:
    """One value for each slice (B, S) -> the values in their slots (B, D), zeros elsewhere.

    Padded slices must hold 0.
    """
    empty = values.new_zeros(len(values), num_slices)
    return empty.scatter_add(1, slots, values)
