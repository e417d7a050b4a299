"""The service: typed rows in, the decisions of offline out; what cannot be answered is refused as documented, with no 5xx."""

import json
import os
import signal
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from bundles import CASES, NOW, PARAMS, append, expected, lay_out, logged_rows, offline, pack, rows
from conftest import Project
from fastapi.testclient import TestClient
from pydantic import ValidationError
from servers import started, until

from ninefold.errors import NinefoldError
from ninefold.problem import decisions
from ninefold.serving import app, compiled, schemas
from ninefold.serving import client as asking
from ninefold.serving.bundle import Bundle
from ninefold.serving.fields import as_rows
from ninefold.serving.log import Log

V2 = "/v2/models/returns"
JSON = {"Content-Type": "application/json"}
COUNT, PRIOR = 10_000, 0.25
SIZES = [1] * 500 + [7] * 500 + [500] * 12  # few rows are answered by the compiled predictor, many by the pipeline
HISTORY = "rate_by_customer_7d"
ABSENT = {"customer": 0.0, HISTORY: 0.6}
STRANGE: dict[str, list[Any]] = {
    "customer": ["nobody", "Ann "], "channel": ["never seen", "", None], "amount": [0, -7.5, 1e9, -1e30, np.nan],
    "items": [np.nan, 3.5],
}  # fmt: skip


def send(client: TestClient, *rows: Any) -> httpx.Response:
    return client.post("/predict", content=json.dumps({"rows": list(rows)}), headers=JSON)


@pytest.mark.parametrize("case", CASES)
def test_every_task_is_answered_as_offline_on_both_routes_and_as_openapi_describes(project: Project, case: str) -> None:
    parts = lay_out(case)
    bundle, wanted = pack(parts), expected(parts["holdout"])
    client = TestClient(app.create_app(bundle))
    rows = as_rows(parts["holdout"], bundle.signature)
    answer = send(client, *rows).json()
    flat = pd.DataFrame([asking.flat(each) for each in answer["predictions"]])[bundle.answers]
    pd.testing.assert_frame_equal(flat, wanted, check_exact=True, check_dtype=False)
    assert [each["identity"]["id"] for each in answer["predictions"]] == parts["holdout"]["id"].tolist()
    assert answer["version"] == bundle.version
    assert answer["history_as_of"] == ("2020-02-20T00:00:00" if case == "binary" else None)
    assert send(client, rows[3]).json()["predictions"] == answer["predictions"][3:4]  # alone as among many
    fields, shape = client.get(V2).json()["inputs"], {"shape": [len(rows), 1]}
    inputs = [{**each, **shape, "data": [row[each["name"]] for row in rows]} for each in fields]
    tensors = client.post(f"{V2}/infer", json={"inputs": inputs}).json()["outputs"]
    columns = pd.DataFrame({each["name"]: each["data"] for each in tensors})
    pd.testing.assert_frame_equal(columns, wanted, check_exact=True, check_dtype=False)
    document = client.get("/openapi.json").json()
    row, predictions = (document["components"]["schemas"][name] for name in ("Row", "Predictions"))
    assert list(row["properties"]) == [field["name"] for field in bundle.signature]
    assert row.get("required", []) == [field["name"] for field in bundle.signature if field["required"]]
    kind = {"multiclass": "Classes", "regression": "Quantity"}.get(case, "Event")
    assert predictions["properties"]["predictions"]["items"] == {"$ref": f"#/components/schemas/{kind}"}


def test_what_a_caller_does_not_know_may_be_absent_or_null(client: TestClient, bundle: Bundle) -> None:
    answer = send(client, {"customer": "ann"}, {"customer": "ann", "amount": None, "channel": None}).json()
    wanted = bundle.predict(bundle.complete([{"customer": "ann"}]))["probability"].iloc[0]
    assert [each["probability"] for each in answer["predictions"]] == [wanted, wanted]
    assert not any("identity" in each for each in answer["predictions"])
    (warning,) = send(client, {"customer": "ann"}, {"customer": "zed"}).json()["warnings"]
    assert warning["message"] == "row 1, field 'customer': 'zed' was not seen in training"


