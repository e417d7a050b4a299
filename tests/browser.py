"""A real browser, and an app that it asks on this machine: what the tests of pages share."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from ninefold.serving import app as service

CONTRAST = """
const parts = (color) => color.match(/[\\d.]+/g).map(Number);
const light = (color) => parts(color).slice(0, 3).map((c) => c / 255)
  .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const ground = (node) => { for (; node; node = node.parentElement) {
  const color = getComputedStyle(node).backgroundColor;
  if (parts(color)[3] !== 0) return color; } return "rgb(255, 255, 255)"; };
return [...document.body.querySelectorAll("*")].filter((node) => node.checkVisibility() &&
    [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim())).map((node) => {
  const [low, high] = [light(getComputedStyle(node).color), light(ground(node))].sort((a, b) => a - b);
  return [(high + 0.05) / (low + 0.05), node.tagName + ": " + node.textContent.trim().slice(0, 30)];
}).sort((a, b) => a[0] - b[0])[0];
"""


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Serve an app on this machine alone; yield its address."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    with service._listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(20)


@contextmanager
def chromium(profile: Path) -> Iterator[Any]:
    """Start a browser, which tells its console and every address that it asks for."""
    if not (browser := shutil.which("chromium")) or not (driver := shutil.which("chromedriver")):
        assert not os.environ.get("CI"), "chromium and chromedriver have to be installed where CI is set"
        pytest.skip("chromium or chromedriver is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"):
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={profile}")
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        started.execute_cdp_cmd("Emulation.setFocusEmulationEnabled", {"enabled": True})  # no window, no focus
        yield started
    finally:
        started.quit()


def screen(chrome: Any, width: int, scheme: str = "light") -> None:
    """Show what a screen of that width shows, by day or by night."""
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def press(chrome: Any, *keys: str) -> None:
    ActionChains(chrome).send_keys(*keys).perform()


def tab_to(chrome: Any, selector: str, most: int = 80) -> None:
    """Press Tab until the focus, which has to be visible, is on what the selector means."""
    for _ in range(most):
        press(chrome, Keys.TAB)
        style = "const style = getComputedStyle(document.activeElement); return style.outlineStyle + style.outlineWidth"
        assert chrome.execute_script(style) == "solid2px"
        if chrome.execute_script("return document.activeElement.matches(arguments[0])", selector):
            return
    raise AssertionError(f"{most} times Tab does not reach {selector}")


def until(chrome: Any, script: str) -> Any:
    return WebDriverWait(chrome, 60).until(lambda driver: driver.execute_script(f"return {script}"))


def requests(chrome: Any) -> list[str]:
    """Return the addresses that pages asked for since the last call; the browser's own are its own."""
    events = [json.loads(entry["message"])["message"] for entry in chrome.get_log("performance")]
    urls = [each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"]
    return [url for url in urls if not url.startswith(("chrome", "data:"))]


@contextmanager
def in_jupyterlab(folder: Path, notebook: str, home: Path) -> Iterator[Any]:
    """Open a notebook; yield what runs a script there, which knows its `view` and `shared` model, and how to `run` commands."""
    places = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR", "IPYTHONDIR")
    env = {**os.environ, "PYTHONPATH": str(folder / "src"), **dict.fromkeys(places, str(home))}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.port=0"]
    command += ["--IdentityProvider.token=", f"--ServerApp.root_dir={folder}", "--LabApp.expose_app_in_browser=True"]
    known = "const view = jupyterapp.shell.currentWidget.content, shared = view.model.sharedModel, done = arguments[0]"
    known += ", run = (name, options) => jupyterapp.commands.execute(name, options); "
    with chromium(home / "profile") as chrome, subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL) as server:
        try:
            (started,) = WebDriverWait(home, 60).until(lambda place: [*place.glob("jpserver-*[0-9].json")])
            chrome.get(f"{json.loads(started.read_text())['url']}lab/tree/{notebook}")
            until(chrome, "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'")
            chrome.set_script_timeout(120)
            yield lambda script: chrome.execute_async_script(f"{known}Promise.resolve({script}).then(done, done)")
        finally:
            server.terminate()
