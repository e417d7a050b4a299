"""What tests of the service share: a client of it."""

import pytest
from fastapi.testclient import TestClient

from ninefold.serving.app import create_app
from ninefold.serving.bundle import Bundle


@pytest.fixture
def client(bundle: Bundle) -> TestClient:
    return TestClient(create_app(bundle))  # raises what a server would answer with 500
