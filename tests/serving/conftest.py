"""What tests of the service share: a client of it, and an open log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from ninefold.serving.app import create_app
from ninefold.serving.bundle import Bundle
from ninefold.serving.log import Log


@pytest.fixture
def client(bundle: Bundle) -> TestClient:
    return TestClient(create_app(bundle))  # raises what a server would answer with 500


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    opened = Log(tmp_path / "predictions/log.sqlite")
    yield opened
    opened.close()
