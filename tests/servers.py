"""Servers that a test starts: of a database, and the service as a process."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import ninefold

NURSERY = """
import os, sys
from pathlib import Path
{setup}
print("ready", flush=True)
for line in sys.stdin:
    if (child := os.fork()) == 0:
        print(os.getpid(), flush=True)
        {act}
        os._exit(0)
    os.waitpid(child, 0)
    print("gone", flush=True)
"""  # forks for each line it gets, which takes none of the seconds of imports; says the child's id, and when it is gone


@contextmanager
def started(
    *command: str, cwd: Path | None = None, env: dict[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the engine in a Python process, by default with its sources on the path; yield it, and the line that it prints first."""
    env = env or {**os.environ, "PYTHONPATH": str(Path(ninefold.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    child = subprocess.Popen([sys.executable, *command], cwd=cwd, env=env, text=True, **pipes)
    try:
        assert child.stdout and child.stderr  # noqa: PT018
        line = child.stdout.readline()
        assert line, child.stderr.read()
        yield child, line
    finally:
        child.kill()
        child.wait()


def until(true: Callable[[], Any], seconds: float = 30) -> None:
    """Wait until it is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not become true"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a PostgreSQL server of our own; return its URL, with the password in the environment."""
    places = os.pathsep.join([os.environ["PATH"], *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin")))])
    initdb, control = (shutil.which(name, path=places) for name in ("initdb", "pg_ctl"))
    if initdb is None or control is None:
        message = "no PostgreSQL server: install the Debian package postgresql"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    folder = Path("/tmp") / f"ninefold-postgres-{os.getpid()}"  # the server's socket needs a short path
    folder.mkdir()
    (folder / "password").write_text("p@ss:w/rd%")
    user: dict[str, Any] = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
    if user:  # the server refuses to run as root
        shutil.chown(folder, **user)
        shutil.chown(folder / "password", **user)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = folder / "data"

    def run(*command: Any) -> None:
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, **user)

    run(initdb, "-D", data, "-U", "owner", "-A", "scram-sha-256", f"--pwfile={folder}/password", "-N")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    run(control, "-D", data, "-o", options, "-l", folder / "log", "-w", "start")
    os.environ["SHOP_PASSWORD"] = "p@ss:w/rd%"
    yield f"postgresql://owner:${{SHOP_PASSWORD}}@127.0.0.1:{port}/postgres"
    run(control, "-D", data, "-m", "immediate", "-w", "stop")
    del os.environ["SHOP_PASSWORD"]
    shutil.rmtree(folder)
