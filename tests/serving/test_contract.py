"""The service keeps the contract that its OpenAPI document states: no 5xx, nothing undocumented, nothing wrong accepted."""

import os
from typing import Any

import pytest
from bundles import lay_out, pack
from conftest import Project

from ninefold.serving import app as service

if not os.environ.get("CI"):
    pytest.importorskip("schemathesis")


@pytest.mark.parametrize(("case", "token"), [("binary", None), ("multiclass", "a-token")])
def test_no_request_breaks_the_contract_and_every_refusal_is_met(project: Project, case: str, token: Any) -> None:
    import contract

    run = contract.run(service.create_app(pack(lay_out(case)), token=token), fuzzed=40, sequences=15, token=token)
    assert run.breaches == {}
    assert set(run.phases) == {"examples", "coverage", "fuzzing", "stateful"}
    assert run.cases > 400
    met = {200, 400, 404, 405, 422, *([401] if token else [])}
    assert {status for _, status in run.statuses} == met
