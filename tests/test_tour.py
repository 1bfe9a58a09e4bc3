"""The guided tour in headless Chromium, from disk and offline: walked with real clicks and keys, its numbers against Python."""

import re

import numpy as np
import pytest
from browser import Shown, wait, watched
from test_live_page import opened

from csam_lite import UNet, explore
from csam_lite.cli import main
from csam_lite.explorer import runtime as runtime_module
from csam_lite.explorer.tour import tour_view, write_tour

pytest.importorskip("onnxruntime", reason="no onnxruntime: pip install -e '.[web]'")
PAGE_MB = 9
TITLES = ["Scroll", "See the ends", "Look at the slice gate", "Shut it", "See the mask fail", "Put it back"]


@pytest.fixture(scope="module")
def tour_file(package, tmp_path_factory):
    path = tmp_path_factory.mktemp("tour") / "tour.html"
    write_tour(path, package)
    return path


@pytest.fixture(scope="module")
def view():
    return tour_view()


class Visitor(Shown):
    """Somebody who takes the tour."""

    def title(self):
        return self.page.text_content('[data-part="tour"] h2')

    def text(self):
        return self.page.text_content('[data-part="tour-text"]')

    def todo(self):
        return self.page.text_content('[data-part="tour-todo"]')

    def button(self):
        return self.page.text_content('[data-part="tour-next"]')

    def searched(self):
        """Once the page knows which bar the tour is about."""
        self.page.evaluate("document.querySelector('.csam-explorer').explorer.tour.searching")
        return self

    def until_done(self):
        wait(lambda: re.match(r"next|end", self.button()), 20)

    def until(self, text):
        wait(lambda: text in self.text(), 20)

    def bar(self, s, S):
        """The middle of the bar of slice s on the screen, and where its canvas begins and how high it is."""
        box = self.page.locator('canvas[data-part="gate-slice"]').bounding_box()
        return box["x"] + 34 + (s + 0.5) * (box["width"] - 42) / S, box["y"], box["height"]


def begun(page, path):
    page.context.set_offline(True)
    return Visitor(page, path).ready().searched()


def dice_in(mask, label):
    return 2 * ((mask > 0) & (label > 0)).sum() / ((mask > 0).sum() + (label > 0).sum())


def dearest_bar(view):
    """Of the slices at the ends of the organ, the bar that costs most: (slice, name of the CSAM, the Answer without it)."""
    trained, held = view.as_trained.mask, np.flatnonzero(view.label.any((1, 2)))
    for s in (held[0], held[-1]):
        answers = {}
        for name in view.csam_modules():
            shut = np.full(len(trained), np.nan, np.float32)
            shut[s] = 0
            answers[name] = view.answer({(name, "slice"): shut})
        name = min(answers, key=lambda name: dice_in(answers[name].mask[s], view.label[s]))
        if dice_in(trained[s], view.label[s]) - dice_in(answers[name].mask[s], view.label[s]) >= 0.2:
            return s, name, answers[name]
    raise AssertionError("no bar at an end is worth a tour")


