"""The guided tour in headless Chromium, from disk and offline: walked with real clicks and keys, its numbers against Python."""

import re
import time
from dataclasses import replace

import numpy as np
import pytest
from browser import Shown, wait, watched
from firefox import firefox
from test_live_page import opened

from csam_lite import UNet, explore
from csam_lite.cli import main
from csam_lite.data.dataset import find_dataset
from csam_lite.data.phantom import write_phantoms
from csam_lite.explorer import runtime as runtime_module
from csam_lite.explorer.examine import examine
from csam_lite.explorer.tour import _GOAL, tour_view, write_tour
from csam_lite.training.run import pretrained

pytest.importorskip("onnxruntime", reason="no onnxruntime: pip install -e '.[web]'")
PAGE_MB = 9
WORDS = 450  # 200 a minute, and 70 seconds for seven actions, make three and a half minutes
TITLES = ["Go through the slices", "See an end", "Look at the slice gate", "Shut one bar", "See what the bar does", "Put it back"]


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

    def until_asked(self, text):
        wait(lambda: text in self.todo(), 20)

    def picture(self):
        """The pixels of the slice as they are seen."""
        return self.read("""(() => {
          const canvas = document.querySelector('[data-part="slice"] .pixels');
          return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        })()""", np.uint8)

    def drag(self, s, S, to):
        """Drag the bar of slice s to the value `to` with the mouse."""
        x, top, height = self.bar(s, S)
        self.page.mouse.move(x, top + height / 2)
        self.page.mouse.down()
        for value in (0.4, to):
            self.page.mouse.move(x, top + 8 + (1 - value) * (height - 38), steps=2)
        self.page.mouse.up()

    def middle(self, part):
        box = self.box(f'[data-part="{part}"]')
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def places(self):
        """Where the buttons and the next picture are, which a reader's hand has learned."""
        parts = ("tour-back", "undo", "before", "reset-gates", "coronal")
        return {part: self.page.locator(f'[data-part="{part}"]').bounding_box() for part in parts}

    def box(self, selector):
        return self.page.locator(selector).bounding_box()

    def bar(self, s, S):
        """The middle of the bar of slice s on the screen, and where its canvas begins and how high it is."""
        box = self.box('canvas[data-part="gate-slice"]')
        return box["x"] + 34 + (s + 0.5) * (box["width"] - 42) / S, box["y"], box["height"]


class FirefoxVisitor(Visitor):
    def box(self, selector):
        return self.page.bounding_box(selector)


def with_bar(view, name, s, value):
    """The Answer with one bar of the slice gate replaced."""
    bars = np.full(len(view.label), np.nan, np.float32)
    bars[s] = value
    return view.answer({(name, "slice"): bars})


def begun(page, path):
    page.context.set_offline(True)
    return Visitor(page, path).ready().searched()


def dice_in(mask, label):
    return 2 * ((mask > 0) & (label > 0)).sum() / ((mask > 0).sum() + (label > 0).sum())


