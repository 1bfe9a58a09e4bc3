"""The page of a notebook: equations as MathML, code as it is, solutions folded, nothing loaded."""

import base64
import io
import re
from pathlib import Path

import PIL.Image
import pytest

pytest.importorskip("nbconvert", reason="the pages of the course need csam-lite[course]")
nbformat = pytest.importorskip("nbformat", reason="the pages of the course need csam-lite[course]")

from browser import chromium, out_of_reach, watched  # noqa: E402
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output  # noqa: E402

from csam_lite.course.page import markdown_to_html, write_page  # noqa: E402
from csam_lite.course.tables import show_table  # noqa: E402

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("[0-9][0-9]_*.ipynb"))


@pytest.mark.parametrize("source, equations, kept", [
    (r"gate $g_c = \sigma(x_c)$ and $a * b$", 2, "gate <math"),
    ("$$\\hat F_l = a *b* c\n\n< d$$", 1, "<math"),
    ("`$x_c$` and `$`", 0, "<code>$x_c$</code> and <code>$</code>"),
    ("`` a ` $b$ ``", 0, "<code>a ` $b$</code>"),
    ("```\n$$x$$ and $y$\n```", 0, "$$x$$ and $y$"),
    ("~~~\n$x$\n~~~\n\n    $indented$", 0, "<code>$indented$</code>"),
    (r"from \$5 to \$6", 0, "from $5 to $6"),
    ("it costs $5", 0, "it costs $5"),
    ("`$1` or $x$ or `$2`", 1, "<code>$1</code> or <math"),
    ("| a | b |\n|---|---|\n| $x$ | `$y$` |", 1, "<code>$y$</code>"),
    ("<details><summary>a</summary>\n\n$p$ and `$q$`\n\n</details>", 1, "<code>$q$</code>"),
    (r"\begin{pmatrix} a & b \\ c & d \end{pmatrix}", 1, "<mtable"),
    (r"$\left( x$", 0, r"$\left( x$"),  # no whole equation: stays LaTeX
    ("(B\\*S, C) of $x$_first_", 1, "(B*S, C) of"),
])
def test_equations_become_mathml_and_code_stays(source, equations, kept):
    html = markdown_to_html(source)
    assert html.count("<math") == equations and kept in html
    assert not equations or "$" not in re.sub(r"<code>.*?</code>", "", html)


def test_links_lead_to_pages_and_pictures_of_other_hosts_become_their_text():
    links = "[next](01_two.ipynb#end), [Colab](https://x.org/01.ipynb), ![badge](https://x.org/a.svg)"
    html = markdown_to_html(links)
    assert 'href="01_two.html#end"' in html and 'href="https://x.org/01.ipynb"' in html
    assert "<img" not in html and "badge" in html


def test_a_picture_that_the_cell_carries_is_drawn():
    html = markdown_to_html("![dot](attachment:dot.png)", {"dot.png": {"image/png": "AAAA"}})
    assert 'src="data:image/png;base64,AAAA"' in html


