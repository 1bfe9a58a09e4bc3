r"""The three attentions of CSAM, and the module that chains them.

Source: Hung et al., "CSAM: A 2.5D Cross-Slice Attention Module for Anisotropic Volumetric Medical Image Segmentation",
WACV 2024 (arXiv 2311.04942), computed as in the authors' released code with its defects mended.

Axes, here and everywhere: B volumes, S slices, C channels, H and W pixels. A volume enters as feature maps F of shape
(B, S, C, H, W) and leaves multiplied by three gates in (0, 1), one after the other:

    F <- F * A_sem        which channels matter in this volume       A_sem (B, 1, C, 1, 1)
    F <- F * A_pos        which pixels matter, in all its slices     A_pos (B, 1, 1, H, W)
    F <- F * A_sl         which slices matter                        A_sl  (B, S, 1, 1, 1)

A gate weighs; it never moves information from one slice to another. What crosses the slices are the pooled
statistics from which each gate is computed, and they are pooled from what the gate before has left.

The last two gates are positive and the same for all channels, so they change places with pooling over channels:
max_c (A F) = A max_c F. Hence both read F only through two maps over the channels, C times smaller than F, which are
gated in its stead; F itself is multiplied once, at the end, by the product A_pos A_sl.

What the paper leaves open stands in options whose defaults are the paper's: where the gates start (`start`), how
far the draw of the slice gate may go (`noise`, `max_std`), and in which `form` the gates act on F.

Volumes of unlike depth share a batch through `mask` (B, S), True where a slice is real. Padding is invisible: it enters
no statistic, its content (even NaN) reaches no real slice, and it leaves as zero. Every volume needs one real slice.
"""

import math
from typing import NamedTuple

import torch
from torch import nn

GATES = ("semantic", "positional", "slice")
SAMPLING = ("reparameterised", "released")
FORMS = ("product", "residual", "normalised")


class Attention(nn.Module):
    """What the three attentions share: `y = x * gate`, `gate = sigmoid(logits)`.

    The sigmoid is a module, so that a forward hook on `.gate` can read the gate, or replace it (see record.py).
    """

    def __init__(self):
        super().__init__()
        self.gate = nn.Sigmoid()

    def forward(self, x, mask=None):
        """x (B, S, C, H, W), mask (B, S) bool or None -> the gated x, same shape. Raises ValueError on other shapes."""
        x, mask = without_padding(x, mask)
        return x * self.gate(self.logits(*self.look(x, mask), mask)).to(x.dtype)

    def look(self, x, mask=None):
        """All that `logits` wants to know of x: here its maximum and mean over the channels, (B, S, 1, H, W) each."""
        return MaxAndMeanOverChannels.apply(x)

    def logits(self, highest, mean, mask):
        """The gate before its sigmoid, in a shape that broadcasts to x. What was looked at is zero in padded slices."""
        raise NotImplementedError


class SemanticAttention(Attention):
    r"""One gate per channel, from what the channel holds in the whole volume.

        m = max_{s,h,w} F,   a = mean_{s,h,w} F                    both (B, C)
        A_sem = sigmoid( MLP(m) + MLP(a) ),   MLP: C -> C/r -> C   one MLP for both, ReLU inside
    """

    def __init__(self, channels, reduction=16, start=None):
        super().__init__()
        hidden = max(channels // reduction, 1)  # the released code gives 0 below 16 channels
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        # Statistics are mostly positive and hidden units few (one below 32 channels): started below zero, a unit would never train.
        self.mlp[0].weight.data *= self.mlp[0].weight.data.sum(1, keepdim=True).sign()
        nn.init.zeros_(self.mlp[0].bias)
        start_quietly(self.mlp[2], start, times=2)  # the MLP is added twice, for m and for a

    def look(self, x, mask=None):
        """Maximum and mean of each channel over the real slices of its volume, (B, 1, C, 1, 1) each."""
        return MaxAndMeanOverVolume.apply(x, mask)

    def logits(self, highest, mean, mask):
        logits = self.mlp(highest.flatten(1)) + self.mlp(mean.flatten(1))  # (B, C)
        return logits[:, None, :, None, None]  # (B, 1, C, 1, 1)


class PositionalAttention(Attention):
    r"""One gate per pixel, the same in all slices, from what stands there through the stack.

        P = [ max_{s,c} F ; mean_{s,c} F ]      (B, 2, H, W)
        A_pos = sigmoid( Conv_{7x7}(P) )        2 -> 1 channel, zero padding
    """

    def __init__(self, kernel_size=7, start=None):
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size {kernel_size} must be odd, so that the map keeps its size")
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2)
        start_quietly(self.conv, start)

    def logits(self, highest, mean, mask):
        highest, mean = max_and_mean(highest, mean, 1, mask)  # (B, 1, 1, H, W) each
        maps = torch.stack([highest, mean], dim=-1)[:, 0, 0].movedim(-1, 1)  # (B, 2, H, W); in memory H, W, 2: a third of conv's time
        return self.conv(maps).unsqueeze(1)  # (B, 1, 1, H, W)


