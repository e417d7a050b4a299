"""Stage 09: what changed is found, what did not is left alone, for every task, and where nothing has arrived."""

import re
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import bundles
import cells
import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import TASKS, Project, statement
from matplotlib.figure import Figure
from monitoring_data import LIMITS, LOGGED, PARAMS, VALUES, baseline, figure, record
from pydantic import ValidationError

from ninefold import artifacts, display, engine, features, gate, timestamps
from ninefold.collection import stage as collection
from ninefold.errors import DataError
from ninefold.init import variants
from ninefold.metrics import Evaluation, EvaluationPlan
from ninefold.monitoring import Params, arrivals, monitor, performance, sentences, stage
from ninefold.monitoring.answers import AT_CLOSE, PERIOD, STATES, STATUS, predict
from ninefold.monitoring.arrivals import label_counts, label_status
from ninefold.monitoring.decision import conclude
from ninefold.monitoring.drift import compare_inputs, compare_predictions
from ninefold.problem import decisions
from ninefold.processing import stage as processing
from ninefold.serving import bundle as packing
from project.figures.monitoring import plot_drift

MASTER = variants.MASTERS / "09_monitoring.ipynb"
pytestmark = pytest.mark.usefixtures("few_trees")
OPEN = PARAMS.model_copy(update={"replay_until": None})
FEATURES = features.Params(
    numeric=["amount"],
    categorical=["customer"],
    history=[{"of": "returned", "prefix": "back", "known_after": "24h", "over": ["7d"], "by": [["customer"]]}],
)


def plan_of() -> EvaluationPlan:
    target = rows("2020-01")["returned"].to_numpy("int64")
    policies, naive = decisions.policies(target, statement()), [1 - target.mean(), target.mean()]
    return EvaluationPlan.model_construct(level=0.95, policies=policies, naive=naive)


class Deployed:
    """Stands in for a bundle: what it says of a row follows from its amount, as the outcome does."""

    described, signature = {"log": {"redact": []}}, [{"name": "placed", "kind": "date"}]

    def __init__(self, task: str = "binary") -> None:
        self.problem = statement(task)

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        amount = frame["amount"].fillna(0.2).clip(0.01, 0.99).to_numpy()
        if self.problem.task == "regression":
            values = {"prediction": amount, "low": amount - 0.2, "high": amount + 0.2, "quantile": amount + 0.05}
            return pd.DataFrame({**values, "loss": 0.1})
        shares = [amount] if self.problem.task == "binary" else [amount / 2, amount / 2]
        return decisions.forecast(np.column_stack([1 - amount, *shares]), self.problem)

    def decide(self, frame: pd.DataFrame) -> pd.DataFrame:
        predicted = self.predict(frame)
        return predicted.assign(**decisions.decide(predicted, self.problem))


def rows(
    month: str = "2020-03", count: int = 3000, shift: float = 0.0, seed: int = 1, task: str = "binary"
) -> pd.DataFrame:
    """Return orders of a month whose amount tells how probable their outcomes are."""
    random = np.random.default_rng(seed)
    amount = np.clip(random.beta(2, 6, count) + shift, 0, 0.99)
    start, drawn = pd.Timestamp(f"{month}-01"), random.random(count)
    placed = start + pd.to_timedelta(np.sort(random.integers(0, 30 * 1440, count)), "m")
    target = {
        "binary": (drawn < amount).astype("int64"),
        "multiclass": (drawn < amount).astype("int64") + (drawn < amount / 2),
        "regression": amount + random.normal(0, 0.1, count),
    }[task]
    known = pd.Series(target, dtype="Float64" if task == "regression" else "Int64")
    table = pd.DataFrame({"id": np.arange(count), "placed": placed, "amount": amount})
    return table.assign(**{"period": "a column of the user's own", statement(task).target: known})


def calendar(count: int = 2) -> pd.DataFrame:
    return arrivals.cut(date(2020, 3, 1), date(2020, 4, 30), "month")[:count]


def stream(*months: pd.DataFrame, task: str = "binary") -> pd.DataFrame:
    frame = pd.concat(months, ignore_index=True)
    frame[PERIOD] = frame["placed"].dt.strftime("%Y-%m")
    return predict(frame.assign(**{STATUS: label_status(frame, calendar(), statement(task))}), Deployed(task))


