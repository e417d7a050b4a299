from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from conftest import Project

from ninefold import artifacts, gate
from ninefold.errors import GateFailed

GOOD = gate.at_least("rows", 5, 3)
BAD = gate.at_most("share", 0.25, 0.1)


def close(checks: list[gate.Check], metrics: dict[str, Any] | None = None) -> None:
    gate.close("problem", checks, metrics or {}, "All is well.", {"rows": "5"})


def record(project: Project, folder: str = "metrics") -> dict[str, Any]:
    return json.loads((project.folder / f"reports/{folder}/01_problem.json").read_text())


def test_a_passed_gate_publishes_and_writes_its_record(project: Project) -> None:
    artifacts.write_json({"a": 1}, artifacts.output("data/problem.json"))
    close([GOOD], {"auc": 0.5})
    assert artifacts.read_json("data/problem.json") == {"a": 1}
    assert record(project) == {
        "gate": {"passed": True, "checks": [{"name": "rows", "value": 5, "limit": ">= 3", "passed": True}]},
        "conclusion": "All is well.",
        "headline": {"rows": "5"},
        "metrics": {"auc": 0.5},
    }


def test_a_failed_gate_names_each_failed_check_with_value_and_limit(project: Project) -> None:
    with pytest.raises(GateFailed) as error:
        close([GOOD, BAD])
    assert str(error.value) == "01_problem: All is well. 1 of 2 checks failed: share: found 0.25, expected <= 0.1"


def test_a_failed_gate_leaves_earlier_outputs_and_metrics_as_they_were(project: Project) -> None:
    artifacts.write_json({"a": 1}, artifacts.output("data/problem.json"))
    close([GOOD], {"auc": 0.5})
    before = project.bytes("data") | project.bytes("reports/metrics")
    artifacts.write_json({"a": 2}, artifacts.output("data/problem.json"))
    with pytest.raises(GateFailed):
        close([BAD], {"auc": 0.4})
    assert project.bytes("data") | project.bytes("reports/metrics") == before
    assert record(project, "failed")["metrics"] == {"auc": 0.4}
    assert record(project, "failed")["gate"]["passed"] is False


def test_a_passed_gate_clears_the_traces_of_an_earlier_failure(project: Project) -> None:
    with pytest.raises(GateFailed):
        close([BAD])
    artifacts.write_text("another stage's", project.folder / "reports/failed/02_collection.json")
    close([GOOD])
    assert list(project.bytes("reports/failed")) == ["reports/failed/02_collection.json"]


def test_a_gate_without_checks_is_refused(project: Project) -> None:
    with pytest.raises(GateFailed, match="a gate without checks passes anything"):
        close([])


@pytest.mark.parametrize(
    ("check", "passed"),
    [
        (gate.at_least("x", 3, 3), True),
        (gate.at_least("x", 2.999, 3), False),
        (gate.at_most("x", 3, 3), True),
        (gate.at_most("x", 3.001, 3), False),
        (gate.at_least("x", float("nan"), 3), False),
        (gate.at_most("x", float("nan"), 3), False),
        (gate.holds("x", False, "found", "expected"), False),
    ],
)
def test_limits_are_part_of_what_passes_and_a_number_that_is_none_never_does(check: gate.Check, passed: bool) -> None:
    assert check.passed is passed


def test_nan_becomes_null_so_that_the_record_is_json(project: Project) -> None:
    close([GOOD], {"auc": float("nan"), "nested": {"values": [np.float64("nan"), 1.0]}})
    text = (project.folder / "reports/metrics/01_problem.json").read_text()
    assert "NaN" not in text
    assert record(project)["metrics"] == {"auc": None, "nested": {"values": [None, 1.0]}}


def test_floats_are_kept_to_six_significant_digits() -> None:
    assert gate.tidy({"a": 0.123456789, "b": (1234567.89,), "c": 7}) == {"a": 0.123457, "b": [1234570.0], "c": 7}


def test_numbers_of_numpy_become_plain_ones() -> None:
    tidied = gate.tidy([np.int64(3), np.float32(0.5), np.bool_(True)])
    assert [type(value) for value in tidied] == [int, float, bool]
