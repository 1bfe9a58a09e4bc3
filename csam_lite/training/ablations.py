"""Variations of CSAM that the paper does not have, for experiments.

None of them was found to help (experiments/README.md).
"""

import math

import torch

from csam_lite.core.attention import CSAM, SliceAttention
from csam_lite.core.masks import mean_over, on_features, without_padding


class ResidualCSAM(CSAM):
    """F + F A instead of F A: a closed gate leaves F as it was."""

    def forward(self, F: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        F, mask = without_padding(F, mask)
        return F + super().forward(F, mask) if self.attentions else F


class NormalisedCSAM(CSAM):
    """F A with zero mean and unit variance of each channel over the real slices of its volume: no gate can
    starve what follows.
    """

    def forward(self, F: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        F, mask = without_padding(F, mask)
        if not self.attentions:
            return F
        gated = super().forward(F, mask)
        centred = gated - mean_over(gated, (1, 3, 4), mask)
        if mask is not None:
            centred = centred * on_features(mask)
        return centred * (mean_over(centred.square(), (1, 3, 4), mask) + 1e-5).rsqrt()


FORMS = {"product": CSAM, "residual": ResidualCSAM, "normalised": NormalisedCSAM}


def scale_draws(network: torch.nn.Module, noise: float | None = None, max_std: float | None = None) -> None:
    """Set the scale of the draw, or its bound, of every uncertain slice gate in `network`; None leaves it
    (see LowRankNormal).
    """
    for module in network.modules():
        if isinstance(module, SliceAttention) and module.normal is not None:
            module.normal.noise = module.normal.noise if noise is None else noise
            module.normal.max_std = module.normal.max_std if max_std is None else max_std or math.inf
