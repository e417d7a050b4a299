"""Stage 08: what is packed says what it is for, and the service proves that it answers as the candidate does."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from bundles import CASES, PARAMS, expected, lay_out, offline, pack, problem_of
from conftest import Project, statement

from ninefold import features
from ninefold.errors import DataError
from ninefold.metrics import EvaluationPlan
from ninefold.problem import Problem, decisions
from ninefold.serving import client, deployment
from ninefold.serving.bundle import Bundle

ROOT = Path(__file__).resolve().parents[2]
COMPARED = pd.DataFrame([("HTTP", 3, 0.0, 0)], columns=["way", "rows", "difference", "actions"])
REFUSED = pd.DataFrame([("cut short", 422, "not JSON")], columns=["request", "status", "answer"])


@pytest.mark.parametrize(
    ("case", "says"),
    {
        "binary": [
            "ROC AUC: 0.500 (0.400 to 0.600)", "fitted on 320 orders of 2020-01-01 to 2020-02-09", "One shop only.",
            "evaluated on 80 orders of 2020-02-10 to 2020-02-19", "*act*: -1 if it happens, -1 if not",
        ],
        "multiclass": [
            "chosen and fitted on {open} orders, and evaluated on {holdout} others", '1 for `s/m`, -1 for `the "l"`',
        ],
        "regression": ["none with the `owner` of one that it was fitted on", "75% quantile", "a unit too low 3 (euro)"],
        "text": ["on these features: 1 text.", "*drop*: 0 if it happens, -2 if not"],
    }.items(),
)  # fmt: skip
def test_the_bundle_has_the_problem_and_a_card_of_scores_periods_and_risks(project: Any, case: str, says: Any) -> None:
    parts = lay_out(case)
    bundle, sizes = pack(parts), {name: len(rows) for name, rows in parts.items()}
    assert bundle.problem == Problem.load()
    card = (bundle.place / "MODEL_CARD.md").read_text()
    assert card.startswith("# Model card: Returned orders\n")
    for text in says:
        assert text.format(**sizes, open=sizes["train"] + sizes["validation"]) in card
    assert ("UTC" in card) == (case == "binary")
    assert {"first" in period for period in bundle.described["periods"].values()} == {case == "binary"}
    row, there = pd.DataFrame({"placed": [pd.Timestamp("2013-07-01 02:00")]}), statement(timezone="America/New_York")
    assert deployment._period(row, there) == {"rows": 1, "first": "2013-06-30", "last": "2013-06-30"}


def test_the_contract_bounds_columns_of_events_and_those_that_joins_add(project: Project) -> None:
    ages = {"type": "int64", "nullable": True, "min": 18, "allowed": [18, 19, 20]}
    project.set("processing.tables.customers.columns.age", ages)
    project.set("processing.tables.customers.columns.amount", {"type": "float64", "max": 7})  # not joined
    project.set("features", {"numeric": ["amount", "years"]})
    project.functions["features", "define"] = lambda _: [features.join("customers", "customer", {"age": "years"})]
    bounds = deployment.contract_bounds(problem_of("binary"))
    assert (bounds["amount"], bounds["years"]) == ({"min": 0, "max": 1000}, {"min": 18, "allowed": [18, 19, 20]})
    assert not {"age", "customer", "placed"} & bounds.keys()


def test_a_difference_shows(parts: dict[str, pd.DataFrame], bundle: Bundle) -> None:
    given, predicted = bundle.decide(parts["holdout"]), offline(parts["holdout"])
    moved = given.assign(probability=given["probability"] + 1e-6)
    lost = given.assign(probability=np.nan)
    swapped = given.assign(action=np.where(given["action"] == "act", "wait", "act"))
    answers = {"same": given, "moved": moved, "lost": lost, "swapped": swapped}
    compared = deployment.compare(answers, dict.fromkeys(answers, predicted), bundle.problem)
    np.testing.assert_allclose(compared["difference"], [0.0, 1e-6, np.nan, 0.0], rtol=1e-6)
    assert compared["actions"].tolist() == [0, 0, 0, len(given)]
    with pytest.raises(DataError, match="were sent"):
        deployment.compare({"short": given.head(3)}, {"short": predicted}, bundle.problem)


@pytest.mark.parametrize(("changed", "fails"), [
    ({}, ""),
    ({"within": False}, "single-row latency p95 within its budget"),
    ({"difference": 1e-8}, "largest difference, HTTP"),
    ({"difference": np.nan}, "largest difference, HTTP"),
    ({"actions": 1}, "actions that differ from offline"),
    ({"status": 500}, "bad requests refused with 4xx"),
])  # fmt: skip
def test_the_gate_and_the_conclusion_fail_on_each_broken_promise(bundle: Bundle, changed: Any, fails: str) -> None:
    compared = COMPARED.assign(**{key: value for key, value in changed.items() if key in COMPARED})
    refused = REFUSED.assign(**{key: value for key, value in changed.items() if key in REFUSED})
    given = (bundle, compared, refused, changed.get("within", True), PARAMS)
    assert [check.name for check in deployment.checks(*given) if not check.passed] == [fails] * bool(fails)
    ends = f"failed checks: {fails}." if fails else "ms per row: ready to serve."
    assert deployment.conclusion(*given).endswith(ends)


def test_times_go_to_their_own_files_alone(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    table = deployment.latencies({"one row": np.array([0.1, 0.2]), "batches": np.array([0.3])})
    deployment.save_latencies(table)
    assert capsys.readouterr() == ("", "")
    assert "batches" in (project.folder / "reports/timings/08_deployment.txt").read_text()
    assert json.loads((project.folder / "reports/timings/08_latency.json").read_text())[0]["p50"] == 150
    assert deployment.in_budget(table, PARAMS)
    assert not deployment.in_budget(table.assign(p95=251.0), PARAMS)


def test_few_rows_are_sent_repeatedly_and_a_batch_keeps_both_limits_of_the_service() -> None:
    rows: list[dict[str, Any]] = [{"text": "x" * 1000}, {"text": ""}]
    assert deployment.repeated(rows, 3) == [*rows, rows[0]]
    assert deployment.batch_size(rows, PARAMS) == 49
    assert deployment.batch_size(rows[1:], PARAMS) == PARAMS.max_rows
    assert deployment.batch_size([{"text": "x" * 10**6}], PARAMS) == 1


@pytest.mark.parametrize(("case", "count"), [*((case, 400) for case in CASES), ("regression", 100)])
def test_deciles_hold_every_answer_once_and_what_it_paid(project: Project, case: str, count: int) -> None:
    parts = lay_out(case, count=count)
    problem, answers = Problem.load(), expected(parts["holdout"])
    target = parts["holdout"][problem.target]
    table = deployment.deciles(answers, target, problem, EvaluationPlan.load())
    assert (table["rows"].sum(), len(table)) == (len(answers), min(10, len(answers)))
    assert table["level"].is_monotonic_increasing
    paid = decisions.payoff(answers["action"].to_numpy(), target.to_numpy(), problem)
    assert np.average(table["paid"], weights=table["rows"]) == pytest.approx(paid.mean())
    if case == "binary":  # baseline policies are beside the answers
        assert table["always act"].eq(-1).all()
        assert "always wait" in table


def test_the_child_is_ended_when_the_conversation_breaks_off(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **kw: started.append(popen(*args, **kw)) or started[-1])
    with pytest.raises(RuntimeError), client.serving():
        raise RuntimeError
    assert started[0].poll() == 0


def test_a_service_that_does_not_start_says_why(bundle: Bundle) -> None:
    (bundle.place / "model.skops").unlink()
    with pytest.raises(DataError, match=r"ended with 1; it said: (.|\n)*missing: model\.skops"), client.serving():
        pass


@pytest.mark.parametrize("case", CASES)
def test_the_notebook_holds_for_every_task(project: Project, shown: list[Any], case: str) -> None:
    lay_out(case, count={"regression": 60, "text": 100}.get(case, 400))
    project.params["deployment"] = {**PARAMS.model_dump(), "latency_budget_ms": 5000}
    project.params["features"] = {"numeric": ["amount"]}
    project.set("deployment.single_rows", 30)
    (project.folder / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    names: dict[str, Any] = {}
    for cell in json.loads((ROOT / "notebooks/08_deployment.ipynb").read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(line for line in cell["source"] if line[0] != "%"), names)
    assert (project.folder / "models/bundle/MODEL_CARD.md").exists()
    assert "ready to serve" in names["conclusion"]
    assert len(names["compared"]) == 5
    assert list(names["batches"]) == names["packed"].answers
    assert not any("nan" in str(getattr(thing, "data", "")) for thing in shown)