def test_six_steps_by_hand(browser, tour_file, view):
    """What the reader does is real: wheel, slider, keys, a click, a drag, a held button; each number is Python's."""
    trained, label, S = view.as_trained.mask, view.label, len(view.label)
    s, name, answer = dearest_bar(view)
    assert dice_in(trained[s], label[s]) > 0.85 and dice_in(answer.mask[s], label[s]) < 0.5  # there is something to see
    with watched(browser, allowed=("file://",), width=1366, height=768) as page:
        shown = begun(page, tour_file)
        assert shown.title() == "1 of 6: Scroll" and f"here {S}, one every {view.spacing[0]:.1f} mm" in shown.text()
        assert "show me" in shown.button() and "1 so far" in shown.todo()
        slice_picture = page.locator('[data-part="slice"]')
        slice_picture.hover()
        for _ in range(2):
            page.mouse.wheel(0, 100)
        slice_picture.click()
        for _ in range(2):
            page.keyboard.press("ArrowUp")
        page.locator('[data-part="slider"]').fill("3")
        shown.until_done()
        page.locator('[data-part="tour-next"]').click()

        assert shown.title() == "2 of 6: See the ends" and f"slice {s + 1}, its lowest, still holds it, slice {s} does not" in shown.text()
        assert label[s].any() and not label[s - 1].any()
        page.locator('[data-part="slider"]').fill(str(s))
        page.wait_for_timeout(100)
        assert "show me" in shown.button()  # both slices are wanted
        slice_picture.press("ArrowUp")
        shown.until_done()
        slice_picture.press("Home")
        page.keyboard.press("n")

        gate = view.as_trained.windows[0].record[name]["slice"].values[0]
        assert shown.title() == "3 of 6: Look at the slice gate"
        assert f"slice {s + 1} needs most the one called {name}, which lets {round(100 * float(gate[s]))} % of slice" in shown.text()
        x, top, height = shown.bar(s, S)
        page.mouse.click(x, top + height / 2)
        shown.until_done()
        page.keyboard.press("n")

        assert shown.title() == "4 of 6: Shut it"
        x, top, height = shown.bar(s, S)
        page.mouse.move(x, top + height / 2)
        page.mouse.down()
        page.mouse.move(x, top + 0.7 * height, steps=3)
        page.mouse.move(x, top + height - 5)
        page.mouse.up()
        shown.until_done()
        np.testing.assert_array_equal(shown.array("prediction"), answer.mask)
        page.locator('[data-part="tour-next"]').click()

        assert shown.title() == "5 of 6: See the mask fail"
        elsewhere = np.delete(answer.mask != trained, s, 0).sum()
        told = shown.text().replace(",", "")
        assert f"the mask had {(trained[s] > 0).sum()} pixels and now has {(answer.mask[s] > 0).sum()}" in told
        assert f"from {dice_in(trained[s], label[s]):.2f} to {dice_in(answer.mask[s], label[s]):.2f}. (Dotted" in told
        assert f"In the other {S - 1} slices {elsewhere} pixels changed" in told and elsewhere == 0
        page.locator('[data-part="before"]').hover()
        page.mouse.down()
        assert "show me" in shown.button()
        page.mouse.up()
        shown.until_done()
        page.locator('[data-part="tour-next"]').click()

        assert shown.title() == "6 of 6: Put it back" and "Take your change back" in shown.text()
        page.locator('[data-part="reset-gates"]').click()
        shown.until("The mask is back: 0 of 4")
        np.testing.assert_array_equal(shown.array("prediction"), trained)
        page.locator('[data-part="tour-next"]').click()
        assert page.locator('[data-part="tour"]').is_hidden() and page.locator('[data-part="tour-open"]').is_visible()
        assert page.locator(".pointed").count() == 0


def test_keys_alone_walk_it_and_the_page_does_what_is_asked(browser, tour_file):
    with watched(browser, allowed=("file://",), width=390, height=844) as page:
        page.context.set_offline(True)
        shown = Visitor(page, tour_file).ready()  # faster than the page finds the bar
        for number, title in enumerate(TITLES, 1):
            assert shown.title() == f"{number} of 6: {title}"
            assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
            for part in ("next", "leave"):  # the buttons of the sheet are on the screen
                box = page.locator(f'[data-part="tour-{part}"]').bounding_box()
                assert box["y"] > 0 and box["y"] + box["height"] <= 844
            if number == 4:  # by the keys of the bars
                page.locator('canvas[data-part="gate-slice"]').focus()
                for _ in range(21):
                    page.keyboard.press("ArrowDown")
            elif shown.button().startswith("show me"):
                page.keyboard.press("n")
            shown.until_done()
            page.keyboard.press("n")
        assert page.locator('[data-part="tour"]').is_hidden()
        page.locator('[data-part="tour-open"]').press("Enter")
        assert shown.title() == "1 of 6: Scroll" and page.evaluate("document.activeElement.tagName") == "H2"
        page.keyboard.press("n")
        shown.until_done()
        page.keyboard.press("n")
        page.keyboard.press("p")
        assert shown.title() == "1 of 6: Scroll"
        page.keyboard.press("Escape")
        assert page.locator('[data-part="tour"]').is_hidden()
        assert page.locator('.tour [aria-live="polite"]').count() == 2  # what is told, and what is to do