def dearest_bar(view):
    """Of the slices at the ends of the organ, the bar that costs most: (slice, name of the CSAM, the Answer without it)."""
    trained, held = view.as_trained.mask, np.flatnonzero(view.label.any((1, 2)))
    for s in (held[0], held[-1]):
        answers = {name: with_bar(view, name, s, 0) for name in view.csam_modules()}
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
        assert shown.title() == "1 of 6: Go through the slices" and f"here {S}, one every {view.spacing[0]:.1f} mm" in shown.text()
        assert "show me" in shown.button() and "1 so far" in shown.todo()
        slice_picture, places = page.locator('[data-part="slice"]'), shown.places()
        assert page.locator('[data-part="status"]').is_hidden()  # its Dice is explained later
        slice_picture.hover()
        for _ in range(2):
            page.mouse.wheel(0, 100)
        slice_picture.click()
        for _ in range(2):
            page.keyboard.press("ArrowUp")
        page.locator('[data-part="slider"]').fill("3")
        shown.until_done()
        page.locator('[data-part="tour-next"]').click()

        assert shown.title() == "2 of 6: See an end" and f"slice {s + 1}, its lowest, still holds it, slice {s} does not" in shown.text()
        assert label[s].any() and not label[s - 1].any()
        assert "TZ, the transition zone" in shown.text() and "show where they really are" in shown.text()
        last = int(np.flatnonzero(label.any((1, 2)))[-1])
        assert f"The other end is between slices {last + 1} and {last + 2}." in shown.text()
        page.locator('[data-part="slider"]').evaluate("""(slider, s) => {
          for (let to = s + 4; to >= s - 1; to--) { slider.value = to; slider.dispatchEvent(new Event("input")); }
        }""", int(s))  # in passing, no slice is looked at
        page.wait_for_timeout(600)
        assert shown.todo() == f"Stop at slice {s + 1}, and then at slice {s}."
        page.locator('[data-part="slider"]').fill(str(s))
        page.wait_for_timeout(600)
        assert "show me" in shown.button()  # both slices are wanted
        slice_picture.press("ArrowUp")
        shown.until_done()
        wrong = int((trained[s - 1] > 0).sum())
        seen = f"still marks {wrong:,} pixel{'s' * (wrong != 1)}, wrongly" if wrong else "stops, as it should"
        assert shown.todo() == f"Done. In slice {s} the network {seen}. Go on with “next”."
        assert shown.places() == places
        page.keyboard.press("n")  # in the slice that the next step asks for

        gate = view.as_trained.windows[0].record[name]["slice"].values[0]
        assert shown.title() == "3 of 6: Look at the slice gate"
        assert f"It has such a gate at {len(view.csam_modules())} places; you see the one named {name}." in shown.text()
        assert f"The bar of slice {s + 1} is {gate[s]:.2f}." in shown.text()
        assert gate[s - 1] > gate[s] and f"slice {s}, without it, has {gate[s - 1]:.2f}." in shown.text()
        assert shown.todo().startswith(f"You are in slice {s + 1}: its bar has the colour of the frame. Click it.") and "show me" in shown.button()
        shown.drag(s + 3, S, 0.3)
        shown.until_asked("You moved a bar: that comes in the next step.")
        shown.answered()
        page.keyboard.press("u")
        shown.until_asked("Click")
        x, top, height = shown.bar(s, S)
        page.mouse.click(x, top + height / 2)
        shown.until_done()
        page.keyboard.press("n")

        assert page.locator('[data-part="every-level"]').is_disabled()
        assert shown.title() == "4 of 6: Shut one bar"
        for bar in (s + 3, s):  # another bar, then this one, too
            shown.drag(bar, S, -0.1)
            shown.until_asked(f"You changed slice {s + 4}. The tour needs the bar of slice {s + 1} alone.")
            shown.answered()
            assert "show me" in shown.button()
        page.locator('[data-part="change-slice"]').select_option("zero")
        shown.until_asked(f"You changed all {S} bars.")
        shown.answered()
        page.locator('[data-part="reset-gates"]').click()
        shown.drag(s, S, 0.35)
        shown.until_asked("The bar is at 0.3")
        shown.drag(s, S, -0.1)
        shown.until_done()
        assert shown.places() == places
        np.testing.assert_array_equal(shown.array("prediction"), answer.mask)
        page.locator('[data-part="tour-next"]').click()

        assert shown.title() == "5 of 6: See what the bar does"
        elsewhere = np.delete(answer.mask != trained, s, 0).sum()
        told = shown.text().replace(",", "")
        assert f"the mask had {(trained[s] > 0).sum()} pixels and now has {(answer.mask[s] > 0).sum()}" in told
        was = dice_in(trained[s], label[s])
        assert f"from {was:.2f} to {dice_in(answer.mask[s], label[s]):.2f}." in told
        assert f"In the other {S - 1} slices {elsewhere} pixels changed: a bar acts on its own slice" in told and elsewhere == 0
        assert "So the number matters. It need not be the best one." in told and page.locator(".pointed").last.get_attribute("data-part") == "before"
        assert f"a bar acts on its own slice, though {gate[s]:.2f} was computed from all." in shown.text()
        told = shown.text()
        page.locator('[data-part="level-0"]').check()  # the numbers stay those of the bar that was shut
        shown.until_asked(f"You look at csam.0. The tour needs the bars of {name}")
        page.locator('[data-part="slider"]').fill(str(s + 2))
        assert shown.text() == told
        page.locator(f'[data-part="level-{_GOAL["level"]}"]').check()
        shown.until_asked(f"You look at slice {s + 2}. Go back to slice {s + 1}")
        page.locator('[data-part="slider"]').fill(str(s + 1))
        shown.until_asked("Hold down")
        failed = shown.picture()
        page.locator('[data-part="before"]').hover()
        for turn in range(3):  # as often as one likes, also after "Done"
            page.mouse.down() if turn < 2 else page.keyboard.down("b")
            page.wait_for_timeout(200)
            assert (shown.picture() != failed).sum() > 1000
            assert "show me" in shown.button() or turn
            page.mouse.up() if turn < 2 else page.keyboard.up("b")
            shown.until_done()
            wait(lambda: (shown.picture() == failed).all())
            assert shown.places() == places
        start = time.monotonic()
        page.keyboard.press("b")  # however short the press, the mask before is seen long enough
        assert (shown.picture() != failed).sum() > 1000
        wait(lambda: (shown.picture() == failed).all())
        assert time.monotonic() - start > 0.5

        page.keyboard.press("u")
        shown.until("Now its bar is at 0.3")
        page.keyboard.press("u")  # nothing is shut, so that nothing is shown by it
        shown.until("so there is nothing to compare")
        assert "matters" not in shown.text() and "show me" in shown.button()
        shown.drag(s, S, 1.1)
        shown.until("With 1 the mask is")
        opened_mask = with_bar(view, name, s, 1).mask
        np.testing.assert_array_equal(shown.array("prediction"), opened_mask)
        now = dice_in(opened_mask[s], label[s])
        verdict = "as good here as" if abs(now - was) < 0.01 else "better here than" if now > was else "worse here than"
        assert f"With 1 the mask is {verdict} with the network's {gate[s]:.2f}." in shown.text() and f"to {now:.2f}." in shown.text()
        shown.until_done()
        page.keyboard.press("Escape")  # leaving keeps the place and the change
        assert page.locator('[data-part="tour"]').is_hidden()
        page.mouse.click(428, 700)  # beside all
        assert page.evaluate("document.activeElement === document.body")
        page.get_by_text("guided tour: go on at step 5").click()
        assert shown.title() == "5 of 6: See what the bar does" and "With 1 the mask is" in shown.text() and "show me" in shown.button()
        page.keyboard.press("b")
        shown.until_done()
        assert shown.places() == places
        page.locator('[data-part="tour-next"]').click()

        assert shown.title() == "6 of 6: Put it back" and "Take your change back" in shown.text()
        page.locator('[data-part="reset-gates"]').click()
        shown.until(f"The mask is back: in all {S} slices, 0 of 4")
        assert "Notebook 04 of the CSAM Lite course" in shown.text() and f"In other stacks of {S} slices" in shown.text() and "closes this card" in shown.todo()  # the last word says where to go on
        np.testing.assert_array_equal(shown.array("prediction"), trained)
        assert shown.places() == places and page.locator('[data-part="tour-leave"]').is_hidden()
        page.locator('[data-part="tour-next"]').click()
        assert page.locator('[data-part="tour"]').is_hidden() and page.locator('[data-part="tour-open"]').is_visible()
        assert page.locator(".pointed").count() == 0
        page.locator('[data-part="words"] summary').click()
        explained = page.text_content('[data-part="words"]')
        for word in ("csam.0", "semantic gate", "positional gate", "slice gate", "T2", "window", "Dice", "reference", "A, P, R, L", "mask"):
            assert word in explained, word