def collected(**values: Any) -> collection.Params:
    plain = {"tables": {"orders": {"time": "placed"}, "customers": {}}, "datasheet": {"a": "b"}}
    return collection.Params(**{"start": "2020-01-01", "as_of": "2020-02-29", **plain, **values})


@pytest.mark.parametrize(("params", "changed", "time", "expected"), [
    (PARAMS, {}, "placed", [("2020-03", "2020-03-01", "2020-04-01"), ("2020-04", "2020-04-01", "2020-05-01")]),
    (PARAMS, {"as_of": "2020-04-10"}, "placed", [("2020-04", "2020-04-11", "2020-05-01")]),
    (OPEN, {"as_of": "2020-01-20"}, "placed", [("2020-01", "2020-01-21", "2020-02-01"), ("2020-02", "2020-02-01", "2020-03-01")]),
    (OPEN, {"as_of": "2020-02-29"}, "placed", []),
    (PARAMS, {"as_of": "2020-06-30"}, "placed", []),
    (PARAMS, {"tables": {"orders": {}}}, "placed", []),
    (PARAMS, {"start": None, "as_of": None, "tables": {"orders": {}}}, None, []),
])  # fmt: skip
def test_months_after_the_last_day_are_replayed_to_the_end_of_the_source(
    project: Project, orders: Any, params: Params, changed: dict[str, Any], time: str | None, expected: list[Any]
) -> None:
    source(project, orders)
    spans = arrivals.periods(params, collected(**changed), statement(time=time)).astype("str")
    spans = spans[["period", "start", "end"]]
    assert list(spans.itertuples(index=False, name=None)) == expected


def test_rows_of_the_future_are_counted_apart_and_too_many_periods_are_refused(project: Project, orders: Any) -> None:
    later = orders.assign(placed=["2020-03-02", "2020-03-09", "1899-01-01", "2199-01-01", "2260-01-01", "no time"])
    source(project, pd.concat([orders, later]))
    calendar = arrivals.periods(OPEN, collected(), statement())
    assert calendar[["period", "too_late"]].to_numpy().tolist() == [["2020-03", 2]]
    params = OPEN.model_copy(update={"period": "day", "replay_until": date(2022, 1, 1)})
    with pytest.raises(DataError, match=r"monitoring.replay_until: .* 2022-01-01 .* days"):
        arrivals.periods(params, collected(), statement())


def source(project: Project, orders: pd.DataFrame) -> Path:
    """Write the source as files, which the default reader reads."""
    place = project.folder / "data/source"
    place.mkdir(parents=True)
    (place / "customers.csv").write_text("customer,city\nann,x\nbob,x\n")
    orders.to_csv(place / "orders.csv", index=False)
    return place / "orders.csv"


def settle(project: Project, orders: pd.DataFrame) -> dict[str, Any]:
    """Put the orders up to February into the lake; return the params of the stages before."""
    contract = processing.Params(**project.params["processing"])
    for month, rows in orders.groupby(orders["placed"].str[:7]):
        project.raw("orders", str(month), rows)
    project.raw("customers", "all", pd.DataFrame({"customer": ["ann", "bob"], "city": "x"}))
    processing.update(contract, engine.connect())
    artifacts.publish()
    plain = collection.Params(**project.params["collection"])
    return {"collection": plain, "processing": contract, "features": FEATURES}


def march(orders: pd.DataFrame) -> pd.DataFrame:
    """Return the orders of March too, one of them broken, and of the last one of February a copy."""
    later = orders.assign(
        id=["7", "8", "9", "10", "11", "12"],
        placed=[f"2020-03-{day:02d}T12:00:00" for day in (2, 4, 9, 16, 20, 31)],
        amount=["5", "6", "-1", "NA", "8", "9"],
    )
    return pd.concat([orders, later, orders.tail(1).assign(placed="2020-03-25T12:00:00")])


@pytest.fixture
def files(project: Project, orders: pd.DataFrame) -> dict[str, Any]:
    """Return a shop whose source are files with the orders of March too."""
    source(project, march(orders))
    return settle(project, orders)


