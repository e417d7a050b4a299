import json
import shlex
from typing import Any

import cells as cells_of
import numpy as np
import pandas as pd
import pytest
from conftest import Project, statement
from pydantic import ValidationError
from sklearn import datasets

from ninefold import display, exploration, gate, metrics
from ninefold.errors import DataError, GateFailed, ParamsError
from ninefold.exploration import Exploration, group_rates, rows, sentences, stage
from ninefold.init import variants
from ninefold.metrics.plan import EvaluationPlan
from ninefold.problem import Problem
from project.figures import exploration as figures

LEVEL = 0.95
PRIMARY = {"name": "log_loss", "better": "lower"}


def planned(split: dict[str, Any] | metrics.Split) -> EvaluationPlan:
    success = {"scores": {}, "min_payoff_gain": 0, "confidence": 0.9}
    return EvaluationPlan(primary=PRIMARY, thresholds=success, split=split, level=LEVEL)


PLAN = planned({"by": "time", "validation": "2020-02-01", "holdout": "2020-02-20"})
YES_NO = statement()


def params(**values: Any) -> exploration.Params:
    return exploration.Params(**{"min_rows": 20, "known_later": {}, **values})


def events(**columns: Any) -> pd.DataFrame:
    """Two months of 20 orders a day; the target is luck, except that large amounts come back more often."""
    random = np.random.default_rng(7)
    placed = pd.date_range("2020-01-01", "2020-02-29", freq="D").repeat(20)
    placed += pd.to_timedelta(np.tile(np.arange(20), 60), unit="h")
    amount = random.uniform(0, 100, len(placed)).round(2)
    frame = pd.DataFrame({"id": np.arange(len(placed)), "placed": placed.astype("datetime64[us]"), "amount": amount})
    frame.insert(2, "customer", random.choice(["ann", "bob", "eve"], len(placed)))
    frame["returned"] = (random.uniform(0, 1, len(placed)) < 0.1 + amount / 250).astype("float64")
    return frame.assign(**columns)


def steps(p: exploration.Params, s: Problem, plan: EvaluationPlan) -> dict[str, Any]:
    explore = Exploration(exploration.read(p, s, plan), p, s, plan)
    whole, along, compared = explore.overall(), explore.course(), explore.compared()
    ranked, missing = explore.gaps([*compared["ordered"], *compared["nominal"]]), explore.missing_effects()
    scores = explore.scores(missing)
    found = [sentences.describe_course(along, explore), *sentences.largest_gaps(ranked, explore)]
    found += [sentences.describe_gaps(missing, explore), sentences.describe_scores(scores, s)]
    return {"explore": explore, "frame": explore.df, "whole": whole, "along": along, "compared": compared, "ranked": ranked,
            "missing": missing, "scores": scores, "found": found, "checks": explore.checks(scores)}  # fmt: skip


def explore(project: Project, p: exploration.Params, frame: pd.DataFrame) -> dict[str, Any]:
    project.lake("orders", frame)
    return steps(p, YES_NO, PLAN)


def failed(result: dict[str, Any]) -> list[gate.Check]:
    return [check for check in result["checks"] if not check.passed]


def days(*cells: tuple[int, int]) -> pd.DataFrame:
    """Make rows of a group from (events, rows) of one day after the other."""
    label = [[1.0] * ones + [0.0] * (rows - ones) for ones, rows in cells]
    day = pd.Timestamp("2020-01-01") + pd.to_timedelta(np.repeat(range(len(cells)), [rows for _, rows in cells]), "D")
    return pd.DataFrame({"placed": day, "returned": np.concatenate(label)})


def explored(frame: pd.DataFrame, s: Problem = YES_NO, **values: Any) -> Exploration:
    return Exploration(frame.reset_index(drop=True), params(**values), s, PLAN)


