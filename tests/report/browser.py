"""A headless Chromium with its network off, driven over the DevTools protocol."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
TROUBLE = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip


class Tab:
    """One page. `trouble` has what it wrote to the console, and its exceptions."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self.trouble: list[dict[str, Any]] = []
        self.requests: list[str] = []

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol, and its result."""
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        while True:
            message = json.loads((await self._socket.receive()).data)
            if message.get("method") in TROUBLE:
                self.trouble.append(message["params"])
            if message.get("method") == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]  # type: ignore[no-any-return]

    async def run(self, code: str) -> Any:
        """The value of an expression, awaited if it is a promise."""
        told = await self.call(
            "Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    async def until(self, code: str) -> Any:
        """Wait until an expression is true; its value."""
        while not (value := await self.run(code)):
            await asyncio.sleep(0.05)
        return value

    async def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """Move, press or release the mouse at a place of the window."""
        await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    async def click(self, x: float, y: float) -> None:
        """Press and release."""
        for kind in ("mousePressed", "mouseReleased"):
            await self.mouse(kind, x, y, button="left", buttons=1, clickCount=1)

    async def media(self, *, dark: bool = False, width: int = 1280, kind: str = "") -> None:
        """Theme, width in pixels, and medium."""
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", media=kind, features=[feature])
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip


@contextlib.asynccontextmanager
async def open_page(page: Path, profile: Path) -> AsyncIterator[Tab]:
    """The page in a browser of its own, once all its plots are drawn."""
    assert CHROMIUM is not None
    process = subprocess.Popen(
        [CHROMIUM, *FLAGS, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        told = profile / "DevToolsActivePort"
        while not told.exists() or len(told.read_text().split()) < 2:
            await asyncio.sleep(0.05)
        port = told.read_text().split()[0]
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                address = next(t for t in await answer.json() if t["type"] == "page")
            async with session.ws_connect(
                address["webSocketDebuggerUrl"], max_msg_size=0
            ) as socket:
                tab = Tab(socket)
                for domain in ("Page", "Runtime", "Log", "Network"):
                    await tab.call(f"{domain}.enable")
                await tab.call(
                    "Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0,
                )  # fmt: skip
                await tab.media()
                await tab.call("Page.navigate", url=page.as_uri())
                await tab.until("document.documentElement?.dataset.drawn > 0")
                yield tab
    finally:
        process.kill()
        process.wait()
