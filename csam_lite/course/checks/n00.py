"""Checks of 00_start_here: the machine, the shapes of the gates, a gate at work, and Dice."""

import importlib
import importlib.metadata
import os
import re
import shutil
import sys
import tempfile

import numpy as np
import torch

from csam_lite.course.checks import (
    Answer,
    Property,
    Verdict,
    Wrong,
    answer,
    exercise,
    numpy_generator,
    plain_number,
    same_values,
    states,
    torch_generator,
    verify,
)
from csam_lite.course.checks._tensors import leaves_inputs, passes_gradients
from csam_lite.training.run import pretrained

# What the course calls, and the oldest version that works, as in pyproject.toml (a test compares them).
FLOORS = {
    "torch": "2.8",
    "numpy": "2.0",
    "monai": "1.6",
    "nibabel": "5.2",
    "scipy": "1.13",
    "accelerate": "1.10",
    "safetensors": "0.5",
    "tqdm": "4.66",
    "matplotlib": "3.8",
    "anywidget": "0.9.21",
    "ipywidgets": "7.7.1",
}
PYTHON, DISK_GB, MEMORY_GB = (3, 11), 1, 3

Line = tuple[bool, str, str]  # whether all is well, what was asked, and what to do where it is not


def machine(floors: dict[str, str] | None = None, folder: str | os.PathLike = ".") -> bool:
    """Print a line for each thing that the course needs: [OK], or [FAIL] and what to do. True if nothing
    fails."""
    lines = [
        _python(),
        *(_package(name, floor) for name, floor in (FLOORS if floors is None else floors).items()),
        _memory(),
        _folder(folder),
        _weights(),
    ]
    for fine, what, advice in lines:
        print(f"[{'OK' if fine else 'FAIL'}] {what}" + ("" if fine else f"\n       what to do: {advice}"))
    gpu = (
        torch.cuda.get_device_name(0)
        if torch.cuda.is_available()
        else "none, and none is needed with QUICK = True"
    )
    print(f"       graphics card: {gpu}; processor cores: {os.cpu_count()}")
    return all(fine for fine, _, _ in lines)


def _python() -> Line:
    version, floor = (".".join(map(str, numbers)) for numbers in (sys.version_info[:3], PYTHON))
    return (sys.version_info >= PYTHON, f"python {version}; the course needs {floor} or newer",
            f"make a new environment with Python {floor} or newer")


def _package(name: str, floor: str) -> Line:
    install = "python -m pip install --upgrade-strategy only-if-needed"
    advice = f'run: {install} "{name}>={floor}", then restart the kernel'
    try:
        version = importlib.metadata.version(name)
        importlib.import_module(name)
    except Exception as error:  # an installed package can fail in any way at its import
        return False, f"{name} cannot be imported ({type(error).__name__})", advice
    return (
        _numbers(version) >= _numbers(floor),
        f"{name} {version}; the course needs {floor} or newer",
        advice,
    )


def _numbers(version: str) -> tuple[int, ...]:
    """"2.13.0+cpu" -> (2, 13, 0)."""
    return tuple(int(part) for part in re.match(r"[\d.]*", version)[0].strip(".").split(".") if part)


def _memory() -> Line:
    try:
        gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (ValueError, OSError, AttributeError):
        return True, "memory: this system does not say how much it has", ""
    return (gigabytes >= MEMORY_GB, f"memory {gigabytes:.1f} GB; the course needs {MEMORY_GB} GB",
            "close other programs, or use Colab (badge at the top)")


def _folder(folder: str | os.PathLike) -> Line:
    try:
        with tempfile.TemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free / 1e9
    except OSError as error:
        return (False, f"the working folder cannot be written ({error.strerror})",
                "start Jupyter in a folder in which you may write")
    return (free >= DISK_GB, f"working folder: writable, {free:.0f} GB free; the course needs {DISK_GB} GB",
            "delete files, or start Jupyter on another disk")


def _weights() -> Line:
    try:
        parameters = sum(p.numel() for p in pretrained().network.parameters())
    except Exception as error:
        return (False, f"the shipped weights cannot be read ({type(error).__name__}: {error})",
                "install csam_lite again: python -m pip install --force-reinstall --no-deps csam-lite")
    return True, f"shipped weights: {parameters:,} parameters", ""


@exercise
def gate_shapes(function: Answer) -> Verdict:
    """function(B, S, C, H, W) -> {"semantic": shape, "positional": shape, "slice": shape} of the three
    gates."""

    drawn_sizes = tuple(numpy_generator(0).integers(2, 40, 5).tolist())

    def has_shape(gate: str, expected: str) -> Property:
        @states(f"The {gate} gate has the right shape")
        def trial() -> None:
            for sizes in ((2, 5, 3, 7, 4), (1, 20, 16, 64, 48), drawn_sizes):
                shapes = answer(function, *sizes)
                if not isinstance(shapes, dict) or gate not in shapes:
                    raise Wrong(f'expected a dict with the key "{gate}", found {shapes!r:.80}')
                shape = shapes[gate]
                if shape is None or shape is Ellipsis:
                    raise Wrong(f'the shape under "{gate}" is still open; write a tuple of five numbers')
                if getattr(shape, "ndim", 0) == 1:  # an array or a tensor
                    shape = shape.tolist()
                if not isinstance(shape, (tuple, list)):
                    raise Wrong(f'expected a tuple of five numbers under "{gate}", found {shape!r:.80}')
                wanted = tuple(dict(zip("BSCHW", sizes)).get(letter, 1) for letter in expected)
                if tuple(shape) != wanted:
                    raise Wrong(f"for (B, S, C, H, W) = {sizes}: expected {wanted}, found {tuple(shape)}; "
                                "an axis on which the gate does not depend has the size 1")
        return trial

    return verify(
        "gate_shapes",
        has_shape("semantic", "B1C11"),
        has_shape("positional", "B11HW"),
        has_shape("slice", "BS111"),
    )


