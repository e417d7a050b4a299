"""The service keeps the contract that its OpenAPI document states: no 5xx, nothing undocumented, nothing wrong accepted."""

from __future__ import annotations

import os

import pytest
from bundles import lay_out, pack
from conftest import Project

from ninefold.serving import app as service

if not os.environ.get("CI"):
    pytest.importorskip("schemathesis")

OPERATIONS = {
    "POST /predict": {200, 400, 405, 422},
    "POST /v2/models/{name}/infer": {200, 400, 404, 405, 422},
    "GET /v2/models/{name}": {200, 404, 405},
    "GET /v2/models/{name}/ready": {200, 404, 405},
}
PROBES = ("GET /health", "GET /ready", "GET /v2/health/live", "GET /v2/health/ready")
OPERATIONS |= {operation: {200, 405} for operation in (*PROBES, "GET /metrics", "GET /v2")}


@pytest.mark.parametrize(("case", "token"), [("binary", None), ("multiclass", "a-token")])
def test_no_request_breaks_the_contract_and_every_documented_refusal_is_met(
    project: Project, case: str, token: str | None
) -> None:
    import contract

    run = contract.run(service.create_app(pack(lay_out(case)), token=token), fuzzed=40, sequences=15, token=token)
    assert run.breaches == {}
    assert set(run.phases) == {"examples", "coverage", "fuzzing", "stateful"}
    assert run.cases > 400
    for operation, statuses in OPERATIONS.items():
        met = {status for label, status in run.statuses if label == operation}
        # What is no JSON is drawn by chance, and not for every operation: once is seen below.
        assert statuses - {400} <= met - {401} <= statuses, operation
        assert (401 in met) == (token is not None and operation not in PROBES), operation
    assert 400 in {status for _, status in run.statuses}