def test_a_number_outside_the_contract_is_answered_with_a_warning(client: TestClient) -> None:
    amounts = (0.0, None, 1000.5, 99999.0, 1000.0)
    answer = send(client, *({"customer": "ann", "amount": amount} for amount in amounts)).json()
    assert len(answer["predictions"]) == len(amounts)
    says = "row 2, field 'amount': 1000.5 is outside the contract (min 0, max 1000)"
    assert answer["warnings"] == [{"field": "amount", "value": 1000.5, "rows": 2, "first_row": 2, "message": says}]


@pytest.mark.parametrize(("row", "what"), [({}, "an empty object"), ({"id": 7}, "an object")])
def test_a_row_that_tells_the_model_nothing_is_refused(project: Any, monkeypatch: Any, row: Any, what: str) -> None:
    monkeypatch.setattr(schemas, "SLICE", 1)  # as of the rows of a large request
    client = TestClient(app.create_app(pack(lay_out("text"))))
    answer = send(client, {"comment": None}, row)
    says = f"row 1: found {what}, expected at least one of comment, from which it is predicted"
    assert (answer.status_code, answer.json()["error"]) == (422, says)
    assert send(client, {"comment": None}).status_code == 200  # said to be unknown
    tensor = {"name": "id", "shape": [1], "datatype": "INT64", "data": [7]}
    refused = client.post("/v2/models/returns/infer", json={"inputs": [tensor]})
    assert (refused.status_code, refused.json()["error"][:5]) == (422, "row 0")


@pytest.mark.parametrize(("wrong", "says"), [
    ({"customer": "ann", "amuont": 1}, "row 1, field 'amuont': unknown field; did you mean 'amount'?"),
    ({"customer": "ann", "amount": "12"}, "row 1, field 'amount': found \"12\", expected a valid number"),
    ({"customer": "ann", "amount": True}, "row 1, field 'amount': found true, expected a valid number"),
    ({"customer": "ann", "amount": float("nan")}, "row 1, field 'amount': found NaN, expected a finite number"),
    ({"customer": "ann", "amount": 1e200}, "row 1, field 'amount': found 1e+200, expected a number from -1e+30"),
    ({"customer": None}, "row 1, field 'customer': found null, expected a valid string"),
    ({"amount": 5}, "row 1, field 'customer': missing; it is needed to look up history"),
    ({"customer": "\ud800"}, "row 1, field 'customer': found \"\\ud800\", expected whole characters"),
    (7, "row 1: found 7, expected an object"),
    (b'{"rows": [', "body: not JSON"),
    (b"{}", "rows: missing"),
    (b'{"rows": []}', "rows: none, expected at least 1"),
    (b'{"rows": [{"customer": "ann"}], "row": 1}', "row: unknown field; did you mean 'rows'?"),
    (json.dumps({"rows": [{"customer": "ann"}] * 101}).encode(), "rows: too many, expected at most 100; send"),
    (b"\xff\xfe", "body: not JSON"),
    (b"[" * 40_000, "body: not JSON"),
    (b'{"rows": [{"customer": "ann", "amount": ' + b"9" * 6000 + b"}]}", "body: not JSON"),
])  # fmt: skip
def test_a_wrong_row_or_body_is_refused_by_row_and_field(client: TestClient, wrong: Any, says: str) -> None:
    body = wrong if isinstance(wrong, bytes) else json.dumps({"rows": [{"customer": "ann"}, wrong]})
    answer = client.post("/predict", content=body, headers=JSON)
    assert answer.status_code in (400, 422)
    assert answer.json()["error"].startswith(says), answer.text


def test_a_body_is_json_under_the_limit_and_of_many_problems_the_first_are_listed(client: TestClient) -> None:
    for body in (b" " * 60_000, iter([b" " * 100, b" " * 60_000])):  # the second has no Content-Length
        answer = client.post("/predict", content=body, headers=JSON)
        assert (answer.status_code, "more than 0.05 MB" in answer.json()["error"]) == (413, True)
    answer = client.post("/predict", content=b'{"rows": []}', headers={"Content-Type": "text/plain"})
    assert (answer.status_code, "Content-Type: application/json" in answer.json()["error"]) == (422, True)
    many = send(client, *[{"customer": 5}] * 50).json()
    assert (len(many["problems"]), many["error"][-22:]) == (app.LISTED, "; and at least 30 more")


