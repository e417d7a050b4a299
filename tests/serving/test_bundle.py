"""The bundle: all that answering takes, the same for the same inputs, refused when changed; its fields and their types."""

import dataclasses
import json
import time
from typing import Any

import numpy as np
import pandas as pd
import pytest
from bundles import FEATURES, lay_out, pack
from conftest import Project
from sklearn.dummy import DummyClassifier

from ninefold import artifacts
from ninefold.errors import DataError
from ninefold.metrics import EvaluationPlan
from ninefold.problem import Problem
from ninefold.serving import batch, deployment, schemas
from ninefold.serving import bundle as packing
from ninefold.serving import fields as signature
from ninefold.serving.bundle import Bundle
from ninefold.timestamps import as_days


def test_answers_have_the_columns_of_their_task_and_other_names_beside_a_field_of_that_name(project: Project) -> None:
    for case, forecast, taken in (
        ("binary", ["probability"], {}),
        ("multiclass", ["probability_s/m", 'probability_the "l"', "probability_É $"], {"action": "action_predicted"}),
        ("regression", ["prediction", "low", "high"], {"prediction": "prediction_predicted"}),
    ):
        parts = lay_out(case)
        bundle, some = pack(parts), parts["holdout"].iloc[[7, 3]].set_axis(["x", "y"])
        assert bundle.answers == [*forecast, "action", "expected_payoff"]
        assert bundle.added == {name: taken.get(name, name) for name in bundle.answers}
        assert bundle.decide(some).index.tolist() == ["x", "y"]
        assert list(bundle.reference["features"]) == bundle.features


def test_fields_may_be_named_like_arguments_and_like_every_other_name(project: Project) -> None:
    bundle, constant = pack(lay_out("text")), DummyClassifier().fit([[0], [0]], [0, 1])
    names = ["self", "action", "copy", "model_dump", "_private", "with space", "schema"]
    fields = [{"name": name, "kind": "date", "type": "date", "required": False} for name in names]
    taken = {"name": "action_predicted", "kind": "identity", "type": "any", "required": False}
    described = {**bundle.described, "signature": [*bundle.signature, *fields, taken]}
    other = dataclasses.replace(bundle, described=described, model=constant)
    assert other.added["action"] == "action_predicted_predicted"
    row = {"comment": "x", **dict.fromkeys(names, "2024-02-29")}
    assert schemas.sent_rows(schemas.request_model(other).model_validate({"rows": [row]})) == [row]
    assert other.decide(other.complete([row]))["probability"].tolist() == [0.5]


def test_the_same_inputs_give_the_same_bytes_and_another_model_another_version(project: Project, parts: Any) -> None:
    first = pack(parts).version, project.bytes("models/bundle")
    time.sleep(1.1)  # a time stamp in any file would differ by now
    assert (pack(parts).version, project.bytes("models/bundle")) == first
    assert pack(lay_out(model="linear")).version != first[0]


def test_files_that_miss_changed_or_are_strangers_are_named_but_not_what_a_file_manager_leaves(bundle: Bundle) -> None:
    (bundle.place / ".DS_Store").write_bytes(b"")
    assert Bundle.load().version == bundle.version
    (bundle.place / "reference.json").unlink()
    (bundle.place / "extra.py").write_text("")
    (bundle.place / "online/rate.parquet").write_bytes(b"!")
    with pytest.raises(
        DataError, match=r"missing: reference\.json; changed: online/rate\.parquet; not listed: extra\.py"
    ):
        Bundle.load()
    (bundle.place / "checksums.json").write_text("[")
    with pytest.raises(DataError, match=rf"checksums\.json: cannot be read as JSON .*{artifacts.RESTORE}"):
        Bundle.load()
    (bundle.place / "checksums.json").unlink()
    with pytest.raises(DataError, match="holds no bundle"):
        Bundle.load()


def test_a_bundle_of_another_format_is_refused(bundle: Bundle) -> None:
    place, listing = bundle.place / "bundle.json", bundle.place / "checksums.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), "format": 1}))
    listing.write_text(json.dumps({**json.loads(listing.read_text()), "bundle.json": artifacts.sha256(place)}))
    with pytest.raises(DataError, match=r"bundle\.json: format 1, expected 3; pack it again"):
        Bundle.load()


@pytest.mark.parametrize("prior", [None, 0.25])
@pytest.mark.parametrize("unknown", [False, True])
def test_rows_and_tables_are_completed_alike(project: Project, prior: float | None, unknown: bool) -> None:
    parts, name = lay_out(prior=prior), "rate_by_customer_7d"
    if unknown:  # a key that is missing has a history too where training had one
        parts["train"].loc[3, "customer"] = parts["holdout"].loc[5, "customer"] = None
        online = pd.DataFrame({"customer": pd.array(["ann", "bob", None], dtype="str"), "value": [0.1, 0.2, 0.7]})
        artifacts.write_table(online, artifacts.path("data/online/rate.parquet"))
    bundle, table = pack(parts), parts["holdout"]
    rows = bundle.complete(signature.as_rows(table, bundle.signature, without="history"))
    looked_up = signature.look_up(table.drop(columns=name), bundle.online)
    pd.testing.assert_frame_equal(rows, looked_up[bundle.features].reset_index(drop=True))
    pd.testing.assert_frame_equal(rows, deployment.with_online(table)[bundle.features])
    assert len(batch.through_file(table, ".csv", bundle)) == len(table)
    if unknown:
        assert rows[name][5] == 0.7
        assert schemas.request_model(bundle).model_validate({"rows": [{"customer": None}]})


