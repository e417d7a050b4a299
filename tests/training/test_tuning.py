"""A search finds better options within its budget, goes on where it was killed, and does not depend on who computes it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import Project
from pydantic import ValidationError
from training_data import MODELS, ONE, orders, task_of
from training_search import START, far, slow, trials_of

from ninefold.errors import ParamsError
from ninefold.training import Params, dask_cluster, search, tune, tuning
from ninefold.training.search import Trial


def plain(trials: list[Trial]) -> list[tuple[Any, ...]]:
    """Return trials without their times."""
    return [trial[:3] for trial in trials]


@pytest.fixture(autouse=True)
def _project(project: Project) -> Project:
    return project


def test_given_options_come_first_and_better_ones_are_trials_of(tmp_path: Path) -> None:
    trials = trials_of(tmp_path / "a.json", budget=32)
    assert [trial.options for trial in trials[:2]] == list(START.values())
    assert len(trials) == 34
    best = search.best(trials, 1)
    assert far("hill", best["hill"], 2) < 0.5 < far("hill", START["hill"], 2)
    assert best["flat"] == START["flat"]
    for trial in trials[2:]:
        assert trial.candidate == "hill"  # what has no options is tried once
        assert -4 <= trial.options["x"] <= 4
        assert isinstance(trial.options["steps"], int)


def test_the_same_seed_finds_the_same_and_another_something_else(tmp_path: Path) -> None:
    first, second, third = (plain(trials_of(tmp_path / f"{n}.json", seed=seed)) for n, seed in enumerate((1, 1, 2)))
    assert first == second
    assert first != third


def test_what_does_poorly_on_few_rows_is_dropped_and_given_options_are_not(tmp_path: Path) -> None:
    trials = trials_of(tmp_path / "a.json", budget=40, rungs=3)
    assert all(len(trial.scores) == 3 for trial in trials[:2])
    dropped = [trial for trial in trials if len(trial.scores) == 1]
    whole = [trial for trial in trials if len(trial.scores) == 3]
    assert len(dropped) > len(trials) / 3
    assert min(trial.scores[0] for trial in whole) < min(trial.scores[0] for trial in dropped)
    table = tuning.table(trials, 3, 1)
    assert table["score"].isna().sum() == len(trials) - len(whole)
    assert table["best"].dropna().is_monotonic_decreasing


def test_a_search_goes_on_where_it_was_and_finds_what_it_would_have_trials_of(tmp_path: Path) -> None:
    whole, part = tmp_path / "whole.json", tmp_path / "part.json"
    expected = trials_of(whole, budget=20, rungs=2)
    for kept in (1, 4, 11):
        part.write_text(json.dumps([trial._asdict() for trial in expected[: 2 + 4 * (kept // 4)]]))
        assert plain(trials_of(part, budget=20, rungs=2)) == plain(expected)
    calls = tmp_path / "calls"
    score = partial(slow, 0, str(calls))
    assert plain(trials_of(whole, budget=20, rungs=2, score=score)) == plain(expected)
    assert not calls.exists()  # all was remembered
    assert plain(trials_of(whole, budget=24, rungs=2, score=score))[:22] == plain(expected)  # a larger budget goes on


@pytest.mark.parametrize("text", ["", "[{", '[{"candidate": "hill"}]', "{}", "[1]"])
def test_a_damaged_memory_is_begun_anew(tmp_path: Path, text: str) -> None:
    place = tmp_path / "a.json"
    place.write_text(text)
    assert len(trials_of(place, budget=4)) == 6
    assert len(json.loads(place.read_text())) == 6


def test_a_budget_of_time_ends_with_the_batch_that_is_running(tmp_path: Path) -> None:
    score = partial(slow, 0.05, str(tmp_path / "calls"))
    began = time.perf_counter()
    trials = trials_of(tmp_path / "a.json", budget="0.03m", score=score)
    assert 1.8 <= time.perf_counter() - began < 6
    assert sum(trial.seconds for trial in trials) >= 1.8
    before = len(trials)
    assert len(trials_of(tmp_path / "a.json", budget="0.03m", score=score)) == before  # it is spent


SCRIPT = """
import sys
sys.path[:0] = [sys.argv[2]]
from pathlib import Path
from training_search import trials_of, slow
from functools import partial
trials_of(Path(sys.argv[1]) / "memory.json", budget=20, rungs=2, score=partial(slow, 0.1, sys.argv[1] + "/calls"))
"""


def test_a_killed_search_goes_on(tmp_path: Path) -> None:
    expected = plain(trials_of(tmp_path / "whole.json", budget=20, rungs=2))
    (tmp_path / "run.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "run.py"), str(tmp_path), str(Path(__file__).parents[1])]
    memory = tmp_path / "memory.json"
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None and len(search._remembered(memory)) < 6:
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = len(search._remembered(memory))
    assert 6 <= kept < 22
    assert plain(trials_of(memory, budget=20, rungs=2)) == expected


def params(**changes: Any) -> Params:
    values = {"seed": 1, "folds": 2, "candidates": {name: MODELS[name] for name in ("line", "boosting")}}
    return Params.model_validate({**values, "importance_rows": 100, **changes})


@pytest.mark.parametrize("backend", ["local", "dask"])
def test_candidates_get_better_options_whoever_computes_them(project: Project, backend: str) -> None:
    problem, frame = ONE["binary"], orders("binary", 400)
    asked = params(search={"budget": 6}, backend=backend)
    tuned, trials = tune(task_of(frame, problem, asked))
    assert len(trials) == 8
    given = trials["score"].head(2).min()
    assert trials["score"].min() <= given
    assert trials["best"].iloc[-1] == trials["score"].min()
    found = {name: candidate.options() for name, candidate in tuned.candidates.items()}
    best = trials.loc[trials["score"].idxmin()]
    assert set(best["options"].split(", ")) <= set(tuning.as_text(found[best["candidate"]]).split(", "))
    # The other backend, or another run, finds the same.
    (memory,) = (project.folder / tuning.MEMORY).glob("*.json")
    memory.unlink()
    other, again = tune(task_of(frame, problem, asked.model_copy(update={"backend": "local"})))
    assert again.equals(trials)
    assert other.candidates == tuned.candidates


def test_a_dask_cluster_of_two_workers_that_is_running_is_used(project: Project) -> None:
    distributed = pytest.importorskip("distributed")
    problem, frame = ONE["regression"], orders("regression", 200)
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        asked = params(search={"budget": 4}, backend="dask", scheduler=cluster.scheduler_address)
        _, trials = tune(task_of(frame, problem, asked))
        with distributed.Client(cluster) as client:
            ran = client.run(lambda dask_worker: dask_worker.state.task_counter.current_count(by_prefix=False))
    assert len(trials) == 6
    assert len(ran) == 2


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(dask_cluster, "TIMEOUT", 1)
    with (
        pytest.raises(ParamsError, match=r"training\.scheduler: tcp://127\.0\.0\.1:9 does not answer"),
        dask_cluster.workers("tcp://127.0.0.1:9"),
    ):
        pass


def test_a_missing_dask_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ParamsError, match="run `make setup`, or say local"), dask_cluster.workers(None):
        pass


def test_without_a_budget_nothing_is_searched(project: Project) -> None:
    problem, frame = ONE["binary"], orders("binary", 200)
    asked = params()
    tuned, trials = tune(task_of(frame, problem, asked))
    assert tuned is asked
    assert trials.empty
    assert not (project.folder / "models").exists()


def test_dvclive_logs_every_trial(project: Project) -> None:
    problem, frame = ONE["binary"], orders("binary", 200)
    _, trials = tune(task_of(frame, problem, params(search={"budget": 5})))
    logged = (project.folder / tuning.TRIALS / "plots/metrics/score.tsv").read_text().splitlines()
    assert len(logged) == 1 + len(trials)
    assert float(logged[1].split("\t")[1]) == pytest.approx(trials["score"].iloc[0])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"budget": -1}, "greater than or equal to 0"),
        ({"budget": "ten"}, "pattern"),
        ({"space": {"lien": {"C": [0.1, 1]}}}, "search.space of candidates, which are line, boosting; found lien"),
        ({"space": {"line": {"D": [0.1, 1]}}}, r"search.space.line: options of C; found D"),
        ({"space": {"line": {"C": [1, 0.1]}}}, r"search.space.line.C: \[lower, higher\]; found \[1, 0.1\]"),
    ],
)
def test_a_wrong_search_is_refused(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        params(search=asked)


@pytest.mark.parametrize("budget", [0, 40, "10m", "0.5h", "1d"])
def test_a_budget_is_a_number_of_trials_or_a_time(budget: int | str) -> None:
    assert params(search={"budget": budget}).search.budget == budget
    assert Params.model_validate(params(search={"budget": budget}).model_dump(mode="json")).search.budget == budget


def test_a_space_of_ones_own_is_searched(project: Project) -> None:
    problem, frame = ONE["binary"], orders("binary", 200)
    asked = params(search={"budget": 8, "space": {"boosting": {"max_iter": [5, 9]}, "line": {"C": [2.0, 3.0]}}})
    _, trials = tune(task_of(frame, problem, asked))
    for row in trials.iloc[2:].itertuples():
        options = dict(pair.split(" ") for pair in row.options.split(", "))
        if row.candidate == "line":
            assert 2 <= float(options["C"]) <= 3
        else:
            assert 5 <= int(options["max_iter"]) <= 9
