"""The frame of a page that is one file: its head, styles, body and script."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from csam_lite.common.files import whole_file
from csam_lite.explorer.script import PAGE_FOLDER, joined_script

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
{body}
<script type="module">
{js}
{start}();
</script>
"""


def write_page(path: str | Path, title: str, policy: str, styles: Sequence[str], body: str,
               scripts: Sequence[str], start: str) -> None:
    """Write a page as `path`, whole or not at all.

    title: text. policy: its Content-Security-Policy. styles, scripts: files of page/. body: HTML. start: the
    function of the scripts that opens the page. Raises InputError where the file cannot be written.
    """
    css = "".join((PAGE_FOLDER / name).read_text(encoding="utf-8") for name in styles)
    with whole_file(path) as part:
        part.write_text(_PAGE.format(title=html.escape(title), policy=policy, css=css, body=body,
                                     js=joined_script(scripts), start=start), encoding="utf-8")
