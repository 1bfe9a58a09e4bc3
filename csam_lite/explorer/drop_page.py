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
from csam_lite.common.files import whole_file
from csam_lite.explorer.live import POLICY, Exported, exported, live_parts
from csam_lite.explorer.pack import colour_maps
from csam_lite.explorer.runtime import VERSION, runtime
from csam_lite.explorer.script import DROP, PAGE_FOLDER, joined_script
from csam_lite.training.run import Run

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>
{css}</style>
<body class="csam-page">
<header class="about"><h1>{title}</h1>
<p>The network is inside this page. Your scan stays on your computer: the page makes no request.
It is made for teaching and research, and is no tool for patients.</p></header>
<noscript><p>This page needs JavaScript.</p></noscript>
<main id="drop"></main>
<footer>{about}</footer>
{parts}
<script type="module">
{js}
openDropPage();
</script>
"""


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
    about = (f"Network: CSAM Lite {facts['csam_lite']}, up to {most} slices at once, deeper volumes in "
             f"windows. It runs in onnxruntime-web {VERSION} (Microsoft, MIT licence).")
    css = [(PAGE_FOLDER / name).read_text(encoding="utf-8") for name in ("explorer.css", "drop.css")]
    with whole_file(path) as part:
        part.write_text(_PAGE.format(
            title=html.escape(f"Segment a scan: {classes}"), policy=POLICY, css="".join(css),
            about=html.escape(about), parts=parts, js=joined_script(DROP)), encoding="utf-8")
