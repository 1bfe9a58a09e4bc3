"""Exports that were made before: torch takes about ten seconds for one, and pages of the same network are
written again and again.

They lie in the user's cache, and each is found by a hash over everything on which it depends. A damaged file
is treated as missing, and so is a cache that cannot be written.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

from csam_lite.common.errors import InputError
from csam_lite.common.files import user_cache, whole_file
from csam_lite.training.run import code_version

MOST = 20  # files; the oldest go first
KNOWN = ("torch.", "monai.", "csam_lite.core.", "csam_lite.training.")  # code whose version is in the hash
VERSIONS = ("torch", "monai", "onnx", "onnxscript")

Exported = tuple[bytes, dict]  # the ONNX file, and the description of its inputs and outputs


def key_of(network: nn.Module, *facts: object) -> str | None:
    """A hash over the weights and options of a network, over `facts` and over the versions of all code that
    takes part, the same in every process.

    None for a network with parts of unknown code, for example of a notebook, or with hooks.
    """
    if not all(f"{type(module).__module__}.".startswith(KNOWN) for module in network.modules()):
        return None
    content = io.BytesIO()
    try:
        _Content(content).dump((network, facts, code_version(), [version(name) for name in VERSIONS]))
    except Exception:  # hooks and the like, which pickle cannot write
        return None
    return hashlib.sha256(content.getbuffer()).hexdigest()


def read(key: str | None) -> Exported | None:
    """The export that was kept under `key`, if there is one."""
    if key is None:
        return None
    try:
        digest, interface, onnx = (_folder() / f"{key}.onnx").read_bytes().split(b"\n", 2)
    except (OSError, ValueError):
        return None
    if hashlib.sha256(interface + onnx).hexdigest().encode() != digest:
        return None
    return onnx, json.loads(interface)


def keep(key: str | None, exported: Exported) -> None:
    """Keep an export under `key`, if that can be done, and drop the oldest of too many."""
    if key is None:
        return
    onnx, interface = exported
    line = json.dumps(interface).encode()
    digest = hashlib.sha256(line + onnx).hexdigest().encode()
    with suppress(InputError, OSError):
        with whole_file(_folder() / f"{key}.onnx") as part:
            part.write_bytes(b"\n".join([digest, line, onnx]))
        by_age = sorted(_folder().glob("*.onnx"), key=lambda path: path.stat().st_mtime)
        for path in by_age[:-MOST]:
            path.unlink()


def _folder() -> Path:
    return user_cache() / "exports"


class _Content(pickle.Pickler):
    """Writes what a network holds, and nothing of where in memory it lies."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=4)
        self.fast = True  # otherwise equal objects are written as one, where they happen to be one

    def persistent_id(self, value: object) -> object:
        if not isinstance(value, torch.Tensor):
            return None
        return str(value.dtype), tuple(value.shape), value.detach().cpu().contiguous().numpy().tobytes()
