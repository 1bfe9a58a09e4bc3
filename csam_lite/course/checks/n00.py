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

from csam_lite.course.checks import Wrong, answer, same_values, verify

# What the course calls, with the oldest versions that will do: those of pyproject.toml (a test compares them).
FLOORS = {"torch": "2.8", "numpy": "2.0", "monai": "1.6", "nibabel": "5.2", "scipy": "1.13", "accelerate": "1.10", "safetensors": "0.5",
          "tqdm": "4.66", "matplotlib": "3.8", "anywidget": "0.9.21", "ipywidgets": "7.7.1"}
PYTHON, DISK_GB, MEMORY_GB = (3, 11), 1, 3


def machine(floors=None, folder="."):
    """Print a line for each thing the course needs, [OK], or [FAIL] with its mend; return True if nothing fails."""
    lines = [_python(), *(_package(name, floor) for name, floor in (FLOORS if floors is None else floors).items()),
             _memory(), _folder(folder), _weights()]
    for fine, what, mend in lines:
        print(f"[{'OK' if fine else 'FAIL'}] {what}" + ("" if fine else f"\n       mend: {mend}"))
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none, and none is needed with QUICK = True"
    print(f"       graphics card: {gpu}; processor cores: {os.cpu_count()}")
    return all(fine for fine, _, _ in lines)


def _python():
    found, floor = (".".join(map(str, version)) for version in (sys.version_info[:3], PYTHON))
    return sys.version_info >= PYTHON, f"python {found}, {floor} or newer is needed", f"make a new environment with Python {floor} or newer"


def _package(name, floor):
    mend = f'run: python -m pip install --upgrade-strategy only-if-needed "{name}>={floor}", then restart the kernel'
    try:
        found = importlib.metadata.version(name)
        importlib.import_module(name)
    except Exception as error:  # an installed package can fail in any way at its import
        return False, f"{name} cannot be imported ({type(error).__name__})", mend
    return _numbers(found) >= _numbers(floor), f"{name} {found}, {floor} or newer is needed", mend


def _numbers(version):
    """"2.13.0+cpu" -> (2, 13, 0)."""
    return tuple(int(part) for part in re.match(r"[\d.]*", version)[0].strip(".").split(".") if part)


def _memory():
    try:
        gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (ValueError, OSError, AttributeError):
        return True, "memory: this system does not tell", ""
    return gigabytes >= MEMORY_GB, f"memory {gigabytes:.1f} GB, {MEMORY_GB} GB are needed", "close other programs, or use Colab (badge at the top)"


def _folder(folder):
    try:
        with tempfile.TemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free / 1e9
    except OSError as error:
        return False, f"working folder cannot be written ({error.strerror})", "start Jupyter in a folder of your own"
    return free >= DISK_GB, f"working folder: writable, {free:.0f} GB free, {DISK_GB} GB are needed", "delete files, or start Jupyter on another disk"


def _weights():
    from csam_lite.training.run import pretrained

    mend = "install csam_lite again: python -m pip install --force-reinstall --no-deps csam-lite"
    try:
        parameters = sum(p.numel() for p in pretrained().network.parameters())
    except Exception as error:
        return False, f"shipped weights cannot be read ({type(error).__name__}: {error})", mend
    return True, f"shipped weights: {parameters:,} parameters", mend


def gate_shapes(function):
    """function(B, S, C, H, W) -> {"semantic": shape, "positional": shape, "slice": shape} of the three gates."""

    def has_shape(gate, expected):
        def property():
            for sizes in ((2, 5, 3, 7, 4), (1, 20, 16, 64, 48)):
                found = answer(function, *sizes)
                if not isinstance(found, dict) or gate not in found:
                    raise Wrong(f'expected a dict with the key "{gate}", found {found!r:.80}')
                if found[gate] is None or found[gate] is Ellipsis:
                    raise Wrong(f'the shape under "{gate}" is still open; write a tuple of five numbers')
                want = expected(*sizes)
                if tuple(found[gate]) != want:
                    raise Wrong(f"for (B, S, C, H, W) = {sizes}: expected {want}, found {tuple(found[gate])}; "
                                "an axis on which the gate does not depend has the size 1")
        property.__doc__ = f"The {gate} gate has the right shape."
        return property

    return verify("gate_shapes", has_shape("semantic", lambda B, S, C, H, W: (B, 1, C, 1, 1)),
                  has_shape("positional", lambda B, S, C, H, W: (B, 1, 1, H, W)), has_shape("slice", lambda B, S, C, H, W: (B, S, 1, 1, 1)))


