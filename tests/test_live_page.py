"""Saved pages with the network inside, in headless Chromium from disk and offline: what they answer, against Python and the kernel."""

import sys

import numpy as np
import pytest
import torch
from browser import Shown, gates_of, replaced_by, wait, watched
from test_explore import unpack

from csam_lite import UNet, explore
from csam_lite.cli import main
from csam_lite.core.gates import override_gates
from csam_lite.core.windows import evaluating, probabilities
from csam_lite.data.dataset import find_dataset
from csam_lite.explorer import runtime as runtime_module
from csam_lite.explorer.examine import examine
from csam_lite.training.run import pretrained

pytest.importorskip("onnxruntime", reason="no onnxruntime: pip install -e '.[web]'")
NETWORK_MB = 7.5  # by which the network makes a page larger


@pytest.fixture(scope="module")
def on_a_scan(phantoms, package, tmp_path_factory):
    """The shipped network on a phantom that is larger than the network's grid: an Explorer, and its page."""
    dataset = find_dataset(phantoms).only_channels(["T2"])
    return saved(explore(pretrained(), dataset.read(dataset.cases[0]), draws=0), package, tmp_path_factory)


@pytest.fixture(scope="module")
def on_a_tensor(package, tmp_path_factory):
    """A bare network with drawn gates, on a volume deeper than itself, neither square nor of one channel."""
    torch.manual_seed(2)
    network = UNet(2, 3, num_slices=6, base_channels=4, levels=3, uncertain=True).eval()
    return saved(explore(network, torch.randn(11, 2, 24, 40), spacing=(3, 1, 0.5), draws=1), package, tmp_path_factory)


def saved(explorer, package, tmp_path_factory):
    path = tmp_path_factory.mktemp("live") / "attention.html"
    explorer.save(path, package=package)
    return explorer, path


def opened(page, path):
    page.context.set_offline(True)
    return Shown(page, path).ready()


