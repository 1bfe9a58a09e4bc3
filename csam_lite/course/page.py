"""A notebook as one HTML page that opens offline: equations as MathML, solutions folded."""

from __future__ import annotations

import copy
import re
from html import escape
from pathlib import Path
from urllib.parse import urlparse

from jinja2 import pass_context
from jinja2.runtime import Context
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode

from csam_lite.common.files import whole_file
from csam_lite.course.notebooks import folded, tidy

TEMPLATE = """\
{%- extends 'lab/index.html.j2' -%}
{%- block header -%}
{{ super() }}
<style>
.jp-RenderedSVG img { max-width: 100%; } /* drawings shrink, as they do in JupyterLab */
.jp-RenderedText pre { word-break: normal !important; overflow-wrap: anywhere; } /* break between words */
/* code, tables of text and drawings of text lose their sense if their lines break */
.jp-RenderedText pre.columns, .jp-RenderedMarkdown pre, .jp-RenderedMarkdown pre code { white-space: pre; }
.jp-RenderedText pre.columns, .jp-RenderedMarkdown pre, .jp-InputArea-editor .highlight { overflow-x: auto; }
.jp-RenderedMarkdown details:has(+ p) { margin-bottom: 1em; } /* where does an open answer end? */
math { font-family: "Cambria Math", "STIX Two Math", "Latin Modern Math", "DejaVu Math TeX Gyre", math; }
math[display=block] { overflow-x: auto; max-width: 100%; padding: 0.3em 0; } /* or the tops of letters go */
@media (max-width: 600px) { /* a figure keeps letters that can be read, and moves sideways in its own frame */
  .jp-OutputArea-child .jp-RenderedImage { display: block; overflow-x: auto; } /* a table row moves nothing */
  math[display=block] { font-size: 0.9em; }
  .jp-RenderedMarkdown p { overflow-x: auto; overflow-y: hidden; } /* for a formula in a sentence */
  .jp-RenderedImage img { max-width: none; }
  .jp-RenderedImage::after { content: "\\2194  swipe"; position: sticky; left: 0; font-size: 12px; }
}
</style>
{%- endblock header -%}
{% block codecell %}
{%- if cell | folded -%}
<details class="solution"><summary>{{ cell | folded }}</summary>{{ super() }}</details>
{%- else -%}
{{ super() }}
{%- endif -%}
{% endblock codecell %}
"""
# Scripts that nbconvert's template loads from other hosts: by their address, or from within a script.
OTHER_HOSTS = (r'<script\s[^>]*src="https?:[^>]*>\s*</script>',
               r"<script[^>]*>(?:(?!</script>).)*?https://(?:cdnjs|unpkg|cdn\.)(?:(?!</script>).)*</script>")

_TEXT = re.compile(r"(<div class=\"jp-RenderedText [^>]*>\s*)<pre>(.*?)</pre>", re.DOTALL)


def write_page(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook as one HTML page that loads nothing. Raises InputError where `path` cannot be
    written.
    """
    notebook = copy.deepcopy(notebook)
    tidy(notebook)
    exporter = _Exporter(raw_template=TEMPLATE)
    exporter.register_filter("folded", folded)
    page, _ = exporter.from_notebook_node(notebook)
    page = _TEXT.sub(lambda found: f'{found[1]}<pre{_columns(found[2])}>{found[2]}</pre>', page)
    for script in OTHER_HOSTS:
        page = re.sub(script, "", page, flags=re.DOTALL)
    with whole_file(path) as part:
        part.write_text(page, encoding="utf-8")


def _columns(text: str) -> str:
    """The class of a text output, as HTML, whose lines must not be broken: a table, or code."""
    lines = text.splitlines()
    spaced = [line for line in lines if re.search(r"^ {4}|\S {2,}\S", line)]
    wide = len(lines) > 1 and re.search(r"\S {3,}\S", text)  # one that lines up with the line beside it
    return ' class="columns"' if len(spaced) > 1 or wide else ""


def markdown_to_html(source: str, attachments: dict | None = None) -> str:
    """The Markdown of a cell as HTML, as nbconvert renders it, but with equations as MathML.

    attachments: pictures that the cell carries with it, by name. An equation inside of an HTML block (such as
    `<details>` without blank lines) is not Markdown and stays as it is.
    """
    return MarkdownWithMath(renderer=_Renderer(escape=False, attachments=attachments)).render(source)


class _Renderer(IPythonRenderer):
    """nbconvert's renderer, whose parser knows equations from code and from dollar signs before it calls
    this.
    """

    def inline_math(self, body: str) -> str:
        return mathml(body, "inline") or super().inline_math(body)

    def block_math(self, body: str) -> str:
        return mathml(body, "block") or super().block_math(body)

    def latex_environment(self, name: str, body: str) -> str:
        equation = rf"\begin{{{name}}}{body}\end{{{name}}}"
        return mathml(equation, "block") or super().latex_environment(name, body)

    def image(self, text: str, url: str, title: str | None = None) -> str:
        if urlparse(url).netloc:  # such as a badge: a picture on another host
            return escape(text)
        return super().image(text, url, title)

    def link(self, text: str, url: str, title: str | None = None) -> str:
        if not urlparse(url).netloc:  # the page of another notebook lies beside this one
            url = re.sub(r"\.ipynb(?=$|#)", ".html", url)
        return super().link(text, url, title)


class _Exporter(HTMLExporter):
    """nbconvert's exporter with this renderer."""

    @pass_context
    def markdown2html(self, context: Context, source: str) -> str:
        return markdown_to_html(source, context.get("cell", {}).get("attachments"))


def mathml(equation: str, display: str) -> str | None:
    """A LaTeX equation as MathML; None for one that the converter does not know, which then stays LaTeX."""
    try:
        converted = convert(equation.strip(), display=display)
        return converted.replace(' xmlns="http://www.w3.org/1998/Math/MathML"', "", 1)  # it breaks headings
    except Exception:  # the converter raises errors of many types
        return None
