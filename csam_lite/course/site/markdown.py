"""A notebook as Markdown, with pictures beside it and equations as MathML, so that no page needs a script."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from csam_lite.course.notebooks import folded, tidy
from csam_lite.course.page import mathml

if TYPE_CHECKING:
    from nbformat import NotebookNode

# What a cell holds beside prose, so that a dollar sign in code is no equation.
_PARTS = re.compile(
    r"(?P<code>^```.*?^```|`[^`\n]+`)|\$\$(?P<block>.+?)\$\$|(?<![\\$])\$(?P<inline>[^$\n]+?)\$", re.S | re.M)
_BADGE = re.compile(r"!\[([^\]]*)\]\(https?:[^)]*\)")
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")
_ITEM = r"(?:[-*+]|\d+\.) "
_LIST = re.compile(rf"(?P<code>^```.*?^```)|^(?!{_ITEM}|[>|\s])[^\n]+\n(?={_ITEM})", re.S | re.M)
_FOLD = '<details class="solution" markdown="1">\n<summary>{}</summary>\n\n{}\n\n</details>'
_SIGNS = {ord(sign): f"&#{ord(sign)};" for sign in "*_|`"}  # which Markdown would read as its own
_TERMINAL = re.compile(r"\x1b\[[0-9;]*m")


def notebook_markdown(notebook: NotebookNode, folder: Path, stem: str) -> str:
    """The Markdown of a notebook with its stored outputs; its pictures go to `folder`/pictures."""
    tidy(notebook)
    parts = []
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            parts.append(prose(cell.source, notebook_link))
        elif cell.cell_type == "code":
            code = [_fence(cell.source, "python")]
            for place, output in enumerate(cell.get("outputs", ())):
                code.append(_output(output, folder / "pictures", f"{stem}_{number}_{place}"))
            text = "\n\n".join(filter(None, code))
            parts.append(_FOLD.format(folded(cell), text) if folded(cell) else text)
    return "\n\n".join(parts) + "\n"


def prose(source: str, link: Callable[[str], str]) -> str:
    """Markdown whose equations are MathML, without pictures of other hosts; `link` maps targets."""

    def replace(part: re.Match) -> str:
        if part["code"]:
            return part["code"]
        kind = "block" if part["block"] else "inline"
        equation = (mathml(part[kind], kind) or part[0]).translate(_SIGNS)
        # <span>: a paragraph that begins with <math> would end behind it
        tag = '\n<div class="equation">{}</div>\n' if kind == "block" else "<span>{}</span>"
        return tag.format(equation)

    text = _BADGE.sub(r"\1", _PARTS.sub(replace, source))
    text = re.sub(r"<details>(?=(?:(?!</details>).)*\n\n)", '<details markdown="1">', text, flags=re.S)
    # a list right after a line of text is none for every reader of Markdown
    text = _LIST.sub(lambda found: found[0] if found["code"] else f"{found[0]}\n", text)
    return _LINK.sub(lambda found: link(found[1]), text)


def notebook_link(target: str) -> str:
    """The page of another notebook is beside this one."""
    return re.sub(r"\.ipynb$", ".md", target)


def _output(output: dict, pictures: Path, name: str) -> str:
    """One output of a cell as Markdown."""
    if output.output_type == "stream":
        return _fence(_TERMINAL.sub("", output.text), "text")
    data = output.get("data", {})
    for kind, suffix in (("image/svg+xml", "svg"), ("image/png", "png")):
        if kind in data:
            pictures.mkdir(exist_ok=True)
            content = data[kind].encode() if suffix == "svg" else base64.b64decode(data[kind])
            (pictures / f"{name}.{suffix}").write_bytes(content)
            return f"![What the code above draws](pictures/{name}.{suffix})"
    if output.output_type == "error":
        return _fence(f"{output.ename}: {output.evalue}", "text")
    return _fence(data.get("text/plain", ""), "text")


def _fence(text: str, language: str) -> str:
    """A block of code, or nothing."""
    if not text.strip():
        return ""
    marks = "`" * max(3, *(len(run) + 1 for run in re.findall("`{3,}", text)), 3)
    return f"{marks}{language}\n{text.rstrip()}\n{marks}"