def test_nothing_of_the_holdout_is_used(project: Project) -> None:
    frame, p = events(), params(by=["customer", "amount"])
    before = explore(project, p, frame)
    frame.loc[frame["placed"] >= "2020-02-20", ["returned", "amount", "customer"]] = [1.0, 9999.0, "new"]
    after = explore(project, p, frame)
    assert before["found"] == after["found"]
    for name in ("frame", "along", "ranked", "missing", "scores"):
        pd.testing.assert_frame_equal(before[name], after[name])


def test_copies_of_a_row_do_not_make_its_columns_predict(project: Project) -> None:
    random, problem = np.random.default_rng(1), statement(time=None)
    half = pd.DataFrame({"amount": random.normal(size=500), "returned": random.integers(0, 2, 500)})
    orders = pd.concat([half] * 3).sample(frac=1, random_state=1, ignore_index=True)
    project.lake("orders", orders.assign(id=orders.index))
    shares = metrics.Params(primary="log_loss", split={"validation": 0.2, "holdout": 0.2}, level=LEVEL)
    plan = planned(metrics.split(metrics.outcomes(problem, shares), shares, problem))
    assert not failed(steps(params(), problem, plan))


def rate(frame: pd.DataFrame, task: str = "binary") -> pd.Series:
    explore = explored(frame, statement(task, target="returned"))
    return explore.rates(pd.Series("a", explore.df.index), 0).iloc[0]


def test_a_gap_is_the_difference_of_the_levels_shown() -> None:
    frame = days((9, 10), (5, 10), (1, 10), (90, 100), (50, 100), (2, 100))
    frame["group"] = np.repeat([*"abcabc"], [10] * 3 + [100] * 3)
    explore = explored(frame, min_rows=5)
    (row,) = explore.gaps(["group"]).to_dict("records")
    assert (row["highest"], row["lowest"], row["gap"]) == ("a", "c", pytest.approx((99 - 3) / 110))
    shown = {**row, "mean of highest": 0.41164, "mean of lowest": 0.11446, "gap": 0.29718}
    text = sentences.describe_gaps(pd.DataFrame([shown]), explore)
    assert "between 11.4% (`c`) and 41.2% (`a`), a difference of 29.8 percentage points" in text


def gap(frame: pd.DataFrame, **values: Any) -> pd.Series:
    return explored(frame, **values).gaps(["group"]).iloc[0]


def test_the_interval_of_a_share_counts_days_and_that_of_a_quantity_is_students() -> None:
    # Wilson at a half: t / 2 / sqrt(n + t²), with 40 rows and t = 3.1824 (3 degrees of freedom).
    row = rate(days(*[(5, 10)] * 4))
    assert (row["rows"], row["clusters"], row["mean"]) == (40, 4, 0.5)
    assert [row["low"], row["high"]] == pytest.approx([0.5 - 0.22475, 0.5 + 0.22475], abs=1e-4)
    # The variance of the day sums is 4 x 5² / 40² x 4/3 = 1/12, so that 40 rows count as 0.25 / (1/12) = 3.
    row = rate(days(*[(10, 10), (0, 10)] * 2))
    assert [row["low"], row["high"]] == pytest.approx([0.5 - 0.43916, 0.5 + 0.43916], abs=1e-4)
    # Blocks of equal size have the means 2, 5 and 8: 5 ± t(2) x 3 / sqrt(3), with t = 4.3027.
    row = rate(days(*[(1, 2)] * 3).assign(returned=[1.0, 3, 4, 6, 7, 9]), "regression")
    assert [row["mean"], row["low"], row["high"]] == pytest.approx([5, 5 - 7.4524, 5 + 7.4524], abs=1e-3)
    none, every = rate(days(*[(0, 10)] * 3)), rate(days((8, 8), (9, 9)))
    assert (none["mean"], every["mean"]) == (0, 1)
    assert (none["high"] > 0.3, every["low"] < 0.7) == (True, True), "an interval even there"