class SliceAttention(Attention):
    r"""One gate per slice, from one maximum and one mean of every slice in the stack.

        z = MLP_s( max_{c,h,w} F ) + MLP_s( mean_{c,h,w} F )         MLP_s: D -> kD -> D, one for both, ReLU inside
        certain      A_sl = sigmoid(z)
        uncertain    A_sl = sigmoid(s),   s ~ Normal(mu, W W^T + diag(d))   (LowRankNormal of ReLU(z))

    The MLP has D = `num_slices` slots. A volume of fewer slices stands centred in them, zeros around it.
    Training draws s with the reparameterised sample, evaluation takes s = mu.

    `sampling="released"` is the draw as published: it cuts the graph, so that neither the MLP nor the normal ever gets
    a gradient, and it draws in evaluation too. It is here so that a lesson can show what it breaks.
    `noise` scales the draw: s = mu + noise * (draw - mu); it is a plain attribute that a trainer may let grow from 0.
    `max_std` bounds the standard deviation of each slice (see LowRankNormal).
    Raises ValueError for a volume deeper than `num_slices` (predict.py covers such a volume with windows).
    """

    def __init__(self, num_slices, expansion=4, rank=5, uncertain=False, sampling="reparameterised", start=None, noise=1.0, max_std=math.inf):
        super().__init__()
        if sampling not in SAMPLING:
            raise ValueError(f"sampling {sampling!r} is not one of {SAMPLING}")
        self.num_slices, self.sampling, self.noise = num_slices, sampling, noise
        hidden = expansion * num_slices
        self.mlp = nn.Sequential(nn.Linear(num_slices, hidden), nn.ReLU(), nn.Linear(hidden, num_slices))
        self.normal = LowRankNormal(num_slices, rank, max_std) if uncertain else None
        if uncertain:
            start_quietly(self.normal.mean, start)
        else:
            start_quietly(self.mlp[2], start, times=2)  # added twice, for the maximum and the mean

    def logits(self, highest, mean, mask):
        slots = centred_slots(*mean.shape[:2], self.num_slices, mean.device, mask)  # (B, S)
        highest, mean = (p.flatten(1) for p in max_and_mean(highest, mean, (3, 4)))  # (B, S) each; a padded slice gives 0
        with torch.autocast(mean.device.type, enabled=False):  # D numbers a volume: float32 costs nothing
            z = self.mlp(self.stand(highest, slots)) + self.mlp(self.stand(mean, slots))  # (B, D)
            if self.normal is None:
                s = z.gather(1, slots)  # (B, S)
            else:
                normal = self.normal(z.relu(), slots)
                if self.sampling == "released":
                    s = normal.draw(self.noise).detach()
                else:
                    s = normal.draw(self.noise) if self.training else normal.mean
        if mask is not None:
            s = s.masked_fill(~mask, -torch.inf)  # the gate of a padded slice is 0
        return s[:, :, None, None, None]  # (B, S, 1, 1, 1)

    def stand(self, values, slots):
        """Per-slice `values` (B, S) in their slots (B, D), zero elsewhere. Padding adds the 0 that it pooled."""
        empty = torch.zeros(len(values), self.num_slices, device=values.device, dtype=self.mlp[0].weight.dtype)
        return empty.scatter_add(1, slots, values.to(empty.dtype))


class LowRankNormal(nn.Module):
    r"""A normal distribution over slices, predicted from t = ReLU(z) (B, D):

        mu = W_mu t,   d = exp(W_d t),   W = reshape(W_f t, D x R)          covariance  W W^T + diag(d)

    With a finite `max_std` M, slice i with variance v has it shrunk to v / (1 + v / M^2) < M^2: small ones hardly change.
    """

    def __init__(self, num_slices, rank, max_std=math.inf):
        super().__init__()
        self.max_std = max_std
        self.mean = nn.Linear(num_slices, num_slices)
        self.log_diag = nn.Linear(num_slices, num_slices)
        self.factor = nn.Linear(num_slices, num_slices * rank)

    def forward(self, t, slots):
        """t (B, D), slots (B, S) -> SliceNormal over the S slices that stand in these slots (a marginal: just index)."""
        factor = self.factor(t).unflatten(1, (t.shape[1], -1))  # (B, D, R)
        rows = slots[:, :, None].expand(-1, -1, factor.shape[2])  # (B, S, R)
        log_diag = self.log_diag(t).clamp(-10, 10)  # the released exp() overflows once activations are large
        mean, diag, factor = self.mean(t).gather(1, slots), log_diag.exp().gather(1, slots), factor.gather(1, rows)
        shrink = 1 / (1 + (factor.square().sum(2) + diag) / self.max_std**2)  # (B, S); 1 where there is no bound
        return SliceNormal(mean, diag * shrink, factor * shrink.sqrt()[:, :, None])


