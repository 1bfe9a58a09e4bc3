"""The explorer in a real browser: saved pages from disk, and the widget in a JupyterLab with a kernel, pixel for pixel against numpy.

Times are those of the browser. They stand, after a run, in .pytest_cache/v/csam_lite/explorer.
"""

import base64
import statistics
import time

import matplotlib
import numpy as np
import pytest
import torch
from browser import jupyterlab, open_widget, run_notebook, watched, write_notebook
from test_explore import with_a_fourth_gate

from csam_lite import UNet, explore
from csam_lite.common.figures import COLOURS
from csam_lite.data.dataset import find_dataset
from csam_lite.explorer.examine import examine
from csam_lite.explorer.widget import Explorer
from csam_lite.training.config import Config
from csam_lite.training.trainer import train

STEP_MS, INTERVENTION_MS, OPEN_MS, PAGE_MB = 16, 400, 2000, 30
BUSY = 3  # a browser, a kernel and other work share few processors: so much slower may the timed tests be
FILL, VEIL = 0.2, 0.6  # opacities with which the explorer opens


@pytest.fixture(scope="module")
def demo_run(phantoms, tmp_path_factory):
    """A network of the demo's size, hardly trained, whose gates start at random, far from one: overwriting them must show."""
    config = Config(str(phantoms), str(tmp_path_factory.mktemp("demo") / "run"), base_channels=8, levels=4, pixels=64, epochs=6, test=2, val=0,
                    uncertain=True, prior=False, gate_start=0.0, gate_rate=1.0, learning_rate=2e-3, seed=4)
    return train(config, progress=False)


@pytest.fixture(scope="module")
def view(demo_run, phantoms):
    dataset = find_dataset(phantoms)
    return examine(demo_run, dataset.read(dataset.cases[0]), draws=3)


# What numpy says.


def window_of(view, channel=0):
    dark, bright = np.percentile(view.image[:, channel], (0.5, 99.5))
    return bright - dark, (dark + bright) / 2


def grey(image, width, level):
    return np.floor(np.clip((image - level) * 255 / width + 127.5, 0, 255) + 0.5)


def slice_picture(view, s, window, mask, channel=0):
    """(H, W, 3): slice s with the mask's colours over it."""
    picture = np.repeat(grey(view.image[s, channel], *window)[..., None], 3, 2)
    for k in range(1, len(view.classes) + 1):
        colour = np.array([int(COLOURS[k - 1][i:i + 2], 16) for i in (1, 3, 5)])
        picture[mask[s] == k] = np.floor(picture[mask[s] == k] * (1 - FILL) + colour * FILL + 0.5)
    return picture


def coloured(values, low, high, table="cividis"):
    rows = np.clip(np.floor((values - low) / (high - low) * 256), 0, 255).astype(int)
    return np.round(matplotlib.colormaps[table](np.arange(256))[:, :3] * 255)[rows]


def map_picture(view, s, window, values, low, high):
    """(H, W, 3): values over slice s, cut to what the network reads."""
    below = np.repeat(grey(view.image[s, 0], *window)[..., None], 3, 2)
    left, top, right, bottom = view.field
    box = np.s_[max(int(np.floor(top)), 0):int(np.ceil(bottom)), max(int(np.floor(left)), 0):int(np.ceil(right))]
    picture = np.floor(below * (1 - VEIL) + coloured(np.nan_to_num(values), low, high) * VEIL + 0.5)
    return np.where(np.isnan(values)[..., None], below, picture)[box]


def over_the_image(view, gate):
    """gate (h, w) of what the network reads -> (H, W) of the image, NaN outside."""
    left, top, right, bottom = view.field
    H, W = view.image.shape[2:]
    rows = np.floor((np.arange(H) + 0.5 - top) / (bottom - top) * gate.shape[0]).astype(int)[:, None]
    columns = np.floor((np.arange(W) + 0.5 - left) / (right - left) * gate.shape[1]).astype(int)[None]
    inside = (rows >= 0) & (rows < gate.shape[0]) & (columns >= 0) & (columns < gate.shape[1])
    return np.where(inside, gate[rows.clip(0, gate.shape[0] - 1), columns.clip(0, gate.shape[1] - 1)], np.nan)


# What the page shows.

FRAME = """do await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
  while ([...document.querySelectorAll(".csam-explorer")].some(root => root.explorer?.state.pending.size));"""  # linked views are drawn in the next frames
PIXELS = """async part => {
  FRAME
  const canvas = document.querySelector(`[data-part="${part}"] canvas.pixels`);
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let letters = "";
  for (let i = 0; i < data.length; i += 4) letters += String.fromCharCode(data[i], data[i + 1], data[i + 2]);
  return [canvas.height, canvas.width, btoa(letters)];
}""".replace("FRAME", FRAME)


def pixels(page, part):
    height, width, data = page.evaluate(PIXELS, part)
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 3).astype(int)


def same(found, expected, but=0.0):
    """Equal up to one grey level, apart from the fraction `but` of the pixels (two processes may round a class differently)."""
    assert found.shape == expected.shape
    wrong = (abs(found - expected) > 1).any(-1).mean()
    assert wrong <= but, f"{wrong:.2%} of the pixels differ"


def bars(page, part, count):
    """Heights 0..1 of the bars in a canvas, read from its colours."""
    found = page.evaluate("""async ([part, count]) => {
      FRAME
      const canvas = document.querySelector(`canvas[data-part="${part}"]`), context = canvas.getContext("2d");
      const sharp = canvas.width / canvas.clientWidth, [left, right, top, bottom] = [34, 8, 8, 30].map(n => n * sharp);
      const height = canvas.height - top - bottom, step = (canvas.width - left - right) / count;
      const style = getComputedStyle(canvas), probe = document.createElement("canvas").getContext("2d");
      const colours = ["--csam-bar", "--csam-mark"].map(name => {
        probe.fillStyle = style.getPropertyValue(name); probe.fillRect(0, 0, 1, 1); return [...probe.getImageData(0, 0, 1, 1).data]; });
      return Array.from({ length: count }, (_, i) => {
        const x = Math.round(left + (i + 0.25) * step), { data } = context.getImageData(x, Math.round(top), 1, Math.round(height));
        let filled = 0;
        for (let y = 0; y < data.length; y += 4)
          if (colours.some(c => Math.abs(c[0] - data[y]) + Math.abs(c[1] - data[y + 1]) + Math.abs(c[2] - data[y + 2]) < 40)) filled++;
        return filled / Math.round(height);
      });
    }""".replace("FRAME", FRAME), [part, count])
    return np.array(found)


