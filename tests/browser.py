"""Chromium, driven through its debugging protocol over pipes."""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync", "--hide-scrollbars"]
_FLAGS += ["--disable-background-networking", "--disable-component-update", "--force-device-scale-factor=1"]


class Page:
    """A page of the browser.

    Attributes:
        requested: The addresses that it has requested.
        errors: Uncaught errors, and what it has written to its console as errors.
    """

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self.requested: list[str] = []
        self.errors: list[str] = []
        self._to, self._from = to_browser, from_browser
        self._number, self._rest, self._session = 0, b"", None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol, and return its result."""
        self._number += 1
        session = {"sessionId": self._session} if self._session else {}
        message = {"id": self._number, "method": method, "params": parameters, **session}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def show(self, address: str, width: int, *, dark: bool = False) -> None:
        """Open an address in a window of a width, and wait until it is ready."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.call("Page.navigate", url=address)
        self.run("new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', done))")

    def run(self, script: str) -> Any:
        """Evaluate a script in the page, and return the value that it, or its promise, has."""
        done = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def wait(self, condition: str, seconds: float = 300) -> Any:
        """Return the first true value of an expression in the page."""
        script = f"""new Promise((resolve, reject) => {{
          const end = Date.now() + {1000 * seconds};
          (function look() {{
            const found = {condition};
            if (found) resolve(found);
            else if (Date.now() > end) reject(new Error("not in time"));
            else setTimeout(look, 20);
          }})();
        }})"""
        return self.run(script)

    def press(self, key: str) -> None:
        """Press a key, such as ``Tab`` or ``Enter``."""
        code = {"Tab": 9, "Enter": 13, " ": 32}[key]
        text = {"Enter": "\r", " ": " "}.get(key, "")
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                windowsVirtualKeyCode=code,
                text=text * (kind == "keyDown"),
            )

    def drop(self, *files: Path) -> None:
        """Drop files onto the page, as from a file manager."""
        data: Mapping[str, Any] = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=100, y=200, data=data)

    def picture(self, file: Path) -> None:
        """Save a picture of the whole page."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = os.read(self._from, 1 << 20)
            assert more, "the browser has ended"
            self._rest += more
        text, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(text)
        said = message.get("params", {})
        if message.get("method") == "Network.requestWillBeSent":
            self.requested.append(said["request"]["url"])
        elif message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(said["exceptionDetails"]))
        elif message.get("method") == "Log.entryAdded" and said["entry"]["level"] == "error":
            self.errors.append(said["entry"]["text"])
        return message


@contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """Start Chromium with a profile of its own, and kill it when the block ends.

    Args:
        folder: Where the profile is.
    """
    its_input, to_browser = os.pipe()
    from_browser, its_output = os.pipe()
    words = [str(CHROMIUM), *_FLAGS, f"--user-data-dir={folder / 'profile'}", "--remote-debugging-pipe"]
    script = f'exec "$@" 3<&{its_input} 4>&{its_output}'
    with subprocess.Popen(
        ["bash", "-c", script, "bash", *words],
        pass_fds=(its_input, its_output),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        os.close(its_input)
        os.close(its_output)
        try:
            yield Page(to_browser, from_browser)
        finally:
            process.kill()
            os.close(to_browser)
            os.close(from_browser)