def test_keys_alone_walk_it_and_the_page_does_what_is_asked(browser, tour_file):
    with watched(browser, allowed=("file://",), width=390, height=844) as page:
        page.context.set_offline(True)
        shown, words = Visitor(page, f"{tour_file}#alone").ready(), 0
        # the page finds the bar by itself, as it does for a scan of one's own; the reader is faster
        page.evaluate("delete document.querySelector('.csam-explorer').explorer.state.description.tour.goal")
        page.evaluate("location.hash = 'tour'")
        wait(lambda: page.locator('[data-part="tour"]').is_visible())
        for number, title in enumerate(TITLES, 1):
            assert shown.title() == f"{number} of 6: {title}"
            assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
            for part in ("next", "leave"):  # the buttons of the sheet are on the screen
                box = page.locator(f'[data-part="tour-{part}"]').bounding_box()
                assert box["y"] > 0 and box["y"] + box["height"] <= 844
            assert "show me" in shown.button() and "Done" not in shown.todo()  # no step begins at its end
            if number == 5:
                shown.until("Dice is its overlap")
            if number == 3 and "One moment" in shown.todo():
                assert page.locator('[data-part="tour-next"]').get_attribute("aria-disabled") == "true"
                page.keyboard.press("n")  # there is nothing to show yet
                shown.until_asked("(Keyboard: Shift+Tab")
            words += len(f"{shown.text()} {shown.todo()}".split())
            if number == 3:
                page.keyboard.press("Shift+Tab")
                for key in ("ArrowLeft", "ArrowRight", "ArrowRight"):  # from the slice beyond
                    assert "show me" in shown.button()
                    page.keyboard.press(key)
            elif number == 4:  # by the keys of the bars
                page.keyboard.press("Shift+Tab")
                for _ in range(21):
                    page.keyboard.press("ArrowDown")
            elif number == 1:  # the focus is on the title
                for _ in range(4):
                    page.keyboard.press("ArrowUp")
            else:
                page.keyboard.press("n")
            shown.until_done()
            words += len(shown.text().split()) if number == 6 else 0  # another text than before
            page.keyboard.press("n")
        assert page.evaluate("document.querySelector('.csam-explorer').explorer.tour.goal") == _GOAL
        print(f"{words} words")
        assert 300 < words <= WORDS
        assert page.locator('[data-part="tour"]').is_hidden()
        page.locator('[data-part="tour-open"]').press("Enter")
        assert shown.title() == "1 of 6: Go through the slices" and page.evaluate("document.activeElement.tagName") == "H2"
        page.keyboard.press("n")
        shown.until_done()
        page.keyboard.press("n")
        page.keyboard.press("Escape")
        assert page.locator('[data-part="tour"]').is_hidden()
        page.get_by_text("guided tour: go on at step 2").press("Enter")
        assert shown.title() == "2 of 6: See an end"
        page.keyboard.press("p")
        assert shown.title() == "1 of 6: Go through the slices"
        page.keyboard.press("n")
        page.keyboard.press("Escape")
        page.locator('[data-part="tour-again"]').press("Enter")
        assert shown.title() == "1 of 6: Go through the slices"
        assert page.locator('.tour [aria-live="polite"]').count() == 2  # what is told, and what is to do


