"""What the browser tests stand on: Debian's chromium, a JupyterLab of its own, and measurements in a page.

    python tests/browser.py .github/explorer.png    # the README's picture: the tour as it is now
"""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
             "--disable-sync"]
SETTINGS = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
            "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"}}  # else cells off screen are not drawn
ROOT = Path(__file__).resolve().parents[1]
COLAB = Path(os.environ.get("CSAM_LITE_COLAB", Path(sys.prefix) / "colab"))  # Colab's versions of the widget packages, see .ci/run


@contextmanager
def chromium():
    """A headless browser; skips the test where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install -e '.[test]'")
    if CHROMIUM is None:
        pytest.skip("no browser: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def watched(browser, allowed, width=1300, height=1000, **options):
    """A page; afterwards no error may stand in its console, and nothing may have been asked from anywhere but `allowed` addresses."""
    page = browser.new_page(viewport={"width": width, "height": height}, **options)
    wrong, page.forgiven = [], None  # `forgiven`: a part of an error that is not ours
    page.on("console", lambda message: message.type == "error" and wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: request.url.startswith((*allowed, "data:", "blob:")) or wrong.append(request.url))
    yield page
    page.close()
    wrong = [text for text in wrong if not (page.forgiven and page.forgiven in text)]
    assert not wrong, wrong


def out_of_reach(page):
    """What stands in the text beyond the right edge of the window, and in no frame that really moves it: `overflow` alone does not tell."""
    return page.evaluate("""() => {
      const moves = e => {
        if (e.scrollWidth <= e.clientWidth || !["auto", "scroll"].includes(getComputedStyle(e).overflowX)) return false;
        const was = e.scrollLeft;
        e.scrollLeft = was + 5;
        const moved = e.scrollLeft !== was;
        e.scrollLeft = was;
        return moved;
      };
      const framed = e => e && e !== document.body && (moves(e) || framed(e.parentElement));
      return [...document.querySelectorAll("main .jp-Cell *, article *")]
        .filter(e => e.getBoundingClientRect().width && e.getBoundingClientRect().right > innerWidth + 1 && !framed(e.parentElement))
        .map(e => `${e.tagName} ${e.className} ${e.textContent.trim().slice(0, 40)}`);
    }""")


class Shown:
    """A page with an explorer. (Its rules forbid `eval`, and with it playwright's wait_for_function.)"""

    engine = "document.querySelector('.csam-explorer').explorer.change.engine"

    def __init__(self, page, path):
        self.page = page
        page.goto(f"file://{path}")

    def ready(self):
        """Once the explorer is open."""
        wait(lambda: self.page.evaluate("!!document.querySelector('.csam-explorer')?.explorer?.opened"), 60)
        return self

    def array(self, name, kind=np.uint8):
        """An array of the explorer that is shown."""
        return self.read(f"document.querySelector('.csam-explorer').explorer.state.arrays[{name!r}]", kind)

    def read(self, expression, kind):
        """A typed array of the page, or {data, shape}."""
        data, shape = self.page.evaluate("""async () => {
          const { data, shape } = await (EXPRESSION), bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
          let text = "";
          for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
          return [btoa(text), shape || [data.length]];
        }""".replace("EXPRESSION", expression))
        return np.frombuffer(base64.b64decode(data), kind).reshape(shape)

    def probabilities(self):
        """Of the last answer of a network in the page, one after the other."""
        return self.read(f"{self.engine}.ask('probabilities')", np.float32)

    def change(self, gates):
        """Replace gates, and wait for the answer."""
        self.page.evaluate("""async gates => {
          const { state } = document.querySelector(".csam-explorer").explorer;
          state.changes = gates;
          const answered = new Promise(done => state.on("answer", done, { atOnce: true }));
          state.changed("changes");
          await answered;
        }""", gates)

    def answered(self, seconds=60):
        """Once the network has answered the reader's last change; the line that tells it."""
        wait(lambda: not self.page.evaluate("document.querySelector('.csam-explorer').explorer.change.busy"), seconds)
        return self.page.text_content('[data-part="status"]')


def gates_of(answer, window=0):
    """Of an Answer: (csam, gate) -> values, for the gates themselves."""
    return {(csam, gate): named.values[0] for csam, gates in answer.windows[window].record.items() for gate, named in gates.items()
            if "_" not in gate}


def replaced_by(asked):
    """What a page asks for, as `Examination.answer` takes it."""
    means = {"one": 1.0, "zero": 0.0, "mean": lambda gate: gate.mean()}
    return {(csam, gate): means[value] if isinstance(value, str) else np.array(value, np.float32)
            for csam, gates in asked.items() for gate, value in gates.items()}


LIVE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>live</title>
<link rel="icon" href="data:,"><style>{css}</style><body class="csam-page"><main id="widget"></main><script type="module">
{js}
</script>"""
WIDGET = """
const listeners = new Set();
const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
const model = {
  get: () => bytes(window.packed), on: (_, listener) => listeners.add(listener), off: (_, listener) => listeners.delete(listener),
  send: async question => {
    const [message, ...buffers] = await window.askKernel(question);
    for (const listener of listeners) listener(message, buffers.map(buffer => new DataView(bytes(buffer).buffer)));
  },
};
widget.render({ model, el: document.getElementById("widget") });
"""


def open_widget(page, explorer, folder):
    """The widget of an Explorer in a page without Jupyter: this process is its kernel."""
    answers = []
    explorer.send = lambda message, buffers=(): answers.append([message, *(base64.b64encode(buffer).decode() for buffer in buffers)])

    def ask_kernel(question):
        explorer._answer(explorer, question, [])
        return answers.pop()

    page.expose_function("askKernel", ask_kernel)
    packed = f"window.packed = {json.dumps(base64.b64encode(explorer.packed).decode())};"
    script = explorer._esm.replace("export default", "const widget =")
    (folder / "live.html").write_text(LIVE.format(css=explorer._css, js=packed + script + WIDGET), encoding="utf-8")
    page.goto(f"file://{folder / 'live.html'}")


@contextmanager
def jupyterlab(folder, colab=False):
    """A JupyterLab that knows only `folder`, with a kernel that imports this csam_lite. Yields its address and its notebooks' folder.

    colab: give it Colab's versions of ipywidgets, IPython and anywidget, in the kernel and on the page.
    """
    paths = [str(ROOT)]
    if colab:
        if not (COLAB / "ipywidgets").is_dir():
            pytest.skip(f"no Colab versions: CSAM_LITE_COLAB={COLAB}; .ci/run installs them with pip install --target")
        paths.insert(0, str(COLAB))
    kernel = folder / "jupyter" / "kernels" / "course"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(json.dumps({
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": "course", "language": "python",
        "env": {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}}))
    (folder / "config" / "labconfig").mkdir(parents=True)
    (folder / "config" / "labconfig" / "default_setting_overrides.json").write_text(json.dumps(SETTINGS), encoding="utf-8")
    (notebooks := folder / "notebooks").mkdir()
    found = [str(folder / "jupyter")] + ([str(COLAB / "share" / "jupyter")] if colab else [])
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": str(folder / "config"), "JUPYTER_RUNTIME_DIR": str(folder / "runtime"), "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"), "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTER_PATH": os.pathsep.join(found)}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with open(folder / "lab.log", "w", encoding="utf-8") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", "--IdentityProvider.token=t",
             "--LabApp.expose_app_in_browser=True", f"--ServerApp.root_dir={notebooks}"],
            env=environment, cwd=folder, start_new_session=True, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait(lambda: ask(f"{address}/api/status?token=t"))
        yield address, notebooks
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(20)


def run_notebook(page, address, name):
    """Open a notebook in JupyterLab and run all its cells."""
    page.goto(f"{address}/lab/tree/{name}?token=t&reset", timeout=120_000)
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=120_000)
    # The page says idle too early; then it would ask which kernel. The server knows.
    wait(lambda: any(s["kernel"]["connections"] and s["kernel"]["execution_state"] == "idle" for s in ask(f"{address}/api/sessions?token=t")))
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")


def write_notebook(path, *cells):
    """A notebook of code cells for the kernel of `jupyterlab`."""
    path.write_text(json.dumps({
        "nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": {"name": "course", "display_name": "course", "language": "python"}},
        "cells": [{"cell_type": "code", "id": f"cell-{i}", "metadata": {}, "outputs": [], "execution_count": None, "source": source}
                  for i, source in enumerate(cells)]}))


def ask(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)


def wait(ready, seconds=90):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if ready():
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise TimeoutError


def take_picture(path):
    """The guided tour at the step in which the mask fails, as a picture."""
    from csam_lite.explorer.tour import write_tour

    page_file = Path(path).with_suffix(".html").resolve()
    write_tour(page_file)
    with chromium() as browser, watched(browser, allowed=("file://",), width=1366, height=720) as page:
        page.goto(f"file://{page_file}")
        while "5 of" not in page.text_content('[data-part="tour"] h2'):
            page.keyboard.press("n")
            page.wait_for_timeout(1000)
        page.evaluate("document.activeElement.blur()")
        page.screenshot(path=path)
    page_file.unlink()


if __name__ == "__main__":
    take_picture(sys.argv[1])