def test_the_signature_says_what_a_row_may_and_must_hold(project: Project) -> None:
    parts = lay_out()
    parts["validation"].loc[0, "customer"], parts["holdout"].loc[0, "customer"] = "zoe", "max"
    bundle = pack(parts)
    fields = {field["name"]: field for field in bundle.signature}
    assert [name for name, field in fields.items() if field["required"]] == ["customer"]
    assert fields["customer"]["known"] == ["ann", "bob", "eve", "zoe"]  # what the model is fitted on
    assert [name for name, field in fields.items() if field["kind"] == "identity"] == ["id", "placed"]
    assert "rate_by_customer_7d" not in bundle.described["example"]
    types = {field["name"]: f"{field['kind']}, {field['type']}" for field in pack(lay_out("multiclass")).signature}
    assert [types[name] for name in ("@x", "id", 'say "from"')] == ["date, date", "identity, any", "text, string"]


def test_a_number_has_the_bounds_of_the_contract_unless_it_was_made_of_something_else(project: Project) -> None:
    parts, problem = lay_out(), Problem.load()
    online = artifacts.read_json("data/online/online.json")
    bounds = {"amount": {"min": 0, "max": 50}, "items": {"allowed": [1, 2, 3, 4]}, "customer": {"min": 0}}
    fields = {field["name"]: field for field in signature.signature(parts, online, problem, bounds)}
    assert {name: field["bounds"] for name, field in fields.items() if "bounds" in field} == {"items": bounds["items"]}
    bundle = pack(parts)
    assert bundle.bounds == {"amount": {"min": 0, "max": 1000}}
    rows = bundle.complete([{"customer": "ann", "amount": amount} for amount in (5, -1, None, 2000)])
    (warning,) = bundle.warnings(rows)
    assert (warning["value"], warning["rows"], warning["first_row"]) == (-1, 2, 1)
    assert bundle.answer([{"customer": "ann", "amount": -1.0}]).warnings[0]["reason"] == warning["reason"]
    for field in bundle.signature:
        field.pop("bounds", None)  # as bundles that were packed earlier
    del vars(bundle)["bounds"]
    assert bundle.warnings(rows) == []


def test_a_lookup_key_that_is_no_feature_is_still_sent(bundle: Bundle, parts: dict[str, pd.DataFrame]) -> None:
    store = {"feature": "rate_by_customer_7d", "by": ["customer"]}
    online = {"features": FEATURES["binary"][:3], "stores": [store]}
    schema = signature.signature(parts, online, bundle.problem)
    other = dataclasses.replace(bundle, described={**bundle.described, "signature": schema})
    assert "customer" not in other.features
    assert other.fields == [*other.features, "customer"]


def test_dates_are_days_and_come_back_as_text_whatever_their_zone() -> None:
    for text in ("1970-01-01", "1969-12-31T23:59:59.999999", "2024-02-29T12:30:00", "9999-12-31"):
        assert signature.iso(signature.days(text)) == (text if "T" in text else f"{text}T00:00:00")
    texts = ["2024-03-01T01:00:00+02:00", "2024-02-29T23:00:00Z", "2024-02-29 23:00", "2024-02-29T23"]
    assert len({signature.days(text) for text in texts}) == 1
    for text in ("", "yesterday", "20240229", "2023-02-29", "29.02.2024", "2024", "12:30", "2024-02-29x"):
        with pytest.raises(ValueError, match=r"ISO|isoformat|day is out of range"):
            signature.days(text)
    moments, field = pd.Series(pd.to_datetime(["2024-02-29T23:30:00Z", None]).tz_convert("Asia/Tokyo")), {"type": "any"}
    assert as_days(moments).tolist()[0] == signature.days("2024-02-29T23:30:00")
    assert signature.sendable(moments, field) == ["2024-02-29T23:30:00", None]
    assert signature.sendable(pd.Series([0.5, np.nan]), {"type": "date"}) == ["1970-01-01T12:00:00", None]
    assert signature.sendable(pd.Series(["NaT", None], dtype="str"), field) == ["NaT", None]


def test_numbers_text_and_dates_are_described_by_their_deciles() -> None:
    for values, edges in (([1.0, 2, 3, np.nan], [1, 2, 3]), ([5.0] * 4, [5]), ([np.nan] * 3, [])):
        assert packing.edges_of(pd.Series(values), "numeric") == {"edges": edges}
    assert packing.edges_of(pd.Series(["", "a", "bb", None], dtype="str"), "text") == {"edges": [0, 1, 2]}
    assert packing.edges_of(pd.Series(pd.to_datetime(["1970-01-03", None])), "date") == {"edges": [2]}


def test_domain_objects_show_themselves_in_a_line_and_as_a_table(bundle: Bundle) -> None:
    plan = EvaluationPlan.load()
    for each in (bundle, bundle.problem, bundle.columns, plan, plan.split):
        assert repr(each).startswith(f"{type(each).__name__}(")
        assert "\n" not in repr(each)
        assert "<caption>" in each._repr_html_()
