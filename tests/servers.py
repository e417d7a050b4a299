"""Servers of databases, started for a test."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def server_tool(name: str) -> str | None:
    found = [shutil.which(name), *map(str, sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}")))]
    return next((place for place in found if place), None)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a PostgreSQL server of our own; return its URL, with the password in the environment."""
    initdb, control = server_tool("initdb"), server_tool("pg_ctl")
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
