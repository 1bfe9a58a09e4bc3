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


def has_bf16() -> bool:
    """Whether the device of `best_device` has instructions for bfloat16; without them it is slow.

    An x86 processor is taken to have none if it lacks AVX-512, which PyTorch needs for fast bfloat16.
    """
    import torch

    if best_device().type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.backends.cpu.get_cpu_capability() not in ("NO AVX", "AVX2")