def test_the_gap_of_two_groups_is_that_of_days() -> None:
    frame = pd.concat([days((8, 10), (6, 10)).assign(group="a"), days((2, 10), (4, 10)).assign(group="b")])
    row = gap(frame, min_rows=10)
    assert (row["highest"], row["lowest"]) == ("a", "b")
    assert row["gap"] == pytest.approx(0.7 - 0.3)
    # Day by day the two move against each other by 0.05 + 0.05; t = 12.706 with one degree of freedom.
    assert row["low"] == pytest.approx(max(0.4 - 12.7062 * np.sqrt(2 * 0.1**2 * 2), -1))
    frame = pd.concat([days(*[(1, 1)] * 12).assign(group="a"), days(*[(0, 1)] * 12).assign(group="b")])
    row = gap(frame.assign(placed=pd.date_range("2020-01-01", periods=24)), min_rows=5)
    assert (row["gap"], row["high"]) == (1, 1)
    assert 0.5 < row["low"] < 0.8, "an interval even without spread"


def test_small_groups_are_omitted(project: Project) -> None:
    p, frame = params(by=["customer"]), events()
    result = explore(project, p, frame.assign(customer=frame["customer"].where(frame["id"] >= 19, "rare")))
    table = result["explore"].by_group(["customer"])
    assert table["group"].tolist() == ["ann", "bob", "eve"]
    assert "at most 1.9% of the rows" in sentences.describe_groups(table, result["explore"])
    assert "rare" not in {*result["ranked"]["highest"], *result["ranked"]["lowest"]}


def test_a_value_that_fills_a_bin_gets_its_own() -> None:
    values = pd.Series([0.0] * 60 + list(np.linspace(-5, -1, 20)) + list(np.linspace(1, 9, 40)) + [np.nan])
    groups = group_rates.groups(values, 4)
    assert set(values[groups == "0"]) == {0.0}
    assert groups.isna().sum() == 1
    assert group_rates.groups(pd.Series(1e9 + np.arange(100)), 5).value_counts().between(18, 22).all()
    bounds = values.groupby(groups, observed=True).agg(["min", "max"]).to_numpy().ravel()
    assert (np.diff(bounds)[1::2] > 0).all(), "bins are in order and share no value"


def test_weekday_and_hour_are_those_of_the_local_clock(project: Project) -> None:
    project.lake("orders", events())
    there = YES_NO.changed(timezone="America/New_York")
    frame = exploration.read(params(), there, PLAN)
    first, clock = frame.iloc[0], Exploration(frame, params(), there, PLAN).clock
    assert (first["weekday"], first["hour"], str(clock[0])) == ("Tue", 19, "2019-12-31 19:00:00")  # midnight in UTC
    project.lake("orders", events(hour=99))  # the table's own column comes before the clock
    assert set(exploration.read(params(), YES_NO, PLAN)["hour"]) == {99}


def test_related_columns_are_joined_and_compared(project: Project) -> None:
    project.lake("customers", pd.DataFrame({"customer": ["ann", "bob"], "age": [30, 40], "city": ["x", "y"]}))
    result = explore(project, params(related={"customers": {"key": ["customer"], "columns": ["age"]}}), events())
    frame, age = result["frame"], {"ann": 30.0, "bob": 40.0}
    assert len(frame) == 50 * 20
    assert frame["customers.age"].equals(frame["customer"].map(age).rename("customers.age"))
    assert "customers.age" in result["compared"]["ordered"]
    assert result["missing"]["column"].tolist() == ["customers.age"]
    assert "city" not in " ".join(frame)