def test_of_many_rows_the_first_wrong_ones_are_named_by_their_numbers(bundle: Bundle) -> None:
    bundle.described["limits"]["max_rows"] = 1000
    model, right, wrong = schemas.request_model(bundle), {"customer": "ann"}, {"customer": "\ud800", "x": 1}
    assert len(schemas.sent_rows(model.model_validate({"rows": [right] * 1000}))) == 1000
    with pytest.raises(ValidationError) as refused:
        model.model_validate({"rows": [*[right] * 450, wrong, *[wrong] * 549]})
    first, second, *_ = [each["message"] for each in schemas.explain(refused.value.errors(), bundle)]
    assert first.startswith("row 450, field 'customer': found \"\\ud800\", expected whole characters")
    assert second.startswith("row 450, field 'x': unknown field")
    assert refused.value.error_count() < 2 * schemas.SLICE
    with pytest.raises(ValidationError, match="at most 1000 items"):
        model.model_validate({"rows": [wrong] * 1001})


def test_health_and_readiness_name_the_model_and_404_the_addresses(client: TestClient, bundle: Bundle) -> None:
    for address, wanted in {
        "/health": {"status": "alive"},
        "/ready": {"status": "ready", "model": "returns", "version": bundle.version, "fast_form": "in use"},
        "/v2/health/live": {"live": True},
        "/v2/health/ready": {"ready": True},
        "/v2": {"name": "ninefold", "version": bundle.version, "extensions": []},
        f"{V2}/ready": {"name": "returns", "ready": True},
    }.items():
        assert client.get(address).json() == wanted
    for address, says in {"/nowhere": "POST /predict", "/v2/models/a/ready": "this service has 'returns'"}.items():
        answer = client.get(address)
        assert (answer.status_code, says in answer.json()["error"]) == (404, True)
    assert client.get("/predict").headers["Allow"] == "POST"


def test_the_open_inference_protocol_answers_the_outputs_that_are_asked_for(client: TestClient) -> None:
    inputs = [{"name": "customer", "shape": [2], "datatype": "BYTES", "data": ["ann", "zed"]}]
    answer = client.post(f"{V2}/infer", json={"inputs": inputs, "outputs": [{"name": "action"}]}).json()
    assert answer["model_name"] == "returns"
    assert [(each["name"], each["shape"]) for each in answer["outputs"]] == [("action", [2])]
    answer = client.post(f"{V2}/infer", json={"inputs": inputs, "outputs": [{"name": "luck"}]}).json()
    assert answer["error"] == "outputs: no 'luck'; expected probability, action, expected_payoff"


@pytest.mark.parametrize(("inputs", "says"), [
    ([("customer", "BYTES", [2], ["ann"])], "input 'customer': shape [2] for 1 values"),
    ([("customer", "BYTES", [1, 2], ["ann"])], "input 'customer': shape [1, 2]"),
    ([("customer", "BYTES", [1], ["ann"]), ("amount", "FP64", [2], [1, 2])], "input 'amount': 2 values"),
    ([("customer", "BYTES", [1], ["ann"])] * 2, "inputs: a name stands there twice"),
    ([("customer", "TEXT", [1], ["ann"])], 'inputs.0.datatype: found "TEXT"'),
    ([("customer", "BYTES", [0], [])], "rows: none"),
    ([("customer", "BYTES", [2], ["ann", None])], "row 1, field 'customer': found null"),  # null is missing
])  # fmt: skip
def test_a_wrong_tensor_is_refused(client: TestClient, inputs: list[Any], says: str) -> None:
    tensors = [dict(zip(("name", "datatype", "shape", "data"), each, strict=True)) for each in inputs]
    answer = client.post(f"{V2}/infer", json={"inputs": tensors})
    assert answer.status_code == 422
    assert answer.json()["error"].startswith(says), answer.text


def test_a_wrong_date_is_refused_by_row_and_field(project: Project) -> None:
    client = TestClient(app.create_app(pack(lay_out("dated"))))
    for value in ("2023-02-29", "", 5):
        answer = send(client, {"placed": "2024-02-29"}, {"placed": value}).json()
        error = f"row 1, field 'placed': found {json.dumps(value)}, expected a date or time in ISO format"
        assert answer["error"].startswith(error)


