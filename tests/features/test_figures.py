"""Figures and sentences of stage 06 hold for every task, and for names that mean something to matplotlib."""

from __future__ import annotations

import pytest
from conftest import Project
from odd_names import ALL, ODD, drawn, rows, sound

from ninefold import engine, features
from ninefold.features import figures as sixth
from ninefold.problem import decisions


@pytest.mark.parametrize(("task", "time"), ALL)
def test_the_features_are_drawn_and_told(project: Project, task: str, time: str | None) -> None:
    frame, problem, plan = rows(task, time)
    project.lake("orders", frame)
    history = {"of": problem.target, "prefix": "$h$", "known_after": "1h", "over": ["2d"], "by": [[ODD["shop"]]]}
    params = features.Params(
        numeric=[ODD["amount"]], categorical=[ODD["shop"]], history=[history] if time and task == "regression" else []
    )
    events = features.build(features.read(engine.connect(), problem), params, problem)
    ranked = features.strongest(
        frame.assign(**{window.name: 1.0 for window in features.windows(params, "2h")}),
        params,
        problem,
        plan.split,
    )
    assert ranked["feature"].tolist() == [ODD["amount"]]
    drawn(sixth.plot_strongest(frame, ranked, problem, plan.split))
    drawn(sixth.plot_strongest(frame, ranked.head(0), problem, plan.split))
    drawn(sixth.plot_windows(params, problem))
    sound(
        sixth.describe_events(events, params, problem),
        sixth.describe_proofs(0, 0.0, params, problem),
        sixth.describe_proofs(2, 0.5, params, problem),
        sixth.describe_strongest(ranked, problem),
        sixth.describe_strongest(ranked.head(0), problem),
        sixth.describe_windows(params, problem),
    )
    assert decisions.level_name(problem) in sixth.describe_strongest(ranked, problem)
    assert f"**400** orders, each with {len(frame.columns)} columns," in sixth.describe_events(events, params, problem)