class SliceNormal(NamedTuple):
    """Normal(mean, factor factor^T + diag(diag)) over the slices of each volume."""

    mean: torch.Tensor  # (B, S)
    diag: torch.Tensor  # (B, S)
    factor: torch.Tensor  # (B, S, R)

    def draw(self, noise=1.0):
        """One sample (B, S), differentiable in all three: no Cholesky factor is needed, so none can fail. `noise` scales it."""
        common = torch.randn_like(self.factor[:, 0, :, None])  # (B, R, 1): what the slices share
        own = torch.randn_like(self.mean)  # (B, S)
        return self.mean + noise * ((self.factor @ common).squeeze(2) + self.diag.sqrt() * own)

    @property
    def covariance(self):
        """(B, S, S)."""
        return self.factor @ self.factor.mT + torch.diag_embed(self.diag)


class CSAM(nn.Module):
    """Cross-Slice Attention Module: the semantic, positional and slice gates in this order, any of them switched off.

    `num_slices` is the depth of the deepest volume it must see. `start` is the value of all gates at the start of a training; None
    leaves them to the layers' random weights, as published (see `start_quietly`). `form`:

        product      F A                 the paper's; A is the product of the gates
        residual     F + F A             a closed gate leaves F as it was
        normalised   norm(F A)           zero mean and unit variance of each channel over its volume: no gate can starve what follows

    `uncertain`, `rank`, `sampling`, `noise` and `max_std` are SliceAttention's.
    """

    def __init__(self, num_slices, channels, semantic=True, positional=True, slice=True, start=None, form="product", **slice_options):
        super().__init__()
        if form not in FORMS:
            raise ValueError(f"form {form!r} is not one of {FORMS}")
        self.form = form
        self.semantic = SemanticAttention(channels, start=start) if semantic else None
        self.positional = PositionalAttention(start=start) if positional else None
        self.slice = SliceAttention(num_slices, start=start, **slice_options) if slice else None

    def forward(self, x, mask=None):
        """x (B, S, C, H, W), mask (B, S) bool or None -> the gated x, same shape."""
        x, mask = without_padding(x, mask)
        if not any(isinstance(part, Attention) for part in self.children()):
            return x
        gated = self.times_gates(x, mask)
        if self.form == "residual":
            return x + gated
        return normalised(gated, mask) if self.form == "normalised" else gated

    def times_gates(self, x, mask):
        if self.semantic is not None:
            x = self.semantic(x, mask)
        same_for_all_channels = [attention for attention in (self.positional, self.slice) if attention is not None]
        if not same_for_all_channels:
            return x
        highest, mean = same_for_all_channels[0].look(x)  # (B, S, 1, H, W) each
        gate = 1.0
        for attention in same_for_all_channels:
            own = attention.gate(attention.logits(highest, mean, mask)).to(x.dtype)
            highest, mean, gate = highest * own, mean * own, gate * own
        return x * gate


class MaxAndMeanOverVolume(torch.autograd.Function):
    """x (B, S, C, H, W) -> maximum and mean of each channel over its real slices, (B, 1, C, 1, 1) each; a padded slice must hold 0.

    The gradient of a maximum is sought in the one slice that holds it (the first, should several tie); autograd would search the volume.
    """

    @staticmethod
    def forward(ctx, x, mask=None):
        highest = x.amax((3, 4))  # (B, S, C)
        if mask is not None:
            highest = highest.masked_fill(~mask[:, :, None], -torch.inf)
        highest, slices = highest.max(1)  # (B, C) each
        ctx.save_for_backward(x, highest, slices, mask)
        return highest[:, None, :, None, None], mean_over(x, (1, 3, 4), mask)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, of_highest, of_mean):
        x, highest, slices, mask = ctx.saved_tensors
        B, S, C, H, W = x.shape
        real = S if mask is None else mask.sum(1)[:, None, None, None, None]
        gradient = (of_mean / (real * H * W)).expand_as(x).contiguous()
        held = torch.arange(B, device=x.device)[:, None], slices, torch.arange(C, device=x.device)  # which slice of each channel
        share = (x[held] == highest[..., None, None]).to(x.dtype)  # (B, C, H, W)
        gradient[held] += share * (of_highest[:, 0] / share.sum((2, 3), keepdim=True))
        return gradient, None


