"""The reference: every public name of csam_lite with its signature and docstring, as Markdown."""

from __future__ import annotations

import inspect
import re
from html import escape
from pathlib import Path

import csam_lite

_ROOT = Path(csam_lite.__file__).parents[1]


def reference_markdown(sources: str) -> str:
    """A page of all public names, room by room. sources: the address under which the files are on the web."""
    rooms: dict[str, list[str]] = {}
    for name in csam_lite.__all__:
        thing = getattr(csam_lite, name)
        if callable(thing):
            rooms.setdefault(thing.__module__.split(".")[1], []).append(_entry(name, thing, sources))
    parts = ["# Reference", "What `from csam_lite import ...` offers. B counts volumes, S slices, "
             "C channels; H and W are rows and columns."]
    for room, entries in rooms.items():
        parts += [f"## {room.capitalize()}", *entries]
    return "\n\n".join(parts) + "\n"


def _entry(name: str, thing: object, sources: str) -> str:
    """One class or function."""
    written = inspect.unwrap(thing)  # a context manager is a function in a wrapper
    path = Path(inspect.getsourcefile(written)).relative_to(_ROOT)
    source = f"[Source]({sources}/{path.as_posix()}#L{inspect.getsourcelines(written)[1]})"
    parts = [f"### {name}", _signature(name, thing), _docstring(thing), source]
    if inspect.isclass(thing):
        for method, member in vars(thing).items():
            function = getattr(member, "fget", member)
            if not method.startswith("_") and inspect.isfunction(function) and function.__doc__:
                parts += [f"#### {name}.{method}", _signature(method, function), _docstring(function)]
    return "\n\n".join(parts)


def _signature(name: str, thing: object) -> str:
    try:
        signature = inspect.signature(thing)
    except ValueError:  # an exception has that of Python's own
        return ""
    text = f"{name}{signature}"
    if len(text) > 80:
        lines = [f"    {parameter}," for parameter in map(str, signature.parameters.values())]
        returns = "" if signature.return_annotation is signature.empty else str(signature).rpartition(") ")[2]
        text = "\n".join([f"{name}(", *lines, f") {returns}".rstrip()])
    return f"```python\n{text}\n```"


def _docstring(thing: object) -> str:
    """A docstring as Markdown; a paragraph that is set in columns or indented keeps its lines."""
    paragraphs = re.split(r"\n\s*\n", inspect.getdoc(thing) or "")
    columns = re.compile(r"^ |\S {2,}\S", re.M)
    return "\n\n".join(
        f"```text\n{text}\n```" if columns.search(text) else escape(text, quote=False) for text in paragraphs)
