"""Initial values of the gates. The paper gives none; the released code leaves them to random weights."""

import math
from typing import TypeVar

import torch
from torch import nn

from .attention import Attention, SemanticAttention, SliceAttention

Module = TypeVar("Module", bound=nn.Module)


def start_gates(module: Module, value: float = 0.9, semantic_weights: float = 0.0) -> Module:
    """Let every gate in `module` begin at `value`, for any input; returns the module.

        network = start_gates(UNet(1, 3, num_slices=20))

    With random weights, about a fifth of the channels of the finest levels starts with a semantic gate below
    0.1 or above 0.9 by chance, because the pooled maxima are well above 1. Here the last layer of each
    attention starts without weights, with a bias for `value`. Draws of an uncertain slice gate scatter around
    it. With `semantic_weights` above 0 (1 is the size of PyTorch's own start), the semantic gates start with
    weights that compare channels. Then they differ between volumes from the first step on; started without
    weights, they hardly learn to. Raises ValueError for a value outside (0, 1).
    """
    if not 0 < value < 1:
        raise ValueError(f"gates start at {value}: must lie between 0 and 1, both excluded")
    for attention in module.modules():
        if not isinstance(attention, Attention):
            continue
        last, times = _last_layer(attention)
        nn.init.constant_(last.bias, math.log(value / (1 - value)) / times)
        if isinstance(attention, SemanticAttention) and semantic_weights:
            _compare_channels(attention, semantic_weights)
        else:
            nn.init.zeros_(last.weight)
    return module


@torch.no_grad()
def _compare_channels(attention: SemanticAttention, scale: float) -> None:
    """Start the MLP so that it answers to how channels differ from each other, and not to how large all of
    them are.

    Each hidden unit starts as a combination of the channels whose weights sum to 1, so that it is active. The
    last layer weighs the differences between hidden units (each row sums to 0), so that the gates stand at
    their bias where all channels are alike. One hidden unit alone has no difference to weigh.
    """
    first, _, last = attention.mlp
    first.weight += (1 - first.weight.sum(1, keepdim=True)) / first.in_features
    nn.init.kaiming_uniform_(last.weight, a=math.sqrt(5))  # PyTorch's own start of a linear layer
    if last.in_features > 1:
        last.weight -= last.weight.mean(1, keepdim=True)
    last.weight *= scale


def _last_layer(attention: Attention) -> tuple[nn.Module, int]:
    """The layer whose output becomes the scores, and how many of its outputs are added up."""
    if hasattr(attention, "conv"):  # it reads the maximum and the mean at once
        return attention.conv, 1
    if isinstance(attention, SliceAttention) and attention.normal is not None:
        return attention.normal.mean, 1
    return attention.mlp[-1], 2  # the MLP is applied to the maximum and to the mean
