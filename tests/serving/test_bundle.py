"""The bundle: all that answering takes, the same for the same inputs, refused when changed; its fields and their types."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import Any

import bundles
import numpy as np
import pandas as pd
import pytest
from bundles import CASES, lay_out, pack
from conftest import Project

from ninefold import artifacts
from ninefold.errors import DataError
from ninefold.monitoring import drift
from ninefold.problem import decisions
from ninefold.serving import bundle as packing
from ninefold.serving import deployment
from ninefold.serving import fields as signature
from ninefold.serving.bundle import Bundle
from ninefold.timestamps import as_days


@pytest.mark.parametrize("model", bundles.MODELS)
@pytest.mark.parametrize("case", CASES)
def test_a_bundle_answers_as_the_candidate_does(project: Project, case: str, model: str) -> None:
    parts = lay_out(case, model)
    bundle = pack(parts)
    decided = bundle.decide(parts["holdout"])
    pd.testing.assert_frame_equal(bundle.predict(parts["holdout"]), bundles.offline(parts["holdout"]), check_exact=True)
    pd.testing.assert_frame_equal(decided[bundle.answers], bundles.expected(parts["holdout"]), check_exact=True)
    sent = signature.as_rows(parts["holdout"], bundle.signature)
    by_row = bundle.decide(bundle.complete(json.loads(json.dumps(sent))))
    pd.testing.assert_frame_equal(by_row, decided, check_exact=True)


def test_the_index_of_the_rows_is_kept(bundle: Bundle, parts: dict[str, pd.DataFrame]) -> None:
    some = parts["holdout"].iloc[[7, 3]].set_axis(["x", "y"])
    assert bundle.decide(some).index.tolist() == ["x", "y"]


def test_answers_have_the_columns_of_their_task(project: Project) -> None:
    columns = {case: pack(lay_out(case)).answers for case in CASES}
    assert columns["binary"] == ["probability", "action", "expected_payoff"]
    assert columns["regression"] == ["prediction", "low", "high", "action", "expected_payoff"]
    assert columns["multiclass"][:3] == ["probability_s/m", 'probability_the "l"', "probability_É $"]


def test_an_answer_named_like_a_field_gets_another_name_beside_it(project: Project) -> None:
    assert pack(lay_out("multiclass")).added["action"] == "action_predicted"
    assert pack(lay_out("regression")).added["prediction"] == "prediction_predicted"
    assert set(pack(lay_out("text")).added.items()) == {(name, name) for name in pack(lay_out("text")).answers}


def test_fields_may_be_named_like_arguments_and_like_every_other_name(project: Project) -> None:
    parts = lay_out("text")
    bundle = pack(parts)
    fields = [{"name": name, "kind": "date", "type": "date", "required": False} for name in ("self", "action")]
    taken = {"name": "action_predicted", "kind": "identity", "type": "any", "required": False}
    described = {**bundle.described, "signature": [*bundle.signature, *fields, taken]}
    other = dataclasses.replace(bundle, described=described, model=_Constant())
    assert other.added["action"] == "action_predicted_predicted"
    answered = other.decide(other.complete([{"self": "2024-02-29", "comment": "x"}]))
    assert answered["probability"].tolist() == [0.5]


def test_the_same_inputs_give_the_same_bytes(project: Project, parts: dict[str, pd.DataFrame]) -> None:
    first = pack(parts).version, project.bytes("models/bundle")
    time.sleep(1.1)  # a time stamp in any file would differ by now
    assert (pack(parts).version, project.bytes("models/bundle")) == first


def test_another_model_is_another_version(project: Project) -> None:
    boosted = pack(lay_out()).version
    assert pack(lay_out(model="linear")).version != boosted


def test_a_bundle_needs_nothing_else_of_the_project(
    bundle: Bundle,
    project: Project,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "bundle"
    (project.folder / "models/bundle").rename(elsewhere)
    monkeypatch.chdir(elsewhere.parent)
    assert Bundle.load(elsewhere).version == bundle.version


@pytest.mark.parametrize("name", ["model.skops", "bundle.json", "reference.json", "online/rate.parquet"])
def test_a_changed_file_is_refused_by_name(bundle: Bundle, name: str) -> None:
    file = bundle.place / name
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(DataError, match=f"changed: {name}; {artifacts.RESTORE}"):
        Bundle.load()


def test_a_missing_file_and_a_stranger_are_refused_by_name(bundle: Bundle) -> None:
    (bundle.place / "reference.json").unlink()
    (bundle.place / "extra.py").write_text("")
    with pytest.raises(DataError, match=r"missing: reference\.json; not listed: extra\.py"):
        Bundle.load()


def test_what_a_file_manager_leaves_is_no_stranger(bundle: Bundle) -> None:
    (bundle.place / ".DS_Store").write_bytes(b"")
    assert Bundle.load().version == bundle.version


def test_no_bundle_is_said_to_be_none(project: Project) -> None:
    with pytest.raises(DataError, match="holds no bundle"):
        Bundle.load()


def test_damaged_checksums_are_refused(bundle: Bundle) -> None:
    (bundle.place / "checksums.json").write_text("[")
    with pytest.raises(DataError, match=rf"checksums\.json: not readable as JSON .*{artifacts.RESTORE}"):
        Bundle.load()


def test_a_bundle_of_another_format_is_refused(bundle: Bundle) -> None:
    place = bundle.place / "bundle.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), "format": 1}))
    listing = bundle.place / "checksums.json"
    listing.write_text(json.dumps({**json.loads(listing.read_text()), "bundle.json": artifacts.sha256(place)}))
    with pytest.raises(DataError, match=r"bundle\.json: format 1, expected 3; pack it again"):
        Bundle.load()


def test_absent_history_is_looked_up_and_null_is_believed(bundle: Bundle) -> None:
    sent = [{"customer": "bob"}, {"customer": "bob", "rate_by_customer_7d": None}, {"customer": "eve"}]
    looked = bundle.complete([*sent, {"customer": "bob", "rate_by_customer_7d": 0.9}])["rate_by_customer_7d"]
    assert looked.iloc[[0, 3]].tolist() == [0.1 + 0.2, 0.9]
    assert looked.iloc[[1, 2]].isna().all()  # sent as unknown; a key that the online values do not have


def test_rows_and_tables_are_completed_alike(bundle: Bundle, parts: dict[str, pd.DataFrame]) -> None:
    table = parts["holdout"].drop(columns="rate_by_customer_7d")
    by_row = bundle.complete(signature.as_rows(parts["holdout"], bundle.signature, without="history"))
    pd.testing.assert_frame_equal(by_row, bundle.look_up(table)[bundle.features].reset_index(drop=True))
    joined = deployment.with_online(parts["holdout"])
    pd.testing.assert_frame_equal(by_row, joined[bundle.features])


def test_a_key_without_history_has_the_declared_prior_whichever_way_it_is_looked_up(project: Project) -> None:
    parts = lay_out(prior=0.25)
    bundle, name = pack(parts), "rate_by_customer_7d"
    sent = [{"customer": who} for who in ("bob", "eve", "nobody")]
    told = [{"customer": "eve", name: None}, {"customer": "eve", name: 0.9}]
    looked = bundle.complete([*sent, *told])[name]
    assert looked.drop(3).tolist() == [0.1 + 0.2, 0.25, 0.25, 0.9]
    assert np.isnan(looked[3]), "the caller knows that there is none"
    rows = bundle.complete(signature.as_rows(parts["holdout"], bundle.signature, without="history"))
    values = {"ann": 0.125, "bob": 0.1 + 0.2, "eve": 0.25}
    assert rows[name].tolist() == parts["holdout"]["customer"].map(values).tolist()
    table = bundle.look_up(parts["holdout"].drop(columns=name))
    pd.testing.assert_frame_equal(rows, table[bundle.features].reset_index(drop=True))
    pd.testing.assert_frame_equal(rows, deployment.with_online(parts["holdout"])[bundle.features])


def test_an_unknown_key_has_a_history_too_where_training_had_one(project: Project) -> None:
    parts = lay_out()
    parts["train"].loc[3, "customer"] = None
    parts["holdout"].loc[5, "customer"] = None
    online = pd.DataFrame({"customer": pd.array(["ann", "bob", None], dtype="str"), "value": [0.1, 0.2, 0.7]})
    artifacts.write_table(online, artifacts.path("data/online/rate.parquet"))
    bundle = pack(parts)
    assert next(field for field in bundle.signature if field["name"] == "customer")["nullable"]
    rows = bundle.complete(signature.as_rows(parts["holdout"], bundle.signature, without="history"))
    assert rows["rate_by_customer_7d"][5] == 0.7
    pd.testing.assert_frame_equal(rows, deployment.with_online(parts["holdout"])[bundle.features])
    pd.testing.assert_frame_equal(
        rows, bundle.look_up(parts["holdout"].drop(columns="rate_by_customer_7d"))[bundle.features]
    )


@pytest.mark.parametrize("model", bundles.MODELS)
def test_a_row_of_which_only_the_key_is_known_is_answered(project: Project, model: str) -> None:
    bundle = pack(lay_out(model=model))
    assert 0 < bundle.predict(bundle.complete([{"customer": "nobody"}]))["probability"].iloc[0] < 1


@pytest.mark.parametrize("case", CASES[1:])
def test_a_row_of_which_nothing_is_known_is_answered(project: Project, case: str) -> None:
    bundle = pack(lay_out(case))
    assert bundle.decide(bundle.complete([{}]))[bundle.answers].notna().all(axis=None)


def test_rows_become_json_without_losing_a_digit(parts: dict[str, pd.DataFrame], bundle: Bundle) -> None:
    sent = signature.as_rows(parts["holdout"], bundle.signature)
    back = pd.DataFrame(json.loads(json.dumps(sent))).astype({"amount": "float64"})
    assert np.array_equal(back["amount"], parts["holdout"]["amount"], equal_nan=True)


def test_the_signature_says_what_a_row_may_and_must_hold(bundle: Bundle) -> None:
    fields = {field["name"]: field for field in bundle.signature}
    assert [name for name, field in fields.items() if field["required"]] == ["customer"]
    assert fields["customer"]["known"] == ["ann", "bob", "eve"]
    assert [name for name, field in fields.items() if field["kind"] == "identity"] == ["id", "placed"]
    assert bundle.columns.numeric == ["amount", "items", "rate_by_customer_7d"]
    assert "rate_by_customer_7d" not in bundle.described["example"]


def test_a_category_of_validation_is_known_for_the_model_is_fitted_on_it(project: Project) -> None:
    parts = lay_out()
    parts["validation"].loc[0, "customer"], parts["holdout"].loc[0, "customer"] = "zoe", "max"
    assert pack(parts).known["customer"] == {"ann", "bob", "eve", "zoe"}


def test_types_follow_from_kinds(project: Project) -> None:
    fields = {field["name"]: (field["kind"], field["type"]) for field in pack(lay_out("multiclass")).signature}
    assert fields["@x"] == ("date", "date")
    assert fields['say "from"'] == ("text", "string")
    assert fields["id"] == ("identity", "any")


def test_a_time_that_is_a_feature_too_is_one_field_sent_as_text(
    parts: dict[str, pd.DataFrame],
) -> None:
    online = {"features": [{"name": "placed", "kind": "date"}], "stores": []}
    schema = signature.signature(parts, online, bundles.problem_of("binary"))
    assert [(field["name"], field["kind"]) for field in schema] == [("placed", "date"), ("id", "identity")]
    sent = signature.as_rows(parts["holdout"].head(1), schema)[0]
    assert sent["placed"] == parts["holdout"]["placed"][0].isoformat()
    assert signature.days(sent["placed"]) == as_days(parts["holdout"]["placed"])[0]


def test_a_lookup_key_that_is_no_feature_is_still_sent(bundle: Bundle, parts: dict[str, pd.DataFrame]) -> None:
    online = {
        "features": bundles.FEATURES["binary"][:3],
        "stores": [{"feature": "rate_by_customer_7d", "by": ["customer"]}],
    }
    schema = signature.signature(parts, online, bundle.problem)
    other = dataclasses.replace(bundle, described={**bundle.described, "signature": schema})
    assert "customer" not in other.features
    assert other.fields == [*other.features, "customer"]


@pytest.mark.parametrize("text", ["1970-01-01", "1969-12-31T23:59:59.999999", "2024-02-29T12:30:00", "9999-12-31"])
def test_dates_are_days_and_come_back_as_text(text: str) -> None:
    assert signature.iso(signature.days(text)) == (text if "T" in text else f"{text}T00:00:00")


def test_a_date_of_another_zone_is_the_same_moment() -> None:
    moments = ["2024-03-01T01:00:00+02:00", "2024-02-29T23:00:00Z", "2024-02-29 23:00", "2024-02-29T23"]
    assert len({signature.days(text) for text in moments}) == 1


@pytest.mark.parametrize(
    "text", ["", "yesterday", "20240229", "2023-02-29", "29.02.2024", "2024", "12:30", "2024-02-29x"]
)
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"ISO|isoformat|day is out of range"):
        signature.days(text)


def test_times_of_a_zone_and_gaps_become_days_and_json() -> None:
    moments = pd.Series(pd.to_datetime(["2024-02-29T23:30:00Z", None]).tz_convert("Asia/Tokyo"))
    assert as_days(moments).tolist()[0] == signature.days("2024-02-29T23:30:00")
    field = {"type": "any"}
    assert signature.sendable(moments, field) == ["2024-02-29T23:30:00", None]
    assert signature.sendable(pd.Series([0.5, np.nan]), {"type": "date"}) == ["1970-01-01T12:00:00", None]
    assert signature.sendable(pd.Series(["NaT", None], dtype="str"), field) == ["NaT", None]


def test_categories_not_seen_in_training_are_reported(bundle: Bundle) -> None:
    frame = bundle.complete([{"customer": "ann"}, {"customer": "zed"}, {"customer": "zed", "channel": "fax"}])
    found = [(each["field"], each["value"], each["rows"], each["first_row"]) for each in bundle.unseen(frame)]
    assert found == [("customer", "zed", 2, 1), ("channel", "fax", 1, 2)]


@pytest.mark.parametrize(
    "values",
    [[1.0, 2, 3, np.nan], [0.0] * 9 + [1], [5.0] * 4, [np.nan] * 3, np.linspace(0, 1, 1000)],
    ids=["few", "binary", "constant", "empty", "many"],
)
def test_shares_of_numbers_sum_to_one_and_are_found_again(values: Any) -> None:
    column = pd.Series(values, dtype="float64")
    described = packing.distribution(column)
    assert len(described["shares"]) == len(described["edges"]) + 1
    assert sum(described["shares"]) + described["missing"] == pytest.approx(1)
    assert packing.distribution(column, described) == described


def test_shares_of_text_keep_the_frequent_and_pool_the_rest() -> None:
    column = pd.Series([f"v{i:02d}" for i in range(60)] + ["v07", None], dtype="str")
    described = packing.distribution(column)
    assert len(described["shares"]) == packing.LISTED
    assert next(iter(described["shares"])) == "v07"
    assert sum(described["shares"].values()) + described["other"] + described["missing"] == pytest.approx(1)
    new = packing.distribution(pd.Series(["v07", "new"], dtype="str"), described)
    assert (new["shares"]["v07"], new["other"], list(new["shares"])) == (0.5, 0.5, list(described["shares"]))


def test_of_free_text_the_length_is_described() -> None:
    column = pd.Series(["", "a", "bb", None], dtype="str")
    described = packing.distribution(column, kind="text")
    assert (described["of"], described["edges"], described["missing"]) == ("length", [0.0, 1.0, 2.0], 0.25)
    assert packing.distribution(column, described) == described
    assert packing.measured(column, "text").tolist()[:3] == [0, 1, 2]
    longer = packing.distribution(pd.Series(["a long text"] * 4, dtype="str"), described)
    assert drift.psi(described, longer) > drift.psi(described, described) == 0


def test_the_reference_describes_what_was_learned_and_what_was_forecast(project: Project) -> None:
    parts = lay_out("regression")
    bundle = pack(parts)
    learned = pd.concat([parts["train"], parts["validation"]])
    assert bundle.reference["rows"] == len(learned)
    assert bundle.reference["outcomes"] == pytest.approx(learned["price"].mean())
    assert list(bundle.reference["features"]) == bundle.features
    said = pd.Series(decisions.expected(bundle.predict(parts["holdout"]), bundle.problem))
    assert packing.distribution(said, bundle.reference["forecast"]) == bundle.reference["forecast"]


def test_the_sample_is_spread_over_the_rows_and_no_longer_than_they_are() -> None:
    table = pd.DataFrame({"x": range(100)})
    assert packing.sample(table, 3)["x"].tolist() == [0, 49, 99]
    assert len(packing.sample(table, 500)) == 100


class _Constant:
    classes_ = (0, 1)

    def predict_proba(self, rows: pd.DataFrame) -> np.ndarray:
        return np.full((len(rows), 2), 0.5)
