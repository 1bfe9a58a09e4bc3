"""A network whose training steps run through torch.compile."""

from collections.abc import Callable

import torch

from csam_lite.common.errors import InputError, first_line


def compiled(network: torch.nn.Module) -> Callable:
    """The network's forward pass as torch.compile builds it, with the same weights; outputs differ by
    rounding.

    It is built at the first call, and again for another number of slices or with a mask, which takes a
    minute or more on two CPU cores. The call raises InputError where this machine cannot build it, for
    example without a C++ compiler.
    """
    forward = torch.compile(network)

    def call(*inputs):
        try:
            return forward(*inputs)
        except (RuntimeError, UnicodeError) as error:
            if isinstance(error, UnicodeError) or type(error).__module__.startswith("torch._"):
                raise InputError(
                    f"--compile: torch.compile does not work on this machine ({first_line(error)}); "
                    "leave it out"
                ) from error
            raise

    return call