class MaxAndMeanOverChannels(torch.autograd.Function):
    """x (B, S, C, H, W) -> x.amax(2, keepdim=True), x.mean(2, keepdim=True); both gradients in one go, a third of autograd's time.

    Channels that tie for the maximum share its gradient, as in amax.
    """

    @staticmethod
    def forward(ctx, x):
        highest = x.amax(2, keepdim=True)
        ctx.save_for_backward(x, highest)
        return highest, x.mean(2, keepdim=True)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, of_highest, of_mean):
        x, highest = ctx.saved_tensors
        share = torch.eq(x, highest, out=torch.empty_like(x))  # 1 at the maximum, 0 below; bool would be slower
        return share.mul_(of_highest / share.sum(2, keepdim=True)).add_(of_mean / x.shape[2])


def without_padding(x, mask):
    """x (B, S, C, H, W) with zeros in its padded slices, and its mask (B, S) as bool. Raises ValueError on other shapes."""
    if x.dim() != 5:
        raise ValueError(f"expected x with axes (B, S, C, H, W), got shape {tuple(x.shape)}")
    if mask is None:
        return x, None
    if mask.shape != x.shape[:2]:
        raise ValueError(f"expected mask (B, S) = {tuple(x.shape[:2])}, got {tuple(mask.shape)}")
    mask = mask.bool()
    return x.masked_fill(~mask[:, :, None, None, None], 0), mask


def normalised(x, mask=None):
    """x (B, S, C, H, W) with zero mean and unit variance of each channel over the real slices of its volume; padding stays zero."""
    centred = x - mean_over(x, (1, 3, 4), mask)
    if mask is not None:
        centred = centred * mask[:, :, None, None, None]
    return centred * (mean_over(centred.square(), (1, 3, 4), mask) + 1e-5).rsqrt()


def start_quietly(last, start, times=1):
    """Let a gate start at the value `start` for every input: no weights in its `last` layer, which is added up `times`, and a bias for it.

    With the usual random weights, the pooled maxima being well above 1, a fifth of the channels start with a semantic gate below 0.1 or
    above 0.9, by chance. None leaves the layer as it is. Raises ValueError for a start outside (0, 1).
    """
    if start is None:
        return
    if not 0 < start < 1:
        raise ValueError(f"start {start} must lie between 0 and 1, both excluded")
    nn.init.zeros_(last.weight)
    nn.init.constant_(last.bias, math.log(start / (1 - start)) / times)


def centred_slots(B, S, num_slices, device, mask=None):
    """The slot (B, S), of `num_slices`, in which each slice stands: the span from the first to the last real slice is centred.

    Raises ValueError for a volume deeper than num_slices.
    """
    slice_index = torch.arange(S, device=device).expand(B, S)
    first, last = 0, S - 1
    if mask is not None:
        first = slice_index.masked_fill(~mask, S).amin(1, keepdim=True)  # (B, 1)
        last = slice_index.masked_fill(~mask, -1).amax(1, keepdim=True)
    span = last - first + 1
    if S > num_slices and bool(torch.as_tensor(span > num_slices).any()):
        raise ValueError(f"a volume of {int(torch.as_tensor(span).max())} slices is deeper than num_slices={num_slices}; "
                         "predict it in windows (csam_lite.predict) or build the network with more slices")
    slots = slice_index - first + (num_slices - span) // 2
    return slots.clamp(0, num_slices - 1)  # only padding is clamped


def max_and_mean(highest, mean, dims, mask=None):
    """Maximum of `highest` and mean of `mean` over `dims`, dimensions kept. With `mask`, over real slices only (both are 0 elsewhere)."""
    if mask is not None:
        highest = highest.masked_fill(~mask[:, :, None, None, None], -torch.inf)
    return highest.amax(dims, keepdim=True), mean_over(mean, dims, mask)


def mean_over(x, dims, mask=None):
    """Mean of x over `dims`, the slices among them, dimensions kept. With `mask`, over real slices only (x is 0 elsewhere)."""
    mean = x.mean(dims, keepdim=True)
    return mean if mask is None else mean / mask.float().mean(1).to(mean.dtype)[:, None, None, None, None]  # by the part that is real