def slice_gate(function):
    """function(F, gate): F (B, S, C, H, W), gate (B, S) -> F with each slice multiplied by its gate."""

    def by_hand():
        """Three slices of ones and the gates 0, 0.5 and 1 give slices of 0, 0.5 and 1"""
        F, gate = torch.ones(1, 3, 2, 4, 5), torch.tensor([[0.0, 0.5, 1.0]])
        same_values(answer(function, F, gate), torch.tensor([0, 0.5, 1]).view(1, 3, 1, 1, 1).expand(1, 3, 2, 4, 5), "ones (1, 3, 2, 4, 5)")

    def own_volume():
        """Each volume has gates of its own"""
        F, gate = torch.ones(2, 3, 1, 2, 2), torch.tensor([[1.0, 2, 3], [4, 5, 6]])
        same_values(answer(function, F, gate), gate.view(2, 3, 1, 1, 1).expand(2, 3, 1, 2, 2), "ones (2, 3, 1, 2, 2)")

    def equal_sizes():
        """The gate stands on the axis S also where all axes have one size"""
        generator = torch.Generator().manual_seed(0)
        F, gate = torch.randn(3, 3, 3, 3, 3, generator=generator), torch.rand(3, 3, generator=generator)
        same_values(answer(function, F.clone(), gate), F * gate.view(3, 3, 1, 1, 1), "random numbers (3, 3, 3, 3, 3)",
                    "F * gate lines up the last axes; write the axes of size 1 with gate[:, :, None, None, None]")

    def untouched_input():
        """F itself stays as it was"""
        F = torch.ones(1, 2, 1, 2, 2)
        answer(function, F, torch.zeros(1, 2))
        same_values(F, torch.ones(1, 2, 1, 2, 2), "ones (1, 2, 1, 2, 2), looked at afterwards", "do not use F *= ...")

    return verify("slice_gate", by_hand, own_volume, equal_sizes, untouched_input)


def dice(function):
    """function(a, b): two boolean masks (S, H, W) -> 2 |a and b| / (|a| + |b|), one number for the volume."""

    def gives(a, b, expected, on, hint=""):
        found = answer(function, a.copy(), b.copy())
        try:
            number = float(found)
        except (TypeError, ValueError) as error:
            raise Wrong(f"on {on}: expected the number {expected:.3f}, found {type(found).__name__}") from error
        if not abs(number - expected) <= 1e-3:  # a small number against division by zero is allowed
            raise Wrong(f"on {on}: expected {expected:.3f}, found {number:.3f}{'; ' + hint if hint else ''}")

    full, part = np.zeros((2, 10, 10), bool), np.zeros((2, 10, 10), bool)
    full[0, :, :8], part[0, :, :4] = True, True  # 80 and 40 voxels, 40 in both

    def same():
        """A mask agrees with itself: 1"""
        gives(full, full, 1, "two equal masks", "2: a + b is 'or' for boolean arrays, add the two sums; 0.5: the empty slice counted")

    def apart():
        """Masks without a common voxel: 0"""
        gives(part, np.roll(part, 1, 0), 0, "masks in two different slices", "voxels that are background in both must not count")

    def by_hand():
        """80 voxels and 40 voxels, of which 40 are in both: 2 * 40 / 120"""
        gives(full, part, 2 / 3, "masks of 80 and 40 voxels, 40 in both", "0.5 is intersection over union, 0.333 lacks the factor 2")
        gives(part, full, 2 / 3, "the same masks in the other order", "Dice is the same both ways")

    def whole_volume():
        """All slices count together, so a small slice weighs less than a large one"""
        a, b = full.copy(), full.copy()
        a[1, 0, :2] = True
        b[1, 5, :2] = True
        gives(a, b, 2 * 80 / 164, "80 voxels agree in slice 1, 2 voxels miss each other in slice 2", "do not take the mean over slices")

    return verify("dice", same, apart, by_hand, whole_volume)


