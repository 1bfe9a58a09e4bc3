"""Firefox without a driver: it speaks WebDriver BiDi itself, and a page of it has the few methods of playwright's that tests here call.

Playwright drives a Firefox of its own build only; this is Debian's (`apt-get install firefox-esr`).
"""

import itertools
import json
import re
import shutil
import subprocess
import time
from contextlib import contextmanager

import pytest

FIREFOX = next(filter(None, map(shutil.which, ("firefox-esr", "firefox"))), None)
SETTINGS = {"network.proxy.type": 1, "network.proxy.http": "127.0.0.1", "network.proxy.http_port": 9,  # nothing leaves the machine
            "network.proxy.ssl": "127.0.0.1", "network.proxy.ssl_port": 9, "app.update.enabled": False, "browser.shell.checkDefaultBrowser": False,
            "datareporting.policy.dataSubmissionEnabled": False, "browser.download.folderList": 2}


@contextmanager
def firefox(folder):
    """A page of a headless Firefox with a new profile in `folder`. Afterwards no error may stand in its console, and nothing but the
    page and what it holds may have been asked for. What is downloaded lies in `folder`/downloads."""
    websocket = pytest.importorskip("websocket", reason="no websocket-client: pip install -e '.[test]'")
    if FIREFOX is None:
        pytest.skip("no Firefox: apt-get install firefox-esr")
    profile, log = folder / "profile", folder / "firefox.log"
    profile.mkdir()
    settings = SETTINGS | {"browser.download.dir": str(folder / "downloads")}
    (profile / "user.js").write_text("".join(f"user_pref({name!r}, {json.dumps(value)});\n" for name, value in settings.items()),
                                     encoding="utf-8")
    with open(log, "wb") as file:
        process = subprocess.Popen([FIREFOX, "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port", "0"],
                                   stdout=file, stderr=file)
    try:
        limit = time.monotonic() + 60
        while not (found := re.search(r"WebDriver BiDi listening on (ws://\S+)", log.read_text(encoding="utf-8", errors="replace"))):
            assert process.poll() is None and time.monotonic() < limit, log.read_text(encoding="utf-8", errors="replace")[-1000:]
            time.sleep(0.1)
        page = Page(websocket.create_connection(f"{found[1]}/session", timeout=180, suppress_origin=True))
        yield page
        page.evaluate("1")  # takes what was said until now
        assert not page.wrong, page.wrong
    finally:
        process.terminate()
        process.wait(30)


class Page:
    """One page; its methods are playwright's."""

    def __init__(self, connection):
        self.connection, self.numbers, self.wrong = connection, itertools.count(), []
        self.ask("session.new", capabilities={})
        self.ask("session.subscribe", events=["log.entryAdded", "network.beforeRequestSent"])
        self.context = self.ask("browsingContext.getTree")["contexts"][0]["context"]
        self.mouse, self.keyboard = Mouse(self), Keyboard(self)

    def ask(self, method, **parameters):
        number = next(self.numbers)
        self.connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (answer := json.loads(self.connection.recv())).get("id") != number:
            self.hear(answer.get("method"), answer.get("params", {}))
        assert answer["type"] == "success", answer
        return answer["result"]

    def hear(self, event, told):
        if event == "log.entryAdded" and told["level"] == "error":
            self.wrong.append(told["text"])
        if event == "network.beforeRequestSent" and not told["request"]["url"].startswith(("file:", "data:", "blob:")):
            self.wrong.append(told["request"]["url"])

    def goto(self, address):
        self.ask("browsingContext.navigate", context=self.context, url=address, wait="complete")

    def set_viewport_size(self, size):
        self.ask("browsingContext.setViewport", context=self.context, viewport=size)

    def evaluate(self, code, argument=None):
        """The value of an expression, or of a function of one argument."""
        call = "(JSON.parse(given))" if re.match(r"\s*(async\s+)?(\w+|\([^()]*\))\s*=>", code) else ""
        answer = self.ask("script.callFunction", target={"context": self.context}, awaitPromise=True,
                          functionDeclaration=f"async given => JSON.stringify(await ({code}){call}) ?? 'null'",
                          arguments=[{"type": "string", "value": json.dumps(argument)}])
        assert answer["type"] == "success", answer["exceptionDetails"]["text"]
        return json.loads(answer["result"]["value"])

    def text_content(self, selector):
        return self.evaluate("selector => document.querySelector(selector).textContent", selector)

    def click(self, selector):
        self.evaluate("selector => document.querySelector(selector).click()", selector)

    def set_input_files(self, selector, *files):
        found = self.ask("browsingContext.locateNodes", context=self.context, locator={"type": "css", "value": selector})
        self.ask("input.setFiles", context=self.context, element={"sharedId": found["nodes"][0]["sharedId"]}, files=list(map(str, files)))

    def bounding_box(self, selector):
        return self.evaluate("selector => document.querySelector(selector).getBoundingClientRect().toJSON()", selector)

    def wait_for_timeout(self, milliseconds):
        time.sleep(milliseconds / 1000)

    def act(self, kind, *actions, **parameters):
        """What a reader's hand does; the browser keeps what is held down from one call to the next."""
        device = {"type": kind, "id": kind, "actions": list(actions)} | ({"parameters": parameters} if parameters else {})
        self.ask("input.performActions", context=self.context, actions=[device])


class Mouse:
    def __init__(self, page):
        self.page, self.place = page, {"x": 0, "y": 0}

    def act(self, *actions):
        self.page.act("pointer", *actions, pointerType="mouse")

    def move(self, x, y, steps=1):
        before, self.place = self.place, {"x": round(x), "y": round(y)}
        between = [{axis: round(before[axis] + (self.place[axis] - before[axis]) * (step + 1) / steps) for axis in "xy"} for step in range(steps)]
        self.act(*({"type": "pointerMove", **place} for place in between))

    def down(self):
        self.act({"type": "pointerDown", "button": 0})

    def up(self):
        self.act({"type": "pointerUp", "button": 0})

    def click(self, x, y):
        self.move(x, y)
        self.down()
        self.up()

    def wheel(self, across, down):
        self.page.act("wheel", {"type": "scroll", **self.place, "deltaX": across, "deltaY": down})


class Keyboard:
    """Keys of one letter."""

    def __init__(self, page):
        self.page = page

    def down(self, key):
        self.page.act("key", {"type": "keyDown", "value": key})

    def up(self, key):
        self.page.act("key", {"type": "keyUp", "value": key})

    def press(self, key):
        self.down(key)
        self.up(key)
