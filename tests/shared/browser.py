"""A real browser that a test drives: headless Chromium over the DevTools protocol, by two pipes and no further package."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MISSING = "no chromium on PATH; apt-get install chromium"
QUIET = (
    "--headless",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
FLAGS = (*QUIET, "--remote-debugging-pipe")
PATIENCE = 30.0  # seconds for one answer of the browser
KEYS = {
    "Enter": ("Enter", 13, "\r"),
    "Tab": ("Tab", 9, None),
    " ": ("Space", 32, " "),
    "Escape": ("Escape", 27, None),
} | {
    f"Arrow{way}": (f"Arrow{way}", code, None) for way, code in (("Left", 37), ("Up", 38), ("Right", 39), ("Down", 40))
}


class PageError(AssertionError):
    """A script of the page raised, or the browser refused a command."""


class Tab:
    """One page. `requests`, `alerts` and `errors` hold what it asked for, showed and raised since it was opened."""

    def __init__(self, out: int, into: int) -> None:
        self._out, self._into, self._held, self._number = out, into, b"", 0
        self.requests: list[str] = []
        self.alerts: list[str] = []
        self.errors: list[str] = []
        self.events: list[dict[str, Any]] = []
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        self.session: str | None = None
        self.session = self._send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._send(f"{domain}.enable")

    def open(self, page: Path, fragment: str = "") -> None:
        """Load a file, and wait until it is there and its script, if it has one, says that it is ready."""
        self.requests.clear()
        self.alerts.clear()
        self.errors.clear()
        self._send("Page.navigate", url="about:blank")
        self._send("Page.navigate", url=page.as_uri() + fragment)
        self.wait("document.readyState === 'complete' && document.documentElement.dataset.ready !== ''")
        self.wait("!document.querySelector('body > script') || document.documentElement.dataset.ready")
        self.requests = [
            url for url in self.requests if url not in ("about:blank", page.as_uri(), page.as_uri() + fragment)
        ]

    def js(self, code: str) -> Any:
        """The value of an expression in the page; a promise is awaited."""
        done = self._send("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True, userGesture=True)
        if "exceptionDetails" in done:
            raise PageError(
                str(done["exceptionDetails"].get("exception", {}).get("description", done["exceptionDetails"]))
            )
        return done["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + PATIENCE
        while not self.js(f"!!({condition})"):
            if time.monotonic() > end:
                raise PageError(f"not within {PATIENCE:.0f} s: {condition}")
            time.sleep(0.02)

    def view(self, width: int, height: int = 900, dark: bool = False, calm: bool = False, scale: float = 1) -> None:
        """The size of the window, the colour scheme and whether motion is to be reduced."""
        self._send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if calm else "no-preference"},
        ]
        self._send("Emulation.setEmulatedMedia", features=features)

    def press(self, *keys: str) -> None:
        """Press keys, one after the other, wherever the focus is."""
        for key in keys:
            code, number, text = KEYS.get(key, (key, ord(key[0].upper()), key))
            same = {"key": key, "code": code, "windowsVirtualKeyCode": number}
            self._send("Input.dispatchKeyEvent", type="keyDown", **same, **({} if text is None else {"text": text}))
            self._send("Input.dispatchKeyEvent", type="keyUp", **same)

    def point(self, x: float, y: float) -> None:
        """Move the pointer to a place of the window."""
        self._send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, selector: str) -> None:
        """Click in the middle of an element, as a person does."""
        find = f"document.querySelector({json.dumps(selector)})"
        self.js(f"{find}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        place = self.js(f"(b => [b.x + b.width / 2, b.y + b.height / 2])({find}.getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            self._send("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def choose(self, selector: str, value: str) -> None:
        """Choose an option, or move a slider, as the browser reports it to the page."""
        self.js(
            f"(e => {{ e.value = {json.dumps(value)}; for (const kind of ['input', 'change']) "
            f"e.dispatchEvent(new Event(kind, {{bubbles: true}})); }})(document.querySelector({json.dumps(selector)}))"
        )

    def downloads_to(self, folder: Path) -> None:
        """Put what the page offers for download into a folder."""
        self._send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    def picture(self, whole: bool = False) -> bytes:
        """A screenshot as PNG."""
        return base64.b64decode(self._send("Page.captureScreenshot", captureBeyondViewport=whole, format="png")["data"])

    def _send(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if getattr(self, "session", None) and not method.startswith(("Target.", "Browser.")):
            message["sessionId"] = self.session
        os.write(self._into, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + PATIENCE
        while True:
            found = self._read(end)
            if found.get("id") == message["id"]:
                if "error" in found:
                    raise PageError(f"{method}: {found['error']}")
                result: dict[str, Any] = found["result"]
                return result
            self._note(found)

    def _note(self, event: dict[str, Any]) -> None:
        method, told = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif method == "Page.javascriptDialogOpening":
            self.alerts.append(told["message"])
            os.write(
                self._into,
                json.dumps(
                    {
                        "id": 0,
                        "method": "Page.handleJavaScriptDialog",
                        "params": {"accept": True},
                        "sessionId": self.session,
                    }
                ).encode()
                + b"\0",
            )
        elif method == "Runtime.exceptionThrown":
            self.errors.append(str(told["exceptionDetails"].get("exception", {}).get("description", told)))
        elif method == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.errors.append(told["entry"]["text"])

    def _read(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._held:
            if not select.select([self._out], [], [], max(0.0, end - time.monotonic()))[0]:
                raise PageError(f"the browser said nothing for {PATIENCE:.0f} s")
            part = os.read(self._out, 1 << 16)
            if not part:
                raise PageError("the browser ended")
            self._held += part
        one, _, self._held = self._held.partition(b"\0")
        message: dict[str, Any] = json.loads(one)
        return message


@contextmanager
def browser(profile: Path) -> Iterator[Tab]:
    """A browser with one page, as long as the `with` block lasts."""
    root = ("--no-sandbox",) if os.geteuid() == 0 else ()
    theirs_in, into = os.pipe()
    out, theirs_out = os.pipe()
    # The protocol's pipes are the file descriptors 3 and 4 of the browser.
    command = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
    process = subprocess.Popen(
        ["bash", "-c", command, "browser", str(BROWSER), *FLAGS, *root, f"--user-data-dir={profile}"],
        pass_fds=(theirs_in, theirs_out),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Tab(out, into)
    finally:
        os.close(into)
        os.close(out)
        process.terminate()
        process.wait(timeout=PATIENCE)
