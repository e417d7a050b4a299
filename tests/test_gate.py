import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Project

from ninefold import artifacts, gate, whatif
from ninefold.errors import DataError, GateFailed, ParamsError
from ninefold.init import assumptions
from ninefold.params import load
from ninefold.reports import guides

GOOD = gate.at_least("NF101 rows", 5, 3)
BAD = gate.at_most("share", 0.25, 0.1)


def close(checks: list[gate.Check], metrics: dict[str, Any] | None = None) -> None:
    gate.close("problem", checks, metrics or {}, "All is well.", {"rows": "5"})


def record(project: Project, folder: str = "metrics") -> dict[str, Any]:
    return json.loads((project.folder / f"reports/{folder}/01_problem.json").read_text())


def test_a_passed_gate_publishes_and_writes_its_record_with_null_for_nan(project: Project) -> None:
    artifacts.write_json({"a": 1}, artifacts.output("data/problem.json"))
    close([GOOD], {"auc": float("nan"), "nested": {"values": [np.float64("nan"), 1.0]}})
    assert artifacts.read_json("data/problem.json") == {"a": 1}
    gated = {"passed": True, "checks": [{"code": "NF101", "name": "rows", "value": 5, "limit": ">= 3", "passed": True}]}
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


def test_a_what_if_writes_apart_whatever_its_gate_says_and_reads_what_it_wrote_until_it_ends(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts.write_json("the output", artifacts.output("data/problem.json"))
    close([GOOD])
    before = project.bytes(".")
    monkeypatch.setattr(whatif, "by_hand", lambda: True)
    assert load("problem", {"title": "Another"}).title == "Another"
    assert artifacts.read_json("data/problem.json") == "the output"
    artifacts.write_json("tried", artifacts.output("data/problem.json"))
    artifacts.note("problem", "took long")
    with pytest.raises(GateFailed):
        close([BAD])
    close([GOOD])
    assert artifacts.read_json("data/problem.json") == "tried"
    assert {name: each for name, each in project.bytes(".").items() if not name.startswith("data/whatif/")} == before
    load("problem", {})
    assert artifacts.read_json("data/problem.json") == "the output"


@pytest.mark.parametrize(("check", "passed"), [
    (gate.at_least("x", 3, 3), True), (gate.at_least("x", 2.999, 3), False), (gate.at_most("x", 3, 3), True),
    (gate.at_most("x", 3.001, 3), False), (gate.at_least("x", float("nan"), 3), False),
    (gate.at_most("x", float("nan"), 3), False), (gate.holds("x", False, "found", "expected"), False),
])  # fmt: skip
def test_limits_are_part_of_what_passes_and_a_number_that_is_none_never_does(check: Any, passed: Any) -> None:
    assert check.passed is passed


@pytest.mark.parametrize(("value", "limit", "shown"), [
    (0.6699961, ">= 0.67", "0.669996"), (0.123456, ">= 0.5", "0.123"), (1234567, "<= 5", "1,234,567"), (1234.4, "<= 1234", "1234.4"),
])  # fmt: skip
def test_a_failed_number_has_the_digits_that_tell_it_from_its_limit(value: float, limit: str, shown: str) -> None:
    failed = {"name": "x", "value": value, "limit": limit, "passed": False}
    assert gate.failures({"gate": {"checks": [failed]}}) == [f"x: found {shown}, expected {limit}"]


def test_numbers_become_plain_ones_of_six_significant_digits() -> None:
    assert gate.tidy({"a": 0.123456789, "b": (1234567.89,), "c": 7}) == {"a": 0.123457, "b": [1234570.0], "c": 7}
    tidied = gate.tidy([np.int64(3), np.float32(0.5), np.bool_(True)])
    assert [type(value) for value in tidied] == [int, float, bool]


def test_a_silenced_check_may_fail_and_says_why_unless_it_must_hold(project: Project, capsys: Any) -> None:
    bad = gate.at_most("NF102 share", 0.25, 0.1)
    project.set("problem.silenced", {"NF102": "a test", "NF101": "never fails"})
    close([GOOD, bad])
    assert "silenced: a test" in capsys.readouterr().out
    written = record(project)["gate"]
    assert (written["passed"], [check.get("silenced") for check in written["checks"]]) == (True, [None, "a test"])
    assert gate.failures(record(project)) == []
    with pytest.raises(GateFailed, match=r"1 of 2 checks failed: NF103 share: found 0.25, expected <= 0.1"):
        close([bad, gate.at_most("NF103 share", 0.25, 0.1)])
    project.set("problem.silenced", {"NF602": "no time"})
    with pytest.raises(
        ParamsError, match=r"params.yaml: problem.silenced: NF602 cannot be silenced; see `ninefold guide NF602`"
    ):
        close([GOOD])
    project.set("problem.silenced", {"102": "no code"})
    with pytest.raises(ParamsError, match=r"problem.silenced.102"):
        close([GOOD])


def test_the_guide_explains_each_check_of_the_engine_and_what_may_be_silenced() -> None:
    source = "".join(file.read_text(encoding="utf-8") for file in Path(gate.__file__).parent.rglob("*.py"))
    texts = guides.checks()
    used = {*re.findall(r"\"(NF\d{3}) ", source), *assumptions.CODES.values()}
    assert used == set(texts), "docs/checks.md has a section for each code"
    assert {code for code, text in texts.items() if "- Silence: no" in text} == gate.NEVER_SILENCED
    assert guides.read("nf303") == texts["NF303"]
    with pytest.raises(DataError, match="there is no check 'NF999'"):
        guides.read("NF999")
