"""The service keeps the contract that its OpenAPI document states: no 5xx, nothing undocumented, nothing wrong accepted."""

from __future__ import annotations

import os
from typing import Any

import pytest
from bundles import lay_out, pack
from conftest import Project
from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response

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

    found = contract.run(service.create_app(pack(lay_out(case)), token=token), fuzzed=40, sequences=15, token=token)
    assert found.breaches == {}
    assert set(found.phases) == {"examples", "coverage", "fuzzing", "stateful"}
    assert found.cases > 400
    for operation, statuses in OPERATIONS.items():
        met = {status for label, status in found.statuses if label == operation}
        # What is no JSON is drawn by chance, and not for every operation: once is seen below.
        assert statuses - {400} <= met - {401} <= statuses, operation
        assert (401 in met) == (token is not None and operation not in PROBES), operation
    assert 400 in {status for _, status in found.statuses}


def test_what_breaks_a_contract_is_found() -> None:
    import contract

    app = FastAPI()

    @app.get("/halves", response_model=dict[str, int], responses={422: {"content": {"application/json": {}}}})
    def halves(count: int) -> Any:
        if count % 2:
            return JSONResponse({"count": count / 2})
        return Response(status_code=409) if count else Response("none", media_type="text/plain")

    found = contract.run(app, fuzzed=20, sequences=1).breaches
    for breach in ("response_schema_conformance", "status_code_conformance", "content_type_conformance"):
        assert any(f"GET /halves: {breach}: " in what for what in found), found
