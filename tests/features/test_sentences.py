"""Sentences and figures of stage 06 hold for every task, and for names that mean something to matplotlib."""

import pandas as pd
import pytest
from conftest import Project
from odd_names import ALL, ODD, drawn, rows, sound

from ninefold import engine, features
from ninefold.features import sentences
from ninefold.problem import decisions
from project.figures.features import plot_deciles, plot_windows


@pytest.mark.parametrize(("task", "time"), ALL)
def test_the_features_are_drawn_and_told(project: Project, task: str, time: str | None) -> None:
    frame, problem, _ = rows(task, time)
    project.lake("orders", frame)
    history = {"of": problem.target, "prefix": "$h$", "known_after": "1h", "over": ["2d"], "by": [[ODD["shop"]]]}
    kept = [history] if time and task == "regression" else []
    params = features.Params(numeric=[ODD["amount"]], categorical=[ODD["shop"]], history=kept)
    events = features.build(features.read(engine.connect(), problem), params, problem)
    with_history = frame.assign(**{window.name: 1.0 for window in features.windows(params, "2h")})
    ranked = pd.DataFrame({"lowest": 0.1, "highest": 0.4, "range": 0.3}, index=[ODD["amount"]])
    drawn(plot_windows(params, problem))
    for table in (ranked, ranked.head(0)):
        drawn(plot_deciles(with_history, with_history[problem.target], list(table.index)))
        sound(sentences.describe_strongest(table, problem))
    sound(sentences.describe_windows(params, problem))
    assert decisions.level_name(problem) in sentences.describe_strongest(ranked, problem)
    assert set(engine.columns(events)) == set(frame.columns)
