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


def test_a_passed_gate_publishes_and_writes_its_record_with_null_for_nan(project: Project) -> None:
    artifacts.write_json({"a": 1}, artifacts.output("data/problem.json"))
    close([GOOD], {"auc": float("nan"), "nested": {"values": [np.float64("nan"), 1.0]}})
    assert artifacts.read_json("data/problem.json") == {"a": 1}
    gated = {"passed": True, "checks": [{"name": "rows", "value": 5, "limit": ">= 3", "passed": True}]}
    said = {"conclusion": "All is well.", "headline": {"rows": "5"}}
    assert record(project) == {"gate": gated, **said, "metrics": {"auc": None, "nested": {"values": [None, 1.0]}}}
    assert "NaN" not in (project.folder / "reports/metrics/01_problem.json").read_text()


def test_a_failed_gate_names_the_failed_checks_and_leaves_all_as_it_was_until_one_passes(project: Project) -> None:
    artifacts.write_json({"a": 1}, artifacts.output("data/problem.json"))
    close([GOOD], {"auc": 0.5})
    before = project.bytes("data") | project.bytes("reports/metrics")
    artifacts.write_json({"a": 2}, artifacts.output("data/problem.json"))
    with pytest.raises(GateFailed) as error:
        close([GOOD, BAD], {"auc": 0.4})
    assert str(error.value) == "01_problem: All is well. 1 of 2 checks failed: share: found 0.25, expected <= 0.1"
    assert project.bytes("data") | project.bytes("reports/metrics") == before
    assert record(project, "failed")["metrics"] == {"auc": 0.4}
    assert record(project, "failed")["gate"]["passed"] is False
    artifacts.write_text("another stage's", project.folder / "reports/failed/02_collection.json")
    close([GOOD])
    assert list(project.bytes("reports/failed")) == ["reports/failed/02_collection.json"]
    with pytest.raises(GateFailed, match="a gate without checks passes anything"):
        close([])


@pytest.mark.parametrize(("check", "passed"), [
    (gate.at_least("x", 3, 3), True), (gate.at_least("x", 2.999, 3), False), (gate.at_most("x", 3, 3), True),
    (gate.at_most("x", 3.001, 3), False), (gate.at_least("x", float("nan"), 3), False),
    (gate.at_most("x", float("nan"), 3), False), (gate.holds("x", False, "found", "expected"), False),
])  # fmt: skip
def test_limits_are_part_of_what_passes_and_a_number_that_is_none_never_does(check: Any, passed: Any) -> None:
    assert check.passed is passed


def test_numbers_become_plain_ones_of_six_significant_digits() -> None:
    assert gate.tidy({"a": 0.123456789, "b": (1234567.89,), "c": 7}) == {"a": 0.123457, "b": [1234570.0], "c": 7}
    tidied = gate.tidy([np.int64(3), np.float32(0.5), np.bool_(True)])
    assert [type(value) for value in tidied] == [int, float, bool]