@exercise
def slice_gate(function: Answer) -> Verdict:
    """function(F, gate): F (B, S, C, H, W), gate (B, S) -> F with each slice multiplied by its gate."""
    generator = torch_generator(0)
    F, gate = torch.randn(3, 3, 3, 3, 3, generator=generator), torch.rand(3, 3, generator=generator)

    def ours(F: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        return F * gate[:, :, None, None, None]

    @states("Three slices of ones and the gates 0, 0.5 and 1 give slices of 0, 0.5 and 1")
    def by_hand() -> None:
        F, gate = torch.ones(1, 3, 2, 4, 5), torch.tensor([[0.0, 0.5, 1.0]])
        same_values(answer(function, F, gate), ours(F, gate), "ones (1, 3, 2, 4, 5)")

    @states("Each volume has its own gates")
    def each_volume() -> None:
        F, gate = torch.ones(2, 3, 1, 2, 2), torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
        same_values(answer(function, F, gate), ours(F, gate), "ones (2, 3, 1, 2, 2)")

    @states("The gate weighs the slices (axis S) also where all axes have the same size")
    def equal_sizes() -> None:
        same_values(
            answer(function, F.clone(), gate.clone()),
            ours(F, gate),
            "random numbers (3, 3, 3, 3, 3)",
            "F * gate lines up the last axes; write the axes of size 1 with gate[:, :, None, None, None]",
        )

    return verify("slice_gate", by_hand, each_volume, equal_sizes, leaves_inputs(function, F=F, gate=gate),
                  passes_gradients(function, ours, F=F, gate=gate))


@exercise
def dice(function: Answer) -> Verdict:
    """function(a, b): two boolean masks (S, H, W) -> 2 |a and b| / (|a| + |b|), one number for the volume."""

    def gives(a: np.ndarray, b: np.ndarray, expected: float, on: str, hint: str) -> None:
        number = plain_number(answer(function, a.copy(), b.copy()), on, expected)
        if not abs(number - expected) <= 1e-3:  # a small number that avoids a division by zero is allowed
            raise Wrong(f"on {on}: expected {expected:.3f}, found {number:.3f}; {hint}")

    large, small = np.zeros((2, 10, 10), bool), np.zeros((2, 10, 10), bool)
    large[0, :, :8], small[0, :, :4] = True, True  # 80 and 40 voxels, 40 in both

    @states("A mask agrees with itself: Dice is 1")
    def same() -> None:
        gives(large, large, 1, "two equal masks",
              "2 means that a + b was taken, which is 'or' for boolean arrays (add the two sums instead); "
              "0.5 means that the empty slice was counted")

    @states("Masks without a common voxel: Dice is 0")
    def apart() -> None:
        gives(small, np.roll(small, 1, 0), 0, "masks in two different slices",
              "voxels that are background in both masks must not count; no smoothing term such as + 1")

    @states("80 voxels and 40 voxels, of which 40 are in both: Dice is 2 * 40 / 120")
    def by_hand() -> None:
        gives(large, small, 2 / 3, "masks of 80 and 40 voxels, 40 in both",
              "0.5 is intersection over union; 0.333 lacks the factor 2")
        gives(small, large, 2 / 3, "the same masks in the other order", "Dice does not depend on the order")

    @states("All slices count together, so that a small slice weighs less than a large one")
    def whole_volume() -> None:
        a, b = large.copy(), large.copy()
        a[1, 0, :2] = True
        b[1, 5, :2] = True
        gives(
            a,
            b,
            2 * 80 / 164,
            "masks with 80 common voxels in slice 1, and 2 voxels each that miss in slice 2",
            "count the voxels of all slices together, and take no mean over slices",
        )
        parts = np.array([0.8, 0.4, 0.1])[:, None, None]  # of the voxels in each slice
        for shape in ((3, 6, 5), (3, 16, 30)):
            a, b = numpy_generator(1).random((2, *shape)) < parts
            gives(a, b, 2 * (a & b).sum() / (a.sum() + b.sum()), f"two random masks {shape}",
                  "count over the whole stack")

    @states("Masks of one voxel count like any other")
    def one_voxel() -> None:
        single = np.zeros((2, 3, 3), bool)
        single[1, 2, 0] = True
        gives(single, single, 1, "two equal masks of one voxel",
              "what is added against a division by zero must be tiny, such as 1e-8")

    return verify("dice", same, apart, by_hand, whole_volume, one_voxel)