@pytest.mark.parametrize(("values", "named"), [
    ({"leak_score": 0.4}, r"exploration\.leak_score: found 0\.4"),
    ({"by": ["colour"]}, r"exploration\.by: lacks colour"),
    ({"known_later": {"refnd": "typo"}}, r"exploration\.known_later: lacks refnd"),
    ({"known_later": dict.fromkeys(["id", "placed", "customer", "amount", "weekday", "hour"], "late")}, "leaves no column"),
    ({"justified": {"refnd": "typo"}}, r"exploration\.justified: lacks refnd"),
    ({"related": {"orders": {"key": ["colour"], "columns": ["id"]}}}, r"related\.orders\.key: lacks colour"),
    ({"related": {"shops": {"key": ["id"], "columns": ["size"]}}}, "data/lake/shops: not found"),
    ({"related": {"customers": {"key": ["customer"], "columns": ["age"]}}}, r"customers: has several rows.*customers\.key"),
])  # fmt: skip
def test_what_does_not_fit_the_lake_is_refused(project: Project, values: Any, named: str) -> None:
    project.lake("orders", events())
    project.lake("customers", pd.DataFrame({"customer": ["ann", "ann"], "age": [30, 40]}))
    with pytest.raises((DataError, ParamsError), match=named):
        steps(params(**values), YES_NO, PLAN)


def test_wrong_params_are_refused() -> None:
    for values in (
        {"leak_score": 1.2}, {"leak_gap": 0}, {"justified": {"refund": ""}},
        {"justified": ["refund"]}, {"byy": []}, {"bins": 1}, {"min_rows": 0},
        {"known_later": {"refund": "late"}, "justified": {"refund": "paid"}},
    ):  # fmt: skip
        with pytest.raises(ValidationError):
            exploration.Params(**values)


def stating(task: str, classes: list[str] | None) -> Problem:
    own = {"table": "t", "key": ["id"], "time": None, "group": None, "target": "y", "classes": classes}
    own |= {"unit": "case", "units": "cases", "positive": "happens" if classes else None}
    return statement(task).changed(**own, focus=classes[-1] if classes else None)


def agreeing(s: Problem) -> EvaluationPlan:
    values = {"primary": "log_loss", "split": {"validation": 0.15, "holdout": 0.2}, "level": LEVEL}
    return planned(metrics.split(metrics.labelled(s, []), metrics.Params.model_validate(values), s))


def go(project: Project, table: pd.DataFrame, s: Problem, **values: Any) -> dict[str, Any]:
    project.lake("t", table)
    return steps(exploration.Params(**values), s, agreeing(s))


def cases(task: str, rows: int = 600, seed: int = 3) -> tuple[pd.DataFrame, Problem]:
    random = np.random.default_rng(seed)
    x = random.normal(size=rows)
    table = pd.DataFrame({"id": random.permutation(rows) + 1000, "x": x, "kind": random.choice(list("abcd"), rows)})
    table["code"] = [f"{value:08x}" for value in random.integers(0, 2**32, rows)]
    classes = {"binary": ["no", "yes"], "multiclass": ["low", "$mid|", "high"], "regression": None}[task]
    position = np.clip(np.round(x + random.normal(size=rows) * 0.7 + 1), 0, 1 if task == "binary" else 2).astype(int)
    table["y"] = np.array(classes)[position] if classes else 1000 * np.exp(x + random.normal(size=rows) * 0.3)
    return table, stating(task, classes)


@pytest.mark.parametrize("name", ["breast_cancer", "iris", "wine", "digits", "diabetes"])
def test_honest_columns_of_real_tables_are_no_leak_by_default(project: Project, name: str) -> None:
    table = getattr(datasets, f"load_{name}")(as_frame=True).frame
    table = table.rename(columns={"target": "y"}).rename_axis("id").reset_index()
    classes = [str(label) for label in sorted(table["y"].unique())] if name != "diabetes" else None
    task = {"breast_cancer": "binary", "diabetes": "regression"}.get(name, "multiclass")
    assert failed(go(project, table, stating(task, classes))) == []


