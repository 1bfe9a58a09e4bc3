"""A network that lives in a page: the parts of a page of one file that runs it without Python and offline.

The parts are elements that no browser shows: the runtime (runtime.py), the network (export.py), what the page
must know of it, and the script of the worker that runs it. engine.js takes them up.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path
from typing import NamedTuple

from csam_lite.common.errors import InputError, first_line
from csam_lite.common.files import temporary_folder
from csam_lite.explorer.examine import Examination
from csam_lite.explorer.network_parts import parts_of
from csam_lite.explorer.runtime import LICENCE, Runtime
from csam_lite.explorer.script import WORKER, joined_script
from csam_lite.inference.export import checksum, export, exported_bytes
from csam_lite.training.run import Run

# What such a page may do: run its own scripts, workers made of them and WebAssembly; no request of any kind.
POLICY = ("default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; worker-src blob:; "
          "script-src 'unsafe-inline' 'wasm-unsafe-eval'; base-uri 'none'; form-action 'none'")


class Exported(NamedTuple):
    """A network as `export` writes it: the ONNX file, and the description beside it."""

    onnx: bytes
    facts: dict


def exported(network: Run | str | Path) -> Exported:
    """A trained Run, or a file that `export` wrote (OUT.onnx with OUT.json beside it), as Exported.

    Raises InputError as `export` does, and for a file that is missing, damaged or not of this version.
    """
    with temporary_folder() as folder:
        is_file = isinstance(network, (str, Path))
        path = Path(network) if is_file else export(network, folder / "network.onnx")[0]
        try:
            facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            contents = Exported(path.read_bytes(), facts)
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(
                f"{path}: is no exported network with its .json beside it ({first_line(error)}); "
                "write both with: python -m csam_lite export RUN OUT.onnx") from error
    if not isinstance(facts, dict) or "sha256" not in facts:
        raise InputError(f"{path}: was exported by an older version, which wrote less; export it again")
    if facts["sha256"] != checksum(*contents):
        raise InputError(f"{path}: it or the .json beside it was damaged or changed, or they belong to two "
                         "networks; export it again")
    return contents


def exported_view(view: Examination) -> Exported:
    """The network of an Examination, for volumes of the depth of its own; a deeper one is read in windows.

    Where torch can export it for any depth, it can also be asked about some of the slices, so that a page
    answers sooner. Raises InputError as `exported_bytes` does.
    """
    S, *rest = view.x.shape
    D = min(S, getattr(view.network, "num_slices", S))
    try:
        return Exported(*exported_bytes(view.network, (D, *rest)))
    except InputError:
        return Exported(*exported_bytes(view.network, (D, *rest), any_depth=False))


def live_parts(network: Exported, runtime: Runtime) -> str:
    """The elements of a page that hold a network, in its parts, and what runs it, as HTML.

    Raises InputError as `parts_of` does.
    """
    parts = parts_of(*network)
    described = [part._asdict() | {"onnx": len(part.onnx)} for part in parts]
    facts = network.facts | {"parts": described}
    contents = {
        "runtime": runtime_script(runtime), "worker": joined_script(WORKER),
        "wasm": _packed(runtime.wasm), "onnx": _packed(b"".join(part.onnx for part in parts)),
        "facts": json.dumps(facts, allow_nan=False).replace("<", "\\u003c")}
    elements = [f'<script type="text/plain" id="{name}">{_inert(content)}</script>'
                for name, content in contents.items()]
    return "\n".join([f"<!-- {LICENCE} -->", *elements])


def runtime_script(runtime: Runtime) -> str:
    """The module onnxruntime-web as a plain script that another can follow; its exports become `ort`.

    Plain, because Chromium starts no worker from a module where the page comes from disk. A plain script has
    no `import.meta.url`. Nothing is asked of the address that takes its place. It need only be of the
    worker's own origin, because the module otherwise looks outside for a part of itself that it holds.
    """
    body, exports = runtime.script.split("//# sourceMappingURL")[0].rsplit("export{", 1)
    names = re.findall(r"([\w$]+) as (\w+)", exports)
    exported_names = ("InferenceSession", "Tensor", "env")
    wanted = ", ".join(f"{name}: {local}" for local, name in names if name in exported_names)
    address = ('const { origin } = self.location, '
               'ortAddress = `${origin === "null" ? "page://" : origin}/ort.js`;')
    body = address + body.replace("import.meta.url", "ortAddress")
    return f"{body}const ort = {{ {wanted} }};"


def _packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()


def _inert(text: str) -> str:
    """JavaScript that cannot end the script element it stands in, and means the same."""
    return text.replace("</", "<\\/").replace("<!--", "<\\!--")
