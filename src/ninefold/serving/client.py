"""Ask the service: start it as a process of its own, send rows over HTTP, and send what it should refuse."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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

PATIENCE = 60  # seconds
OPTIONS: dict[str, Any] = {"timeout": 60, "trust_env": False}  # no proxy is between here and 127.0.0.1


@contextmanager
def serving(place: Path | None = None) -> Iterator[str]:
    """Serve the bundle at `place` (default: the project's) from a process; give its address; `DataError` if it fails."""
    paths = [str(Path(ninefold.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    env = {name: value for name, value in os.environ.items() if not name.startswith("NINEFOLD_TOKEN")}
    env["PYTHONPATH"] = os.pathsep.join(paths)
    command = [sys.executable, "-m", "ninefold", "serve", "--port", "0"]
    with tempfile.TemporaryDirectory() as folder:
        out, err, log = (Path(folder) / name for name in ("stdout", "stderr", "log.sqlite"))
        command += ["--bundle", str(place or artifacts.pending(BUNDLE)), "--log", str(log)]
        with out.open("wb") as stdout, err.open("wb") as stderr:
            child = subprocess.Popen(command, stdout=stdout, stderr=stderr, env=env)
        try:
            yield _when_ready(child, out, err, time.monotonic() + PATIENCE)
        finally:
            child.terminate()
            with suppress(subprocess.TimeoutExpired):
                child.wait(timeout=15)
            child.kill()  # nothing, if it has ended
            child.wait()


def ask(url: str, rows: list[dict[str, Any]], size: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Send rows, `size` in a request; return a row of `Bundle.answers` for each, and the seconds of each request."""
    answers, seconds = [], []
    with httpx.Client(base_url=url, **OPTIONS) as client:
        for start in range(0, len(rows), size):
            began = time.perf_counter()
            answer = client.post("/predict", json={"rows": rows[start : start + size]})
            seconds.append(time.perf_counter() - began)
            if answer.status_code != 200:
                raise DataError(f"{url}/predict: answered {answer.status_code}: {answer.text[:500]}")
            answers += [flat(prediction) for prediction in answer.json()["predictions"]]
    return pd.DataFrame(answers), np.array(seconds)


def flat(prediction: dict[str, Any]) -> dict[str, Any]:
    """Return a prediction of an answer as a record of `Bundle.answer`."""
    classes = {f"probability_{name}": value for name, value in prediction.get("probabilities", {}).items()}
    return classes | {name: prediction[name] for name in prediction if name not in ("probabilities", "identity")}


def bad_requests(bundle: Bundle) -> dict[str, tuple[str, bytes]]:
    """Return requests that cannot be answered: what is wrong -> address and body. Some need a field of their type."""
    row, limits = bundle.described["example"], bundle.described["limits"]
    fields, size = {field["name"]: field for field in bundle.signature}, limits["max_body_mb"] * 1_000_000
    needed = {name: row[name] for name, field in fields.items() if field["required"]}
    first = {field["type"]: field["name"] for field in reversed(bundle.signature) if field["kind"] in FEATURE_KINDS}
    values = {
        "text for a number": ("number", "12"),
        "not a number": ("number", float("nan")),
        "an infinite number": ("number", float("inf")),
        "a number for text": ("string", 5),
        "a date that is none": ("date", "2023-02-29"),
        "a number for a date": ("date", 19782),
    }
    rows: dict[str, list[Any]] = {
        "no rows": [],
        "a row that is no object": [row, 7],
        "an unknown field": [row, {**row, max(fields, key=len) + "s": 1}],
        **{what: [row, {**row, first[kind]: value}] for what, (kind, value) in values.items() if kind in first},
    }
    if (limits["max_rows"] + 1) * (len(json.dumps(needed)) + 2) < size:
        rows["too many rows"] = [needed] * (limits["max_rows"] + 1)
    if needed:
        rows["no key"] = [row, {name: value for name, value in row.items() if name != next(iter(needed))}]
    tensor = {"name": bundle.features[0], "shape": [2], "datatype": "FP64", "data": [1.0]}
    infer = json.dumps({"inputs": [tensor]}).encode()
    bodies = {"cut short": b'{"rows": [{', "no object": b"[]"}
    bodies |= {what: json.dumps({"rows": wrong}).encode() for what, wrong in rows.items()}
    bodies["too large"] = b" " * int(size + 1)
    return {what: ("/predict", body) for what, body in bodies.items()} | {
        "another model": ("/v2/models/another/infer", infer),
        "a wrong shape": (f"/v2/models/{bundle.name}/infer", infer),
    }


def refusals(url: str, bundle: Bundle) -> pd.DataFrame:
    """Send every bad request; return ``request``, ``status`` (int) and ``answer``."""
    rows = []
    with httpx.Client(base_url=url, **OPTIONS) as client:
        for what, (address, body) in bad_requests(bundle).items():
            answer = client.post(address, content=body, headers={"Content-Type": "application/json"})
            said = answer.json()["error"] if answer.is_client_error else answer.text[:500]
            rows.append((what, answer.status_code, said))
    return pd.DataFrame(rows, columns=["request", "status", "answer"])


def _when_ready(child: subprocess.Popen[bytes], out: Path, err: Path, until: float) -> str:
    """Return the address that the child prints, once it answers there."""
    while time.monotonic() < until and child.poll() is None:
        url = out.read_text(encoding="utf-8").strip().partition(" at ")[2]
        if url and httpx.get(f"{url}/ready", **OPTIONS).status_code == 200:
            return url
        time.sleep(0.05)
    state = "was not ready in time" if child.poll() is None else f"ended with {child.returncode}"
    raise DataError(f"the service {state}; it said: {err.read_text(encoding='utf-8')[-2000:].strip() or 'nothing'}")
