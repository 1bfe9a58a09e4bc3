r"""The normal distribution from which an uncertain slice gate is drawn.

From t = ReLU(z) of shape (B, D), three linear layers predict a normal distribution over the D slots of the
slices:

    mu = W_mu t,   d = exp(W_d t),   W = reshape(W_f t, D x R)          covariance   W W^T + diag(d)

W has R columns only, so that drawing needs no Cholesky factor, which fails in the released code when
activations are large.
"""

import math
from typing import NamedTuple

import torch
from torch import nn

SAMPLING = ("reparameterised", "released")


class LowRankNormal(nn.Module):
    """Predicts a SliceNormal and draws from it.

    sampling   "reparameterised" draws in training, with gradients, and takes the mean in evaluation.
               "released" does as the published code: the draw has no gradient, so that the slice attention
               never learns, and evaluation draws, too.
    noise      scale of the draw: mean + noise * (draw - mean). A plain attribute, which a training may let
               grow from 0.
    max_std    bound M of the standard deviation. A slice with variance v gets v / (1 + v / M^2), which is
               less than M^2.
    """

    def __init__(self, num_slices: int, rank: int = 5, sampling: str = "reparameterised") -> None:
        super().__init__()
        check_sampling(sampling)
        self.sampling, self.noise, self.max_std = sampling, 1.0, math.inf
        self.mean = nn.Linear(num_slices, num_slices)
        self.log_diag = nn.Linear(num_slices, num_slices)
        self.factor = nn.Linear(num_slices, num_slices * rank)

    def forward(self, t: torch.Tensor, slots: torch.Tensor) -> "SliceNormal":
        """t (B, D), slots (B, S) -> the distribution over the S slices in these slots. (Leaving
        out slots of a normal leaves the normal of the others.)
        """
        factor = self.factor(t).unflatten(1, (t.shape[1], -1))  # (B, D, R)
        log_diag = self.log_diag(t).clamp(-10, 10)  # without a bound, exp() overflows
        mean, diag = self.mean(t).gather(1, slots), log_diag.exp().gather(1, slots)  # (B, S) each
        factor = factor.gather(1, slots[:, :, None].expand(-1, -1, factor.shape[2]))  # (B, S, R)
        shrink = 1 / (1 + (factor.square().sum(2) + diag) / self.max_std**2)  # (B, S); 1 without a bound
        return SliceNormal(mean, diag * shrink, factor * shrink.sqrt()[:, :, None])

    def sample(self, normal: "SliceNormal") -> torch.Tensor:
        """The scores (B, S) of the slice gate: a draw or the mean, as `sampling` and the mode of the module
        say.
        """
        if self.sampling == "released":
            return normal.draw(self.noise).detach()
        return normal.draw(self.noise) if self.training else normal.mean


class SliceNormal(NamedTuple):
    """Normal(mean, factor factor^T + diag(diag)) over the slices of each volume."""

    mean: torch.Tensor  # (B, S)
    diag: torch.Tensor  # (B, S)
    factor: torch.Tensor  # (B, S, R)

    def draw(self, noise: float = 1.0) -> torch.Tensor:
        """One sample (B, S), differentiable in mean, diag and factor.

        `noise` scales its distance from the mean.
        """
        shared = torch.randn_like(self.factor[:, 0, :, None])  # (B, R, 1): moves all slices together
        independent = torch.randn_like(self.mean)  # (B, S)
        return self.mean + noise * ((self.factor @ shared).squeeze(2) + self.diag.sqrt() * independent)

    @property
    def covariance(self) -> torch.Tensor:
        """(B, S, S)."""
        return self.factor @ self.factor.mT + torch.diag_embed(self.diag)


def check_sampling(sampling: str) -> None:
    """Raises ValueError for an unknown way of sampling."""
    if sampling not in SAMPLING:
        raise ValueError(f"sampling {sampling!r} is not one of {', '.join(SAMPLING)}")
