"""The public site, built from the clone: links, equations, and its pages in a real browser.

Plain pytest opens some of the pages; -m site opens all of them.
"""

import copy
import functools
import re
import threading
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urldefrag, urlparse

import nbformat
import pytest
from browser import ROOT, out_of_reach, watched

import csam_lite
from csam_lite.common.errors import InputError
from csam_lite.course.notebooks import find_notebooks
from csam_lite.course.page import write_page

pytest.importorskip("zensical", reason="no zensical: pip install -e '.[site]'")
build = pytest.importorskip("csam_lite.course.site.build")
NOTEBOOKS = sorted(path.stem for path in find_notebooks().glob("[0-9]*.ipynb"))
PAGES = ["index", "explorer", "scan", *NOTEBOOKS, "results", "reference"]
OPENED = {"tour.html": {"alone", "tour"}}  # what the address of a live page may say of how it opens
SAMPLE = {("index", 390, "light"), ("04_slice_attention", 390, "dark"), ("reference", 1400, "light"), ("explorer", 1400, "dark"),
          ("results", 390, "light"), ("explorer", 390, "light"), ("scan", 390, "dark")}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return build.build_site(tmp_path_factory.mktemp("site") / "out")


@pytest.fixture(scope="module")
def address(site):
    """The site on a server of its own."""
    handler = functools.partial(Quiet, directory=site)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Links(HTMLParser):
    """What a page names: the targets of its links, and its own anchors."""

    def __init__(self, text):
        super().__init__()
        self.targets, self.anchors, self.names = [], {""}, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.names.append(tag)
        self.anchors |= {attributes[key] for key in ("id", "name") if attributes.get(key)}
        self.targets += [attributes[key] for key in ("href", "src") if attributes.get(key)]


def test_every_internal_link_leads_somewhere(site):
    pages = {path.name: Links(path.read_text(encoding="utf-8")) for path in site.glob("*.html")}
    assert {f"{name}.html" for name in PAGES} <= set(pages)
    checked, broken = 0, []
    for name, page in pages.items():
        if name in ("404.html", "tour.html", "segment.html"):  # the first has absolute addresses, the others none
            continue
        for target in page.targets:
            place, anchor = urldefrag(target)
            if urlparse(place).scheme:
                continue
            checked += 1
            path = (site / unquote(place or name).split("?")[0]).resolve()
            path = path / "index.html" if path.is_dir() else path
            if not path.exists() or (path.suffix == ".html" and unquote(anchor) not in pages[path.name].anchors | OPENED.get(path.name, set())):
                broken.append(f"{name}: {target}")
    assert not broken and checked > 500


def test_links_into_the_repository_name_files_that_exist(site):
    repository = build.read_address(ROOT).repository
    found = {target for path in site.glob("*.html") for target in re.findall(rf"github\.com/{repository}/blob/\w+/([^\"#]+)", path.read_text(encoding="utf-8"))}
    assert "csam_lite/core/attention.py" in found
    assert not [target for target in found if not (ROOT / target).exists()]


@pytest.mark.parametrize("name", ["02_semantic_attention", "04_slice_attention"])
def test_equations_and_pictures_are_those_of_the_notebook(site, tmp_path, name):
    notebook = nbformat.read(find_notebooks() / f"{name}.ipynb", 4)
    write_page(copy.deepcopy(notebook), tmp_path / "page.html")
    page, text = Links((site / f"{name}.html").read_text(encoding="utf-8")), (site / f"{name}.html").read_text(encoding="utf-8")
    expected = Links((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert page.names.count("math") == expected.names.count("math") > 5
    assert page.names.count("mi") == expected.names.count("mi") and "$$" not in text
    assert not re.findall(r"^<math", text, re.M)  # a paragraph that begins with an equation is one paragraph
    pictures = [output for cell in notebook.cells for output in cell.get("outputs", ()) if {"image/png", "image/svg+xml"} & set(output.get("data", {}))]
    assert sum(target.startswith("pictures/") for target in page.targets) == len(pictures) > 0
    assert text.count("<summary>Solution</summary>") == sum("solution" in cell.metadata.get("tags", []) for cell in notebook.cells)
    for printed in ("You will be able to</strong></p>\n<ul>", "highlight"):
        assert printed in text


def test_the_reference_has_every_public_name(site):
    text = (site / "reference.html").read_text(encoding="utf-8")
    for name in csam_lite.__all__:
        if callable(getattr(csam_lite, name)):
            assert re.search(rf'<h3 id="{name.lower()}"', text), name
    assert "Raises InputError" in text and " object at 0x" not in text


@pytest.mark.site
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_its_window_and_asks_nothing_of_others(name, width, scheme, request, browser):
    """No overflow, no error in the console, no request to another host, the theme that the system wishes."""
    if (name, width, scheme) not in SAMPLE and "site" not in request.config.option.markexpr:
        pytest.skip("all pages with -m site")
    address = request.getfixturevalue("address")
    with watched(browser, allowed=(address,), width=width, height=900, color_scheme=scheme) as page:
        page.goto(f"{address}/{name}.html")
        page.wait_for_function("document.body.dataset.mdColorScheme")
        page.wait_for_timeout(500)
        assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
        assert page.evaluate("document.body.dataset.mdColorScheme") == {"light": "default", "dark": "slate"}[scheme]
        assert not out_of_reach(page)
        small = page.evaluate("""[...document.querySelectorAll('img[src^="pictures/"][src$=".png"]')]
            .filter(e => e.getBoundingClientRect().width < Math.min(e.naturalWidth, 600)).map(e => e.src)""")
        assert not small  # or the letters in it are too small to read
        for frame in page.frames[1:]:  # the live explorer
            assert frame.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
            if name == "explorer":
                assert frame.evaluate("document.querySelector('.csam-explorer').dataset.theme") == scheme


def test_the_front_page_leads_to_the_tour_and_the_menu_to_the_drop_page(address, browser):
    with watched(browser, allowed=(address,), width=1400, height=900) as page:
        page.goto(f"{address}/index.html")
        assert page.locator(f'a[href^="{build.read_address(ROOT).site}tour"]').count() == 0  # not to another copy of the site
        page.get_by_role("link", name="Take the guided tour").click()
        page.locator('[data-part="tour"] h2').wait_for()
        assert page.url.endswith("/tour.html") and "1 of 6" in page.text_content('[data-part="tour"]')
        page.goto(f"{address}/index.html")
        page.get_by_role("link", name="A scan of yours").first.click()
        page.frame_locator("iframe.live").locator('[data-part="zone"]').wait_for()


def test_search_and_the_way_to_the_next_page(address, browser):
    with watched(browser, allowed=(address,), width=1400, height=900) as page:
        page.goto(f"{address}/03_positional_attention.html")
        page.locator("a.md-footer__link--next").click()
        page.wait_for_url("**/04_slice_attention.html")
        page.keyboard.press("Control+k")
        page.keyboard.type("covariance")
        page.get_by_role("link", name=re.compile("Slice attention", re.I)).first.wait_for()


def test_what_cannot_be_built_is_one_line_and_leaves_nothing(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(InputError, match="holds other files"):
        build.build_site(tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    notebook = nbformat.read(find_notebooks() / "02_semantic_attention.ipynb", 4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    (tmp_path / "bare").mkdir()
    nbformat.write(notebook, tmp_path / "bare" / "02_semantic_attention.ipynb")
    with pytest.raises(InputError, match="has no outputs; execute it"):
        build.build_site(tmp_path / "out", tmp_path / "bare")
    assert not (tmp_path / "out").exists()