def questions(view):
    """Replacements of every kind, at several scales."""
    S, gates, names = len(view.image), gates_of(view.as_trained), list(view.csam_modules())
    one_slice = [None] * S
    one_slice[S // 2] = 0.0
    return ({}, {names[0]: {"slice": "zero"}}, {names[0]: {"slice": one_slice}}, {name: {"slice": "zero"} for name in names},
            {names[1]: {"semantic": (gates[names[1], "semantic"] * 0.3).tolist()}, names[-1]: {"positional": "one"}},
            {names[0]: {"positional": "mean"}, names[1]: {"slice": "mean", "semantic": "mean"}})


def answer_of_kernel(explorer, asked):
    """The packed answer that a kernel sends."""
    sent = []
    explorer.send = lambda message, buffers=(): sent.append((message, buffers))
    explorer._answer(explorer, {"id": 0, "gates": asked}, [])
    (message, (packed,)), = sent
    assert message["kind"] == "answer"
    return packed


def same_mask(found, expected, view, probability):
    """No voxel differs, but where two classes are equally probable to five figures: there rounding decides."""
    other = np.flatnonzero((found != expected).reshape(-1))
    if other.size:
        highest = np.sort(view.restore(torch.from_numpy(probability), 1.0).numpy(), 1)
        apart = (highest[:, -1] - highest[:, -2]).reshape(-1)[other]
        print(f"{other.size} voxel(s) differ, in ties of {apart}")
        assert other.size <= 3 and apart.max() < 2e-5


def expected_probabilities(view, asked):
    """Of the network in windows, on its own grid."""
    return probabilities_with(view, replaced_by(asked))


def probabilities_with(view, replaced):
    """The same for gates as `Examination.answer` takes them."""
    from csam_lite.explorer.examine import _of_window

    axes = {(name, gate.name): gate.axes for name, csam in view.csam_modules().items() for gate in csam.attentions}
    with evaluating(view.network):
        return probabilities(view.network, view.x, lambda start, stop: override_gates(
            view.network, {gate: _of_window(value, axes[gate], start, stop) for gate, value in replaced.items()})).numpy()


@pytest.mark.parametrize("case", ["on_a_scan", "on_a_tensor"])
def test_the_page_answers_as_the_kernel_does(case, browser, request):
    """The same arrays under the same names: masks voxel by voxel, gates and their draws, probabilities."""
    explorer, path = request.getfixturevalue(case)
    view, masks = explorer.examination, []
    with watched(browser, allowed=("file://",)) as page:
        shown = opened(page, path)
        for asked in questions(view):
            names = page.evaluate(f"""async gates => {{
              const {{ arrays }} = await {shown.engine}.answer(gates);
              window.answer = arrays;
              return Object.keys(arrays);
            }}""", asked)
            _, kernel = unpack(answer_of_kernel(explorer, asked))
            probability = expected_probabilities(view, asked)
            assert set(names) == set(kernel)
            for name, values in kernel.items():
                found = shown.read(f"window.answer[{name!r}]", values.dtype.type)
                if name != "prediction":
                    np.testing.assert_allclose(found, values, atol=1e-4, rtol=1e-4, err_msg=name)
                else:
                    same_mask(found, values, view, probability)
                    masks.append(found)
            np.testing.assert_allclose(shown.probabilities(), probability.ravel(), atol=1e-3)
        for name, maps in view.feature_maps.items():  # the page need not hold them
            values, low, high = (shown.array(f"{name}/maps/{part}", kind) for part, kind in (("values", np.uint8), ("low", np.float32), ("high", np.float32)))
            step = (high - low)[:, None, None]
            assert (abs(low[:, None, None] + values / 255 * step - maps.values) <= step / 255 + 1e-4).all()
    assert all((mask != masks[0]).any() for mask in masks[1:5])  # else the comparison would say little


def test_every_control_works_as_with_a_kernel(on_a_scan, browser):
    explorer, path = on_a_scan
    view = explorer.examination
    S, trained = len(view.image), view.as_trained.mask

    def seen():
        return shown.array("prediction")

    def same(expected):  # but for a tie, see same_mask
        assert (seen() != expected).sum() <= 3 and (expected != trained).sum() > 100

    with watched(browser, allowed=("file://",), width=1366, height=768) as page:
        shown = opened(page, path)
        assert "All gates are as the network chose them" in shown.answered()
        for value, put in (("zero", 0.0), ("one", 1.0), ("mean", lambda gate: gate.mean())):
            page.locator('[data-part="change-slice"]').select_option(value)
            expected = view.answer({("csam.0", "slice"): put}).mask
            line = shown.answered()
            same(expected)
            assert f"{(seen() != trained).sum():,} of {(trained > 0).sum():,} pixels" in line and "The slice gate of csam.0 changed." in line
        page.locator('[data-part="undo"]').click()
        shown.answered()
        same(view.answer({("csam.0", "slice"): 1.0}).mask)
        page.locator('[data-part="reset-gates"]').click()
        shown.answered()
        np.testing.assert_array_equal(seen(), trained)

        page.locator('[data-part="every-level"]').check()
        canvas, s = page.locator('canvas[data-part="gate-slice"]'), S // 2
        box = canvas.bounding_box()
        x = box["x"] + 34 + (s + 0.5) * (box["width"] - 42) / S
        page.mouse.move(x, box["y"] + 0.5 * box["height"])
        page.mouse.down()
        page.mouse.move(x, box["y"] + 0.6 * box["height"], steps=3)
        page.mouse.move(x, box["y"] + box["height"] - 1)
        page.mouse.up()
        shown.answered()
        shut = np.full(S, np.nan, np.float32)
        shut[s] = 0
        expected = view.answer({(name, "slice"): shut for name in view.csam_modules()}).mask
        same(expected)
        assert (expected[s] != trained[s]).sum() > 50
        page.locator('[data-part="slice"]').focus()
        page.keyboard.down("b")
        assert page.evaluate("document.querySelector('.csam-explorer').explorer.state.before")
        page.keyboard.up("b")


def test_keys_bring_a_bar_to_exactly_0_and_exactly_1(on_a_scan, browser):
    """In steps, whatever number the network chose; held at the end, a key changes nothing more. The masks are those of exactly 0 and 1."""
    explorer, path = on_a_scan
    view = explorer.examination
    S, s = len(view.image), view.busiest_slice
    chosen = float(gates_of(view.as_trained)["csam.0", "slice"][s])
    with watched(browser, allowed=("file://",)) as page:
        shown = opened(page, path)
        canvas = page.locator('canvas[data-part="gate-slice"]')
        canvas.focus()
        for key, end, far in (("ArrowDown", 0, chosen), ("ArrowUp", 1, 1), ("ArrowDown", 0, 1)):
            values, presses = [], int(np.ceil((far - 0.03) / 0.05))
            for _ in range(presses + 3):
                page.keyboard.press(key)
                values.append(page.evaluate("s => document.querySelector('.csam-explorer').explorer.state.changes['csam.0'].slice[s]", s))
            assert values[presses:] == [end] * 3 and values[0] not in (0, 1), (key, values)  # no 1e-17, and no last step that is hardly one
            assert min(min(value, 1 - value) for value in values if value != end) >= 0.03 or values[0] > 0.97, values
            wait(lambda end=end: canvas.get_attribute("aria-valuenow") == f"{end}.000")  # it is drawn with the next frame
            shown.answered()
            asked = {"csam.0": {"slice": [None] * s + [end] + [None] * (S - s - 1)}}
            same_mask(shown.array("prediction"), view.answer(replaced_by(asked)).mask, view, expected_probabilities(view, asked))
        assert (shown.array("prediction")[s] != view.as_trained.mask[s]).any()


def test_the_focus_stays_where_it_is_when_all_gates_are_put_back(on_a_scan, browser):
    """Else the next keys would go to the page around: in JupyterLab b adds a cell."""
    explorer, path = on_a_scan
    with watched(browser, allowed=("file://",)) as page:
        shown = opened(page, path)
        focus = lambda: page.evaluate("document.activeElement.dataset.part")  # noqa: E731
        history = lambda: page.evaluate("document.querySelector('.csam-explorer').explorer.state.history.length")  # noqa: E731
        for part in ("undo", "reset-gates"):
            page.locator('canvas[data-part="gate-slice"]').press("ArrowDown")
            assert "1 bar of csam.0 changed" in shown.answered()
            for _ in range(10):  # to the button as a user of the keyboard comes to it
                page.keyboard.press("Tab")
                if focus() == part:
                    break
            assert focus() == part
            page.keyboard.press("Enter")
            assert "All gates are as the network chose them" in shown.answered()
            page.wait_for_timeout(100)
            assert focus() == part and page.locator(f'[data-part="{part}"]').is_disabled()
            before = history()
            page.keyboard.press("Space")  # there is nothing to put back, and nothing that could be undone
            page.keyboard.press("b")
            assert history() == before and not page.evaluate("document.querySelector('.csam-explorer').explorer.state.isChanged")
        page.keyboard.press("u")
        assert "1 bar of csam.0 changed" in shown.answered()
        page.keyboard.press("Shift+Tab")
        assert focus() == "before"


def test_the_task_is_solved_without_a_kernel(on_a_scan, browser):
    explorer, path = on_a_scan
    with watched(browser, allowed=("file://",)) as page:
        shown = opened(page, path)
        page.locator('[data-part="task"] summary').click()
        page.locator('[data-part="task-answer"]').fill("1")
        page.locator('[data-part="task-answer"]').press("Enter")
        page.wait_for_timeout(300)
        for _ in range(600):
            if not page.locator('[data-part="task-check"]').is_disabled():
                break
            page.wait_for_timeout(100)
        assert "mean Dice" in page.text_content('[data-part="task-verdict"]') or "no single bar" in page.text_content('[data-part="task-verdict"]')
        assert shown.answered()


def test_the_page_is_one_file_that_may_ask_for_nothing(on_a_scan, tmp_path):
    explorer, path = on_a_scan
    text = path.read_text(encoding="utf-8")
    assert "default-src 'none'" in text and "connect-src" not in text
    for outside in ('src="http', 'href="http', "url(http", "@import"):
        assert outside not in text
    explorer.save(tmp_path / "small.html", live=False)
    small = (tmp_path / "small.html").read_text(encoding="utf-8")
    assert 5e6 < len(text) - len(small) < NETWORK_MB * 1e6 and 'id="onnx"' not in small


class Unexportable(UNet):
    def forward(self, x, mask=None):
        y = super().forward(x, mask)
        return y * 2 if float(y.detach().mean()) > 1e6 else y  # a step that depends on values


@pytest.mark.parametrize("lacks", ["onnx", "internet", "a way to export"])
def test_what_the_page_cannot_have_is_a_remark_and_the_page_is_saved(lacks, browser, tmp_path, monkeypatch, capsys, package):
    kind, reason = UNet, {"onnx": "export: needs onnxscript; in the clone, run: pip install", "internet": "http://127.0.0.1:9/", "a way to export": "as ONNX"}[lacks]
    if lacks == "onnx":
        monkeypatch.setitem(sys.modules, "onnxscript", None)
    elif lacks == "internet":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setattr(runtime_module, "ADDRESS", "http://127.0.0.1:9/")
    else:
        kind = Unexportable
    explorer = explore(kind(1, 2, num_slices=4, base_channels=4, levels=3).eval(), torch.randn(4, 1, 16, 16))
    if lacks != "internet":
        monkeypatch.setattr("csam_lite.explorer.saved_page.runtime", lambda given=None: runtime_module.runtime(package))
    explorer.save(tmp_path / "a.html")
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"{tmp_path / 'a.html'}: is saved without the network") and reason in line, line
    with watched(browser, allowed=("file://",)) as page:
        opened(page, tmp_path / "a.html")
        assert "saved without" in page.text_content('[data-part="status"]')
        assert page.locator("[data-part^=change-]").count() == 0