@pytest.mark.parametrize("rows", [200, 3000])
@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_planted_leaks_are_all_named_and_nothing_else(project: Project, task: str, rows: int) -> None:
    table, s = cases(task, rows)
    random, y = np.random.default_rng(1), table["y"]
    if task == "regression":
        late = {
            "copy": y, "text": y.map("{:.3f}".format), "linear": 5 - 3 * y, "monotone": np.log(y), "rounded": y.round(),
            "half": y.where(random.uniform(size=rows) < 0.5), "gaps": np.where(y > y.median(), 1.0, np.nan),
        }  # fmt: skip
    else:
        code = pd.Series(pd.factorize(y)[0])
        part = random.integers(0, rows // 20, rows)
        late = {
            "copy": y, "other labels": code.map({0: "p", 1: "q", 2: "r"}), "numbers": code.map({0: 5, 1: 1, 2: 3}),
            "falling": -code - random.uniform(0, 0.1, rows), "noisy": code + random.uniform(0, 0.9, rows),
            "many": code.astype(str) + "-" + part.astype(str).astype(object), "codes": random.permutation(5000)[code * 1500 + part],
            "times": pd.Timestamp("2021-01-01") + pd.to_timedelta(code * 9 + random.uniform(0, 5, rows), unit="D"),
        }  # fmt: skip
    result = go(project, table.assign(**late), s)
    assert set(result["scores"].query("status == 'suspicious'")["column"]) == set(late)
    with pytest.raises(GateFailed, match=r"(?s)(many|monotone).*ninefold drop .*ninefold keep "):
        gate.close("exploration", result["checks"], {}, "")
    sentence = sentences.describe_scores(result["scores"], s)
    assert all(name in sentence for name in late)


def test_a_mark_of_one_class_is_a_leak_and_a_range_or_the_number_of_a_sorted_row_is_not(project: Any) -> None:
    table, s = cases("multiclass", 3000)
    ordered = table.sort_values("y", ignore_index=True).assign(id=np.arange(3000), line=np.arange(3000) + 7)
    result = go(project, ordered, s)
    status = result["scores"].set_index("column")["status"]
    assert status[["id", "line", "code"]].tolist() == ["identifier", "identifier", "in advance"]
    assert "order of the rows predicts" in sentences.describe_course(result["along"], result["explore"])
    high, reason = table["y"] == "high", np.where(table["y"] == "low", "damaged", None)
    mark, size = np.where(high, "sent back", "open"), 10 * high + np.random.default_rng(1).uniform(0, 1, 3000)
    result = go(project, table.assign(mark=mark, size=size, reason=reason), s)
    assert set(result["scores"].query("status == 'suspicious'")["column"]) == {"mark", "reason"}
    for evidence in ("ROC AUC 1.000 for class high", 'share of "low" changes by -1.00'):
        assert evidence in str(failed(result)[0].value)


def test_a_justified_column_is_repeated_with_evidence_and_reason(project: Project) -> None:
    p = params(justified={"refund": "paid in advance", "amount": "on the bill"}, known_later={"copy": "paid late"})
    late = {"refund": lambda frame: 5 + frame["returned"], "copy": lambda frame: frame["returned"]}
    result = explore(project, p, events(**late))
    assert failed(result) == []
    assert "refund: paid in advance" in str(result["checks"][0].value)
    sentence = sentences.describe_scores(result["scores"], YES_NO)
    assert "justified: `refund`, `amount`; not available at prediction time: `copy`" in sentence
    assert "justified: refund, paid in advance" in sentences.conclusion(result["whole"], result["scores"], YES_NO)
    assert stage.strongest(result["scores"])["column"] == "refund"
    table = exploration.decided(result["scores"]).set_index("column")[["decision", "evidence", "reason"]]
    assert table.loc["copy", "decision"] == "drop"
    assert table.loc["refund"].tolist() == ["keep", "ROC AUC 1.000", "paid in advance"]
    assert table.loc["amount"].tolist() == ["keep", "nothing", "on the bill"]
    result["explore"].save(result["found"], result["scores"])
    saved = exploration.load()
    assert (saved["justified"], saved["known_later"], saved["findings"]) == (p.justified, ["copy"], result["found"])
    assert saved["univariate_score"]["copy"] == 1.0


def test_the_gate_gives_commands_to_paste_whatever_a_column_is_called(project: Project) -> None:
    table, s = cases("binary")
    names = ["a.b", "no", "x: y", "12", "it's", "refund"]
    table = table[["id", "y"]].assign(**dict.fromkeys(names, table["y"]))
    result = go(project, table, s)
    assert "x: y, 12, it's, refund may leak the outcome" in sentences.conclusion(result["whole"], result["scores"], s)
    (check,) = failed(result)
    for verb, line in zip(("drop", "keep"), check.limit.splitlines()[1:3], strict=True):
        assert shlex.split(line.partition(": ")[2])[:-2] == ["ninefold", verb, *names]
    assert failed(go(project, table, s, justified=dict.fromkeys(names, "known"))) == []


def test_many_clusters_may_be_merged_with_about_the_same_interval_and_are_all_counted(monkeypatch: Any) -> None:
    random = np.random.default_rng(2)
    label = (random.uniform(size=20_000) < 0.3).astype("float64")
    explore = explored(pd.DataFrame({"returned": label, "placed": pd.Timestamp("2020-01-01")}))
    explore.own[rows.CLUSTER] = random.permutation(20_000)
    for most in (group_rates.MOST_CELLS, 800):
        monkeypatch.setattr(group_rates, "MOST_CELLS", most)
        row = explore.rates(pd.Series("a", explore.df.index), 0).iloc[0]
        assert row["clusters"] == 20_000
        assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * np.sqrt(0.21 / 20_000), rel=0.15)


