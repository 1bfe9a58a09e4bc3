"""The explorer as one page that works from disk and offline: to look at, or live, with the network inside, so
that gates can be changed in it.
"""

from __future__ import annotations

import base64
import html
import sys
from collections.abc import Mapping
from pathlib import Path

from csam_lite.common.errors import InputError
from csam_lite.explorer.examine import Examination
from csam_lite.explorer.live import POLICY, exported_view, live_parts
from csam_lite.explorer.pack import description, pack
from csam_lite.explorer.page_frame import write_page
from csam_lite.explorer.runtime import runtime
from csam_lite.explorer.script import EXPLORER

_STILL = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_BODY = """<noscript><p>The explorer needs JavaScript. This is what it opens with:</p>
<img alt="{title}" src="data:image/png;base64,{png}"></noscript>
<main id="explorer"></main>
<script type="text/plain" id="packed">{packed}</script>
{parts}"""


def write_saved_page(view: Examination, path: str | Path, png: bytes, live: bool = True,
                     package: str | Path | None = None, tour: Mapping[str, object] | None = None) -> None:
    """Write the explorer of `view` as `path`, whole or not at all.

    png: the picture for a reader without JavaScript. live: with the network in the page; where that cannot be
    had, because a package is missing, there is no internet or torch cannot export the network, the page is
    written without, and a line on stderr says why. package: of onnxruntime-web, see `runtime`. tour: opens
    the page with the guided tour, which needs the network; {"intro": what its first step says of the
    pictures, "parts" and "ends": what its second says of the classes and of the slice beyond the end, "goal":
    the bar that it is about, where that is known}. Raises InputError where the name does not end in .html,
    where `package` is not what it should be, where a tour cannot have the network, and where the file cannot
    be written.
    """
    check_name(path)
    shown, arrays = description(view)
    if tour:
        shown["tour"] = dict(tour)
        program = runtime(package)  # first, because it may be missing, and an export takes seconds
        parts = live_parts(exported_view(view), program)
    else:
        parts = _network_parts(view, path, package) if live else None
    if parts:  # the network in the page computes the feature maps
        arrays = {name: array for name, array in arrays.items() if "/maps/" not in name}
        arrays["input"] = view.x.numpy()
    title = f"Attention on {view.title}"
    body = _BODY.format(title=html.escape(title), png=base64.b64encode(png).decode(), parts=parts or "",
                        packed=base64.b64encode(pack(shown, arrays, level=9)).decode())
    write_page(path, title, POLICY if parts else _STILL, ["explorer.css"], body, EXPLORER, "openPage")


def check_name(path: str | Path) -> None:
    """Raises InputError where the explorer cannot be saved under this name."""
    if Path(path).suffix not in (".html", ".htm"):
        raise InputError(f"{path}: the explorer is saved as a page; let the name end in .html")


def _network_parts(view: Examination, path: str | Path, package: str | Path | None) -> str | None:
    """The network of `view` and what runs it, as elements of a page; None, with a remark, where they cannot
    be had."""
    if not view.csam_modules():
        return None  # there is no gate to change
    program = runtime(package) if package else None
    try:
        program = program or runtime()
        return live_parts(exported_view(view), program)
    except InputError as error:
        print(f"{path}: is saved without the network, so that no gate can be changed in it: {error}",
              file=sys.stderr)
        return None
