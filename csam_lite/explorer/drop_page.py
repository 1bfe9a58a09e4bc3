"""A page to drop a scan on: one file with a network inside, which segments NIfTI scans in the reader's
browser.

It opens from disk and offline, and nothing leaves the computer, because the page's Content-Security-Policy
allows no request. Its scripts read and prepare the scan as Python does, and write the same mask as `predict`.
"""

from __future__ import annotations

import html
from pathlib import Path

import numpy as np

from csam_lite.common.errors import InputError
from csam_lite.common.figures import COLOURS
from csam_lite.explorer.live import POLICY, Exported, exported, live_parts
from csam_lite.explorer.pack import colour_maps
from csam_lite.explorer.page_frame import write_page
from csam_lite.explorer.runtime import VERSION, runtime
from csam_lite.explorer.script import DROP
from csam_lite.training.run import Run

_BODY = """<header class="about"><h1>{title}</h1>
<p>The network is inside this page. Your scan stays on your computer: the page makes no request.
It is made for teaching and research, and is no tool for patients.</p></header>
<noscript><p>This page needs JavaScript.</p></noscript>
<main id="drop"></main>
<footer>{about}</footer>
{parts}"""


def write_drop_page(network: Run | str | Path, path: str | Path, package: str | Path | None = None) -> None:
    """Write the page as `path`, for example "segment.html", whole or not at all.

    network: a trained Run, or a file that `export` wrote. package: a package of onnxruntime-web, see
    `runtime`. Raises InputError as `exported` and `runtime` do, where the name does not end in .html, and
    where the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in (".html", ".htm"):
        raise InputError(f"{path}: is a page; let the name end in .html")
    program, (onnx, facts) = runtime(package), exported(network)
    tables = {name: np.ravel(rows).tolist() for name, rows in colour_maps().items()}
    parts = live_parts(Exported(onnx, facts | {"colours": list(COLOURS), "tables": tables}), program)
    classes = ", ".join(facts["labels"].values())
    most = facts["slices"]["most"]
    about = (f"The network was trained with CSAM Lite, {facts['csam_lite']}. It reads up to {most} slices "
             f"at once, more in windows. It runs in onnxruntime-web {VERSION} (Microsoft, MIT licence).")
    title = f"Segment a scan: {classes}"
    body = _BODY.format(title=html.escape(title), about=html.escape(about), parts=parts)
    write_page(path, title, POLICY, ["explorer.css", "drop.css"], body, DROP, "openDropPage")
