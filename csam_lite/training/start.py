"""How a training starts and what it minimises: loss, biases, learning rates, the noise of the draw."""

import math
from collections.abc import Callable

import torch

from csam_lite.core.attention import CSAM
from csam_lite.core.networks import ConvBlock


def volume_loss() -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
    """Dice + cross-entropy (MONAI) of each volume over its real slices, averaged over volumes: padding and
    company change nothing.

    Returns a function of logits (B, S, K, H, W), label (B, S, H, W) and mask (B, S). The Dice part leaves
    background out.
    """
    from monai.losses import DiceCELoss

    criterion = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)

    def loss(logits: torch.Tensor, label: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        volumes = [
            (x[real].transpose(0, 1), y[real]) for x, y, real in zip(logits, label, mask)
        ]  # (K, S, H, W), (S, H, W)
        return torch.stack([criterion(x[None], y[None, None].float()) for x, y in volumes]).mean()

    return loss


def freeze_cancelled_biases(network: torch.nn.Module) -> None:
    """Take the convolution biases out of the training that the next layer, an instance normalisation,
    cancels.

    Their true gradient is zero. What is computed is rounding noise, which Adam would scale up to full steps.
    """
    for block in network.modules():
        for layer in block if isinstance(block, ConvBlock) else ():
            if isinstance(layer, torch.nn.Conv2d):
                layer.bias.requires_grad_(False)


def start_at_prior(network: torch.nn.Module, frequencies: torch.Tensor) -> None:
    """Let the network begin by giving each class its frequency (K,) in the training masks (Lin et al. 2017,
    for focal loss).

    Started at equal shares instead, the first steps push all rare classes down together, and a class that
    softmax has brought near zero gets next to no gradient from Dice: whole classes stay lost for hundreds of
    steps.
    """
    for head in network.heads:
        head.bias.data = frequencies.clamp(min=1e-4).log().to(head.bias)


def parameter_groups(network: torch.nn.Module, gate_rate: float) -> list[dict]:
    """The parameters that train, the gates' apart from the others; "times" is what the learning rate of a
    group is multiplied by.
    """
    of_gates = {
        id(parameter)
        for module in network.modules()
        if isinstance(module, CSAM)
        for parameter in module.parameters()
    }
    groups = {True: [], False: []}
    for parameter in network.parameters():
        if parameter.requires_grad:
            groups[id(parameter) in of_gates].append(parameter)
    return [
        {"params": groups[is_gate], "times": times}
        for is_gate, times in ((False, 1.0), (True, gate_rate))
        if groups[is_gate]
    ]


def one_cycle(done: float) -> float:
    """Learning rate as a part of the highest, `done` in [0, 1]: a linear rise over the first tenth, then half
    a cosine to zero.
    """
    return done / 0.1 * 0.99 + 0.01 if done < 0.1 else 0.5 * (1 + math.cos(math.pi * (done - 0.1) / 0.9))