def test_a_finger_drags_a_bar_and_sees_the_slice(browser, tour_file, view):
    """On a phone the sheet of the tour hides neither the slice, nor the bars, nor the buttons that a step names."""
    s, _, answer = dearest_bar(view)
    with watched(browser, allowed=("file://",), width=390, height=844, has_touch=True) as page:
        shown = begun(page, tour_file)
        for step in range(4):  # the sheet cuts no row of buttons
            page.evaluate("step => document.querySelector('.csam-explorer').explorer.tour.go(step)", step)
            assert page.locator('[data-part="undo"]').is_visible() == (step == 3)
        wait(lambda: "Shut one bar" in shown.title())
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
        for width, height in ((390, 664), (360, 640), (844, 390)):
            page.set_viewport_size({"width": width, "height": height})
            for step in (0, 1, 2, 4, 5, 3):
                page.evaluate("step => document.querySelector('.csam-explorer').explorer.tour.go(step)", step)
                page.wait_for_timeout(100)
                for part in ("todo", "next"):
                    box, where = page.locator(f'[data-part="tour-{part}"]').bounding_box(), (width, height, step, part)
                    assert box["y"] >= 0 and box["y"] + box["height"] <= height, where
                sheet, meant = (shown.box(selector) for selector in ('[data-part="tour"]', ".pointed >> nth=-1"))
                if step > 2:  # the organ, in the middle of the slice, is seen
                    picture = shown.box('[data-part="slice"]')
                    assert picture["y"] + picture["height"] / 4 >= 0, (width, height, step)
                assert 0 <= meant["y"] and meant["y"] + meant["height"] <= (sheet["y"] if width < 640 else height) + 1, (width, height, step)
        page.set_viewport_size({"width": 390, "height": 844})
        wait(lambda: page.evaluate("innerHeight") == 844)
        page.evaluate("document.querySelector('.csam-explorer').explorer.tour.go(3)")
        shown.until_done()
        for number, part in ((5, "before"), (6, "reset-gates")):
            page.keyboard.press("n")
            assert shown.title().startswith(str(number))
            page.wait_for_timeout(300)
            box, sheet = (page.locator(f'[data-part="{name}"]').bounding_box() for name in (part, "tour"))
            assert box["y"] + box["height"] <= sheet["y"], part
            page.keyboard.press("n")
            shown.until_done()


