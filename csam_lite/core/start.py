"""Where gates stand before a training. The paper does not say; the released code leaves them to random weights."""

import math
from typing import TypeVar

from torch import nn

from .attention import Attention, PositionalAttention, SliceAttention

Module = TypeVar("Module", bound=nn.Module)


def start_gates(module: Module, value: float = 0.9) -> Module:
    """Let every gate in `module` begin at `value`, for any input; returns the module.

        network = start_gates(UNet(1, 3, num_slices=20))

    With random weights, as published, a fifth of the channels starts with a semantic gate below 0.1 or above 0.9 by chance, because
    the pooled maxima are well above 1. Here the last layer of each attention starts without weights, with a bias for `value`.
    Raises ValueError for a value outside (0, 1).
    """
    if not 0 < value < 1:
        raise ValueError(f"gates start at {value}: must lie between 0 and 1, both excluded")
    for attention in module.modules():
        if not isinstance(attention, Attention):
            continue
        last, times = _last_layer(attention)
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, math.log(value / (1 - value)) / times)
    return module


def _last_layer(attention: Attention) -> tuple[nn.Module, int]:
    """The layer whose output becomes the scores, and how many of its outputs are added up."""
    if isinstance(attention, PositionalAttention):
        return attention.conv, 1
    if isinstance(attention, SliceAttention) and attention.normal is not None:
        return attention.normal.mean, 1
    return attention.mlp[-1], 2  # the MLP is applied to the maximum and to the mean
