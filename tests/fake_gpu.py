"""A make-believe GPU for tests on machines without one.

    import fake_gpu
    fake_gpu.install()  # now "cuda" names the make-believe GPU, and torch.cuda.is_available() is True

A tensor on it wraps a CPU tensor, says that it is on another device, refuses numpy() and refuses to be mixed
with CPU tensors, in the way CUDA does. It finds code that forgets to move a tensor. It cannot show half
precision kernels, pinned memory, real random numbers of CUDA, or speed. It stands on a private part of torch,
so `missing` says whether this torch has it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "fakegpu"
REGISTER = getattr(backend_registration, "_setup_privateuseone_for_python_backend", None)
NO_NUMPY = ("can't convert cuda:0 device type tensor to numpy. "
            "Use Tensor.cpu() to copy the tensor to host memory first.")
COPIES = ("aten::copy_", "aten::_to_copy")  # take tensors of both devices; indexing has rules of its own
_modes: list = []


def missing() -> str:
    """Why the make-believe GPU cannot be installed; empty if it can."""
    return "" if REGISTER else f"torch {torch.__version__} has no backends in Python"


class FakeTensor(torch.Tensor):
    """A tensor on the make-believe GPU; its numbers are in `raw`, a CPU tensor."""

    @staticmethod
    def __new__(cls, raw: torch.Tensor) -> FakeTensor:
        tensor = torch.Tensor._make_wrapper_subclass(
            cls, raw.size(), strides=raw.stride(), storage_offset=raw.storage_offset(), dtype=raw.dtype,
            device=torch.device(NAME, 0), requires_grad=False)
        tensor.raw = raw
        return tensor

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None) -> Any:
        return _dispatch(operation, args, kwargs or {})

    def __repr__(self, **options: Any) -> str:
        return f"FakeTensor({self.raw})"

    def __deepcopy__(self, memo: dict) -> torch.Tensor:
        copied = FakeTensor(self.raw.clone())
        if isinstance(self, torch.nn.Parameter):
            return torch.nn.Parameter(copied, self.requires_grad)
        return copied

    def tolist(self) -> list:
        return self.raw.tolist()

    def numpy(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError(NO_NUMPY)

    __array__ = numpy


def _raw(value: Any) -> Any:
    return value.raw if isinstance(value, FakeTensor) else value


def _on_fake(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.device.type == NAME


def _is_fake(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


def _dispatch(operation, args: tuple, kwargs: dict) -> Any:
    """Run an operation of torch on the CPU tensors, after checking that CUDA would run it; wrap the
    result.
    """
    if operation is torch.ops.aten._local_scalar_dense.default:  # such as item() and float()
        return operation(_raw(args[0]))
    if operation is torch.ops.aten._to_copy.default:
        return _copy(operation, args[0], kwargs)
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    fakes = [tensor for tensor in tensors if isinstance(tensor, FakeTensor)]
    _refuse_mixture(operation._schema.name, args, tensors, fakes)

    device = kwargs.get("device")
    on_fake = _is_fake(device) if device is not None else bool(fakes)
    if device is not None:
        kwargs = kwargs | {"device": torch.device("cpu")}
    kwargs = {name: value for name, value in kwargs.items() if name != "pin_memory"}
    result = operation(*tree_map(_raw, args), **tree_map(_raw, kwargs))
    known = {id(fake.raw): fake for fake in fakes}  # operations in place return what they were given

    def wrap(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or isinstance(value, FakeTensor):
            return value
        return known[id(value)] if id(value) in known else FakeTensor(value)

    return tree_map(wrap, result) if on_fake else result


def _copy(operation, source: torch.Tensor, kwargs: dict) -> torch.Tensor:
    device = kwargs.get("device")
    kwargs = {name: value for name, value in kwargs.items() if name not in ("device", "pin_memory")}
    copied = operation(_raw(source), **kwargs)
    copied = copied.clone() if copied is _raw(source) else copied
    on_fake = _is_fake(device) if device is not None else isinstance(source, FakeTensor)
    return FakeTensor(copied) if on_fake else copied


def _refuse_mixture(name: str, args: tuple, tensors: list, fakes: list) -> None:
    """Raise RuntimeError where CUDA would, because tensors of both devices meet."""
    on_cpu = [tensor for tensor in tensors if not isinstance(tensor, FakeTensor)]
    if not fakes or not on_cpu or name in COPIES:
        return
    if name == "aten::index" and not isinstance(args[0], FakeTensor):
        raise RuntimeError("indices should be either on cpu or on the device of the indexed tensor (cpu)")
    if name in ("aten::index_put", "aten::index_put_", "aten::_index_put_impl_"):
        on_cpu = [] if isinstance(args[2], FakeTensor) else [args[2]]  # only indices may lie on the CPU
    elif name == "aten::index":
        return
    if any(tensor.dim() > 0 for tensor in on_cpu):
        raise RuntimeError("Expected all tensors to be on the same device, but found at least two devices, "
                           f"cuda:0 and cpu! ({name})")


class _MadeHere(TorchDispatchMode):
    """Operations that make a tensor from nothing, such as torch.zeros(3, device="cuda")."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None) -> Any:
        kwargs = kwargs or {}
        if _is_fake(kwargs.get("device")):
            return _dispatch(operation, args, kwargs)
        return operation(*args, **kwargs)