def test_the_command_and_what_a_page_offers_beyond_one_scan(run, phantoms, package, browser, tmp_path, capsys):
    """The gates of another scan, and the uncertainty, which the page draws itself: with 20 draws, so that it differs as two sets of draws do."""
    out, (case, second, *_) = tmp_path / "page.html", find_dataset(phantoms).cases
    given = [] if package is None else ["--runtime", str(package)]
    assert main(["explore", str(run.folder), str(case.image), "--label", str(case.label), "--other", str(second.image), "--draws", "0",
                 "--out", str(out), *given]) == 0
    view = examine(run, case.image, draws=100)
    other = gates_of(examine(run, second.image, draws=0).as_trained)
    with watched(browser, allowed=("file://",)) as page:
        shown = opened(page, out)
        page.locator('[data-part="change-semantic"]').select_option("zero")
        assert "The semantic gate of csam.0 changed." in shown.answered()
        page.locator('[data-part="change-positional"]').select_option("other")
        shown.answered()
        same_mask(shown.array("prediction"), view.answer(asked := {("csam.0", "semantic"): 0.0, ("csam.0", "positional"): other["csam.0", "positional"]}).mask,
                  view, probabilities_with(view, asked))
        assert page.text_content('[data-part="other-gates"]') == f"all gates as in {second.image.name}"
        page.click('[data-part="other-gates"]')
        assert "9 gates changed" in shown.answered()
        expected = view.answer(other).mask
        same_mask(shown.array("prediction"), expected, view, probabilities_with(view, other))
        assert (expected != view.as_trained.mask).any()
        assert page.locator(".part-uncertainty").is_hidden()
        page.click('[data-part="draw"]')
        wait(lambda: page.text_content('[data-part="draw"]') == "the uncertainty is below", 120)
        assert page.locator(".part-uncertainty").is_visible() and "20 draws" in page.text_content(".part-uncertainty figcaption")
        found = shown.array("uncertainty") / 510
    assert view.uncertainty.max() > 0.01 and np.corrcoef(found.ravel(), view.uncertainty.ravel())[0, 1] > 0.9
    assert 0.7 < found.mean() / view.uncertainty.mean() < 1.4
    assert main(["explore", str(run.folder), str(case.image), "--out", str(tmp_path / "b.html"), "--runtime", str(tmp_path / "none.tgz")]) == 2
    assert "none.tgz: is no package of onnxruntime-web" in capsys.readouterr().err and not (tmp_path / "b.html").exists()


@pytest.mark.parametrize("lacking", ["Worker", "WebAssembly"])
def test_where_the_network_cannot_run_the_page_says_so_and_shows_the_rest(lacking, on_a_scan, browser):
    explorer, path = on_a_scan
    with watched(browser, allowed=("file://",)) as page:
        if lacking == "Worker":
            page.add_init_script("delete window.Worker")
        else:  # as an old browser, which knows no such worker
            page.add_init_script("window.Worker = class { constructor(url) { setTimeout(() => this.onerror({ message: 'no WebAssembly' })); } postMessage() {} }")
        shown = opened(page, path)
        page.wait_for_timeout(200)
        for _ in range(2):
            assert "The network does not run in this browser" in shown.answered()
            page.locator('[data-part="change-slice"]').select_option("zero")
        page.locator('[data-part="slice"]').press("Home")
        assert page.locator('[data-part="readout"]').inner_text().startswith("1 of")