def test_a_solution_is_folded_and_the_page_loads_nothing(tmp_path):
    cells = [new_markdown_cell("# Tiny $x$"), new_code_cell("shown = 1"),
             new_code_cell("hidden = 2", metadata={"tags": ["solution"]}),
             new_code_cell("#@title The fault\nfault = 3", metadata={"jupyter": {"source_hidden": True}})]
    write_page(new_notebook(cells=cells), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    folds = re.findall(r'<details class="solution"><summary>Solution</summary>.*?</details>', page, re.DOTALL)
    assert len(folds) == 1 and "hidden" in folds[0] and "shown" not in folds[0] and "shown" in page
    (fold,) = re.findall(r'<details class="solution"><summary>The fault</summary>.*?</details>', page, re.DOTALL)
    assert "fault" in fold and ">fault<" not in page.replace(fold, "")
    assert "<math" in page and not re.findall(r'(?:src|href)="https?://', page)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_equation_of_a_notebook_is_left(path):
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type == "markdown":
            html = markdown_to_html(cell.source)
            left = re.sub(r"<(code|pre)\b.*?</\1>", "", html, flags=re.DOTALL)
            assert "$" not in left and "`" not in left, cell.source


def test_a_narrow_page_cuts_nothing_off(tmp_path):
    """A drawing shrinks; a figure keeps its letters and moves sideways in its frame, as a wide formula does."""
    svg = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 520 185" width="520"><rect width="520" height="185"/></svg>'
    figure, wide = io.BytesIO(), {f"a column {number}": number for number in range(20)}
    PIL.Image.new("RGB", (900, 300)).save(figure, "PNG")
    cells = [new_markdown_cell("# Wide\n\n$$" + "a_1 + b_1 + " * 20 + "c$$\n\nin a sentence $" + "a_1 + b_1 + " * 20 + "c$"),
             new_code_cell("draw()", outputs=[new_output("display_data", {"image/svg+xml": svg})]),
             new_code_cell("plot()", outputs=[new_output("display_data", {"image/png": base64.b64encode(figure.getvalue()).decode()})]),
             new_code_cell("table", outputs=[new_output("display_data", {"text/html": show_table([wide])._repr_html_()})]),
             new_code_cell("print()", outputs=[new_output("stream", text="one two three four five six seven eight nine ten eleven\n")]),
             new_code_cell("wide(" + ", ".join(f"argument_{n}" for n in range(20)) + ")", outputs=[new_output("stream", text="csam.0   0.5   1.0   2.0\n"),
                           new_output("stream", text="the next of them" + "   0.25" * 20 + "\n")]),
             new_markdown_cell("```\n" + "level 0 --> level 1 " * 9 + "\n```")]
    write_page(new_notebook(cells=cells), tmp_path / "page.html")
    with chromium() as browser, watched(browser, allowed=("file://",), width=400) as page:
        page.goto((tmp_path / "page.html").as_uri())
        edge = page.evaluate("document.documentElement.clientWidth")
        assert page.evaluate("document.documentElement.scrollWidth") == edge
        assert page.evaluate("document.querySelector('.jp-RenderedSVG img').getBoundingClientRect().right") <= edge
        width, moves = page.evaluate("""(() => { const frame = document.querySelector('.jp-RenderedImage');
            return [frame.querySelector('img').getBoundingClientRect().width, getComputedStyle(frame).overflowX] })()""")
        assert round(width) == 900 and moves == "auto"
        assert not out_of_reach(page)
        heights = page.evaluate("[...document.querySelectorAll('.jp-RenderedText pre')].map((e) => e.getBoundingClientRect().height)")
        assert len(heights) == 2 and heights[0] / heights[1] == pytest.approx(1, abs=0.3)  # a sentence breaks; two lines of a table stay two
        for formula in ("math[display=block]", "p:has(math[display=inline])"):
            assert page.evaluate(f"getComputedStyle(document.querySelector('.jp-RenderedMarkdown {formula}')).overflowX") == "auto"
        table, frame = page.evaluate("""(() => { const table = document.querySelector('.jp-RenderedHTML table');
            return [table, table.parentElement].map((element) => element.getBoundingClientRect().width) })()""")
        assert table > edge >= frame  # the table is wide, and moves in a frame that is not
        assert page.evaluate("getComputedStyle(document.querySelector('.jp-RenderedText pre')).wordBreak") == "normal"


def test_no_letter_of_an_equation_is_cut(tmp_path):
    """A frame that moves a wide formula sideways cuts what reaches above or below it, as the top of an F."""
    write_page(new_notebook(cells=[new_markdown_cell("Above\n\n$$F \\gets F \\cdot A$$\n\nbetween\n\n$$(x)^T = \\hat{y}_g$$\n\nbelow")]), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    (tmp_path / "whole.html").write_text(page.replace("</body>", "<style>math { overflow: visible !important }</style></body>"), encoding="utf-8")
    pictures = []
    with chromium() as browser:
        for name in ("page.html", "whole.html"):
            with watched(browser, allowed=("file://",), width=700) as page:
                page.goto((tmp_path / name).as_uri())
                assert page.locator("math[display=block]").count() == 2
                pictures.append(page.screenshot())
    assert pictures[0] == pictures[1]


def test_a_table_shows_numbers_at_the_right_and_text_as_it_is():
    rows = [{"network": "<a>", "patients": 1234, "Dice": 0.84567}, {"network": "b", "patients": 2, "Dice": float("nan")}]
    table = show_table(rows)
    assert repr(table).splitlines() == ["network  patients   Dice", "<a>         1,234  0.846", "b               2      -"]
    page = table._repr_html_()
    assert "&lt;a&gt;" in page and page.count("text-align:right") == 6 and page.count("<tr>") == 3
    assert show_table(rows, ["Dice"], digits=1).rows == [("0.8",), ("-",)]