class _Names(TorchFunctionMode):
    """"cuda" names the make-believe GPU wherever torch takes a device."""

    def __torch_function__(self, function, types, args=(), kwargs=None) -> Any:
        if getattr(function, "__name__", "") in ("numpy", "__array__") and _on_fake(args[0]):
            raise TypeError(NO_NUMPY)
        kwargs = {key: _device(value) for key, value in (kwargs or {}).items()}
        return function(*map(_device, args), **kwargs)


def _device(value: Any) -> Any:
    """The make-believe GPU for "cuda" in any form; any other value as it is."""
    if isinstance(value, (str, torch.device)) and str(value).startswith("cuda"):
        return torch.device(NAME, 0)
    return value


def install() -> None:
    """Make "cuda" mean the make-believe GPU in this process, for good. Raises RuntimeError if `missing` says
    why.
    """
    if _modes:
        return
    if missing():
        raise RuntimeError(missing())
    REGISTER(NAME, backend_module=_Backend())
    torch.__future__.set_swap_module_params_on_conversion(True)  # module.to() exchanges whole tensors
    for mode in (_MadeHere(), _Names()):
        mode.__enter__()
        _modes.append(mode)
    _replace_cuda()
    _replace_constructors()
    _replace_savers()
    _replace_training()


class _Backend(backend_registration._DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]

    def is_autocast_enabled(self) -> bool:
        return torch.is_autocast_enabled(NAME)

    def get_rng_state(self, *args: Any) -> torch.Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, *args: Any) -> None:
        pass


def _replace_cuda() -> None:
    torch.cuda.is_available = lambda: True
    torch.cuda.get_device_name = lambda *args: "make-believe GPU"
    torch.cuda.memory_allocated = torch.cuda.max_memory_allocated = lambda *args: 0
    for name in ("synchronize", "empty_cache", "reset_peak_memory_stats", "manual_seed", "manual_seed_all"):
        setattr(torch.cuda, name, lambda *args, **kwargs: None)


def _replace_constructors() -> None:
    """What takes a device without passing by a mode."""
    to, as_tensor, tensor = torch.nn.Module.to, torch.as_tensor, torch.tensor

    def module_to(self, *args: Any, **kwargs: Any) -> torch.nn.Module:
        return to(self, *map(_device, args), **{key: _device(value) for key, value in kwargs.items()})

    def new_as_tensor(data: Any, dtype=None, device=None) -> torch.Tensor:
        if isinstance(data, torch.Tensor):
            return data.to(device=device or data.device, dtype=dtype or data.dtype)
        made = as_tensor(data, dtype=dtype)
        return made if device is None else made.to(device)

    def new_tensor(data: Any, *, dtype=None, device=None, requires_grad: bool = False) -> torch.Tensor:
        made = tensor(data, dtype=dtype, requires_grad=requires_grad)
        return made if device is None else made.to(device)

    torch.nn.Module.to, torch.as_tensor, torch.tensor = module_to, new_as_tensor, new_tensor


def _replace_savers() -> None:
    """torch and safetensors write CPU tensors, because they read the memory of a tensor directly."""
    import safetensors.torch

    def on_cpu(value: Any) -> Any:
        return value.detach().cpu() if _on_fake(value) else value

    save_tensors, save = safetensors.torch.save, torch.save
    safetensors.torch.save = lambda tensors, metadata=None: save_tensors(tree_map(on_cpu, tensors), metadata)
    torch.save = lambda content, file, *args, **kwargs: save(tree_map(on_cpu, content), file, *args, **kwargs)


def _replace_training() -> None:
    """accelerate chooses the make-believe GPU; half precision and pinned memory, which it lacks, are left
    out.
    """
    import accelerate
    from torch.utils.data import DataLoader

    class Accelerator(accelerate.Accelerator):
        device = property(lambda self: torch.device(NAME, 0))

        def __init__(self, *args: Any, cpu: bool = False, mixed_precision: str | None = None,
                     **kwargs: Any) -> None:
            mixed_precision = None if mixed_precision == "fp16" else mixed_precision
            super().__init__(*args, cpu=True, mixed_precision=mixed_precision, **kwargs)

    init: Callable = DataLoader.__init__

    def loader_init(self, *args: Any, pin_memory: bool = False, **kwargs: Any) -> None:
        init(self, *args, **kwargs)

    accelerate.Accelerator, DataLoader.__init__ = Accelerator, loader_init
