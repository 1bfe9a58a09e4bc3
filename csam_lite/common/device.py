"""Where tensors live: the GPU if there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def best_device() -> torch.device:
    """The CUDA device if there is one, the CPU otherwise.

    Apple's GPU (MPS) is not used, neither here nor in training: no result of this project was measured there.
    A network can be moved there by hand, `run.network.to("mps")`.
    """
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
