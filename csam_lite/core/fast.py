r"""The fast path of CSAM: the values and gradients of attention.py, up to rounding, in less time and memory.

F is large and everything else here is small, so that time is spent on passes over F. Four things save passes:

1. A gate without the axis C changes places with pooling over channels. Let A >= 0 be such a gate, so that it
   multiplies all channels of a pixel by the same number:

       max_c (A F_c)  = A max_c F_c          because multiplying by A >= 0 keeps the order
       mean_c (A F_c) = A mean_c F_c         because the mean is linear

   Everything that the positional and the slice attention pool can be computed from max_c F and mean_c F, two
   maps that are C times smaller than F. Each of the two gates multiplies these maps, and F itself is
   multiplied once, at the end, by their product.

2. The gradient of a maximum goes to the place that holds it. To find that place, PyTorch compares every voxel
   of F with the maximum. Here the forward pass keeps which slice holds the maximum of a channel, and the
   backward pass compares in that slice only.

3. F times the semantic gate is computed again in the backward pass, a few slices at a time, so that it is
   neither kept nor written to memory: a few slices fit into the cache of a processor.

4. Several uses of F would leave several gradients, which PyTorch adds up, each time with a pass over F. Here
   the pooling functions also return F, and what comes later uses this F. So the gradient arrives whole, and
   they add their own share to it in place.

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
IN_CACHE = 2**19  # numbers that stay in a processor's cache from one operation to the next


class Gate(Protocol):
    """What this file needs to know of an attention."""

    axes: str
    pooled: tuple[int, ...]

    def gate_from(self, m: torch.Tensor, a: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor: ...


def multiply_gates(attentions: Sequence[Gate], F: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """F (B, S, C, H, W) times the gates of `attentions`, one after the other.

    F must be 0 where the mask (B, S) is False.
    """
    waiting = None  # a gate (B, 1, C, 1, 1) by which F is still to be multiplied
    for commute, neighbours in groupby(attentions, key=lambda attention: "C" not in attention.axes):
        if commute:
            F, waiting = _through_channel_maps(list(neighbours), F, waiting, mask), None
            continue
        for attention in neighbours:
            F, waiting = F if waiting is None else F * waiting, None
            if attention.pooled == VOLUME:
                F, m, a = PoolVolume.apply(F, mask)  # m, a (B, 1, C, 1, 1)
                waiting = attention.gate_from(m, a, mask).to(F.dtype)
            else:
                m, a = max_over(F, attention.pooled, mask), mean_over(F, attention.pooled, mask)
                F = F * attention.gate_from(m, a, mask).to(F.dtype)
    return F if waiting is None else F * waiting


def _through_channel_maps(attentions: Sequence[Gate], F: torch.Tensor, first: torch.Tensor | None,
                          mask: torch.Tensor | None) -> torch.Tensor:
    """F times the gate `first` (B, 1, C, 1, 1) and the gates of `attentions`, none of which has the axis C.

    Fact 1: pool over channels once, then work on the two maps.
    """
    if first is None:
        first = F.new_ones(F.shape[0], 1, F.shape[2], 1, 1)
    gated, highest, mean = GateAndPoolChannels.apply(F, first)  # highest, mean (B, S, 1, H, W)
    product = torch.ones_like(highest)
    for attention in attentions:
        rest = tuple(dim for dim in attention.pooled if dim not in CHANNELS)
        A = attention.gate_from(max_over(highest, rest, mask), mean_over(mean, rest, mask), mask)
        highest, mean, product = highest * A, mean * A, product * A
    return MultiplyMap.apply(gated, product.to(F.dtype), F.detach(), first.detach())


class PoolVolume(torch.autograd.Function):
    """F (B, S, C, H, W), mask (B, S) or None -> F, and maximum and mean of each channel over its real slices,
    (B, 1, C, 1, 1) each. The gradient of the first must be a new tensor, because it is changed.

    Padded slices must hold 0. If several slices share the maximum, the first gets its gradient.
    """

    @staticmethod
    def forward(ctx, F, mask=None):
        highest = F.amax((3, 4))  # (B, S, C)
        if mask is not None:
            highest = highest.masked_fill(~mask[:, :, None], -torch.inf)
        highest, holder = highest.max(1)  # (B, C) each: the maximum, and which slice holds it
        ctx.save_for_backward(F, highest, holder, mask)
        return F.view_as(F), highest[:, None, :, None, None], mean_over(F, VOLUME, mask)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient, of_highest, of_mean):
        F, highest, holder, mask = ctx.saved_tensors
        B, S, C, H, W = F.shape
        if mask is None:
            of_mean = of_mean / S
        else:
            of_mean = of_mean / on_features(mask.sum(1, keepdim=True))
        gradient.add_((of_mean / (H * W)).to(F.dtype))
        at = torch.arange(B, device=F.device)[:, None], holder, torch.arange(C, device=F.device)  # that slice
        share = (F[at] == highest[..., None, None]).to(F.dtype)  # (B, C, H, W): 1 at the maximum
        gradient[at] += share * (of_highest[:, 0] / share.sum((2, 3), keepdim=True))
        return gradient, None


class GateAndPoolChannels(torch.autograd.Function):
    """F (B, S, C, H, W), gate (B, 1, C, 1, 1) -> F times the gate, and its maximum and mean over the
    channels, (B, S, 1, H, W) each. The gradient of the first must be a new tensor, because it is changed.

    Channels that share the maximum share its gradient, as in torch.amax. The mean has at least the precision
    of float32.
    """

    @staticmethod
    def forward(ctx, F, gate):
        gated = F * gate
        highest = gated.amax(CHANNELS, keepdim=True)
        ctx.save_for_backward(F, gate, highest)
        return gated, highest, mean_over(gated, CHANNELS)

    @staticmethod
    @once_differentiable
    def backward(ctx, of_gated, of_highest, of_mean):
        F, gate, highest = ctx.saved_tensors
        of_mean = (of_mean / F.shape[2]).to(F.dtype)
        of_gate = torch.zeros_like(gate, dtype=torch.promote_types(gate.dtype, torch.float32))
        for volumes, slices in _parts(F):
            f, A, gradient = F[volumes, slices], gate[volumes], of_gated[volumes, slices]
            share = f * A
            torch.eq(share, highest[volumes, slices], out=share)  # 1 at the maximum; bool would be slower
            count = share.sum(CHANNELS, keepdim=True).clamp(min=1)  # 0 if compiled code rounds f A otherwise
            gradient.addcmul_(share, of_highest[volumes, slices] / count).add_(of_mean[volumes, slices])
            of_gate[volumes] += torch.mul(gradient, f, out=share).sum((1, 3, 4), True, dtype=of_gate.dtype)
            gradient.mul_(A)
        return of_gated, of_gate.to(gate.dtype)


class MultiplyMap(torch.autograd.Function):
    """gated (B, S, C, H, W), gates (B, S, 1, H, W) -> their product.

    `gated` must be F times `gate` (B, 1, C, 1, 1), from which the backward pass computes it again.
    """

    @staticmethod
    def forward(ctx, gated, gates, F, gate):
        ctx.save_for_backward(gates, F, gate)
        return gated * gates

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        gates, F, gate = ctx.saved_tensors
        of_gated, of_gates = torch.empty_like(F), torch.empty_like(gates)
        for volumes, slices in _parts(F):
            part = gradient[volumes, slices]
            torch.mul(part, gates[volumes, slices], out=of_gated[volumes, slices])
            of_gates[volumes, slices] = (part * F[volumes, slices]).mul_(gate[volumes]).sum(CHANNELS, True)
        return of_gated, of_gates, None, None


def _parts(F: torch.Tensor) -> list[tuple[slice, slice]]:
    """Which volumes and slices of F to work on at once: all on a GPU, and where torch.compile joins
    operations.
    """
    B, S = F.shape[:2]
    step = max(IN_CACHE // F[0, 0].numel(), 1)
    if F.device.type != "cpu" or torch.compiler.is_compiling() or step >= B * S:
        return [(slice(None), slice(None))]
    return [(slice(b, b + 1), slice(s, s + step)) for b in range(B) for s in range(0, S, step)]
