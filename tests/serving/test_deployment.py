"""Stage 08: what is packed says what it is for, and the service proves that it answers as the candidate does."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from bundles import CASES, PARAMS, expected, lay_out, offline, pack
from conftest import Project

from ninefold.errors import DataError
from ninefold.metrics import EvaluationPlan
from ninefold.problem import Problem, decisions
from ninefold.serving import batch, client, deployment, figures
from ninefold.serving.bundle import Bundle
from ninefold.serving.fields import as_rows
from ninefold.serving.model_card import model_card

ROOT = Path(__file__).resolve().parents[2]


def refused_requests() -> pd.DataFrame:
    return pd.DataFrame([("cut short", 422, "not JSON")], columns=["request", "status", "answer"])


def comparison(count: int = 3) -> pd.DataFrame:
    return pd.DataFrame([("HTTP", count, 0.0, 0)], columns=["way", "rows", "difference", "actions"])


def test_the_bundle_states_the_problem_as_stage_01_did(project: Project) -> None:
    for case in CASES:
        assert pack(lay_out(case)).problem == Problem.load()


def test_the_model_card_holds_scores_periods_policy_and_risks(bundle: Bundle) -> None:
    card = (bundle.place / "MODEL_CARD.md").read_text()
    assert card.startswith("# Model card: Returned orders\n")
    for text in (
        "roc auc: 0.500 (0.400 to 0.600)",
        "fitted on 320 orders of 2020-01-01 to 2020-02-09",
        "evaluated on 80 orders of 2020-02-10 to 2020-02-19",
        "*act*: -1 if it happens, -1 if not",
        "One shop only.",
    ):
        assert text in card


@pytest.mark.parametrize(
    ("case", "says"),
    [
        (
            "multiclass",
            ["chosen and fitted on {open} orders, and evaluated on {holdout} others", '1 for `s/m`, -1 for `the "l"`'],
        ),
        ("regression", ["none with the owner of one that it was fitted on", "75% quantile", "a unit too low 3 (euro)"]),
        ("text", ["on these features: 1 text.", "*drop*: 0 if it happens, -2 if not"]),
    ],
)
def test_the_model_card_of_other_tasks_says_how_rows_were_split_and_what_decides(
    project: Project, case: str, says: list[str]
) -> None:
    parts = lay_out(case)
    written, sizes = model_card(pack(parts).described), {name: len(rows) for name, rows in parts.items()}
    for text in says:
        assert text.format(**sizes, open=sizes["train"] + sizes["validation"]) in written
    assert "UTC" not in written


def test_periods_are_rows_where_there_is_no_time(project: Project) -> None:
    periods = pack(lay_out("text")).described["periods"]
    assert [set(period) for period in periods.values()] == [{"rows"}] * 3


def test_the_example_is_a_row_of_which_much_is_known(parts: dict[str, pd.DataFrame]) -> None:
    parts["validation"].loc[0, ["amount", "channel"]] = None
    assert {"amount", "channel", "customer"} <= set(pack(parts).described["example"])


def test_a_difference_shows(parts: dict[str, pd.DataFrame], bundle: Bundle) -> None:
    given, predicted = bundle.decide(parts["holdout"]), offline(parts["holdout"])
    moved = given.assign(probability=given["probability"] + 1e-6)
    lost = given.assign(probability=np.nan)
    swapped = given.assign(action=np.where(given["action"] == "act", "wait", "act"))
    answers = {"same": given, "moved": moved, "lost": lost, "swapped": swapped}
    found = deployment.compare(answers, dict.fromkeys(answers, predicted), bundle.problem)
    assert found["difference"].tolist()[:2] == [0.0, pytest.approx(1e-6)]
    assert np.isnan(found["difference"][2])
    assert found["actions"].tolist() == [0, 0, 0, len(given)]
    with pytest.raises(DataError, match="were sent"):
        deployment.compare({"short": given.head(3)}, {"short": predicted}, bundle.problem)


def test_large_quantities_are_compared_by_their_size(project: Project) -> None:
    parts = lay_out("regression")
    bundle = pack(parts)
    given, predicted = bundle.decide(parts["holdout"]), offline(parts["holdout"])
    moved = given.assign(action=given["action"] * (1 + 1e-6))
    found = deployment.compare({"moved": moved}, {"moved": predicted}, bundle.problem)
    assert found["difference"][0] == pytest.approx(1e-6)
    assert found["actions"][0] == 0


def test_the_gate_fails_on_each_broken_baseline(bundle: Bundle) -> None:
    good = pd.DataFrame([("HTTP", 3, 0.0, 0)], columns=["way", "rows", "difference", "actions"])
    refused = pd.DataFrame([("cut short", 422, "not JSON")], columns=["request", "status", "answer"])

    def failed(**changed: Any) -> list[str]:
        given = {"compared": good, "refused": refused, "within": True, **changed}
        return [check.name for check in deployment.checks(bundle, **given, params=PARAMS) if not check.passed]

    assert failed() == []
    assert failed(within=False) == ["single-row latency p95 within its budget"]
    assert failed(compared=good.assign(difference=1e-8)) == ["largest difference, HTTP"]
    assert failed(compared=good.assign(difference=np.nan)) == ["largest difference, HTTP"]
    assert failed(compared=good.assign(actions=1)) == ["actions that differ from offline"]
    assert failed(refused=refused.assign(status=500)) == ["bad requests refused with 4xx"]
    assert "not ready" in deployment.conclusion(bundle, good, refused, False, PARAMS)


def test_times_go_to_their_own_files_alone(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    table = deployment.latencies({"one row": np.array([0.1, 0.2]), "batches": np.array([0.3])})
    deployment.save_latencies(table)
    assert capsys.readouterr() == ("", "")
    assert "batches" in (project.folder / "reports/timings/08_deployment.txt").read_text()
    assert json.loads((project.folder / "reports/timings/08_latency.json").read_text())[0]["p50"] == 150
    assert deployment.in_budget(table, PARAMS)
    assert not deployment.in_budget(table.assign(p95=251.0), PARAMS)


def test_few_rows_are_sent_again_and_again_to_measure_latency() -> None:
    rows: list[dict[str, Any]] = [{"n": 1}, {"n": 2}]
    assert [row["n"] for row in deployment.repeated(rows, 5)] == [1, 2, 1, 2, 1]
    assert deployment.repeated(rows, 1) == rows[:1]


def test_a_batch_keeps_both_limits_of_the_service() -> None:
    rows: list[dict[str, Any]] = [{"text": "x" * 1000}, {"text": ""}]
    assert deployment.batch_size(rows, PARAMS) == 49
    assert deployment.batch_size(rows[1:], PARAMS) == PARAMS.max_rows
    assert deployment.batch_size([{"text": "x" * 10**6}], PARAMS) == 1


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("count", [400, 100])
def test_every_task_has_its_figures_and_sentences(project: Project, case: str, count: int) -> None:
    parts = lay_out(case, count=count if case in ("regression", "text") else 400)
    bundle, problem = pack(parts), Problem.load()
    answers = expected(parts["holdout"])
    table = deployment.deciles(answers, parts["holdout"][problem.target], problem, EvaluationPlan.load())
    assert table["rows"].sum() == len(answers)
    assert len(table) == min(10, len(answers))
    paid = decisions.payoff(answers["action"].to_numpy(), parts["holdout"][problem.target].to_numpy(), problem)
    assert np.average(table["paid"], weights=table["rows"]) == pytest.approx(paid.mean())
    for figure in (figures.plot_decisions(answers, problem), figures.plot_deciles(table, problem)):
        figure.canvas.draw()
    sentences = [
        figures.describe_bundle(bundle),
        figures.describe_decisions(answers, problem),
        figures.describe_deciles(table, problem),
    ]
    assert all("nan" not in sentence for sentence in sentences), sentences
    assert deployment.metrics(bundle, comparison(len(answers)), refused_requests(), answers)["actions"]


def test_deciles_are_ordered_by_what_the_task_forecasts(project: Project) -> None:
    for case in CASES:
        parts = lay_out(case)
        answers = expected(parts["holdout"])
        table = deployment.deciles(
            answers, parts["holdout"][Problem.load().target], Problem.load(), EvaluationPlan.load()
        )
        assert table["level"].is_monotonic_increasing, case


def test_a_policy_without_a_model_is_drawn_beside_the_answers(bundle: Bundle, parts: dict[str, pd.DataFrame]) -> None:
    table = deployment.deciles(
        expected(parts["holdout"]), parts["holdout"]["returned"], bundle.problem, EvaluationPlan.load()
    )
    assert {"always act", "always wait"} < set(table)
    assert table["always act"].eq(-1).all()


@pytest.mark.parametrize(("case", "prior"), [*((case, None) for case in CASES), ("binary", 0.25)])
def test_a_real_service_answers_as_offline_refuses_and_is_gone_afterwards(
    project: Project, case: str, prior: float | None
) -> None:
    parts = lay_out(case, prior=prior)
    bundle, wanted = pack(parts), offline(parts["holdout"])
    full = as_rows(parts["holdout"], bundle.signature, without="identity")
    with client.serving() as url:
        assert url.startswith("http://127.0.0.1:")
        answers, seconds = client.ask(url, full, size=30)
        completed, _ = client.ask(url, as_rows(parts["holdout"], bundle.signature, without="history"), size=30)
        refused = client.refusals(url, bundle)
    online = offline(deployment.with_online(parts["holdout"]))
    files = {suffix: batch.through_file(parts["holdout"], suffix, bundle) for suffix in batch.SUFFIXES}
    given = {"HTTP": answers, "without history": completed, **files}
    compared = deployment.compare(
        given, {way: online if way == "without history" else wanted for way in given}, bundle.problem
    )
    assert compared["difference"].max() <= deployment.TOLERANCE
    assert not compared["actions"].any()
    assert list(answers) == bundle.answers
    assert len(seconds) == -(-len(full) // 30)
    assert refused["status"].between(400, 499).all(), refused.to_string()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/ready", trust_env=False)


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


def test_a_bundle_path_is_taken_as_given(bundle: Bundle, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    (tmp_path / "models/bundle").rename(copy)
    with client.serving(copy) as url:
        assert httpx.get(f"{url}/ready", trust_env=False).json()["version"] == bundle.version


@pytest.mark.parametrize(
    ("case", "count"), [("binary", 400), ("multiclass", 400), ("regression", 60), ("text", 100), ("dated", 400)]
)
def test_the_notebook_holds_for_every_task(project: Project, shown: list[Any], case: str, count: int) -> None:
    lay_out(case, count=count)
    project.params["deployment"] = {**PARAMS.model_dump(), "latency_budget_ms": 5000}
    project.set("deployment.single_rows", 30)
    (project.folder / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    names: dict[str, Any] = {}
    for cell in json.loads((ROOT / "notebooks/08_deployment.ipynb").read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert (project.folder / "models/bundle/MODEL_CARD.md").exists()
    assert "ready to serve" in names["conclusion"]
    assert not any("nan" in str(getattr(thing, "data", "")) for thing in shown)