def test_six_steps_in_firefox(tour_file, view, tmp_path):
    """By mouse and keys as Firefox hears them, from disk and with the network cut; the masks are Python's."""
    trained, S = view.as_trained.mask, len(view.label)
    s, name, answer = dearest_bar(view)
    with firefox(tmp_path) as page:
        page.set_viewport_size({"width": 1366, "height": 768})
        shown, titles = FirefoxVisitor(page, tour_file).ready().searched(), []

        def goes_on():
            shown.until_done()
            page.keyboard.press("n")

        def begins(number):
            wait(lambda: shown.title().startswith(f"{number} of 6: "), 20)
            titles.append(shown.title().split(": ")[1])
            assert "show me" in shown.button()

        begins(1)
        page.mouse.move(*shown.middle("slice"))
        for delta in (100, 100, -100, -100, -100, -100):
            page.mouse.wheel(0, delta)
        goes_on()
        begins(2)
        page.keyboard.press("n")  # the page shows both slices
        goes_on()
        begins(3)
        x, top, height = shown.bar(s, S)
        page.mouse.click(x, top + height / 2)
        goes_on()
        begins(4)
        np.testing.assert_array_equal(shown.array("prediction"), trained)
        shown.drag(s, S, -0.1)
        shown.until_done()
        np.testing.assert_array_equal(shown.array("prediction"), answer.mask)
        goes_on()
        begins(5)
        was, now = (dice_in(mask[s], view.label[s]) for mask in (trained, answer.mask))
        assert f"from {was:.2f} to {now:.2f}." in shown.text() and f"In the other {S - 1} slices, 0 pixels changed: a bar acts on its own slice" in shown.text()
        failed = shown.picture()
        page.mouse.move(*shown.middle("before"))
        page.mouse.down()
        wait(lambda: (shown.picture() != failed).sum() > 1000, 20)
        page.mouse.up()
        shown.until_done()
        wait(lambda: (shown.picture() == failed).all(), 20)
        goes_on()
        begins(6)
        page.mouse.click(*shown.middle("reset-gates"))
        shown.until(f"The mask is back: in all {S} slices, 0 of 4")
        np.testing.assert_array_equal(shown.array("prediction"), trained)
        assert titles == TITLES
        goes_on()
        assert page.evaluate("document.querySelector('[data-part=tour]').hidden")


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
        shown = Visitor(page, f"{tour_file}#alone").ready()
        assert page.locator('[data-part="tour"]').is_hidden()
        page.evaluate("location.hash = 'tour'")
        page.locator('[data-part="tour"]').wait_for()
        button = page.locator('[data-part="tour-next"]')
        for _ in range(60):  # whoever clicks and clicks goes on, and sees what is shown
            button.click()
            page.wait_for_timeout(100)
            if shown.title().startswith("4"):
                break
        assert shown.title().startswith("4")
        page.keyboard.press("p")
        page.keyboard.press("n")
        shown.until_done()
        page.wait_for_timeout(600)
        button.dblclick()  # the second click shows nothing of the next step
        assert shown.title().startswith("4") and "show me" in shown.button()
        page.wait_for_timeout(400)
        button.click()  # and neither does a slow one
        page.wait_for_timeout(200)
        assert "show me" in shown.button()


