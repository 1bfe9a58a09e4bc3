"""From a Config to an untrained network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from csam_lite.core.start import start_gates
from csam_lite.training.ablations import FORMS, scale_draws
from csam_lite.training.baselines import NETWORKS, NeighbourChannels

if TYPE_CHECKING:
    from csam_lite.training.config import Config
    from csam_lite.training.facts import Facts

def build_network(config: Config, facts: Facts) -> nn.Module:
    """The untrained network of a run: (B, S, Cin, H, W) -> logits (B, S, K, H, W)."""
    channels = len(facts.channels) * (1 + 2 * config.neighbours)
    size = (channels, facts.num_classes, facts.num_slices, config.base_channels, config.levels)
    kind = NETWORKS[config.network]
    if not kind.takes_gates:
        return kind(*size)
    network = kind(
        *size,
        attention=config.attention,
        csam_class=FORMS[config.gate_form],
        least_hidden=config.semantic_hidden,
        uncertain=config.uncertain,
        sampling=config.sampling,
    )
    if config.gate_start:
        start_gates(network, config.gate_start, config.semantic_weights)
    scale_draws(network, config.noise, config.max_std)
    return NeighbourChannels(network, config.neighbours) if config.neighbours else network