def test_a_finger_drags_a_bar_and_sees_the_slice(browser, tour_file, view):
    """On a phone the sheet of the tour hides neither the slice, nor the bars, nor the buttons that a step names."""
    s, _, answer = dearest_bar(view)
    with watched(browser, allowed=("file://",), width=390, height=844, has_touch=True) as page:
        shown = begun(page, tour_file)
        page.evaluate("document.querySelector('.csam-explorer').explorer.tour.go(3)")
        wait(lambda: "Shut it" in shown.title())
        page.wait_for_timeout(300)
        sheet = page.locator('[data-part="tour"]').bounding_box()["y"]
        x, top, height = shown.bar(s, len(view.label))
        slice_box = page.locator('[data-part="slice"]').bounding_box()
        assert slice_box["y"] >= 0 and slice_box["y"] + slice_box["height"] < top and top + height <= sheet
        session = page.context.new_cdp_session(page)
        for kind, y in (("touchStart", 30), ("touchMove", 50), ("touchMove", 70), ("touchMove", height - 5), ("touchEnd", None)):
            points = [] if y is None else [{"x": x, "y": top + y}]
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        shown.until_done()
        np.testing.assert_array_equal(shown.array("prediction"), answer.mask)
        for number, part in ((5, "before"), (6, "reset-gates")):
            page.keyboard.press("n")
            assert shown.title().startswith(str(number))
            page.wait_for_timeout(300)
            box, sheet = (page.locator(f'[data-part="{name}"]').bounding_box() for name in (part, "tour"))
            assert box["y"] + box["height"] <= sheet["y"], part
            page.keyboard.press("n")
            shown.until_done()


def test_the_page_is_small_and_may_ask_for_nothing(tour_file):
    text = tour_file.read_text(encoding="utf-8")
    assert len(text.encode()) < PAGE_MB * 1e6
    assert "default-src 'none'" in text and "connect-src" not in text
    for outside in ('src="http', 'href="http', "url(http", "@import"):
        assert outside not in text


def test_where_there_is_no_reference_there_is_no_tour_and_else_a_button(browser, package, tmp_path):
    import torch

    torch.manual_seed(0)
    network, x = UNet(1, 2, num_slices=6, base_channels=4, levels=2).eval(), torch.randn(6, 1, 16, 16)
    label = np.zeros((6, 16, 16), np.uint8)
    label[1:4, 4:12, 4:12] = 1
    for given, buttons in ((None, 0), (label, 1), (np.zeros_like(label), 0)):
        explore(network, x, given).save(tmp_path / "a.html", package=package)
        with watched(browser, allowed=("file://",)) as page:
            shown = opened(page, tmp_path / "a.html")
            assert page.locator('[data-part="tour-open"]').count() == buttons and not page.locator(".touring").count()
            assert shown.answered()


def test_the_address_decides_whether_the_tour_is_open(browser, tour_file):
    with watched(browser, allowed=("file://",)) as page:
        Visitor(page, f"{tour_file}#alone").ready()
        assert page.locator('[data-part="tour"]').is_hidden()
        page.evaluate("location.hash = 'tour'")
        page.locator('[data-part="tour"]').wait_for()


def test_the_command(tmp_path, package, capsys, monkeypatch):
    given = [] if package is None else ["--runtime", str(package)]
    assert main(["tour", str(tmp_path / "tour.html"), *given]) == 0
    assert "open it in a browser" in capsys.readouterr().out
    assert main(["tour", str(tmp_path / "tour.pdf")]) == 2 and "end in .html" in capsys.readouterr().err
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(runtime_module, "ADDRESS", "http://127.0.0.1:9/")
    assert main(["tour", str(tmp_path / "none.html")]) == 2  # a tour without the network would be none
    assert "http://127.0.0.1:9/" in capsys.readouterr().err and not (tmp_path / "none.html").exists()