def test_a_bar_cannot_be_moved_before_it_is_spoken_of(browser, tour_file, view):
    """A drag on the grey bars of steps 1 and 2 broke the mask that these steps call the network's."""
    S, trained = len(view.label), view.as_trained.mask
    middle = int(np.flatnonzero(view.label.any((1, 2)))[view.label.any((1, 2)).sum() // 2])
    with watched(browser, allowed=("file://",), width=1366, height=768) as page:
        shown, bars = begun(page, tour_file), page.locator('[data-part="gate-slice"]')
        for step in (1, 2):
            shown.drag(4, S, -0.1)
            bars.press("ArrowDown")
            page.wait_for_timeout(600)
            np.testing.assert_array_equal(shown.array("prediction"), trained)
            assert page.evaluate("getComputedStyle(document.querySelector('[data-part=gate-slice]')).touchAction") == "pan-y"
            if step == 1:
                page.locator('[data-part="slider"]').fill("1")  # a slice without the organ
                page.locator('[data-part="tour-next"]').click()
                shown.until_done()
                page.keyboard.press("n")
                assert shown.title().startswith("2") and page.locator('[data-part="slider"]').input_value() == str(middle + 1)
        page.keyboard.press("Escape")
        assert page.evaluate("getComputedStyle(document.querySelector('[data-part=gate-slice]')).touchAction") == "none"
        shown.drag(4, S, -0.1)
        wait(lambda: (shown.array("prediction") != trained).any())


def test_the_command(tmp_path, package, capsys, monkeypatch):
    given = [] if package is None else ["--runtime", str(package)]
    assert main(["tour", str(tmp_path / "tour.html"), *given]) == 0
    assert "open it in a browser" in capsys.readouterr().out
    assert main(["tour", str(tmp_path / "tour.pdf")]) == 2 and "end in .html" in capsys.readouterr().err
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(runtime_module, "ADDRESS", "http://127.0.0.1:9/")
    assert main(["tour", str(tmp_path / "none.html")]) == 2  # a tour without the network would be none
    assert "http://127.0.0.1:9/" in capsys.readouterr().err and not (tmp_path / "none.html").exists()


def test_the_bars_of_other_stacks_are_almost_the_same(view, tmp_path):
    depth = len(view.image)
    dataset = find_dataset(write_phantoms(tmp_path / "others", count=8, seed=77, progress=False))
    gates = []
    for scan in map(dataset.only_channels(["T2"]).read, dataset.cases):
        first = (scan.image.shape[0] - depth) // 2
        if first >= 0:
            here = slice(first, first + depth)
            record = examine(pretrained(), replace(scan, image=scan.image[here], label=scan.label[here])).as_trained.windows[0].record
            gates.append([record[name]["slice"].values[0] for name in view.csam_modules()])
    gates = np.array(gates)  # (scans, scales, slices)
    assert len(gates) >= 4 and gates.shape[2] == depth
    assert (gates.std(0).mean(1) < gates.std(2).mean(0) / 10).all()
