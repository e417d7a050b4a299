"""The service: typed rows in, decisions out; what cannot be answered is refused by row and field, never with a 5xx."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from bundles import CASES, expected, lay_out, pack
from conftest import Project
from fastapi.testclient import TestClient

from ninefold.errors import NinefoldError
from ninefold.serving import app, middleware
from ninefold.serving import client as asking
from ninefold.serving import schemas as messages
from ninefold.serving.bundle import Bundle
from ninefold.serving.fields import as_rows

V2 = "/v2/models/returns"
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def client(bundle: Bundle) -> TestClient:
    return TestClient(app.create_app(bundle))  # raises what a server would answer with 500


def send(client: TestClient, *rows: Any) -> httpx.Response:
    return client.post("/predict", content=json.dumps({"rows": list(rows)}), headers=JSON)


def test_answers_equal_offline_ones(client: TestClient, bundle: Bundle, parts: dict[str, pd.DataFrame]) -> None:
    sent = as_rows(parts["holdout"], bundle.signature, without="identity")
    answer = send(client, *sent).json()
    decided = bundle.decide(parts["holdout"])
    assert [each["probability"] for each in answer["predictions"]] == decided["probability"].tolist()
    assert [each["action"] for each in answer["predictions"]] == decided["action"].tolist()
    assert [each["expected_payoff"] for each in answer["predictions"]] == decided["expected_payoff"].tolist()
    assert answer["version"] == bundle.version
    assert answer["history_as_of"] == "2020-02-20T00:00:00"


def test_one_row_is_answered_as_among_many(client: TestClient, bundle: Bundle, parts: dict[str, pd.DataFrame]) -> None:
    sent = as_rows(parts["holdout"].head(5), bundle.signature, without="identity")
    alone = [send(client, row).json()["predictions"][0] for row in sent]
    assert alone == send(client, *sent).json()["predictions"]


def test_what_a_caller_does_not_know_may_be_absent_or_null(client: TestClient, bundle: Bundle) -> None:
    answer = send(client, {"customer": "ann"}, {"customer": "ann", "amount": None, "channel": None}).json()
    wanted = bundle.predict(bundle.complete([{"customer": "ann"}]))["probability"].iloc[0]
    assert [each["probability"] for each in answer["predictions"]] == [wanted, wanted]


def test_what_identifies_a_row_comes_back_with_its_answer(client: TestClient) -> None:
    answer = send(client, {"customer": "ann", "id": 7, "placed": "2020-03-01T10:00:00"}, {"customer": "bob"}).json()
    assert answer["predictions"][0]["identity"] == {"id": 7, "placed": "2020-03-01T10:00:00"}
    assert "identity" not in answer["predictions"][1]


def test_an_unseen_category_is_answered_with_a_warning(client: TestClient) -> None:
    answer = send(client, {"customer": "ann"}, {"customer": "zed"})
    assert answer.status_code == 200
    assert [each["message"] for each in answer.json()["warnings"]] == [
        "row 1, field 'customer': 'zed' was not seen in training"
    ]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"customer": "ann", "amuont": 1}, "row 1, field 'amuont': unknown field; did you mean 'amount'?"),
        ({"customer": "ann", "amount": "12"}, "row 1, field 'amount': found \"12\", expected a valid number"),
        ({"customer": "ann", "amount": True}, "row 1, field 'amount': found true, expected a valid number"),
        ({"customer": "ann", "amount": [1]}, "row 1, field 'amount': found a list, expected a valid number"),
        ({"customer": "ann", "amount": float("nan")}, "row 1, field 'amount': found NaN, expected a finite number"),
        ({"customer": "ann", "amount": float("-inf")}, "row 1, field 'amount': found -Infinity, expected a finite"),
        ({"customer": "ann", "amount": 1e200}, "row 1, field 'amount': found 1e+200, expected a number from -1e+30"),
        ({"customer": 5}, "row 1, field 'customer': found 5, expected a valid string"),
        ({"customer": None}, "row 1, field 'customer': found null, expected a valid string"),
        ({"amount": 5}, "row 1, field 'customer': missing; it is needed to look up history"),
        ({"customer": "\ud800"}, "row 1, field 'customer': found \"\\ud800\", expected whole characters"),
        ({"customer": "ann", "\ud800": 1}, "row 1"),
        ({"customer": "ann", "id": []}, "row 1, field 'id'"),
        (7, "row 1: found 7, expected an object"),
        (None, "row 1: found null, expected an object"),
    ],
)
def test_a_wrong_row_is_refused_by_row_and_field(client: TestClient, wrong: Any, says: str) -> None:
    answer = send(client, {"customer": "ann"}, wrong)
    assert answer.status_code == 422
    assert answer.json()["error"].startswith(says), answer.text
    assert answer.json()["problems"][0]["row"] == 1


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"rows": [', "body: not JSON"),
        (b"", "body: missing"),
        (b"[]", "body: found a list, expected an object"),
        (b"{}", "rows: missing"),
        (b'{"rows": []}', "rows: none, expected at least 1"),
        (b'{"rows": 5}', "rows: found 5, expected a valid list"),
        (b'{"rows": [{"customer": "ann"}], "row": 1}', "row: unknown field; did you mean 'rows'?"),
        (b"\xff\xfe", "body: not JSON"),
        (b"[" * 40_000, "body: not JSON"),
        (b'{"rows": [{"customer": "ann", "amount": ' + b"9" * 6000 + b"}]}", "body: not JSON"),
    ],
)
def test_a_wrong_body_is_refused(client: TestClient, body: bytes, says: str) -> None:
    answer = client.post("/predict", content=body, headers=JSON)
    assert 400 <= answer.status_code < 500
    assert answer.json()["error"].startswith(says), answer.text


def test_a_body_not_sent_as_json_is_refused_with_advice(client: TestClient) -> None:
    answer = client.post("/predict", content=b'{"rows": []}', headers={"Content-Type": "text/plain"})
    assert answer.status_code == 422
    assert "Content-Type: application/json" in answer.json()["error"]


def test_many_problems_are_counted_and_the_first_are_listed(client: TestClient) -> None:
    answer = send(client, *[{"customer": 5}] * 50).json()
    assert len(answer["problems"]) == app.REPORTED
    assert answer["error"].endswith("; and 30 more")


def test_too_many_rows_are_refused(client: TestClient) -> None:
    answer = send(client, *[{"customer": "ann"}] * 101)
    assert answer.status_code == 422
    assert "expected at most 100; send several requests" in answer.json()["error"]


def test_a_hundred_thousand_rows_are_refused_within_the_limit_of_the_body(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        bundle.described, "limits", {**bundle.described["limits"], "max_rows": 100_000, "max_body_mb": 16}
    )
    answer = send(TestClient(app.create_app(bundle)), *[{"customer": "ann"}] * 100_001)
    assert answer.status_code == 422
    assert "at most 100,000" in answer.json()["error"]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_refused(client: TestClient, chunked: bool) -> None:
    body = b" " * 60_000
    answer = client.post("/predict", content=iter([body[:100], body[100:]]) if chunked else body, headers=JSON)
    assert answer.status_code == 413
    assert "more than 0.05 MB" in answer.json()["error"]


def test_health_and_readiness_name_the_model(client: TestClient, bundle: Bundle) -> None:
    assert client.get("/health").json() == {"status": "alive"}
    ready = {"status": "ready", "model": "returns", "version": bundle.version, "fast_form": "in use"}
    assert client.get("/ready").json() == ready


def test_an_unknown_address_says_which_there_are(client: TestClient) -> None:
    answer = client.get("/nowhere")
    assert answer.status_code == 404
    assert "POST /predict" in answer.json()["error"]
    wrong = client.get("/predict")
    assert (wrong.status_code, wrong.headers["Allow"]) == (405, "POST")


def test_the_open_inference_protocol_answers_as_the_plain_route(client: TestClient) -> None:
    columns = {"customer": ("BYTES", ["ann", "zed"]), "amount": ("FP64", [90.5, None]), "items": ("INT64", [1, 2])}
    inputs = [{"name": name, "shape": [2, 1], "datatype": kind, "data": data} for name, (kind, data) in columns.items()]
    answer = client.post(f"{V2}/infer", json={"id": "a", "inputs": inputs}).json()
    plain = send(
        client, {"customer": "ann", "amount": 90.5, "items": 1}, {"customer": "zed", "items": 2, "amount": None}
    )
    outputs = {each["name"]: each for each in answer["outputs"]}
    assert answer["id"] == "a"
    assert outputs["probability"]["shape"] == [2]
    for name in ("probability", "action", "expected_payoff"):
        assert outputs[name]["data"] == [each[name] for each in plain.json()["predictions"]]
    only = client.post(f"{V2}/infer", json={"inputs": inputs, "outputs": [{"name": "action"}]}).json()
    assert [each["name"] for each in only["outputs"]] == ["action"]


def test_the_open_inference_protocol_describes_the_model(client: TestClient, bundle: Bundle) -> None:
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get(f"{V2}/ready").json() == {"name": "returns", "ready": True}
    described = client.get(V2).json()
    assert described["versions"] == [bundle.version]
    assert {each["name"]: each["datatype"] for each in described["inputs"]}["customer"] == "BYTES"
    assert client.get("/v2").json()["name"] == "ninefold"


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ([("customer", "BYTES", [2], ["ann"])], "input 'customer': shape [2] for 1 values"),
        ([("customer", "BYTES", [], ["ann"])], "input 'customer': shape []"),
        ([("customer", "BYTES", [1, 2], ["ann"])], "input 'customer': shape [1, 2]"),
        ([("customer", "BYTES", [1], ["ann"]), ("amount", "FP64", [2], [1, 2])], "input 'amount': 2 values"),
        ([("customer", "BYTES", [1], ["ann"])] * 2, "inputs: a name stands there twice"),
        ([("customer", "TEXT", [1], ["ann"])], 'inputs.0.datatype: found "TEXT"'),
        ([("customer", "BYTES", [0], [])], "rows: none"),
        ([("customer", "BYTES", [1], ["ann"]), ("amuont", "FP64", [1], [1])], "row 0, field 'amuont': unknown field"),
        ([("amount", "FP64", [1], ["x"])], "row 0, field 'amount'"),
        ([], "inputs: none"),
    ],
)
def test_a_wrong_tensor_is_refused(client: TestClient, inputs: list[Any], says: str) -> None:
    tensors = [dict(zip(("name", "datatype", "shape", "data"), each, strict=True)) for each in inputs]
    answer = client.post(f"{V2}/infer", json={"inputs": tensors})
    assert answer.status_code == 422
    assert answer.json()["error"].startswith(says), answer.text


def test_another_model_is_not_found_and_the_one_here_is_named(client: TestClient) -> None:
    for answer in (client.get("/v2/models/other"), client.get("/v2/models/other/ready")):
        assert answer.status_code == 404
        assert "this service has 'returns'" in answer.json()["error"]


def test_openapi_is_typed_and_its_example_works(client: TestClient) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert schemas["Row"]["required"] == ["customer"]
    assert schemas["Row"]["properties"]["amount"]["anyOf"][0]["type"] == "number"
    assert client.post("/predict", json=schemas["Rows"]["examples"][0]).status_code == 200


def test_openapi_names_every_status_that_occurs(client: TestClient, bundle: Bundle) -> None:
    def statuses(document: dict[str, Any]) -> dict[str, set[str]]:
        return {path: set(next(iter(ways.values()))["responses"]) for path, ways in document["paths"].items()}

    found = statuses(client.get("/openapi.json").json())
    assert found["/predict"] == {"200", "400", "408", "413", "422", "503"}
    assert found["/v2/models/{name}/infer"] == {"200", "400", "404", "408", "413", "422", "503"}
    assert found["/v2/models/{name}/ready"] == {"200", "404", "422", "503"}
    assert found["/ready"] == found["/v2/health/ready"] == {"200", "503"}
    assert found["/health"] == found["/metrics"] == {"200"}
    guarded = TestClient(app.create_app(bundle, token="a"))
    document = guarded.get("/openapi.json", headers={"Authorization": "Bearer a"}).json()
    for path, codes in statuses(document).items():
        open_ = path in middleware.PUBLIC
        assert codes == found[path] | ({"401"} if not open_ else set())
        assert all(("security" in way) != open_ for way in document["paths"][path].values())
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"


@pytest.mark.parametrize("case", CASES)
def test_answers_are_as_openapi_describes_them(project: Project, case: str) -> None:
    import jsonschema  # takes 2 s

    client = TestClient(app.create_app(pack(lay_out(case))))
    document = client.get("/openapi.json").json()
    example = document["components"]["schemas"]["Rows"]["examples"][0]
    schema = document["paths"]["/predict"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    resolved = {**schema, "components": document["components"]}
    jsonschema.validate(client.post("/predict", json=example).json(), resolved)


@pytest.mark.parametrize("case", CASES)
def test_every_task_is_answered_as_offline_on_both_routes(project: Project, case: str) -> None:
    parts = lay_out(case)
    bundle, wanted = pack(parts), expected(parts["holdout"])
    client = TestClient(app.create_app(bundle))
    rows = as_rows(parts["holdout"], bundle.signature)
    answered = send(client, *rows).json()["predictions"]
    flat = pd.DataFrame([asking._flat(each) for each in answered])[bundle.answers]
    pd.testing.assert_frame_equal(flat, wanted, check_exact=True, check_dtype=False)
    assert [each["identity"]["id"] for each in answered] == parts["holdout"]["id"].tolist()
    kinds = {each["name"]: each["datatype"] for each in client.get("/v2/models/returns").json()["inputs"]}
    inputs = [
        {"name": name, "shape": [len(rows)], "datatype": kind, "data": [row[name] for row in rows]}
        for name, kind in kinds.items()
    ]
    tensors = client.post("/v2/models/returns/infer", json={"inputs": inputs}).json()["outputs"]
    columns = pd.DataFrame({each["name"]: each["data"] for each in tensors})
    pd.testing.assert_frame_equal(columns, wanted, check_exact=True, check_dtype=False)


@pytest.mark.parametrize("case", CASES)
def test_every_bad_request_is_refused_whatever_the_signature(project: Project, case: str) -> None:
    bundle = pack(lay_out(case))
    client = TestClient(app.create_app(bundle))
    asked = asking.bad_requests(bundle)
    for what, (address, body) in asked.items():
        answer = client.post(address, content=body, headers=JSON)
        assert 400 <= answer.status_code < 500, f"{what}: {answer.text}"
    assert ("a date that is none" in asked) == (case in ("multiclass", "regression", "dated"))
    assert send(client, bundle.described["example"]).status_code == 200


def test_a_key_without_history_is_answered_with_its_prior(project: Project) -> None:
    plain = TestClient(app.create_app(pack(lay_out(model="linear"))))
    client = TestClient(app.create_app(pack(lay_out(model="linear", prior=0.95))))
    row, name = {"customer": "eve", "amount": 50, "items": 2, "channel": "web"}, "rate_by_customer_7d"
    absent, problem, none = send(client, row, {**row, name: 0.95}, {**row, name: None}).json()["predictions"]
    assert absent == problem
    assert none == send(plain, row).json()["predictions"][0]
    assert absent != none


def test_without_history_there_is_no_moment(project: Project) -> None:
    client = TestClient(app.create_app(pack(lay_out("text"))))
    answer = send(client, {"comment": "buy pills"}).json()
    assert answer["history_as_of"] is None
    assert set(answer["predictions"][0]) == {"probability", "action", "expected_payoff"}


@pytest.mark.parametrize(
    ("value", "found"),
    [("yesterday", '"yesterday"'), (5, "5"), ("2023-02-29", '"2023-02-29"'), ("", '""'), ([], "a list")],
)
def test_a_wrong_date_is_refused_by_row_and_field(project: Project, value: Any, found: str) -> None:
    client = TestClient(app.create_app(pack(lay_out("multiclass"))))
    answer = send(client, {"@x": "2024-02-29"}, {"@x": value})
    assert answer.status_code == 422
    assert answer.json()["error"].startswith(f"row 1, field '@x': found {found}, expected a date or time in ISO format")


def test_a_key_that_training_missed_too_may_be_null(project: Project) -> None:
    parts = lay_out()
    parts["train"].loc[2, "customer"] = None
    client = TestClient(app.create_app(pack(parts)))
    assert send(client, {"customer": None}).status_code == 200
    assert "needed to look up history" in send(client, {"amount": 1}).json()["error"]


@pytest.mark.parametrize("case", CASES)
def test_openapi_shows_the_fields_and_the_answer_of_the_task(project: Project, case: str) -> None:
    bundle = pack(lay_out(case))
    schemas = TestClient(app.create_app(bundle)).get("/openapi.json").json()["components"]["schemas"]
    assert list(schemas["Row"]["properties"]) == [field["name"] for field in bundle.signature]
    kind = {"multiclass": "Classes", "regression": "Quantity"}.get(case, "Event")
    assert {"action", "expected_payoff"} <= set(schemas[kind]["required"])
    assert schemas["Predictions"]["properties"]["predictions"]["items"] == {"$ref": f"#/components/schemas/{kind}"}


def test_features_named_like_methods_of_the_library_are_fine(bundle: Bundle) -> None:
    names = ["copy", "model_dump", "_private", "with space", "schema"]
    fields = [{"name": name, "kind": "numeric", "type": "number", "required": False} for name in names]
    bundle.described["signature"] += fields
    body = messages.request_model(bundle).model_validate({"rows": [{"customer": "ann", **dict.fromkeys(names, 1.0)}]})
    assert messages.sent(body) == [{"customer": "ann", **dict.fromkeys(names, 1.0)}]


def test_a_taken_port_is_refused_clearly(bundle: Bundle) -> None:
    with app._listen("127.0.0.1", 0) as taken, pytest.raises(NinefoldError, match="choose another --port"):
        app._listen("127.0.0.1", taken.getsockname()[1])


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_on_this_machine_alone_until_it_is_told_to_stop(
    bundle: Bundle, tmp_path: Path, how: signal.Signals
) -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(app.__file__).parents[2])}
    command = [sys.executable, "-m", "ninefold", "serve", "--port", "0"]
    child = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        line = child.stdout.readline()
        assert line.startswith("serving models/bundle at http://127.0.0.1:")
        answer = httpx.post(
            f"{line.split()[-1]}/predict", json={"rows": [{"customer": "ann"}]}, trust_env=False, timeout=30
        )
        wanted = bundle.predict(bundle.complete([{"customer": "ann"}]))["probability"].iloc[0]
        assert np.isclose(answer.json()["predictions"][0]["probability"], wanted, rtol=0, atol=1e-9)
        child.send_signal(how)
        _, complaints = child.communicate(timeout=30)
        assert (child.returncode, complaints) == (0, "")
    finally:
        child.kill()
        child.wait()