def test_the_command_serves_this_machine_alone_until_stopped_and_deletes_old_answers(
    project: Project, bundle: Bundle, log: Log
) -> None:
    project.set("serving", {"allowed_hosts": ["Shop.example"]})
    for at in (NOW, datetime.now(UTC)):
        append(log, bundle, {"customer": "ann"}, at=at, name=str(at))
    with started("-m", "ninefold", "serve", "--port", "0", cwd=project.folder) as (child, line):
        assert line.startswith("serving models/bundle at http://127.0.0.1:")
        url = line.split()[-1]
        with pytest.raises(NinefoldError, match="choose another --port"):
            app._listen("127.0.0.1", int(url.rpartition(":")[2]))
        assert httpx.get(f"{url}/ready", trust_env=False, timeout=30).json()["version"] == bundle.version
        for name, status in {"localhost": 200, "shop.example": 200, "rebound.example": 400}.items():
            answer = httpx.get(f"{url}/", headers={"Host": name}, trust_env=False, timeout=30)
            assert answer.status_code == status
        assert "add it to serving.allowed_hosts in params.yaml" in answer.json()["error"]
        until(lambda: logged_rows(log.place)["request_id"].tolist() == [str(at)])
        child.send_signal(signal.SIGINT)  # test_middleware sends SIGTERM
        _, complaints = child.communicate(timeout=30)
        assert (child.returncode, complaints) == (0, "")


def as_sent(table: pd.DataFrame, online: pd.DataFrame) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """Return rows with what callers do: fields absent or null, unknown categories, numbers far away; and what they mean."""
    random = np.random.default_rng(5)
    for name, values in STRANGE.items():
        table[name] = table[name].mask(random.random(COUNT) < 0.2, pd.Series(random.choice(values, COUNT)))
    absent = pd.DataFrame(random.random(table.shape) < [ABSENT.get(name, 0.1) for name in table], columns=list(table))
    plain = table.astype(object).where(table.notna(), None).to_dict("records")
    gone = absent.to_dict("records")
    sent = [{name: row[name] for name in row if not left[name]} for row, left in zip(plain, gone, strict=True)]
    looked_up = table["customer"].map(online.set_index("customer")["value"]).fillna(PRIOR)
    return sent, table.mask(absent).assign(**{HISTORY: table[HISTORY].mask(absent[HISTORY], looked_up)})


def test_ten_thousand_rows_are_answered_over_http_as_the_pipeline_answers_them(project: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("bundles.PARAMS", PARAMS.model_copy(update={"max_rows": max(SIZES), "max_body_mb": 1}))
    bundle = pack(lay_out(model="large", prior=PRIOR))
    assert bundle.compiled.reason == ""
    assert 7 <= compiled.FEW < 500
    online = pd.read_parquet(project.folder / "data/online/rate.parquet")
    sent, known = as_sent(rows("binary", COUNT)[bundle.features], online)
    answered: list[dict[str, Any]] = []
    with asking.serving(bundle.place) as url, httpx.Client(base_url=url, trust_env=False, timeout=60) as caller:
        for size in np.random.default_rng(6).permutation(SIZES):
            answer = caller.post("/predict", json={"rows": sent[len(answered) : len(answered) + size]})
            assert answer.status_code == 200, answer.text
            answered += answer.json()["predictions"]
    wanted, found = offline(known), pd.DataFrame(answered)
    assert len(found) == COUNT
    assert (found["probability"] - wanted["probability"]).abs().max() <= 1e-9
    assert found["action"].tolist() == decisions.decide(wanted, bundle.problem)["action"].tolist()
    assert set(found["action"]) == set(bundle.problem.actions)
    assert found["probability"].nunique() > 1000


@pytest.mark.parametrize(("case", "token"), [("binary", None), ("multiclass", "a-token")])
def test_no_request_breaks_the_contract_and_every_refusal_is_met(project: Project, case: str, token: Any) -> None:
    if not os.environ.get("CI"):
        pytest.importorskip("schemathesis")
    import contract

    run = contract.run(app.create_app(pack(lay_out(case)), token=token), fuzzed=40, sequences=15, token=token)
    assert run.breaches == {}
    assert set(run.phases) == {"examples", "coverage", "fuzzing", "stateful"}
    assert run.phases.total() > 400
    met = {200, 400, 404, 405, 422, *([401] if token else [])}
    assert {status for _, status in run.statuses} == met
