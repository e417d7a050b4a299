"""Ask the service: start it as a process of its own, send rows over HTTP, and send what it should refuse."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd

import ninefold
from ninefold import artifacts
from ninefold.errors import DataError
from ninefold.serving.bundle import BUNDLE, Bundle
from ninefold.serving.fields import FEATURE_KINDS

REFUSED = (400, 499)


@contextmanager
def serving(place: Path | None = None, timeout: float = 60) -> Iterator[str]:
    """Serve a bundle from a process of its own, on a free port of 127.0.0.1; give its address; stop it at the end.

    Parameters
    ----------
    place : Path, optional
        The bundle; that of the project if absent.
    timeout : float
        Seconds to wait until it is ready.

    Raises
    ------
    DataError
        If it does not get ready; with what the process said.
    """
    source = os.pathsep.join([str(Path(ninefold.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    env = {name: value for name, value in os.environ.items() if not name.startswith("NINEFOLD_TOKEN")}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.sqlite"  # thrown away
        options = {"--port": "0", "--bundle": str(place or artifacts.pending(BUNDLE)), "--log": str(log)}
        command = [
            sys.executable,
            "-m",
            "ninefold.serving.app",
            *(part for pair in options.items() for part in pair),
        ]
        said, complained = Path(folder) / "stdout", Path(folder) / "stderr"
        with said.open("wb") as out, complained.open("wb") as err:
            child = subprocess.Popen(command, stdout=out, stderr=err, env={**env, "PYTHONPATH": source})
        try:
            yield _when_ready(child, said, complained, time.monotonic() + timeout)
        finally:
            _stop(child)


def ask(url: str, rows: list[dict[str, Any]], size: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Send rows to the service at `url`, `size` in a request; return the answers, and the seconds of each request.

    Returns
    -------
    answers : DataFrame
        A row per row sent, with the columns `Bundle.answers`.
    seconds : ndarray of float64, shape (requests,)

    Raises
    ------
    DataError
        If the service refuses a request.
    """
    answers, seconds = [], []
    with _client(url) as client:
        for start in range(0, len(rows), size):
            began = time.perf_counter()
            answer = client.post("/predict", json={"rows": rows[start : start + size]})
            seconds.append(time.perf_counter() - began)
            if answer.status_code != 200:
                raise DataError(f"{url}/predict: answered {answer.status_code}: {answer.text[:500]}")
            answers += [_flat(each) for each in answer.json()["predictions"]]
    return pd.DataFrame(answers), np.array(seconds)


def bad_requests(bundle: Bundle) -> dict[str, tuple[str, bytes]]:
    """Return requests that cannot be answered: what is wrong -> address and body. Some need a field of their type."""
    largest, tensor = (
        bundle.described["limits"]["max_body_mb"],
        {"name": bundle.features[0], "shape": [2], "datatype": "FP64"},
    )
    infer = json.dumps({"inputs": [{**tensor, "data": [1.0]}]}).encode()
    bodies = {what: ("/predict", json.dumps({"rows": rows}).encode()) for what, rows in _bad_rows(bundle).items()}
    return {
        "cut short": ("/predict", b'{"rows": [{'),
        "no object": ("/predict", b"[]"),
        **bodies,
        "too large": ("/predict", b" " * int(largest * 1_000_000 + 1)),
        "another model": ("/v2/models/another/infer", infer),
        "a wrong shape": (f"/v2/models/{bundle.name}/infer", infer),
    }


def refusals(url: str, bundle: Bundle) -> pd.DataFrame:
    """Send every bad request; return ``request``, ``status`` (int) and ``answer``."""
    rows = []
    with _client(url) as client:
        for what, (address, body) in bad_requests(bundle).items():
            answer = client.post(address, content=body, headers={"Content-Type": "application/json"})
            rows.append((what, answer.status_code, _error(answer)))
    return pd.DataFrame(rows, columns=["request", "status", "answer"])


def refused_well(refused: pd.DataFrame) -> int:
    """Return how many of the bad requests ended with a 4xx status."""
    return int(refused["status"].between(*REFUSED).sum())


def _bad_rows(bundle: Bundle) -> dict[str, list[Any]]:
    row, fields = bundle.described["example"], {field["name"]: field for field in bundle.signature}
    needed = {name: row[name] for name, field in fields.items() if field["required"]}
    features = [name for name, field in fields.items() if field["kind"] in FEATURE_KINDS]
    first = {fields[name]["type"]: name for name in reversed(features)}
    limits = bundle.described["limits"]
    many = [needed] * (limits["max_rows"] + 1)
    rows: dict[str, list[Any]] = {
        "no rows": [],
        "a row that is no object": [row, 7],
        "an unknown field": [row, {**row, max(fields, key=len) + "s": 1}],
    }
    if len(many) * (len(json.dumps(needed)) + 2) < limits["max_body_mb"] * 1_000_000:
        rows["too many rows"] = many
    if number := first.get("number"):
        rows["text for a number"] = [row, {**row, number: "12"}]
        rows["not a number"] = [{**row, number: float("nan")}]
        rows["an infinite number"] = [{**row, number: float("inf")}]
    if text := first.get("string"):
        rows["a number for text"] = [{**row, text: 5}]
    if date := first.get("date"):
        rows["a date that is none"] = [row, {**row, date: "2023-02-29"}]
        rows["a number for a date"] = [{**row, date: 19782}]
    if needed:
        lost = next(iter(needed))
        rows["no key"] = [row, {name: value for name, value in row.items() if name != lost}]
    return rows


def _flat(answer: dict[str, Any]) -> dict[str, Any]:
    classes = {f"probability_{name}": p for name, p in answer.get("probabilities", {}).items()}
    return {**classes, **{name: value for name, value in answer.items() if name not in ("probabilities", "identity")}}


def _error(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):  # what a failing server says is no JSON
        return answer.text[:500]


def _client(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, timeout=60, trust_env=False)  # no proxy stands between here and 127.0.0.1


def _when_ready(child: subprocess.Popen[bytes], said: Path, complained: Path, until: float) -> str:
    """Return the address that the child prints, once it answers there."""
    while time.monotonic() < until and child.poll() is None:
        _, found, url = said.read_text(encoding="utf-8").strip().partition(" at ")
        if found:
            with _client(url) as client:
                if client.get("/ready").status_code == 200:
                    return url
        time.sleep(0.05)
    state = "was not ready in time" if child.poll() is None else f"ended with {child.returncode}"
    raise DataError(
        f"the service {state}; it said: {complained.read_text(encoding='utf-8')[-2000:].strip() or 'nothing'}"
    )


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(timeout=15)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
