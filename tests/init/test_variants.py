"""The notebooks of a project are those cells of the masters that fit it."""

import json

import pytest

from ninefold import artifacts
from ninefold.init import variants
from ninefold.params import load

MASTER = {"cells": [
    {"cell_type": "code", "source": [name], "metadata": {"tags": tags} if tags else {}}
    for name, tags in {
        "all": ["parameters"], "classes": ["binary", "multiclass"], "quantity": ["regression"], "clock": ["time"],
        "persons over time": ["time", "entity"], "quantity over time": ["regression", "time"],
    }.items()
]}  # fmt: skip


def test_the_notebooks_of_the_repository_are_those_that_the_masters_give_for_its_example() -> None:
    problem = load("problem")
    given = variants.notebooks(problem.task, problem.time, problem.group)
    assert len(given) == 9
    other = [name for name, text in given.items() if artifacts.path(name).read_text("utf-8") != text]
    assert other == [], "change the master, then run `python -m ninefold.init.variants`"


@pytest.mark.parametrize(("facts", "cells"), [
    ({"binary", "time"}, ["all", "classes", "clock"]), ({"multiclass"}, ["all", "classes"]),
    ({"regression", "entity"}, ["all", "quantity"]),
    ({"regression", "time", "entity"}, ["all", "quantity", "clock", "persons over time", "quantity over time"]),
])  # fmt: skip
def test_cells_fit_one_of_their_tasks_and_all_of_their_columns(facts: set[str], cells: list[str]) -> None:
    given = json.loads(variants.variant(json.dumps(MASTER), facts))["cells"]
    assert [cell["source"] for cell in given] == [[name] for name in cells]
    assert [cell["metadata"] for cell in given] == [{"tags": ["parameters"]}, *[{}] * (len(cells) - 1)]