SEEN_NOW = "!document.querySelector('.csam-explorer').explorer.state.before"  # no longer the prediction before, which stays for a moment


def ready(page):
    until(page, "!!document.querySelector('.csam-explorer')?.explorer?.opened", seconds=60)


def until(page, condition, seconds=20):
    """Wait for a condition in the page. (Playwright's own wait compiles it in the page, which a saved page forbids.)"""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, f"waited {seconds} s for {condition}"
        time.sleep(0.02)


def middle(page, part):
    place = page.locator(f'[data-part="{part}"]')
    place.scroll_into_view_if_needed()
    box = place.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def check_views(page, view, but=0.0):
    """Each hand's move changes the pixels that it should, to what numpy says."""
    ready(page)
    S, window, mask = len(view.image), window_of(view), view.as_trained.mask
    s = view.busiest_slice
    same(pixels(page, "slice"), slice_picture(view, s, window, mask), but)

    page.locator('[data-part="slider"]').press("ArrowRight")  # the slider
    s += 1
    same(pixels(page, "slice"), slice_picture(view, s, window, mask), but)
    assert page.locator('[data-part="readout"]').inner_text() == f"{s + 1} of {S}"
    page.mouse.move(*middle(page, "slice"))  # the wheel
    for notch, step in ((120, 1), (-120, -1), (-120, -1)):
        page.mouse.wheel(0, notch)
        s += step
        until(page, f"document.querySelector('.csam-explorer').explorer.state.slice === {s}")
    same(pixels(page, "slice"), slice_picture(view, s, window, mask), but)
    picture = page.locator('[data-part="slice"]')  # the keys
    for key, to in (("ArrowUp", s + 1), ("ArrowRight", s + 2), ("ArrowDown", s + 1), ("End", S - 1), ("ArrowUp", S - 1), ("PageDown", S - 6)):
        picture.press(key)
        assert picture.get_attribute("aria-valuenow") == str(to + 1)
    s = S - 6
    same(pixels(page, "slice"), slice_picture(view, s, window, mask), but)
    assert "anterior at the top, left on the right" in picture.get_attribute("aria-label")

    # Right-drag: to the right the window grows, down the level; three hundred pixels are the whole window.
    x, y = middle(page, "slice")
    page.mouse.move(x, y)
    page.mouse.down(button="right")
    page.mouse.move(x + 60, y - 30, steps=3)
    page.mouse.up(button="right")
    moved = (window[0] + 60 * window[0] / 300, window[1] - 30 * window[0] / 300)
    same(pixels(page, "slice"), slice_picture(view, s, moved, mask), but)
    page.mouse.dblclick(x, y)
    same(pixels(page, "slice"), slice_picture(view, s, window, mask), but)
    picture.press("Shift+ArrowUp")
    same(pixels(page, "slice"), slice_picture(view, s, (window[0], window[1] - window[0] / 20), mask), but)
    picture.press("r")

    # The strips, through the cross that the double click left in the middle; true proportions on the screen.
    _, _, H, W = view.image.shape
    deep, high, wide = view.spacing
    for part, cut, across in (("coronal", view.image[::-1, 0, H // 2], W * wide), ("sagittal", view.image[::-1, 0, :, W // 2], H * high)):
        same(pixels(page, part), np.repeat(grey(cut, *window)[..., None], 3, 2))
        box = page.locator(f'[data-part="{part}"]').bounding_box()
        assert box["width"] / box["height"] == pytest.approx(across / (S * deep), rel=0.02)
    box = picture.bounding_box()
    assert box["width"] / box["height"] == pytest.approx(W * wide / (H * high), rel=0.01)
    strip = page.locator('[data-part="coronal"]')
    strip.scroll_into_view_if_needed()
    box = strip.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] * (S - 3 - 0.5) / S)  # the fourth slice from below
    s = 3
    same(pixels(page, "slice"), slice_picture(view, s, window, mask), but)

    # Every level: the three gates, and a feature map on hover.
    for level, (name, gates) in enumerate(view.as_trained.windows[0].record.items()):
        page.locator(f'[data-part="level-{level}"]').check()
        gates = {gate: named.values[0] for gate, named in gates.items()}
        low, high_value = gates["positional"].min(), gates["positional"].max()
        values = over_the_image(view, gates["positional"])
        same(pixels(page, "gate-positional"), map_picture(view, s, window, values, low, high_value), max(but, 0.01))
        order = np.argsort(-gates["semantic"], kind="stable")
        np.testing.assert_allclose(bars(page, "gate-semantic", len(order)), gates["semantic"][order], atol=0.02)
        found = bars(page, "gate-slice", S)
        assert np.median(abs(found - gates["slice"])) < 0.02  # whiskers cross some bars
        canvas = page.locator('canvas[data-part="gate-semantic"]')
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        rank = len(order) // 2
        page.mouse.move(box["x"] + 34 + (rank + 0.5) * (box["width"] - 42) / len(order), box["y"] + 60)
        channel = order[rank]
        maps = view.feature_maps[name].values
        steps = np.round(255 * (maps[s, channel] - maps[:, channel].min()) / np.ptp(maps[:, channel]))
        same(pixels(page, "feature"), np.round(matplotlib.colormaps["cividis"](np.arange(256))[:, :3] * 255)[steps.astype(int)], max(but, 0.01))
        assert f"channel {channel}, gate" in page.locator('[data-part="feature-name"]').inner_text()
        covariance = gates["slice_covariance"]
        most = abs(covariance).max()
        same(pixels(page, "covariance"), coloured(covariance, -most, most, "PuOr"), max(but, 0.02))
    page.locator('[data-part="level-0"]').check()
    return s


SEEN = """window.seen = () => {  // a number that tells one picture of the slice from another
  const canvas = document.querySelector('[data-part="slice"] canvas.pixels'), H = canvas.height;
  const { data } = canvas.getContext("2d").getImageData(0, Math.floor(H / 3), canvas.width, Math.ceil(H / 3));
  let sum = 0;
  for (let i = 0; i < data.length; i += 4) sum = (sum * 31 + data[i] + data[i + 2]) | 0;
  return sum;
}"""
STEPS = """() => {
  const picture = document.querySelector('[data-part="slice"]');
  window.steps = [];
  let before = window.seen();
  picture.addEventListener("keydown", event => {  // after the explorer's own listener
    const changed = performance.now() - event.timeStamp, now = window.seen();
    const told = () => requestAnimationFrame(() => setTimeout(() => {
      if (document.querySelector(".csam-explorer").explorer.state.pending.size) told();
      else window.steps.push([changed, performance.now() - event.timeStamp]);
    }));
    if (now !== before) told();
    before = now;
  });
}"""


def step_times(page, S, steps=30):
    """Median milliseconds from key press to changed pixels of the slice, and to the end of the frame that shows them with all linked views."""
    picture = page.locator('[data-part="slice"]')
    picture.press("Home")
    page.evaluate(SEEN)
    page.evaluate(STEPS)
    for i in range(steps):
        picture.press("ArrowUp" if i // (S - 1) % 2 == 0 else "ArrowDown")
        page.wait_for_timeout(40)
    times = page.evaluate("window.steps")
    assert len(times) >= steps - 2  # every step changed the picture
    return [round(statistics.median(one), 1) for one in zip(*times)]


def note(request, **figures):
    """Keep measured figures in pytest's cache, and print them."""
    cache = request.config.cache
    cache.set("csam_lite/explorer", cache.get("csam_lite/explorer", {}) | figures)
    print(figures)


def test_the_saved_page(view, tmp_path, browser):
    Explorer(view).save(tmp_path / "attention.html", live=False)
    with watched(browser, allowed=("file://",)) as page:
        page.context.set_offline(True)
        page.goto(f"file://{tmp_path / 'attention.html'}")
        s = check_views(page, view)
        window = window_of(view)
        expected = map_picture(view, s, window, np.round(view.uncertainty[s] * 510) / 510, 0, view.uncertainty.max())
        same(pixels(page, "uncertainty"), expected, 0.01)
        assert "saved without" in page.locator('[data-part="status"]').inner_text()
        assert page.locator("[data-part^=change-]").count() == 0 and page.locator('[data-part="undo"]').count() == 0
        page.locator('[data-part="channel"]').select_option("1")
        picture = slice_picture(view, s, window_of(view, 1), view.as_trained.mask, channel=1)
        same(pixels(page, "slice"), picture)
        page.locator('[data-part="show-prediction"]').uncheck()
        same(pixels(page, "slice"), slice_picture(view, s, window_of(view, 1), np.zeros_like(view.label), channel=1))


@pytest.mark.timing
def test_a_step_through_a_saved_page_is_fast(view, tmp_path, request, browser):
    Explorer(view).save(tmp_path / "attention.html", live=False)
    with watched(browser, allowed=("file://",)) as page:
        page.goto(f"file://{tmp_path / 'attention.html'}")
        ready(page)
        step, frame = step_times(page, len(view.image))
        note(request, saved_page_step_ms=step, saved_page_frame_ms=frame)
        assert step <= BUSY * STEP_MS


def test_outlines_letters_and_scale_bar_are_on_the_picture(view, tmp_path, browser):
    """On the screen itself: around the border of the reference stands white, inside of it only the image."""
    Explorer(view).save(tmp_path / "attention.html", live=False)
    with watched(browser, allowed=("file://",)) as page:
        page.goto(f"file://{tmp_path / 'attention.html'}")
        ready(page)
        page.locator('[data-part="show-prediction"]').uncheck()
        page.locator('[data-part="show-cross"]').uncheck()
        ink = page.evaluate("""async () => {
          FRAME
          const explorer = document.querySelector(".csam-explorer").explorer, { canvas, context } = explorer.slice.picture.ink;
          const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
          return [canvas.height, canvas.width, Array.from({ length: data.length / 4 }, (_, i) => data[4 * i] > 200 && data[4 * i + 3] > 200 ? 1 : 0)];
        }""".replace("FRAME", FRAME))
        white = np.array(ink[2]).reshape(ink[:2])
        reference = view.label[view.busiest_slice]
        H, W = reference.shape
        y, x = np.nonzero(white)
        rows, columns = (y * H / ink[0]).astype(int), (x * W / ink[1]).astype(int)
        border = np.zeros((H, W), bool)
        for axis in (0, 1):
            for step in (-2, -1, 1, 2):
                border |= np.roll(reference, step, axis) != reference
        rim = np.zeros((H, W), bool)  # where letters and the scale bar stand
        rim[:30], rim[-30:], rim[:, :30], rim[:, -30:] = True, True, True, True
        inner = ~rim[rows, columns]
        assert inner.sum() > 300 and border[rows, columns][inner].mean() > 0.98
        for place in (np.s_[:24, W // 2 - 12:W // 2 + 12], np.s_[-24:, W // 2 - 12:W // 2 + 12], np.s_[H // 2 - 12:H // 2 + 12, :24],
                      np.s_[H // 2 - 12:H // 2 + 12, -24:]):
            hit = np.zeros((H, W), bool)
            hit[place] = True
            assert hit[rows, columns].sum() > 15, "a letter is missing"
        row = white[int(round(ink[0] - 12 * ink[0] / page.locator('[data-part="slice"]').bounding_box()["height"]))]
        assert row.sum() / ink[1] * W * view.spacing[2] == pytest.approx(50, rel=0.05)  # the bar of 50 mm


@pytest.fixture
def widget(view, tmp_path, browser):
    """The page of a widget whose kernel is this process, on a small laptop."""
    with watched(browser, allowed=("file://",), width=1366, height=768) as page:
        open_widget(page, Explorer(view), tmp_path)
        ready(page)
        yield page


def changes(page):
    return page.evaluate("document.querySelector('.csam-explorer').explorer.state.changes")


PLACE = "(({ slice, cross }) => [slice, ...cross])(document.querySelector('.csam-explorer').explorer.state)"


def drag_bar(page, s, S, to, over=None):
    """Drag the bar of slice s to the height `to`; over: move there first. The mouse stays down."""
    box = page.locator('canvas[data-part="gate-slice"]').bounding_box()
    x, height = box["x"] + 34 + (s + 0.5) * (box["width"] - 42) / S, lambda value: box["y"] + 8 + (1 - value) * (box["height"] - 38)
    page.mouse.move(x, height(0.02))
    page.mouse.down()
    for value in (0.3 if over is None else over, to):
        page.mouse.move(x, height(value))
        page.wait_for_timeout(50)
    return x, height(to)


def test_the_dragged_bar_and_the_organ_are_on_the_screen_together(widget, view):
    """At 1366 x 768, without scrolling, and the line that tells the change too."""
    s, S = view.busiest_slice, len(view.image)
    place = drag_bar(widget, s, S, to=0.95)
    answered(widget)
    assert widget.evaluate("scrollY") == 0 and place[1] < 768
    picture = widget.locator('[data-part="slice"]').bounding_box()
    rows, columns = np.nonzero((view.label[s] > 0) | (view.as_trained.mask[s] > 0))
    H, W = view.label.shape[1:]
    assert picture["y"] + picture["height"] * rows.min() / H >= 0 and picture["y"] + picture["height"] * (rows.max() + 1) / H <= 768
    assert picture["x"] + picture["width"] * (columns.max() + 1) / W <= 1366
    status = widget.locator('[data-part="status"]').bounding_box()
    assert status["y"] >= 0 and status["y"] + status["height"] <= 768
    widget.mouse.up()


def test_a_drag_is_undone_as_a_whole_and_before_shows_the_prediction_before(widget, view):
    s, S, window = view.busiest_slice, len(view.image), window_of(view)
    drag_bar(widget, s, S, to=0.9, over=0.6)
    widget.mouse.up()
    answered(widget)
    hand = np.full(S, np.nan)
    hand[s] = changes(widget)["csam.0"]["slice"][s]
    assert hand[s] == pytest.approx(0.9, abs=0.02)
    changed = view.answer({("csam.0", "slice"): hand}).mask
    assert (changed != view.as_trained.mask).any()
    same(pixels(widget, "slice"), slice_picture(view, s, window, changed))
    picture, place = widget.locator('[data-part="slice"]'), widget.evaluate(PLACE)

    picture.focus()
    widget.keyboard.down("b")
    same(pixels(widget, "slice"), slice_picture(view, s, window, view.as_trained.mask))
    widget.keyboard.up("b")
    until(widget, SEEN_NOW)
    same(pixels(widget, "slice"), slice_picture(view, s, window, changed))
    box = widget.locator('[data-part="before"]').bounding_box()
    widget.mouse.move(box["x"] + 5, box["y"] + 5)
    widget.mouse.down()
    same(pixels(widget, "slice"), slice_picture(view, s, window, view.as_trained.mask))
    for part in ("coronal", "slice"):  # held and slid off: it is still held, and moves no other picture
        other = widget.locator(f'[data-part="{part}"]').bounding_box()
        widget.mouse.move(other["x"] + other["width"] / 4, other["y"] + other["height"] / 4, steps=3)
        same(pixels(widget, "slice"), slice_picture(view, s, window, view.as_trained.mask))
    assert widget.evaluate(PLACE) == place
    widget.mouse.up()
    until(widget, SEEN_NOW)
    same(pixels(widget, "slice"), slice_picture(view, s, window, changed))

    widget.locator('[data-part="change-semantic"]').select_option("one")
    answered(widget)
    widget.locator('[data-part="undo"]').click()  # the second change
    answered(widget)
    assert list(changes(widget)["csam.0"]) == ["slice"]
    same(pixels(widget, "slice"), slice_picture(view, s, window, changed))
    picture.press("u")  # the drag with its two moves
    answered(widget, changed=False)
    same(pixels(widget, "slice"), slice_picture(view, s, window, view.as_trained.mask))
    assert changes(widget) == {} and widget.locator('[data-part="undo"]').is_disabled()


def test_values_are_those_of_what_is_seen_and_a_shut_bar_has_a_foot(widget, view):
    """The line under the picture follows the slice and the answer, is empty where no pixel is meant, and moves nothing."""
    s, S, line = view.busiest_slice, len(view.image), widget.locator('[data-part="values"]')
    H, W = view.label.shape[1:]
    below = widget.locator('[data-part="contrast"]').bounding_box()
    names = ["background", *view.classes]

    def expected(mask, s):
        return f"prediction {names[mask[s, y, x]]}; reference {names[view.label[s, y, x]]}"

    drag_bar(widget, s, S, to=-0.1)
    widget.mouse.up()
    answered(widget)
    hand = np.full(S, np.nan)
    hand[s] = 0
    mask, trained = view.answer({("csam.0", "slice"): hand}).mask, view.as_trained.mask
    y, x = next(place for place in np.argwhere(mask[s] != trained[s]) if (mask[:, place[0], place[1]] != mask[s, place[0], place[1]]).any())
    box = widget.locator('[data-part="slice"]').bounding_box()
    widget.mouse.move(box["x"] + (x + 0.5) * box["width"] / W, box["y"] + (y + 0.5) * box["height"] / H)
    assert f"column {x + 1}, row {y + 1}:" in line.inner_text() and expected(mask, s) in line.inner_text()
    widget.keyboard.down("b")
    until(widget, f"document.querySelector('[data-part=values]').textContent.includes('{expected(trained, s)}')")
    widget.keyboard.up("b")
    until(widget, SEEN_NOW)
    widget.mouse.wheel(0, 100)
    turned = s + int(np.sign(widget.evaluate(PLACE)[0] - s))
    assert turned != s and expected(mask, turned) in line.inner_text()
    widget.keyboard.press("u")
    answered(widget, changed=False)
    until(widget, f"document.querySelector('[data-part=values]').textContent.includes('{expected(trained, turned)}')")
    assert widget.locator('[data-part="contrast"]').bounding_box() == below
    drag_bar(widget, s, S, to=-0.1)
    widget.mouse.up()
    assert line.inner_text() == "point at a pixel for its values"
    words = widget.locator('[data-part="gate-slice-value"]').inner_text()
    gate = view.as_trained.windows[0].record["csam.0"]["slice"].values[0]
    assert words.startswith(f"slice {s + 1}: bar 0 (line: {float(gate[s]):.3g}, as the network chose)"), words
    answered(widget)
    mark = widget.evaluate("""([s, S]) => {
      const canvas = document.querySelector('canvas[data-part="gate-slice"]'), sharp = canvas.width / canvas.clientWidth;
      const x = 34 + (s + 0.5) * (canvas.clientWidth - 42) / S, y = canvas.clientHeight - 30 - 1.5;
      return [...canvas.getContext("2d").getImageData(x * sharp, y * sharp, 1, 1).data];
    }""", [s, S])
    colour = widget.evaluate("document.querySelector('.csam-explorer').explorer.state.colours.mark")
    assert mark == [*bytes.fromhex(colour[1:]), 255]  # that of the slice that is seen


def test_one_change_at_all_scales_and_what_it_did(widget, view):
    """The share of the mask and the Dice that the page tells are numpy's."""
    widget.locator('[data-part="every-level"]').check()
    widget.locator('[data-part="change-slice"]').select_option("one")
    answered(widget)
    levels = list(view.csam_modules())
    assert changes(widget) == {name: {"slice": "one"} for name in levels}
    before, mask = view.as_trained.mask, view.answer({(name, "slice"): 1.0 for name in levels}).mask
    status = widget.locator('[data-part="status"]').inner_text()
    moved, whole = (mask != before).sum(), (before > 0).sum()
    assert f"{100 * moved / whole:.1f} % of the mask changed, {moved:,} of {whole:,} pixels" in status
    for name, was, now in zip(view.classes, view.dice(before), view.dice(mask)):
        assert f"{name} {was:.3f} → {now:.3f}" in status

    s, S = view.busiest_slice, len(view.image)
    drag_bar(widget, s, S, to=0.5)
    widget.mouse.up()
    answered(widget)
    for name in levels:
        hand = changes(widget)[name]["slice"]
        assert hand[s] == pytest.approx(0.5, abs=0.02) and hand[:s] + hand[s + 1:] == [1] * (S - 1)


def test_zoom_shows_the_pixel_under_the_pointer_larger_and_leaves_it_there(widget):
    picture = widget.locator('[data-part="slice"]')
    box = picture.bounding_box()
    x, y = box["x"] + 0.3 * box["width"], box["y"] + 0.6 * box["height"]
    at = "([x, y]) => document.querySelector('.csam-explorer').explorer.slice.picture.at({ clientX: x, clientY: y })"
    scale = "document.querySelector('.csam-explorer').explorer.slice.picture.view.scale"
    under, s = widget.evaluate(at, [x, y]), picture.get_attribute("aria-valuenow")
    widget.mouse.move(x, y)
    widget.keyboard.down("Control")
    for _ in range(4):
        widget.mouse.wheel(0, -100)
    widget.keyboard.up("Control")
    until(widget, f"{scale} > 3.5")
    assert widget.evaluate(at, [x, y]) == pytest.approx(under, abs=1) and picture.get_attribute("aria-valuenow") == s
    # What is on the screen is that part of the slice, the pixels as large as the scale says.
    pixels_box = widget.evaluate("""(() => { const { x, y, width } = document.querySelector('[data-part="slice"] canvas.pixels').getBoundingClientRect();
        return [x, y, width]; })()""")
    assert pixels_box[2] / box["width"] == pytest.approx(widget.evaluate(scale))
    H = widget.evaluate("document.querySelector('.csam-explorer').explorer.state.W")
    assert (x - pixels_box[0]) / pixels_box[2] * H == pytest.approx(under[0] + 0.5, abs=1)

    widget.mouse.down(button="middle")  # pan
    widget.mouse.move(x + 50, y + 20, steps=4)
    widget.mouse.up(button="middle")
    assert widget.evaluate(at, [x + 50, y + 20]) == pytest.approx(under, abs=1)
    widget.mouse.click(x + 50, y + 20)  # the cross goes to the pixel that is seen there
    assert widget.evaluate("document.querySelector('.csam-explorer').explorer.state.cross") == pytest.approx(under, abs=1)
    picture.press("0")
    assert widget.evaluate(scale) == 1 and widget.evaluate(at, [x, y]) == under
    picture.press("+")
    assert widget.evaluate(scale) == 1.25 and widget.locator('[data-part="magnify"]').input_value() == "1.25"


def test_the_cross_is_linked_into_the_map_and_the_cuts(widget, view):
    """A click on the map moves the cross in the slice and the planes of the cuts; on all of them a white line stands there."""
    box = widget.locator('[data-part="gate-positional"]').bounding_box()
    widget.mouse.click(box["x"] + 0.3 * box["width"], box["y"] + 0.4 * box["height"])
    left, top, right, bottom = view.field
    left, top, right, bottom = max(np.floor(left), 0), max(np.floor(top), 0), np.ceil(right), np.ceil(bottom)
    x, y = widget.evaluate("document.querySelector('.csam-explorer').explorer.state.cross")
    assert x == pytest.approx(left + 0.3 * (right - left), abs=1) and y == pytest.approx(top + 0.4 * (bottom - top), abs=1)
    same(pixels(widget, "coronal"), np.repeat(grey(view.image[::-1, 0, int(y)], *window_of(view))[..., None], 3, 2))
    for part, across in (("slice", (x + 0.5) / view.image.shape[3]), ("gate-positional", (x + 0.5 - left) / (right - left)),
                         ("coronal", (x + 0.5) / view.image.shape[3]), ("sagittal", (y + 0.5) / view.image.shape[2])):
        lit = widget.evaluate("""async part => { FRAME
          const canvas = document.querySelector(`[data-part="${part}"] canvas.ink`), rows = [0.12, 0.22, 0.88].map(v => Math.floor(v * canvas.height));
          const data = rows.map(y => canvas.getContext("2d").getImageData(0, y, canvas.width, 1).data);
          return Array.from({ length: canvas.width }, (_, i) => data.filter(row => row[4 * i + 3] > 30).length);
        }""".replace("FRAME", FRAME), part)
        columns = np.flatnonzero(np.array(lit) >= 2)
        assert columns.size and abs(columns + 0.5 - across * len(lit)).min() <= 1.5, part
    before = pixels(widget, "coronal")
    for key, axis, step in (("a", 0, -1), ("d", 0, 1), ("s", 1, 1), ("w", 1, -1)):
        old = widget.evaluate("document.querySelector('.csam-explorer').explorer.state.cross")
        widget.locator('[data-part="slice"]').press(key)
        new = widget.evaluate("document.querySelector('.csam-explorer').explorer.state.cross")
        assert new[axis] == old[axis] + step and new[1 - axis] == old[1 - axis]
    same(pixels(widget, "coronal"), before)


def test_all_scales_are_seen_at_a_glance(widget, view):
    """A row of small pictures for each CSAM; a click on one shows its gates large."""
    assert widget.locator(".scale").count() == len(view.csam_modules())
    name, gates = list(view.as_trained.windows[0].record.items())[2]
    heights = widget.evaluate("""async () => { FRAME
      const canvas = document.querySelectorAll(".scale")[2].querySelectorAll("canvas.small")[2], [w, h] = [canvas.width, canvas.height];
      const { data } = canvas.getContext("2d").getImageData(0, 0, w, h);
      return Array.from({ length: COUNT }, (_, i) => {
        const x = Math.floor((i + 0.4) * w / COUNT);
        return Array.from({ length: h }, (_, y) => data[4 * (y * w + x) + 3] > 128).filter(Boolean).length / h;
      });
    }""".replace("FRAME", FRAME).replace("COUNT", str(len(view.image))))
    np.testing.assert_allclose(heights, gates["slice"].values[0], atol=0.06)
    widget.locator(".scale").nth(2).locator("canvas").first.click()
    assert widget.locator('[data-part="level-2"]').is_checked()
    np.testing.assert_allclose(bars(widget, "gate-semantic", gates["semantic"].values.shape[1]), np.sort(gates["semantic"].values[0])[::-1], atol=0.02)
    assert widget.locator("figcaption", has_text=f"Slice gate, {name}").count() == 1


def test_the_network_checks_the_answer_to_the_task(widget, view):
    """Which one bar of this scale costs most Dice? The page says what Python says."""
    S, trained = len(view.image), np.nanmean(view.dice(view.as_trained.mask))
    costs = np.zeros((len(view.csam_modules()), S))
    for level, name in enumerate(view.csam_modules()):
        for s in range(S):
            shut = np.full(S, np.nan)
            shut[s] = 0
            costs[level, s] = trained - np.nanmean(view.dice(view.answer({(name, "slice"): shut}).mask))
    level = int(costs.max(1).argmax())
    costs = costs[level]
    assert costs.max() > 0.001
    best, worst = int(np.argmax(costs)), int(np.argmin(costs))
    widget.locator(f'[data-part="level-{level}"]').check()
    widget.locator('[data-part="task"] summary').click()
    verdict, field = widget.locator('[data-part="task-verdict"]'), widget.locator('[data-part="task-answer"]')
    for answer, words in ((worst, f"costs {costs[worst]:.3f} of mean Dice. Another costs more"), (best, f"Right: shutting the bar of slice {best + 1} costs {costs[best]:.3f}")):
        field.fill(str(answer + 1))
        field.press("Enter")
        until(widget, "!document.querySelector('[data-part=\"task-check\"]').disabled", seconds=60)
        assert words.replace("-0.000", "0.000") in verdict.inner_text().replace("-0.000", "0.000")
    assert changes(widget) == {}  # the reader's own gates are left alone


def test_keyboard_and_screen_reader_reach_every_control(widget):
    """Tab goes to each control, each has a name and shows the focus; a picture has a description."""
    controls = "input, button, select, summary, [tabindex='0']"
    nameless = widget.evaluate(f"""[...document.querySelectorAll(`.csam-explorer :is({controls})`)]
        .filter(e => !(e.ariaLabel || e.textContent.trim() || [...(e.labels || [])].some(l => l.textContent.trim()))).map(e => e.outerHTML)""")
    assert not nameless
    assert not widget.evaluate("""[...document.querySelectorAll('.csam-explorer [role=img], .csam-explorer [role=slider]')].filter(e => !e.ariaLabel)
        .map(e => e.outerHTML)""")
    widget.locator('[data-part="slice"]').focus()
    reached, unseen = [], []
    for _ in range(40):
        part, outline = widget.evaluate("""(() => { const e = document.activeElement;
            return [e.dataset.part || e.tagName, getComputedStyle(e).outlineStyle]; })()""")
        if part in reached:
            break
        reached.append(part)
        widget.keyboard.press("Tab")
        if len(reached) > 1 and outline == "none":
            unseen.append(part)
    assert not unseen
    assert {"slider", "gate-slice", "change-slice", "every-level", "SUMMARY", "gate-semantic", "level-0", "change-positional", "magnify"} <= set(reached)
    value = widget.locator('canvas[data-part="gate-slice"]')
    value.press("ArrowDown")
    assert ": bar " in value.get_attribute("aria-valuetext") and value.get_attribute("aria-valuenow")


@pytest.mark.parametrize("colab", [False, True], ids=["newest", "colab"])
def test_in_jupyterlab(view, demo_run, phantoms, tmp_path, colab, browser):
    """The widget with a kernel: all views, and interventions. With Colab's ipywidgets 7.7.1, and with the newest."""
    cells = explorer_cells(demo_run, phantoms)
    with jupyterlab(tmp_path, colab) as (address, notebooks):
        write_notebook(notebooks / "see.ipynb", *cells)
        with watched(browser, allowed=(address, address.replace("http", "ws"))) as page:
            if colab:  # JupyterLab's own half is that of ipywidgets 8 and knows no Layout of 7; on Colab both halves are 7
                page.forgiven = "Module @jupyter-widgets/base, version ^1.2.0 is not registered"
            run_notebook(page, address, "see.ipynb")
            ready(page)
            assert page.locator(".jp-OutputArea-output pre").first.inner_text().startswith("7.7.1" if colab else "8.")
            s = check_views(page, view, but=0.002)
            window = window_of(view)

            page.locator('[data-part="slice"]').press("Home")
            s = view.busiest_slice
            for _ in range(s):
                page.locator('[data-part="slice"]').press("ArrowUp")
            for part, value, put in (("positional", "one", 1.0), ("semantic", "zero", 0.0)):
                page.locator(f'[data-part="change-{part}"]').select_option(value)
                answered(page)
                expected = view.answer({("csam.0", part): put})
                assert (expected.mask[s] != view.as_trained.mask[s]).mean() > 0.002
                same(pixels(page, "slice"), slice_picture(view, s, window, expected.mask), 0.002)
                if part == "positional":
                    assert page.locator('[data-part="gate-positional-value"]').inner_text() == "1 everywhere"
                page.locator('[data-part="reset-gates"]').click()
                answered(page, changed=False)
                same(pixels(page, "slice"), slice_picture(view, s, window, view.as_trained.mask), 0.002)

            # Drag a slice's bar down, and lift the next one with the keys.
            page.locator('[data-part="level-1"]').check()
            canvas = page.locator('canvas[data-part="gate-slice"]')
            canvas.scroll_into_view_if_needed()
            box, S = canvas.bounding_box(), len(view.image)
            x, y = box["x"] + 34 + (s + 0.5) * (box["width"] - 42) / S, box["y"] + 8 + 0.7 * (box["height"] - 38)
            page.mouse.move(x, y)
            page.mouse.down()
            page.mouse.move(x, y + 5)
            page.mouse.move(x, box["y"] + 8 + 0.9 * (box["height"] - 38))
            page.mouse.up()
            answered(page)
            hand = np.full(S, np.nan)
            hand[s] = page.evaluate(f"document.querySelector('.csam-explorer').explorer.state.changes['csam.1'].slice[{s}]")
            assert hand[s] == pytest.approx(0.1, abs=0.02)
            same(pixels(page, "slice"), slice_picture(view, s, window, view.answer({("csam.1", "slice"): hand}).mask), 0.002)
            canvas.press("ArrowUp")
            answered(page)
            hand[s] += 0.05
            found = bars(page, "gate-slice", S)
            assert found[s] == pytest.approx(hand[s], abs=0.02)
            same(pixels(page, "slice"), slice_picture(view, s, window, view.answer({("csam.1", "slice"): hand}).mask), 0.002)
            page.locator('[data-part="reset-gates"]').click()
            answered(page, changed=False)
            page.locator('[data-part="level-0"]').check()

            for light, theme in (("false", "dark"), ("true", "light")):  # JupyterLab's own theme
                page.evaluate(f"document.body.dataset.jpThemeLight = '{light}'")
                until(page, f"document.querySelector('.csam-explorer').dataset.theme === '{theme}'")
            assert page.locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error']").count() == 0


@pytest.mark.timing
def test_interventions_in_jupyterlab_are_fast(view, demo_run, phantoms, tmp_path, request, browser):
    with jupyterlab(tmp_path) as (address, notebooks):
        write_notebook(notebooks / "see.ipynb", *explorer_cells(demo_run, phantoms))
        with watched(browser, allowed=(address, address.replace("http", "ws"))) as page:
            run_notebook(page, address, "see.ipynb")
            ready(page)
            answer, (step, frame) = round(statistics.median(intervention_times(page))), step_times(page, len(view.image))
            note(request, notebook_step_ms=step, notebook_frame_ms=frame, notebook_intervention_ms=answer)
            assert step <= BUSY * STEP_MS and answer <= BUSY * INTERVENTION_MS


def explorer_cells(run, phantoms):
    """Cells of a notebook that shows the explorer."""
    case = find_dataset(phantoms).cases[0]
    return ["import ipywidgets\nprint(ipywidgets.__version__)",
            "from csam_lite import explore, load_run\n"
            f"explore(load_run({str(run.folder)!r}), {str(case.image)!r}, {str(case.label)!r}, draws=2)"]


def answered(page, changed=True):
    """Wait until the kernel has answered all questions."""
    until(page, "!document.querySelector('.csam-explorer').explorer.change.busy")
    assert ("changed." if changed else "as the network chose") in page.locator('[data-part="status"]').inner_text()


def intervention_times(page, times=9):
    """Milliseconds from replacing the positional gate to changed pixels of the slice."""
    found = []
    page.evaluate(SEEN)
    for turn in range(times):
        page.evaluate("""() => {
          const before = window.seen();
          window.took = null;
          addEventListener("change", event => {
            const timer = setInterval(() => {
              if (window.seen() === before) return;
              clearInterval(timer);
              window.took = performance.now() - event.timeStamp;
            }, 10);
          }, { capture: true, once: true });
        }""")
        page.locator('[data-part="change-positional"]').select_option("" if turn % 2 else "one")
        until(page, "window.took !== null")
        found.append(page.evaluate("window.took"))
    return found


@pytest.mark.timing
def test_a_large_volume_opens_fast(tmp_path, request, browser):
    """60 slices of 320 x 320, five scales."""
    rng = np.random.default_rng(0)
    depth, y, x = np.ogrid[-1:1:60j, -1:1:320j, -1:1:320j]
    radius = np.hypot(x, y) + 0.3 * depth**2 + 0.05 * np.sin(9 * np.arctan2(x, y))
    label = (radius < 0.7).astype(np.uint8) + (radius < 0.4)
    volume = (1000 + 300.0 * label + rng.normal(0, 30, label.shape)).round()[:, None]  # whole numbers with noise, as scanners store them
    net = UNet(1, 3, num_slices=60, base_channels=4, levels=5, uncertain=True).eval()
    view = examine(net, volume, label, spacing=(3, 0.5, 0.5), draws=1)
    view.as_trained.mask[:] = np.roll(label, 5, 2)  # as a trained network would answer
    Explorer(view).save(tmp_path / "large.html", live=False)
    megabytes = (tmp_path / "large.html").stat().st_size / 1e6
    with watched(browser, allowed=("file://",)) as page:
        page.goto(f"file://{tmp_path / 'large.html'}")
        ready(page)
        opened = page.evaluate("document.querySelector('.csam-explorer').explorer.opened")
        step, frame = step_times(page, 60)
        note(request, large_page_mb=round(megabytes, 1), large_open_ms=round(opened), large_step_ms=step, large_frame_ms=frame)
        page.locator('[data-part="slice"]').press("End")
        same(pixels(page, "slice"), slice_picture(view, 59, window_of(view), view.as_trained.mask))
    assert megabytes <= PAGE_MB and opened <= BUSY * OPEN_MS and step <= BUSY * STEP_MS


@pytest.mark.parametrize("given", ["no gates", "one slice", "deep", "flat"])
def test_unusual_volumes_show_no_blank(given, tmp_path, browser):
    options = {"no gates": dict(attention="none"), "one slice": dict(uncertain=True), "deep": dict(uncertain=True), "flat": {}}[given]
    depth = {"one slice": 1, "deep": 10}.get(given, 5)
    net = UNet(1, 3, num_slices=6, base_channels=4, levels=3, **options).eval()
    volume = torch.zeros(depth, 1, 24, 24) if given == "flat" else torch.randn(depth, 1, 24, 24)
    view = explore(net, volume, draws=2, save=tmp_path / "a.html", live=False).examination
    with watched(browser, allowed=("file://",)) as page:
        page.goto(f"file://{tmp_path / 'a.html'}")
        ready(page)
        picture = page.locator('[data-part="slice"]')
        for key in ("Home", "End", "ArrowDown", "ArrowUp"):
            picture.press(key)
        dark, bright = np.percentile(view.image[:, 0], (0.5, 99.5))
        bright = bright if bright > dark else dark + 1
        expected = slice_picture(view, depth - 1, (bright - dark, (dark + bright) / 2), view.as_trained.mask)
        same(pixels(page, "slice"), expected)
        status = page.locator('[data-part="status"]').inner_text()
        assert ("has no CSAM" in status) == (given == "no gates")
        if given == "deep":
            assert "window of slices 5 to 10" in page.locator('[data-part="gate-slice-value"]').inner_text()


@pytest.mark.parametrize("axes", ["B", "BH", "BSC", "BSCW", "BSHW", "BCHW", "BSCHW"])
def test_a_fourth_gate_is_drawn_by_its_axes(axes, tmp_path, browser):
    """The page knows no gate by name: one with other axes appears, with numpy's pixels."""
    net = with_a_fourth_gate(axes, uncertain=True)
    view = explore(net, torch.randn(10, 1, 24, 24), draws=1, save=tmp_path / "a.html", live=False).examination
    with watched(browser, allowed=("file://",)) as page:
        page.goto(f"file://{tmp_path / 'a.html'}")
        ready(page)
        page.locator('[data-part="level-1"]').check()
        for key, s in (("Home", 0), ("End", 9)):
            page.locator('[data-part="slice"]').press(key)
            window = view.as_trained.window(s)
            gate = window.record["csam.1"]["fourth"].values[0]
            low, high = (gate.min(), gate.max()) if gate.size > 1 else (gate - 0.05, gate + 0.05)
            if "S" in axes and gate.ndim > 2:
                gate = gate[s - window.start]
            if axes.endswith("HW"):
                gate = gate.mean(0) if "C" in axes else gate
                expected = map_picture(view, s, window_of(view), over_the_image(view, gate), low, high)
            else:
                expected = coloured(np.atleast_2d(gate), low, high)
            same(pixels(page, "gate-fourth"), expected, 0.02)
        assert page.locator("figcaption", has_text="Fourth gate").count() == 1


@pytest.mark.parametrize("width, scheme", [(390, "light"), (390, "dark"), (768, "light"), (1600, "dark")])
def test_nothing_overlaps_and_colours_are_legible(view, tmp_path, width, scheme, browser):
    Explorer(view).save(tmp_path / "attention.html", live=False)
    with watched(browser, allowed=("file://",), width=width, color_scheme=scheme) as page:
        page.goto(f"file://{tmp_path / 'attention.html'}")
        ready(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        overlaps = page.evaluate("""() => {
          const kinds = "figcaption, .picture, .bars, .values, .colourbar, label, button, select, .status, summary, strong";
          const shown = [...document.querySelectorAll(`.csam-explorer :is(${kinds})`)]
            .filter(e => e.offsetParent && !e.matches("label select, figcaption select")).map(e => [e, e.getBoundingClientRect()]);
          const hits = [];
          const apart = (p, q) => p.left > q.right - 1 || q.left > p.right - 1 || p.top > q.bottom - 1 || q.top > p.bottom - 1;
          for (const [a, p] of shown) for (const [b, q] of shown)
            if (a !== b && !a.contains(b) && !b.contains(a) && !apart(p, q))
              hits.push(`${a.className} ${a.textContent} / ${b.className} ${b.textContent}`);
          return hits;
        }""")
        assert not overlaps, overlaps[:3]
        contrasts = page.evaluate("""() => {
          const rgb = text => text.match(/[0-9.]+/g).slice(0, 3).map(Number);
          const light = text => rgb(text).map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
          const paper = light(getComputedStyle(document.querySelector(".csam-explorer")).backgroundColor);
          return [...document.querySelectorAll(".csam-explorer :is(strong, .values, .unit, figcaption, .status, .readout, summary)")].map(e => {
            const ink = light(getComputedStyle(e).color);
            return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
          });
        }""")
        assert min(contrasts) >= 4.5  # the web's own measure of legible text
