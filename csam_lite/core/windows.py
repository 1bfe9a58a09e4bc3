"""A whole volume through a network: class probabilities, in overlapping windows if it is deep, and how much
repeated draws differ.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn

from .attention import SliceAttention


@torch.no_grad()
def probabilities(network: nn.Module, image: torch.Tensor,
                  during: Callable[[int, int], AbstractContextManager] | None = None) -> torch.Tensor:
    """Class probabilities (S, K, H, W) float32 on the CPU for image (S, C, H, W), in the mode the network is
    in.

    A volume deeper than `network.num_slices` (if the network has it) is covered by windows that overlap by
    half or more (those of one slice cannot). Where windows overlap, a slice counts more the nearer it lies to
    the middle of its window. during(start, stop) gives a context that is open while the network sees the
    slices start to stop - 1, for example to record or replace its gates (gates.py).
    """
    S, device = len(image), next(network.parameters()).device
    D = getattr(network, "num_slices", S)

    def see(start: int, stop: int) -> torch.Tensor:
        with during(start, stop) if during else nullcontext():
            logits = network(image[None, start:stop].to(device))
        logits = logits[-1] if isinstance(logits, list) else logits  # U-Net++ in training mode: the last head
        return logits[0].float().softmax(1).cpu()

    if S <= D:
        return see(0, S)
    step = max(D // 2, 1)
    windows = 1 - (D - S) // step  # rounded up
    total, weight = 0.0, torch.zeros(S, 1, 1, 1)
    near_middle = 1.0 + torch.minimum(torch.arange(D), torch.arange(D).flip(0))[:, None, None, None]
    for start in torch.linspace(0, S - D, windows, dtype=torch.float64).round().int().tolist():
        part = see(start, start + D) * near_middle
        total = total + nn.functional.pad(part, (0, 0, 0, 0, 0, 0, start, S - D - start))
        weight[start:start + D] += near_middle
    return total / weight


def spread(network: nn.Module, image: torch.Tensor, draws: int = 20) -> torch.Tensor:
    """Standard deviation of the class probabilities over `draws` of the slice gate, (S, K, H, W), for image
    (S, C, H, W).

    The gates draw; the rest of the network stays in the mode it is in. The draws are the same at each call,
    and the random numbers of the caller are left as they were.
    """
    drawn = drawn_gates(network)
    modes = [module.training for module in drawn]
    for module in drawn:
        module.train()
    try:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return torch.stack([probabilities(network, image) for _ in range(draws)]).std(0, correction=0)
    finally:
        for module, mode in zip(drawn, modes):
            module.train(mode)


def drawn_gates(network: nn.Module) -> list[SliceAttention]:
    """The slice attentions of `network` that draw their gate in training."""
    return [module for module in network.modules()
            if isinstance(module, SliceAttention) and module.normal is not None]


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode during the block; afterwards every module is in the mode it was in."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
