"""A run on a sample reads the same few rows of one table each time, and asks for what so few rows can give."""

import subprocess
from typing import Any

import pandas as pd
import pytest
from conftest import PARAMS, Project

from ninefold import artifacts, features, gate
from ninefold.testing import sampling

TRAINING = {"candidates": {"a": {"model": "gradient_boosting"}, "b": {"model": "linear"}}, "search": {"budget": "10m"}}


def rows(count: int, **columns: Any) -> pd.DataFrame:
    times = pd.Timestamp("2020-01-01") + pd.to_timedelta(range(count), unit="min")
    table = pd.DataFrame({"id": range(count), "placed": times.strftime("%Y-%m-%dT%H:%M:%S"), "returned": "0"})
    return table.assign(**columns).astype("str")


def serve(project: Project, orders: pd.DataFrame) -> None:
    """Let the project's reader return these orders, and two customers."""

    def read(table: str, start: Any, end: Any) -> pd.DataFrame:
        if table == "customers":
            return pd.DataFrame({"customer": ["ann", "bob"], "city": ["Rome", "Bern"]})
        return orders[orders["placed"].between(f"{start:%Y-%m-%d}", f"{end:%Y-%m-%d}", inclusive="left")]

    project.functions["collection", "read"] = read


def read_sample(project: Project, sample: sampling.Sample, table: str = "orders") -> pd.DataFrame:
    read = sample.reader(project.functions["collection", "read"])
    return read(table, pd.Timestamp("2020-01-01"), pd.Timestamp("2020-03-01"))


def test_a_sample_is_the_same_share_each_time_of_one_table_and_a_rare_class_keeps_enough_rows(project: Project) -> None:
    orders = rows(20_000, returned=["1" if number % 100 == 0 else "0" for number in range(20_000)])
    serve(project, orders)
    sample = sampling.choose(2_000)
    kept = read_sample(project, sample)
    assert kept["returned"].value_counts().tolist() == [pytest.approx(2_000, rel=0.1), sampling.OF_A_CLASS]
    assert kept["id"].tolist() == read_sample(project, sampling.choose(2_000))["id"].tolist()
    assert sample.of(orders.tail(10_000))["id"].tolist() == [one for one in kept["id"] if int(one) >= 10_000]
    serve(project, rows(300))
    assert len(read_sample(project, sampling.choose(100), "customers")) == 2
    assert len(read_sample(project, sampling.choose(1_000))) == 300


@pytest.mark.parametrize(("entities", "whole"), [(4_000, True), (40, False)])
def test_rows_of_an_entity_stay_together_where_there_are_many(project: Project, entities: int, whole: bool) -> None:
    project.set("problem.group", ["customer"])
    orders = rows(20_000, customer=[f"c{number % entities}" for number in range(20_000)])
    serve(project, orders)
    kept = read_sample(project, sampling.choose(2_000))["customer"].value_counts()
    assert (kept == orders["customer"].value_counts()[kept.index]).all() == whole
    assert kept.sum() == pytest.approx(2_000, rel=0.15)


def test_params_ask_for_what_few_rows_can_give(project: Project) -> None:
    references = [{"table": "orders", "by": ["id"]}, {"table": "customers", "by": ["customer"]}]
    tables = PARAMS["processing"]["tables"]
    params = {**PARAMS, "metrics": {"level": 0.9}, "training": TRAINING, "deployment": {}}
    params["monitoring"] = {"period": "week", "replay_until": "2020-12-31"}
    params["processing"] = {"tables": {**tables, "items": {**tables["orders"], "references": references}}}
    found = sampling.smaller(params, sampling.Sample("orders", 0.1, [], "returned", {}))
    assert found["metrics"] == {"split": {"min_rarest": 1}, "level": 0.9}
    small = {**TRAINING["candidates"], "a": {"model": "gradient_boosting", "max_iter": 20}}
    assert (found["training"]["candidates"], found["training"]["search"]["budget"]) == (small, sampling.SIZES["trials"])
    assert found["monitoring"] == {"period": "month", "replay_until": "2020-04-30"}
    assert [table["min_rows"] for table in found["collection"]["tables"].values()] == [0, 1]
    assert found["processing"]["tables"]["items"]["references"] == references[1:]
    assert params["metrics"] == {"level": 0.9}


def test_only_checks_that_depend_on_the_number_of_rows_are_not_asked_of_a_sample(monkeypatch: Any) -> None:
    closed: dict[str, list[bool]] = {}
    monkeypatch.setattr(gate, "close", lambda section, checks: closed.update({section: [one.passed for one in checks]}))
    sampling.ease_gates()
    lost = gate.at_least("gain", float("nan"), 0)
    for section in ("training", "features"):
        gate.close(section, [gate.at_least("gain", -1, 0), lost, gate.holds(sampling.EMPTY, False, "a", "none")])
    assert closed == {"training": [True, False, True], "features": [False, False, True]}
    table = pd.DataFrame({"feature": ["a"], "missing": [1.0]})
    assert sampling.EMPTY in [check.name for check in features.checks(table, [], 0, 0.0)]


def test_the_copy_reads_the_sample_and_the_project_is_as_it_was(project: Project, tmp_path_factory: Any) -> None:
    code = "import pandas as pd\n\ndef read(*_):\n    return pd.DataFrame({'id': range(20_000)}).astype('str')\n"
    project.set("training", TRAINING)
    project.set("monitoring", {})
    for name, text in {"__init__": "", "collection": code}.items():
        artifacts.write_text(text, project.folder / f"src/project/{name}.py")
    subprocess.run(["git", "init", "-q"], cwd=project.folder, check=True)
    before, copy = project.bytes("."), tmp_path_factory.mktemp("copy")
    sampling.copy_project(copy, sampling.Sample("orders", 0.1, [], "returned", {}))
    module: dict[str, Any] = {}
    exec((copy / "src/project/collection.py").read_text(), module)
    assert len(module["read"]("orders", None, None)) == pytest.approx(2_000, rel=0.1)
    assert len(module["read"]("customers", None, None)) == 20_000
    assert project.bytes(".") == before
