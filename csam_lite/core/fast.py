r"""The fast path of CSAM: the values and gradients of attention.py, up to rounding, in less time and memory.

F is large and everything else here is small, so that time is spent on passes over F. Two facts save passes:

1. A gate without the axis C changes places with pooling over channels. Let A >= 0 be such a gate, so that it
   multiplies all channels of a pixel by the same number:

       max_c (A F_c)  = A max_c F_c          because multiplying by A >= 0 keeps the order
       mean_c (A F_c) = A mean_c F_c         because the mean is linear

   Everything that the positional and the slice attention pool can be computed from max_c F and mean_c F, two
   maps that are C times smaller than F. Each of the two gates multiplies these maps, and F itself is
   multiplied once, at the end, by their product.

2. The gradient of a maximum goes to the place that holds it. To find that place, PyTorch compares every voxel
   of F with the maximum. Here the forward pass keeps which slice holds the maximum of a channel, and the
   backward pass compares in that slice only. For the maximum over channels, one pass over F finds the place
   and adds the gradient of the mean.

Where several slices hold the same maximum, its gradient has more than one valid value: PyTorch shares it, the
fast path gives it to the first of these slices. The fast path has first derivatives only; torch.func and
second derivatives need CSAM(fast=False).

`multiply_gates` calls `gate_from` of each attention, so that weights and hooks on `attention.gate` are those
of the plain path. It does not call `forward` of an attention.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Protocol

import torch
from torch.autograd.function import once_differentiable

from .masks import max_over, mean_over, on_features

CHANNELS = (2,)
VOLUME = (1, 3, 4)


class Gate(Protocol):
    """What this file needs to know of an attention."""

    axes: str
    pooled: tuple[int, ...]

    def gate_from(self, m: torch.Tensor, a: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor: ...


def multiply_gates(attentions: Sequence[Gate], F: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """F (B, S, C, H, W) times the gates of `attentions`, one after the other.

    F must be 0 where the mask (B, S) is False.
    """
    for commute, neighbours in groupby(attentions, key=lambda attention: "C" not in attention.axes):
        pool = _through_channel_maps if commute else _one_by_one
        F = pool(list(neighbours), F, mask)
    return F


def _one_by_one(attentions: Sequence[Gate], F: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    for attention in attentions:
        if attention.pooled == VOLUME:
            m, a = MaxAndMeanOverVolume.apply(F, mask)  # (B, 1, C, 1, 1) each
        else:
            m, a = max_over(F, attention.pooled, mask), mean_over(F, attention.pooled, mask)
        F = F * attention.gate_from(m, a, mask).to(F.dtype)
    return F


def _through_channel_maps(attentions: Sequence[Gate], F: torch.Tensor,
                          mask: torch.Tensor | None) -> torch.Tensor:
    """Fact 1: pool F over channels once, then work on the two maps."""
    highest, mean = MaxAndMeanOverChannels.apply(F)  # (B, S, 1, H, W) each
    product: torch.Tensor | None = None
    for attention in attentions:
        rest = tuple(dim for dim in attention.pooled if dim not in CHANNELS)
        A = attention.gate_from(max_over(highest, rest, mask), mean_over(mean, rest, mask), mask)
        highest, mean, product = highest * A, mean * A, A if product is None else product * A
    return F if product is None else F * product.to(F.dtype)


class MaxAndMeanOverVolume(torch.autograd.Function):
    """F (B, S, C, H, W), mask (B, S) or None -> maximum and mean of each channel over its real slices,
    (B, 1, C, 1, 1) each.

    Padded slices must hold 0. If several slices share the maximum, the first gets its gradient.
    """

    @staticmethod
    def forward(ctx, F, mask=None):
        highest = F.amax((3, 4))  # (B, S, C)
        if mask is not None:
            highest = highest.masked_fill(~mask[:, :, None], -torch.inf)
        highest, holder = highest.max(1)  # (B, C) each: the maximum, and which slice holds it
        ctx.save_for_backward(F, highest, holder, mask)
        return highest[:, None, :, None, None], mean_over(F, VOLUME, mask)

    @staticmethod
    @once_differentiable
    def backward(ctx, of_highest, of_mean):
        F, highest, holder, mask = ctx.saved_tensors
        B, S, C, H, W = F.shape
        if mask is None:
            of_mean = of_mean / S
        else:
            of_mean = of_mean / on_features(mask.sum(1, keepdim=True))
        gradient = (of_mean / (H * W)).to(F.dtype).expand_as(F).contiguous()
        at = torch.arange(B, device=F.device)[:, None], holder, torch.arange(C, device=F.device)  # that slice
        share = (F[at] == highest[..., None, None]).to(F.dtype)  # (B, C, H, W): 1 at the maximum
        gradient[at] += share * (of_highest[:, 0] / share.sum((2, 3), keepdim=True))
        return gradient, None


class MaxAndMeanOverChannels(torch.autograd.Function):
    """F (B, S, C, H, W) -> its maximum and its mean over the channels, (B, S, 1, H, W) each.

    Channels that share the maximum share its gradient, as in torch.amax. The mean has at least the precision
    of float32.
    """

    @staticmethod
    def forward(ctx, F):
        highest = F.amax(CHANNELS, keepdim=True)
        ctx.save_for_backward(F, highest)
        return highest, mean_over(F, CHANNELS)

    @staticmethod
    @once_differentiable
    def backward(ctx, of_highest, of_mean):
        F, highest = ctx.saved_tensors
        share = torch.eq(F, highest, out=torch.empty_like(F))  # 1 at the maximum; bool would be slower
        of_mean = (of_mean / F.shape[2]).to(F.dtype)
        return share.mul_(of_highest / share.sum(CHANNELS, keepdim=True)).add_(of_mean)
