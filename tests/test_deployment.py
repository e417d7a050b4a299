"""Stage 08: the bundle holds all that answering takes, is the same for the same inputs, and refuses to be changed."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from conftest import Project
from threadpoolctl import threadpool_limits

from ninefold import deployment, problem, training
from ninefold.core import io, model_file
from ninefold.core.errors import DataError
from ninefold.core.params import load

PARAMS = deployment.Params(
    name="returns", max_rows=100, max_body_mb=0.05, latency_budget_ms=250, parity_rows=20, single_rows=20
)
FEATURES = [
    {"name": "amount", "kind": "numeric"},
    {"name": "items", "kind": "numeric"},
    {"name": "rate_by_customer_7d", "kind": "history"},
    {"name": "customer", "kind": "categorical"},
    {"name": "channel", "kind": "categorical"},
]
SIGNED = {
    "all": [feature["name"] for feature in FEATURES],
    "numeric": ["amount", "items", "rate_by_customer_7d"],
    "categorical": ["customer", "channel"],
}


def rows(count: int = 400) -> pd.DataFrame:
    """Return orders with features: dear ones come back, and those of eve; some values are missing."""
    random = np.random.default_rng(0)
    amount = random.uniform(0, 100, count).round(2)
    customer = random.choice(["ann", "bob", "eve"], count)
    returned = random.uniform(size=count) < 0.1 + 0.006 * amount * (customer == "eve")
    return pd.DataFrame(
        {
            "id": np.arange(count),
            "placed": pd.date_range("2020-01-01", periods=count, freq="3h"),
            "returned": returned.astype("int64"),
            "amount": np.where(random.uniform(size=count) < 0.1, np.nan, amount),
            "items": random.integers(1, 5, count).astype("float64"),
            "rate_by_customer_7d": np.where(random.uniform(size=count) < 0.2, np.nan, random.uniform(size=count)),
            "customer": pd.array(customer, dtype="str"),
            "channel": pd.array(np.where(random.uniform(size=count) < 0.1, None, "web"), dtype="str"),
        }
    )


def lay_out(model: str = "gradient_boosting") -> dict[str, pd.DataFrame]:
    """Write what stages 01, 04, 06 and 07 leave; return the rows by part."""
    table = rows()
    io.write_json(problem.statement(load("problem")), io.path("data/problem.json"))
    agreed = {"split": {"validation": "2020-02-01", "holdout": "2020-02-10"}}
    io.write_json(agreed, io.path("data/metrics.json"))
    io.write_table(table, io.path("data/features/part.parquet"))
    online = pd.DataFrame({"customer": ["ann", "bob"], "value": [0.125, 0.1 + 0.2]})
    io.write_table(online, io.path("data/online/rate_by_customer_7d.parquet"))
    stores = [{"feature": "rate_by_customer_7d", "by": ["customer"]}]
    described = {"moment": "2020-02-20T00:00:00", "stores": stores, "features": FEATURES}
    io.write_json(described, io.path("data/online/online.json"))
    parts = training.read(problem.load(), agreed)
    boosting = training.Boosting(
        learning_rate=0.2, max_iter=10, max_leaf_nodes=4, min_samples_leaf=5, l2_regularization=0
    )
    options = training.Params(
        seed=1,
        logistic_regression=training.Logistic(C=1, rare=5),
        gradient_boosting=boosting,
        calibration="none",
        importance_rows=100,
    )
    with threadpool_limits(1):  # threads wait for each other where tests run beside other work
        estimator = training.candidates(options, SIGNED)[model]
        fitted = estimator.fit(parts["train"][SIGNED["all"]], parts["train"]["returned"])
    model_file.dump(fitted, io.path("models/candidate/model.skops"))
    figure = {"value": 0.5, "low": 0.4, "high": 0.6}
    candidate = {"model": model, "calibration": "none", "features": FEATURES, "holdout": {"roc_auc": figure}}
    io.write_json(candidate, io.path("models/candidate/candidate.json"))
    return parts


def pack(parts: dict[str, pd.DataFrame]) -> deployment.Bundle:
    """Pack the bundle of what `lay_out` wrote, and publish it."""
    stated, (model, candidate) = problem.load(), training.load()
    described = deployment.describe(candidate, parts, stated, PARAMS)
    p = training.probability(model, parts["validation"], SIGNED)
    deployment.save(described, deployment.reference(parts["train"], p, described["signature"], "returned"))
    io.publish()
    return deployment.load()


@pytest.fixture
def parts(project: Project) -> dict[str, pd.DataFrame]:
    return lay_out()


@pytest.fixture
def bundle(parts: dict[str, pd.DataFrame]) -> deployment.Bundle:
    return pack(parts)


def test_a_bundle_answers_as_the_candidate_does(bundle: deployment.Bundle, parts: dict[str, pd.DataFrame]) -> None:
    offline = training.probability(training.load()[0], parts["holdout"], SIGNED)
    decided = bundle.decide(parts["holdout"])
    assert np.array_equal(decided["probability"], offline)
    assert decided["action"].tolist() == np.where(offline > 0.25, "act", "wait").tolist()
    assert decided["expected_payoff"].tolist() == pytest.approx(np.where(offline > 0.25, -1, -4 * offline))


def test_the_same_inputs_give_the_same_bytes(project: Project, parts: dict[str, pd.DataFrame]) -> None:
    first = pack(parts).version, project.bytes("models/bundle")
    time.sleep(1.1)  # a time stamp in any file would differ by now
    assert (pack(parts).version, project.bytes("models/bundle")) == first


def test_another_model_is_another_version(project: Project) -> None:
    boosted = pack(lay_out()).version
    assert pack(lay_out("logistic_regression")).version != boosted


def test_a_bundle_needs_nothing_else_of_the_project(
    bundle: deployment.Bundle,
    project: Project,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "bundle"
    (project.folder / "models/bundle").rename(elsewhere)
    monkeypatch.chdir(elsewhere.parent)
    assert deployment.load(elsewhere).version == bundle.version


@pytest.mark.parametrize("name", ["model.skops", "bundle.json", "reference.json", "online/rate_by_customer_7d.parquet"])
def test_a_changed_file_is_refused_by_name(bundle: deployment.Bundle, name: str) -> None:
    file = bundle.place / name
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(DataError, match=f"changed: {name}"):
        deployment.load()


def test_a_missing_file_and_a_stranger_are_refused_by_name(bundle: deployment.Bundle) -> None:
    (bundle.place / "reference.json").unlink()
    (bundle.place / "extra.py").write_text("")
    with pytest.raises(DataError, match=r"missing: reference\.json; not listed: extra\.py"):
        deployment.load()


def test_what_a_file_manager_leaves_is_no_stranger(bundle: deployment.Bundle) -> None:
    (bundle.place / ".DS_Store").write_bytes(b"")
    assert deployment.load().version == bundle.version


def test_no_bundle_is_said_to_be_none(project: Project) -> None:
    with pytest.raises(DataError, match="holds no bundle"):
        deployment.load()


def test_damaged_checksums_are_refused(bundle: deployment.Bundle) -> None:
    (bundle.place / "checksums.json").write_text("[")
    with pytest.raises(DataError, match=r"checksums\.json: not readable as JSON"):
        deployment.load()


def test_absent_history_is_looked_up_and_null_is_believed(bundle: deployment.Bundle) -> None:
    sent = [{"customer": "bob"}, {"customer": "bob", "rate_by_customer_7d": None}, {"customer": "eve"}]
    looked = bundle.complete([*sent, {"customer": "bob", "rate_by_customer_7d": 0.9}])["rate_by_customer_7d"]
    assert looked.iloc[[0, 3]].tolist() == [0.1 + 0.2, 0.9]
    assert looked.iloc[[1, 2]].isna().all()  # sent as unknown; a key that the online values do not have


def test_rows_and_tables_are_completed_alike(bundle: deployment.Bundle, parts: dict[str, pd.DataFrame]) -> None:
    table = parts["holdout"].drop(columns="rate_by_customer_7d")
    by_row = bundle.complete(deployment.as_rows(table, ["amount", "items", "customer", "channel"]))
    pd.testing.assert_frame_equal(by_row, bundle.look_up(table)[bundle.features].reset_index(drop=True))
    joined = deployment.with_online(parts["holdout"])
    pd.testing.assert_frame_equal(by_row, joined[bundle.features])


@pytest.mark.parametrize("model", ["gradient_boosting", "logistic_regression"])
def test_a_row_of_which_only_the_key_is_known_is_answered(project: Project, model: str) -> None:
    bundle = pack(lay_out(model))
    p = bundle.probability(bundle.complete([{"customer": "nobody"}]))
    assert 0 < p[0] < 1


def test_rows_become_json_without_losing_a_digit(parts: dict[str, pd.DataFrame]) -> None:
    sent = deployment.as_rows(parts["holdout"], SIGNED["all"])
    back = pd.DataFrame(json.loads(json.dumps(sent))).astype({"amount": "float64"})
    assert np.array_equal(back["amount"], parts["holdout"]["amount"], equal_nan=True)


def test_the_signature_says_what_a_row_may_and_must_hold(bundle: deployment.Bundle) -> None:
    fields = {field["name"]: field for field in bundle.signature}
    assert [name for name, field in fields.items() if field["required"]] == ["customer"]
    assert fields["customer"]["known"] == ["ann", "bob", "eve"]
    assert [name for name, field in fields.items() if field["kind"] == "identity"] == ["id", "placed"]
    assert "rate_by_customer_7d" not in bundle.described["example"]


def test_categories_not_seen_in_training_are_reported(bundle: deployment.Bundle) -> None:
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
    described = deployment.distribution(column)
    assert len(described["shares"]) == len(described["edges"]) + 1
    assert sum(described["shares"]) + described["missing"] == pytest.approx(1)
    assert deployment.distribution(column, described) == described


def test_shares_of_text_keep_the_frequent_and_pool_the_rest() -> None:
    column = pd.Series([f"v{i:02d}" for i in range(60)] + ["v07", None], dtype="str")
    described = deployment.distribution(column)
    assert len(described["shares"]) == deployment.LISTED
    assert next(iter(described["shares"])) == "v07"
    assert sum(described["shares"].values()) + described["other"] + described["missing"] == pytest.approx(1)
    new = deployment.distribution(pd.Series(["v07", "new"], dtype="str"), described)
    assert (new["shares"]["v07"], new["other"], list(new["shares"])) == (0.5, 0.5, list(described["shares"]))


def test_the_model_card_holds_scores_periods_and_risks(bundle: deployment.Bundle) -> None:
    card = (bundle.place / "MODEL_CARD.md").read_text()
    assert card.startswith("# Model card: Returned orders\n")
    for text in ("roc auc: 0.500 (0.400 to 0.600)", "2020-01-01 to 2020-01-31", "One shop only."):
        assert text in card


def test_the_sample_is_spread_over_the_rows_and_no_longer_than_they_are() -> None:
    table = pd.DataFrame({"x": range(100)})
    assert deployment.sample(table, 3)["x"].tolist() == [0, 49, 99]
    assert len(deployment.sample(table, 500)) == 100


def test_a_difference_shows(parts: dict[str, pd.DataFrame], bundle: deployment.Bundle) -> None:
    given = bundle.decide(parts["holdout"])
    offline = given["probability"].to_numpy()
    moved = given.assign(probability=offline + 1e-6)
    found = deployment.compare({"same": given, "moved": moved}, {"same": offline, "moved": offline}, bundle.stated)
    assert found["difference"].tolist() == [0.0, pytest.approx(1e-6)]
    with pytest.raises(DataError, match="were sent"):
        deployment.compare({"short": given.head(3)}, {"short": offline}, bundle.stated)


def test_the_gate_fails_on_each_broken_promise(parts: dict[str, pd.DataFrame], bundle: deployment.Bundle) -> None:
    good = pd.DataFrame([("HTTP", 3, 0.0, 0)], columns=["way", "rows", "difference", "actions"])
    refused = pd.DataFrame([("cut short", 422, "not JSON")], columns=["request", "status", "answer"])

    def failed(**changed: Any) -> list[str]:
        given = {"compared": good, "refused": refused, "within": True, **changed}
        return [check.name for check in deployment.checks(bundle, **given, params=PARAMS) if not check.passed]

    assert failed() == []
    assert failed(within=False) == ["single-row latency p95 within its budget"]
    assert failed(compared=good.assign(difference=1e-8)) == ["largest difference, HTTP"]
    assert failed(compared=good.assign(actions=1)) == ["actions that differ from offline"]
    assert failed(refused=refused.assign(status=500)) == ["bad requests refused with 4xx"]
    assert "not ready" in deployment.verdict(bundle, good, refused, False, PARAMS)


def test_times_go_to_their_own_files_alone(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    table = deployment.latencies({"one row": np.array([0.1, 0.2]), "500 rows": np.array([0.3])})
    deployment.save_latencies(table)
    assert capsys.readouterr() == ("", "")
    assert "500 rows" in (project.folder / "reports/timings/08_deployment.txt").read_text()
    assert json.loads((project.folder / "reports/timings/08_latency.json").read_text())[0]["p50"] == 150
    assert deployment.in_budget(table, PARAMS)
    assert not deployment.in_budget(table.assign(p95=251.0), PARAMS)


def test_a_lookup_key_that_is_no_feature_is_still_sent(
    bundle: deployment.Bundle, parts: dict[str, pd.DataFrame]
) -> None:
    online = {"features": FEATURES[:3], "stores": [{"feature": "rate_by_customer_7d", "by": ["customer"]}]}
    signed = deployment.signature(parts["train"], online, problem.load())
    other = dataclasses.replace(bundle, described={**bundle.described, "signature": signed})
    assert "customer" not in other.features
    assert other.fields == [*other.features, "customer"]


def test_a_real_service_answers_as_offline_refuses_and_is_gone_afterwards(
    bundle: deployment.Bundle, parts: dict[str, pd.DataFrame]
) -> None:
    sent = deployment.as_rows(parts["holdout"], bundle.features)
    with deployment.serving() as url:
        assert url.startswith("http://127.0.0.1:")
        answers, seconds = deployment.ask(url, sent, size=30)
        refused = deployment.refusals(url, bundle)
    assert np.array_equal(answers["probability"], bundle.probability(parts["holdout"]))
    assert len(seconds) == -(-len(sent) // 30)
    assert refused["status"].between(400, 499).all(), refused.to_string()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/ready", trust_env=False)


def test_the_child_is_ended_when_the_conversation_breaks_off(
    bundle: deployment.Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **kw: started.append(popen(*args, **kw)) or started[-1])
    with pytest.raises(RuntimeError), deployment.serving():
        raise RuntimeError
    assert started[0].poll() == 0


def test_a_service_that_does_not_start_says_why(bundle: deployment.Bundle) -> None:
    (bundle.place / "model.skops").unlink()
    with pytest.raises(DataError, match=r"ended with 1; it said: (.|\n)*missing: model\.skops"), deployment.serving():
        pass


def test_a_bundle_path_is_taken_as_given(bundle: deployment.Bundle, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    (tmp_path / "models/bundle").rename(copy)
    with deployment.serving(copy) as url:
        assert httpx.get(f"{url}/ready", trust_env=False).json()["version"] == bundle.version
