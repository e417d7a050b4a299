"""A search improves options within its budget, goes on where it was killed, and does not depend on who computes it."""

import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import Project
from pydantic import ValidationError
from training_data import MODELS, ONE, START, distance, folds_of, orders, trials_of

from ninefold.errors import DataError, ParamsError
from ninefold.training import Params, dask_cluster, tune, tuning
from ninefold.training.tuning import Trial

pytestmark = pytest.mark.usefixtures("project")


def plain(trials: list[Trial]) -> list[tuple[Any, ...]]:
    return [trial[:3] for trial in trials]


def params(**changes: Any) -> Params:
    values = {"seed": 1, "folds": 2, "candidates": {name: MODELS[name] for name in ("line", "boosting")}}
    return Params.model_validate({**values, "importance_rows": 100, **changes})


def test_given_options_are_tried_first_and_better_ones_are_found(tmp_path: Path) -> None:
    trials = trials_of(tmp_path / "a.json", budget=32)
    assert [trial.options for trial in trials[:2]] == list(START.values())
    assert [trial.candidate for trial in trials[2:]] == ["hill"] * 32  # what has no options is tried once
    best = tuning.best(trials, 1)
    assert distance("hill", best["hill"], 2) < 0.5 < distance("hill", START["hill"], 2)
    assert best["flat"] == START["flat"]
    assert all(-4 <= trial.options["x"] <= 4 and isinstance(trial.options["steps"], int) for trial in trials[2:])
    assert all(trial.options["kept"] == 7 for trial in trials[2:])  # as params have it, since it has no range
    assert plain(trials) == plain(trials_of(tmp_path / "b.json", budget=32))
    assert plain(trials) != plain(trials_of(tmp_path / "c.json", budget=32, seed=2))


def test_what_does_poorly_on_few_rows_is_dropped_and_given_options_are_not(tmp_path: Path) -> None:
    trials = trials_of(tmp_path / "a.json", budget=40, rungs=3)
    assert all(len(trial.scores) == 3 for trial in trials[:2])
    dropped = [trial.scores[0] for trial in trials if len(trial.scores) == 1]
    whole = [trial.scores[0] for trial in trials if len(trial.scores) == 3]
    assert len(dropped) > len(trials) / 3
    assert min(whole) < min(dropped)


def test_a_search_goes_on_where_it_was_with_equal_results(tmp_path: Path) -> None:
    whole, part, calls = tmp_path / "whole.json", tmp_path / "part.json", tmp_path / "calls"
    expected = trials_of(whole, budget=20, rungs=2)
    for kept in (2, 6, 10):
        part.write_text(json.dumps([trial._asdict() for trial in expected[:kept]]))
        assert plain(trials_of(part, budget=20, rungs=2)) == plain(expected)
    score = partial(distance, calls=str(calls))
    assert plain(trials_of(whole, budget=20, rungs=2, score=score)) == plain(expected)
    assert not calls.exists()  # all was remembered
    assert plain(trials_of(whole, budget=24, rungs=2, score=score))[:22] == plain(expected)  # a larger budget goes on


@pytest.mark.parametrize("text", ["", '[{"candidate": "hill"}]', "[1]"])
def test_a_damaged_memory_is_begun_anew(tmp_path: Path, text: str) -> None:
    place = tmp_path / "a.json"
    place.write_text(text)
    assert len(trials_of(place, budget=4)) == len(json.loads(place.read_text())) == 6


def test_a_budget_of_time_ends_with_the_batch_that_is_running(tmp_path: Path) -> None:
    score, began = partial(distance, seconds=0.05), time.perf_counter()
    trials = trials_of(tmp_path / "a.json", budget="0.03m", score=score)
    assert 1.8 <= time.perf_counter() - began < 6
    assert len(trials_of(tmp_path / "a.json", budget="0.03m", score=score)) == len(trials)  # it is spent


@pytest.mark.parametrize("backend", ["local", "dask"])
def test_candidates_get_better_options_whoever_computes_them(project: Project, backend: str) -> None:
    problem, frame = ONE["binary"], orders("binary", 400)
    space = {"boosting": {"max_iter": [5, 9]}, "line": {"C": [2.0, 3.0]}}
    given = params(search={"budget": 6, "space": space}, backend=backend)
    tuned, trials = tune(*folds_of(frame, problem, given))
    assert len(trials) == 8
    for row in trials.iloc[2:].itertuples():
        name, (low, high) = next(iter(space[row.candidate].items()))
        assert low <= float(dict(pair.split(" ") for pair in row.options.split(", "))[name]) <= high
    best = trials.loc[trials["score"].idxmin()]
    options = tuned.candidates[best["candidate"]].options()
    assert set(best["options"].split(", ")) <= set(tuning.as_text(options).split(", "))
    logged = (project.folder / tuning.TRIALS / "plots/metrics/score.tsv").read_text().splitlines()
    assert float(logged[1].split("\t")[1]) == pytest.approx(trials["score"].iloc[0])
    # The other backend, or another run, has the same result.
    (memory,) = (project.folder / tuning.MEMORY).glob("*.json")
    memory.unlink()
    other, again = tune(*folds_of(frame, problem, given.model_copy(update={"backend": "local"})))
    assert again.equals(trials)
    assert other.candidates == tuned.candidates


def test_a_search_asks_for_a_first_commit(project: Project) -> None:
    subprocess.run(["git", "init", "-q"], check=True)
    folds, plan = folds_of(orders("binary", 200), ONE["binary"], params(search={"budget": 2}))
    with pytest.raises(DataError, match=r"training\.search\.budget: found no commit in git"):
        tune(folds, plan)


def test_a_missing_dask_or_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_cluster, "TIMEOUT", 1)
    given = params(backend="dask", scheduler="tcp://127.0.0.1:9")
    with pytest.raises(ParamsError, match=r"training\.scheduler: .*:9 does not answer"), tuning.workers(given):
        pass
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ParamsError, match="run `make setup`, or say local"), tuning.workers(given):
        pass


@pytest.mark.parametrize(("given", "message"), [
    ({"budget": -1}, "greater than or equal to 0"),
    ({"budget": "ten"}, "pattern"),
    ({"space": {"lien": {"C": [0.1, 1]}}}, "search.space of candidates, which are line, boosting; found lien"),
    ({"space": {"line": {"D": [0.1, 1]}}}, r"search.space.line: options of C; found D"),
    ({"space": {"line": {"C": [1, 0.1]}}}, r"search.space.line.C: \[lower, higher\]; found \[1, 0.1\]"),
])  # fmt: skip
def test_a_wrong_search_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        params(search=given)