def test_a_group_without_events_counts_each_of_its_many_clusters() -> None:
    cluster = np.arange(10_000)
    label = np.where(cluster < 5000, 0.0, cluster % 2)
    frame = pd.DataFrame({rows.CLUSTER: cluster, rows.LABEL: label})
    group = pd.Series(np.where(cluster < 5000, "none", "half"))
    sums, sizes = group_rates.cells(frame, group, 1)
    means, low, high = group_rates.difference(sums, sizes, ("none", "half"), shares=True, level=LEVEL)
    # Half a share has a standard error of 0.5 / sqrt(5000); none of 5,000 reach up to 1.96² / (5000 + 1.96²).
    assert means == -0.5
    assert [low + 0.5, high + 0.5] == pytest.approx([-0.01386, np.hypot(0.01386, 0.000768)], rel=0.01)


@pytest.mark.parametrize(("start", "periods", "freq", "period"), [
    ("2020-01-01", 2400, "h", "week"), ("2020-01-01", 800, "D", "week"), ("2000-01-01", 120, "MS", "month"),
    ("2000-01-31", 120, "ME", "month"), ("1990-01-01", 30, "YS", "year"), ("2020-01-01", 12, "D", "day"),
])  # fmt: skip
def test_periods_follow_the_times(project: Any, start: str, periods: int, freq: str, period: str) -> None:
    table, s = cases("binary", 2400)
    times = pd.date_range(start, periods=periods, freq=freq, unit="us").repeat(2400 // periods)
    project.lake("t", table.assign(when=times, kind="a"))
    s = s.changed(time="when", timezone="America/New_York" if (times.hour != 0).any() else "UTC")
    closed = {"by": "time", "validation": "2090-01-01", "holdout": "2100-01-01"}
    p = exploration.Params(min_rows=10)
    explore = Exploration(exploration.read(p, s, planned(closed)), p, s, planned(closed))
    assert set(explore.course()["period"]) == {period}
    assert ("hour" in explore.df) == (times.hour != 0).any()


def drawn(monkeypatch: Any, p: exploration.Params, s: Problem, plan: EvaluationPlan) -> list[str]:
    """Run the cells of the notebook that fit the problem, and draw their figures; return what they say."""
    said: list[str] = []
    for owner, name, value in (
        (Problem, "load", lambda: s), (EvaluationPlan, "load", lambda: plan), (display, "display", lambda *_, **__: None),
        (display, "inputs", lambda *_: None), (display, "outputs", lambda _: None), (display, "say", said.append),
        (gate, "close", lambda *_: None),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, value)
    notebook = variants.notebooks(s.task, s.time, s.group)["notebooks/05_exploration.ipynb"]
    cells = ["".join(cell["source"]) for cell in json.loads(notebook)["cells"] if cell["cell_type"] == "code"]
    found: dict[str, Any] = {"params": p, "section": "exploration"}
    for code in (cells[0], *cells[2:]):
        cells_of.run(code.replace("load(section, overrides)", "params"), found)
    assert s.target in found["df"]
    return said


@pytest.mark.parametrize("values", [{}, {"by": ["customer"]}, {"min_rows": 10_000}])
def test_every_figure_is_drawn_and_told_even_of_nothing(project: Project, values: Any, monkeypatch: Any) -> None:
    project.lake("orders", events())
    assert all(drawn(monkeypatch, params(**values), YES_NO, PLAN))


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_columns_of_any_name_and_content_are_drawn_and_told(project: Project, task: str, monkeypatch: Any) -> None:
    table, s = cases(task, 300)
    random = np.random.default_rng(4)
    x = table["x"].to_numpy()
    odd = {
        "a.b": x, "class": random.choice(["$a$", "b|c", "*d*", "`e`", "<i>"], 300), "Größe (cm)": 1e9 + x, "x|y": x > 0,
        "$price $": random.lognormal(8, 2, 300), "_id*": [f"$k{number}$" for number in range(300)],
        "empty": np.nan, "no text": pd.Series([None] * 300, dtype="str"), "one": 1, "huge": x * 1e300,
        "sometimes": np.where(random.uniform(size=300) < 0.9, np.nan, x), "季節": random.choice(["春", "夏"], 300),
        "endless": np.where(random.uniform(size=300) < 0.3, np.inf, x), "maybe": [True, None, False] * 100,
        "old": pd.Timestamp("1700-01-01") + pd.to_timedelta(random.integers(0, 99999, 300), unit="D"),
        "lines\nof": ["a\nb", "c\td", ""] * 100, "@home": x, "free": ["lorem ipsum $ dolor " * 9 + str(v) for v in x],
    }  # fmt: skip
    s = s.changed(target="tar$get")
    result = go(project, table.assign(**odd).rename(columns={"y": "tar$get"}), s)
    assert failed(result) == []
    assert "@home" in set(result["scores"]["column"])
    plan, p = agreeing(s), exploration.Params(by=list(odd), min_rows=2)
    assert "$" not in " ".join(drawn(monkeypatch, exploration.Params(), s, plan))
    assert all(drawn(monkeypatch, p, s, plan))


def test_associations_of_columns_of_any_type_are_near_the_known_ones() -> None:
    random = np.random.default_rng(1)
    number, group = random.normal(size=4000), random.integers(0, 3, 4000)
    frame = pd.DataFrame({"number": number, "minus": -np.exp(number), "group": group, "of": number + 5 * group})
    frame = frame.assign(same=frame["group"].astype(str), row=frame.index.astype(str), one=1.0, none=None)
    table = figures.associations(frame.assign(when=pd.to_datetime(number, unit="h")), ["group"])
    known = {("minus", "number"): -1, ("when", "number"): 1, ("same", "group"): 1, ("of", "group"): 0.94}
    for pair, value in {**known, ("number", "group"): 0, ("row", "group"): 0, ("row", "number"): 0}.items():
        assert table.loc[pair] == pytest.approx(value, abs=0.04) == table.loc[pair[::-1]]
    assert table[["one", "none"]].isna().all(axis=None)
