"""Compare `ninefold serve` with `mlflow models serve`: the same model, one keep-alive client and then sixteen.

Ours validates, decides, logs to disk and counts; MLflow's answers with probabilities. MLflow is no dependency of the project:
build an environment that holds both, and name its Python: `--mlflow /path/to/venv/bin/python`. Run the pipeline first.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common import HERE, ROOT, machine, merge_rows, read_rows, write_section

from ninefold import artifacts
from ninefold.serving import client
from ninefold.serving.bundle import Bundle, sample
from ninefold.serving.fields import as_rows

RESULTS = HERE / "serving.csv"
CLIENTS, ROWS, PATIENCE = (1, 16), 500, 120
SERVERS = {"ninefold": "`ninefold serve`", "mlflow": "`mlflow models serve`"}
SAVE = """
import sys, mlflow
from pathlib import Path
from ninefold.training import model_file
model = model_file.load(Path(sys.argv[1]) / "model.skops")
mlflow.sklearn.save_model(model, sys.argv[2], serialization_format="cloudpickle", pyfunc_predict_fn="predict_proba")
"""


def rows_of(bundle: Bundle) -> list[dict[str, Any]]:
    """Return rows of the feature table as a caller would send them, one a request: without history."""
    table = artifacts.read_table("data/features").dropna(subset=[bundle.problem.target])
    return as_rows(sample(table, ROWS), bundle.signature, without="history")


@contextmanager
def ninefold(bundle: Bundle) -> Iterator[tuple[int, str, list[bytes]]]:
    """Serve the bundle with all that production has: validation, policy, log, metrics."""
    with client.serving(bundle.place) as url:
        bodies = [json.dumps({"rows": [row]}).encode() for row in rows_of(bundle)]
        yield int(url.rpartition(":")[2]), "/predict", bodies


@contextmanager
def mlflow(bundle: Bundle, python: str) -> Iterator[tuple[int, str, list[bytes]]]:
    """Serve the same model by MLflow, from the columns that it takes: complete rows, since it looks nothing up."""
    frame = bundle.complete(rows_of(bundle))
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        env = {**os.environ, "PATH": f"{Path(python).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src")}
        subprocess.run([python, "-c", SAVE, str(bundle.place), f"{folder}/model"], check=True, env=env, cwd=folder)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        command = [python, "-m", "mlflow", "models", "serve", "-m", f"{folder}/model", "-p", str(port)]
        command += ["--env-manager", "local"]
        with open(f"{folder}/said", "wb") as said:
            streams: dict[str, Any] = {"stdout": said, "stderr": said}
            child = subprocess.Popen(command, env=env, cwd=folder, start_new_session=True, **streams)
        try:
            _wait(port, child, Path(folder) / "said")
            columns, data = list(frame.columns), json.loads(frame.to_json(orient="values"))
            split = [{"columns": columns, "data": [row]} for row in data]
            yield port, "/invocations", [json.dumps({"dataframe_split": each}).encode() for each in split]
        finally:
            os.killpg(child.pid, 15)
            child.wait(30)


def load_of(port: int, path: str, bodies: list[bytes], clients: int, seconds: float) -> dict[str, Any]:
    """Return what so many clients, each with one connection, measured: requests, milliseconds, failures."""
    taken: list[list[float]] = [[] for _ in range(clients)]
    failed, ends = [0] * clients, time.perf_counter() + seconds

    def work(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        count = 0
        while time.perf_counter() < ends:
            body = bodies[(number * 7 + count) % len(bodies)]
            started = time.perf_counter()
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            taken[number].append(time.perf_counter() - started)
            failed[number] += answer.status != 200
            count += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = time.perf_counter() - started
    times = sorted(1000 * each for one in taken for each in one)
    return {
        "requests": len(times), "failed": sum(failed), "p50": f"{statistics.median(times):.2f}",
        "p95": f"{times[int(0.95 * (len(times) - 1))]:.2f}", "per_second": f"{len(times) / whole:.1f}",
    }  # fmt: skip


def measure(name: str, serving: Any, seconds: float) -> None:
    """Measure one server, and keep the results."""
    with serving as (port, path, bodies):
        load_of(port, path, bodies, 1, 3)  # the first requests pay for what is kept
        rows = []
        for clients in CLIENTS:
            rows.append({"server": name, "clients": clients, **load_of(port, path, bodies, clients, seconds)})
            print(rows[-1], file=sys.stderr, flush=True)
    order = lambda row: (int(row["clients"]), list(SERVERS).index(row["server"]))  # noqa: E731
    merge_rows(RESULTS, rows, ["server", "clients"], order)


def report(rows: list[dict[str, str]]) -> list[str]:
    """Return the section of the report."""
    lines = [
        "## The service",
        "",
        "One row a request, keep-alive connections, client and server on the same cores. Ours validates each field, looks history",
        "up, decides, writes the answer to disk before it is given, and counts for Prometheus; MLflow's gets complete rows, and",
        "answers with probabilities. The same model: a blend of two gradient boostings.",
        "",
        f"Machine: {machine()}.",
        "",
        "| clients | server | p50, ms | p95, ms | requests a second | failed |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        cells = [
            row["clients"],
            SERVERS[row["server"]],
            *(row[name] for name in ("p50", "p95", "per_second", "failed")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    by = {(row["server"], row["clients"]): row for row in rows}
    lines.append("")
    for clients in map(str, CLIENTS):
        ours, theirs = by.get(("ninefold", clients)), by.get(("mlflow", clients))
        if ours and theirs:
            faster = float(theirs["p50"]) / float(ours["p50"])
            more = float(ours["per_second"]) / float(theirs["per_second"])
            lines.append(f"- {clients} client(s): p50 is {faster:.1f} times lower, throughput {more:.1f} times higher.")
    return [*lines, "", "Made by `python benchmarks/serving.py --help`, from [serving.csv](serving.csv)."]


def main() -> None:
    """Measure what is asked for, and write the section of the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mlflow", metavar="PYTHON", help="of an environment with MLflow and the project's packages")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each measurement")
    options = parser.parse_args()
    os.chdir(ROOT)
    bundle = Bundle.load(ROOT / "models/bundle")
    measure("ninefold", ninefold(bundle), options.seconds)
    if options.mlflow:
        measure("mlflow", mlflow(bundle, options.mlflow), options.seconds)
    write_section("serving", report(read_rows(RESULTS)))


def _wait(port: int, child: subprocess.Popen[bytes], said: Path) -> None:
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends and child.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/ping")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.5)
        finally:
            connection.close()
    raise SystemExit(f"error: MLflow's server did not start:\n{said.read_text()[-2000:]}")


if __name__ == "__main__":
    main()