def replayed(earlier: dict[str, Any], months: int = 1, **problem: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    return arrivals.replay(calendar(months), earlier, statement(**problem))


@pytest.mark.parametrize("by_function", [False, True])
def test_later_rows_get_the_features_that_training_would_give(
    files: Any, project: Project, orders: pd.DataFrame, by_function: bool
) -> None:
    tables = {"orders": march(orders), "customers": pd.DataFrame({"customer": ["ann", "bob"], "city": "x"})}

    def read(table: str, start: pd.Timestamp | None, end: pd.Timestamp | None) -> pd.DataFrame:
        rows = tables[table]
        return rows if start is None else rows[rows["placed"].between(start.isoformat(), end.isoformat(), "left")]

    if by_function:
        project.functions["collection", "read"] = read
    frame, volume = replayed(files, months=2)
    assert len(engine.tables(engine.connect(), features.LAKE)["orders"].execute()) == 6, "the lake is left alone"
    assert frame["id"].tolist() == [7, 8, 10, 11, 12]
    # Of bob's order 6, on 29 February, the outcome is in the lake; for ann's order 7 the windows hold nothing.
    back = frame.set_index("id")["back_by_customer_7d"]
    assert back[8] == 0.0
    assert back.drop(8).isna().all()
    counts = volume[["period", "raw", "quarantined", "ready"]].to_numpy().tolist()
    assert counts == [["2020-03", 7, 2, 5]], "nothing arrived in April, which is not monitored; order 6 is in the lake"
    april = arrivals.replay(calendar(2)[1:].reset_index(drop=True), files, statement())
    assert [len(table) for table in april] == [0, 0]


def test_rows_whose_key_is_partly_missing_are_not_lost(files: dict[str, Any]) -> None:
    contract = files["processing"].model_dump()
    contract["tables"]["orders"]["unique"] = ["id", "amount"]
    files["processing"] = processing.Params(**contract)
    frame, volume = replayed(files, key=["id", "amount"])
    assert 10 in frame["id"].tolist(), "its amount is missing"
    assert volume["ready"].tolist() == [5]


def test_rows_that_only_their_number_identifies_are_told_apart(project: Project, orders: pd.DataFrame) -> None:
    source(project, march(orders).drop(columns="id"))
    project.set("collection.tables.orders", {"time": "placed", "number": "id"})
    frame, volume = replayed(settle(project, orders))
    assert frame["id"].tolist() == [7, 8, 10, 11, 13, 12]
    assert volume["ready"].tolist() == [6]


def test_what_the_user_declares_is_made_for_later_rows_too(files: dict[str, Any], project: Project) -> None:
    paid = {"of": "amount", "by": "customer", "over": "30d", "known_after": "0h", "how": "count"}
    mean = {**paid, "over": "7d", "how": "mean", "prior": -1, "prefix": "mean"}
    project.functions["features", "define"] = lambda _: [
        features.join("customers", by="customer", columns={"city": "town"}),
        features.history(**paid),
        features.history(**mean),
    ]
    frame, _ = replayed({**files, "features": FEATURES.model_copy(update={"categorical": ["customer", "town"]})})
    assert frame["id"].tolist() == [7, 8, 10, 11, 12]
    assert frame["town"].tolist() == ["x"] * 5
    # Known of ann by 7: order 5, by 11: order 7; of bob by 8: order 6, by 10: 6 and 8, by 12: 8 (10 has no amount).
    assert frame["amount_by_customer_30d"].tolist() == [1, 1, 2, 1, 1]
    assert frame["mean_by_customer_7d"].tolist() == [-1, 60, -1, -1, -1]


def test_a_label_counts_at_the_close_if_it_is_known_by_then() -> None:
    first = rows("2020-03", 400)
    first.loc[0, "returned"] = pd.NA
    late = first.loc[[1]].assign(placed=pd.Timestamp("2020-03-31 12:00"), id=9001)
    last = first.loc[[2]].assign(placed=pd.Timestamp("2020-04-30 12:00"), id=9002)
    frame = stream(first, late, last)
    status = frame.set_index("id")[STATUS]
    assert status[[0, 1, 9001, 9002]].tolist() == ["never", "at close", "later", "open"]
    counts = label_counts(frame, calendar().assign(raw=[401, 1], quarantined=0), statement()).iloc[0]
    known = frame[frame[STATUS].isin([AT_CLOSE, "later"])]["returned"]
    assert (counts["predictions"], counts[list(STATES)].sum()) == (401, 401)
    assert counts["level in the end"] == pytest.approx(known.mean())


@pytest.mark.parametrize("task", TASKS)
def test_forecasts_that_move_are_found_and_others_are_not(task: str) -> None:
    holdout, problem = predict(rows("2020-02", seed=8, task=task), Deployed(task)), statement(task)
    frame = stream(rows("2020-03", task=task), rows("2020-04", shift=0.2, seed=2, task=task), task=task)
    table = compare_predictions(frame, holdout, PARAMS, problem)
    assert set(table["feature"]) <= {f"@{name}" for name in decisions.forecast_columns(problem)}
    assert table.groupby("period")["drifted"].any().to_dict() == {"2020-03": False, "2020-04": True}


@pytest.mark.parametrize("share", [0.2, 0.4])
def test_the_skill_does_not_fall_because_events_are_more_frequent(share: float) -> None:
    target = np.repeat([0, 1], [int(100 * (1 - share)), int(100 * share)])
    for brier, skill in ((0.0, 1.0), (share * (1 - share), 0.0)):
        assert performance.skill({"brier": {"value": brier}}, target, statement())["value"] == pytest.approx(skill)


def test_a_month_of_one_outcome_or_of_a_single_row_breaks_nothing() -> None:
    alone = rows("2020-04", 1)
    frame, plan = stream(rows("2020-03", 50).assign(returned=1), alone), plan_of()
    assert performance.scores_by_period(frame, statement(), plan) == {}
    two = stream(rows("2020-03", 60, seed=2)[:12].assign(returned=[0] * 11 + [1]))
    found = performance.scores_by_period(two, statement(), plan)["2020-03"]
    assert np.isfinite([value for each in found["figures"].values() for value in each.values()]).all()


def test_a_period_has_the_intervals_of_stage_07_and_with_fewer_than_five_days_none() -> None:
    frame, problem, plan = stream(rows("2020-03", 300)), statement(), plan_of()
    known = frame[frame[STATUS] == AT_CLOSE]
    target = known["returned"].to_numpy("int64")
    again = Evaluation(target, Deployed().predict(known), known, problem, plan).results()
    figures = performance.scores_by_period(frame, problem, plan)["2020-03"]["figures"]
    assert {name: figures[name] for name in again} == again
    few = performance.scores_by_period(frame[frame["placed"] < "2020-03-05"], problem, plan)["2020-03"]
    assert {len(figure) for figure in (*few["figures"].values(), *few["levels"].values())} == {1}  # the value alone


def test_the_time_of_the_event_is_no_drift_of_its_own() -> None:
    train = rows("2020-01", seed=7)
    bundle: Any = Deployed()
    parts = {"train": train, "validation": train[:0], "holdout": rows("2020-02", seed=8)}
    table = compare_inputs(rows().assign(**{PERIOD: "2020-03"}), parts, bundle, PARAMS)
    assert table.empty
    assert isinstance(plot_drift(table, PARAMS), Figure)
    assert "time" in sentences.describe_drift(table, rows(), parts, statement())


def test_sentences_cover_all_periods_name_the_worst_and_ties_and_claim_no_difference_that_may_be_zero() -> None:
    values = [-0.065, 0.2, 0.005, *[0.1] * 10]
    records = [{**record(gap=figure(each), gain=figure(each)), "period": f"{n:02}"} for n, each in enumerate(values)]
    usual = {**baseline(), "figures": {**baseline()["figures"], "gap": figure(0.005)}}
    text = sentences.describe_calibration(records, usual, statement())
    holdout = "0.005 (-0.005 to 0.015), not distinguishable from zero on the holdout"
    assert f"{holdout}, over 13 periods from -0.065 (00)" in text
    assert "In 11 of 13 periods its interval is above zero, in 1 below; in the other 1 it is not disti" in text
    days = [{**each, "figures": {"gap": {"value": 0.1}}} for each in records]  # too short for an interval
    assert "in the other 13 it is not" in sentences.describe_calibration(days, usual, statement())
    psi = pd.Series([0.1, *[8.27] * 13], ["holdout", *(each["period"] for each in records)], name="psi")
    drifts = psi.rename_axis("period").reset_index().assign(feature="a", p=0.01, drifted=psi.to_numpy() > 1)
    drifts = pd.concat([drifts, drifts.assign(feature="b", psi=drifts["psi"] - 0.002)])
    text = sentences.describe_drift(drifts, rows()[:0], {}, statement())
    assert "0 on the holdout, 2 in each of 13 periods." in text
    assert "PSI is 8.27, of `a` and `b` in 13 periods" in text


def test_rows_a_day_are_counted_over_the_days_that_passed_labelled_or_not(project: Project) -> None:
    weekly = pd.DataFrame({"placed": pd.date_range("2020-01-01", periods=12, freq="7D")})
    artifacts.write_table(weekly, artifacts.path("data/features/period=all/part-0.parquet"))
    assert monitor.rows_per_day(weekly[:10:3], statement()) == pytest.approx(10 / 70)  # each stands for its week
    assert monitor.rows_per_day(weekly, statement(time=None)) is None


def test_the_last_period_decides_every_period_is_evidence_and_figures_are_kept_for_programs() -> None:
    bad, good = record(outside=["loss"], brier=figure(0.19)), {**record(), "period": "2020-04"}
    records = [{**each, "at close": 3000} for each in (bad, good)]
    records = monitor.apply_rules(records, baseline(), PARAMS, statement())
    decision = conclude(records, "abc", "always wait")
    assert decision["decision"] == "keep"
    assert [one["decision"] for one in decision["periods"]] == ["retrain", "keep"]
    metrics = stage.metrics(records, decision)
    rules = pd.DataFrame([rule for one in decision["periods"] for rule in one["rules"]])
    assert rules["rule"].tolist() == ["stop acting", "roll back", "repair", "retrain", "retrain"] * 2
    gain = rules.loc[rules["rule"] == "roll back", ["measure", "value", "limit", "status"]].to_numpy().tolist()
    assert gain == [["interval of the gain", "0.100 (0.090 to 0.110)", "below 0", "does not hold"]] * 2
    assert metrics["periods"][0]["alerts"] == ["error"]
    assert metrics["by_period"]["2020-03"]["alerts"] == 1
    assert not [value for value in metrics["by_period"]["2020-03"].values() if isinstance(value, list | dict)]


@pytest.mark.parametrize(("task", "column", "value"), [
    ("binary", "@probability", 1.1), ("multiclass", "@probability_small", np.nan), ("regression", "@low", np.inf)
])  # fmt: skip
def test_a_lost_row_and_a_prediction_that_is_none_fail_the_gate(task: str, column: str, value: float) -> None:
    frame, volume = stream(rows("2020-03", task=task), task=task), calendar(1).assign(raw=9, quarantined=1, ready=7)
    frame.loc[5, column] = value
    checks = {check.name: check for check in stage.checks(frame, volume, [], {"reasons": []}, statement(task))}
    assert not any(check.passed for check in checks.values())
    what = "quantity" if task == "regression" else "probability"
    values = [checks[f"predictions that are no {what}"].value, checks["rows neither quarantined nor predicted"].value]
    assert values == [1, 1]


def test_a_rule_without_a_default_has_to_be_given() -> None:
    with pytest.raises(ValidationError):
        Params(**{**VALUES, "alerts": {name: rule for name, rule in LIMITS.items() if name != "gain"}})


def arrived(case: str, bundle: packing.Bundle) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return rows of two later weeks with their answers, and their volume; without time as of the prediction log.

    In the second week a column is lost, of two classes, or else the model's order is the wrong one.
    """
    counts = {"raw": 56, "quarantined": 0, "ready": 56, "too_early": 0, "too_late": 0}
    volume = arrivals.cut(date(2020, 2, 20), date(2020, 3, 4), "week").assign(**counts)
    later = bundles.rows(case, 112).assign(**{PERIOD: np.repeat(volume["period"].to_numpy(), 56)})
    if case == "binary":
        later.loc[40:, "amount"] = np.nan  # from 25 February on
    elif case in ("multiclass", "regression"):
        target = later[bundle.problem.target]
        turned = (target + 1) % 3 if case == "multiclass" else target.max() - target
        later[target.name] = target.where(later.index < 56, turned)
    status: Any = AT_CLOSE
    if bundle.problem.time:
        later["placed"] = pd.date_range("2020-02-20", periods=112, freq="3h")
        status = label_status(later, volume, bundle.problem)
    return predict(later.assign(**{STATUS: status}), bundle), volume


@pytest.mark.parametrize(("case", "comes"), [*product(bundles.CASES, [True]), ("binary", False), ("regression", False)])
def test_the_notebook_runs_whatever_has_arrived(
    case: str, comes: bool, project: Project, shown: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a real bundle, with and without time, the whole notebook but the tables of files."""
    parts, problem = bundles.lay_out(case), bundles.problem_of(case)
    learned, held = pd.concat([parts["train"], parts["validation"]])[problem.target], parts["holdout"]
    shares = learned.value_counts(normalize=True, sort=False).sort_index().tolist()
    naive = {"naive": shares if problem.is_class else [learned.mean()]}
    plan = EvaluationPlan.load().model_copy(update={"level": 0.95, "best_baseline": "always", **naive})
    plan.save()
    results = Evaluation(held[problem.target].to_numpy(), bundles.offline(held), held, problem, plan).results()
    candidate = {**artifacts.read_json("models/candidate/candidate.json"), "holdout": gate.tidy(results)}
    artifacts.write_json(candidate, artifacts.path("models/candidate/candidate.json"))
    bundle = bundles.pack(parts)
    if comes:
        monkeypatch.setattr("ninefold.monitoring.read_arrivals", lambda *_: arrived(case, bundle), raising=False)
    source = "log" if comes and not problem.time else "replay"
    for section, values in {
        "collection": {"tables": {"orders": {}}, "datasheet": {"a": "b"}},
        "monitoring": {**VALUES, "replay_until": None, "period": "week", "source": source},
        "features": {"numeric": ["x"]},
        "metrics": {"primary": "log_loss", "split": {"validation": 0.2, "holdout": 0.2}, "level": 0.95},
        "training": {"seed": 1, "candidates": {"a": {"model": "linear"}}, "importance_rows": 100},
    }.items():
        project.set(section, values)
    for name in ("inputs", "outputs"):
        monkeypatch.setattr(display, name, lambda *_: None)
    names: dict[str, Any] = {}
    facts = {problem.task, *["time"] * bool(problem.time)}
    for cell in nbformat.reads(variants.variant(MASTER.read_text("utf-8"), facts), as_version=4).cells:
        if cell.cell_type == "code":
            cells.run(cell.source, names)
    outcome = artifacts.read_json("reports/metrics/09_monitoring.json")
    assert outcome["gate"]["passed"]
    texts = re.sub('data:image[^"]*', "", " ".join(str(getattr(thing, "data", thing)) for thing in shown))
    assert not re.search(r"\bnan\b|>None<|NaT", texts)
    assert ("Nothing has arrived yet" in texts) is not comes
    assert outcome["metrics"]["decision"] == artifacts.read_json("data/monitoring/decision.json")["decision"]
    reports, broken = artifacts.read_json("data/monitoring/periods.json"), case == "binary" and comes
    works = "4 of 5 features have no fault: with these alone the gain on the holdout is .* follow the policy 'always"
    assert bool(re.search(works, texts)) == broken
    if broken:
        assert (outcome["metrics"]["decision"], "broken column" in texts) == ("stop acting", True)
        assert "missing" in outcome["metrics"]["periods"][1]["alerts"]
        assert [report["ended"]["amount"]["since"] for report in reports] == ["2020-02-25"] * 2
    if case in ("multiclass", "regression") and comes:
        calm, loud = (set(period["alerts"]) for period in outcome["metrics"]["periods"])
        assert {"ranking", "error", "gain"} <= loud - calm
        assert outcome["metrics"]["decision"] in ("retrain", "roll back")
    assert [period["labelled"] > 40 for period in outcome["metrics"]["periods"]] == [True] * 2 * comes
    if not problem.time:
        assert not any("joint auc" in report["outside"] for report in reports), "the stream is stable"
    answers = artifacts.read_table("data/monitoring/answers.parquet")
    answers = answers[answers["period"] == "holdout"]
    assert list(answers[problem.target]) == list(held[problem.target])
    predicted = answers[[name for name in decisions.forecast_columns(problem) if name in answers]]
    assert {"binary": 1, "multiclass": 3, "regression": 3}[problem.task] == predicted.shape[1]
    np.testing.assert_allclose(predicted, bundles.offline(held)[predicted.columns], rtol=1e-5)
    assert {"status", "action", "expected_payoff"} <= set(answers)


def test_weeks_have_all_weekdays_and_a_rest_belongs_to_the_last() -> None:
    weeks = arrivals.cut(date(2020, 3, 1), date(2020, 4, 30), "week")
    assert weeks["period"].tolist()[:2] == ["2020-03-01", "2020-03-08"]
    lengths = (weeks["end"] - weeks["start"]).dt.days.tolist()
    assert (sum(lengths), set(lengths[:-1])) == (61, {7})
    assert 4 <= lengths[-1] <= 10
    assert weeks["start"].tolist()[1:] == weeks["end"].tolist()[:-1]
    days = arrivals.cut(date(2020, 3, 1), date(2020, 3, 3), "day")
    assert days["period"].tolist() == ["2020-03-01", "2020-03-02", "2020-03-03"]
    quarters, years = (arrivals.cut(date(2019, 11, 1), date(2020, 6, 30), unit) for unit in ("quarter", "year"))
    assert quarters["period"].tolist() == ["2019-Q4", "2020-Q1", "2020-Q2"]
    assert quarters["end"].astype("str").tolist() == ["2020-01-01", "2020-04-01", "2020-07-01"]
    assert years["period"].tolist() == ["2019", "2020"]


def test_periods_are_local_and_the_first_begins_where_collection_ends(project: Project, orders: pd.DataFrame) -> None:
    july = arrivals.cut(date(2013, 6, 30), date(2013, 7, 1), "day", "America/New_York")
    assert arrivals.period_of(pd.Series([pd.Timestamp("2013-07-01 02:00")]), july).tolist() == ["2013-06-30"]
    for zone, day in {"Santiago": date(2019, 9, 8), "Havana": date(2019, 11, 3)}.items():  # no midnight, and two
        assert str(arrivals.cut(day, day, "day", f"America/{zone}")["start"][0]) == f"{day} 04:00:00"
    source(project, orders)
    first = arrivals.periods(PARAMS, collected(), statement(timezone="Asia/Tokyo")).astype("str").iloc[0]
    assert first.tolist()[:3] == ["2020-03", "2020-03-01 00:00:00", "2020-03-31 15:00:00"]


def test_the_current_period_alerts_of_faults_alone_and_the_last_closed_one_decides(monkeypatch: Any) -> None:
    monkeypatch.setattr(timestamps, "now", lambda: pd.Timestamp("2020-03-15 00:10"))
    volume = arrivals.cut(date(2020, 3, 1), date(2020, 3, 20), "week")
    assert volume["end"].dt.day.tolist() == [8, 15, 22]
    assert volume["closed"].tolist() == [True, True, False]
    two = rows(count=2).assign(placed=pd.Timestamp("2020-03-15"), returned=pd.NA, **{PERIOD: "2020-03-15"})
    assert label_status(two, volume, statement()).tolist() == ["open"] * 2
    closed = {**record(outside=["loss"], brier=figure(0.19)), "at close": 3000}
    two_rows = {"raw": 2, "quarantined": 1, "predictions": 1}
    still_open = {**closed, **two_rows, "period": "2020-03-15", "closed": False, "end": "2020-03-22"}
    table = monitor.apply_rules([closed, still_open], baseline(), PARAMS, statement())
    assert [[alert["alert"] for alert in each["alerts"]] for each in table] == [["error"], ["quarantined"]]
    decision = conclude(table, "abc", "always wait")
    assert [each["decision"] for each in (decision, *decision["periods"])] == ["retrain", "retrain", "open"]
    assert "until 2020-03-22" in decision["periods"][1]["reasons"][0]
    assert stage.headline(table, decision) == {"alerts in 2020-03": "1", "decision": "retrain"}
    none_yet = stage.conclusion(table[1:], conclude(table[1:], "abc", "always wait"))
    assert none_yet == "No period is closed yet. The model is kept."


def test_what_was_never_answered_is_no_period(project: Project, bundle: packing.Bundle) -> None:
    frame, volume = arrivals.read_arrivals(LOGGED, {}, bundle)
    assert (len(frame), len(volume)) == (0, 0)
    assert "`ninefold serve` writes it" in sentences.describe_arrival(volume, LOGGED, bundle.problem, "abc")
