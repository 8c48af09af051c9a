"""Headless Chromium over its debugging pipe: what a page does, and what is seen of it."""

import base64
import io
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

CHROMIUM = shutil.which("chromium")
_READS, _WRITES = 3, 4
"""Descriptors that Chromium takes commands from and answers on."""
_LIMIT_S = 120.0
_NOISE = {"Page.javascriptDialogOpening", "Runtime.exceptionThrown"}
_IMAGES = """[...document.images].map(image => {
  const box = image.getBoundingClientRect();
  return {loaded: image.complete && image.naturalWidth > 0,
          x: box.x + scrollX, y: box.y + scrollY, width: box.width, height: box.height};
})"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A page that has been opened."""

    errors: list[str]
    """Console errors and warnings, exceptions, dialogs."""
    requests: list[str]
    """Addresses asked for, but for data: and the page's own."""
    num_scripts: int
    images: list[dict[str, Any]]
    pixels: list[np.ndarray]
    """Of every image, uint8 [H, W, 3]."""
    hidden: list[np.ndarray]
    """Of the same places with the images made invisible."""


@dataclass(slots=True)
class Browser:
    """One Chromium; ``profile`` is a directory of its own."""

    profile: Path
    _process: subprocess.Popen[bytes] = field(init=False)
    _commands: int = field(init=False)
    _answers: int = field(init=False)
    _buffer: bytes = b""
    _number: int = 0
    _events: list[dict[str, Any]] = field(default_factory=list)

    def __enter__(self) -> "Browser":
        assert CHROMIUM is not None
        reads, self._commands = os.pipe()
        self._answers, writes = os.pipe()

        def place() -> None:
            low = [os.dup(reads), os.dup(writes)]  # neither is overwritten before it is copied
            os.dup2(low[0], _READS)
            os.dup2(low[1], _WRITES)

        options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
        self._process = subprocess.Popen(
            [
                CHROMIUM,
                *options,
                *("--no-first-run", "--disable-background-networking", "--disable-extensions"),
                *("--hide-scrollbars", "--remote-debugging-pipe"),
                f"--user-data-dir={self.profile}",
                "about:blank",
            ],
            preexec_fn=place,
            pass_fds=(_READS, _WRITES),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(reads)
        os.close(writes)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._commands)
        os.close(self._answers)
        self._process.terminate()
        self._process.wait(timeout=30)

    def open(self, page: Path) -> Seen:
        """Load a page, wait for its load event, look at it."""
        target = self._call("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = self._call("Target.attachToTarget", {"targetId": target, "flatten": True})
        session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable", session=session)
        metrics = {"width": 1100, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", metrics, session)
        self._events.clear()
        self._call("Page.navigate", {"url": page.as_uri()}, session)
        self._until("Page.loadEventFired")
        images = self._value(_IMAGES, session)
        pixels = [self._pixels(image, session) for image in images]
        self._value(
            "document.images.length && [...document.images].forEach("
            "image => image.style.visibility = 'hidden')",
            session,
        )
        hidden = [self._pixels(image, session) for image in images]
        num_scripts = self._value("document.scripts.length", session)
        events = list(self._events)
        self._call("Target.closeTarget", {"targetId": target})
        return Seen(
            errors=[told for event in events if (told := _trouble(event))],
            requests=_requests(events, page.as_uri()),
            num_scripts=num_scripts,
            images=images,
            pixels=pixels,
            hidden=hidden,
        )

    def _value(self, expression: str, session: str) -> Any:
        asked = {"expression": expression, "returnByValue": True}
        return self._call("Runtime.evaluate", asked, session)["result"].get("value")

    def _pixels(self, image: Mapping[str, Any], session: str) -> np.ndarray:
        from PIL import Image

        clip = {key: image[key] for key in ("x", "y", "width", "height")} | {"scale": 1}
        asked = {"format": "png", "clip": clip, "captureBeyondViewport": True}
        data = base64.b64decode(self._call("Page.captureScreenshot", asked, session)["data"])
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    def _call(
        self, method: str, parameters: Mapping[str, Any] | None = None, session: str | None = None
    ) -> Any:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters or {}}
        if session is not None:
            message["sessionId"] = session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self._events.append(answer)

    def _until(self, method: str) -> None:
        while not any(event.get("method") == method for event in self._events):
            self._events.append(self._next())

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + _LIMIT_S
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, end - time.monotonic()))
            assert ready, "Chromium does not answer"
            self._buffer += os.read(self._answers, 2**20)
        message, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


def _trouble(event: Mapping[str, Any]) -> str | None:
    method, parameters = event.get("method"), event.get("params", {})
    is_told = (
        method in _NOISE
        or (method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning"))
        or (method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"))
    )
    return json.dumps(parameters)[:500] if is_told else None


def _requests(events: list[dict[str, Any]], own: str) -> list[str]:
    sent = [event for event in events if event.get("method") == "Network.requestWillBeSent"]
    addresses = [event["params"]["request"]["url"] for event in sent]
    return [one for one in addresses if one != own and not one.startswith("data:")]


def ink(pixels: np.ndarray) -> float:
    """Share of the pixels that differ visibly from the corner's."""
    difference = np.abs(pixels.astype(int) - pixels[0, 0].astype(int)).max(axis=2)
    return float((difference > 32).mean())


def is_blank(pixels: np.ndarray) -> bool:
    """Whether no more is there than a frame: little ink, or nothing in the middle half."""
    height, width = pixels.shape[:2]
    middle = pixels[height // 4 : -height // 4, width // 4 : -width // 4]
    return ink(pixels) < 0.005 or len(np.unique(middle.reshape(-1, 3), axis=0)) < 3
