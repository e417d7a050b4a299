from typing import Any

import pytest
from conftest import TASKS, Project

from ninefold import params
from ninefold.errors import ParamsError

TRAINING = {"seed": 1, "importance_rows": 100, "candidates": {"mine": {"model": "linear"}}}


def refusal(section: str, overrides: dict[str, Any] | None = None) -> str:
    with pytest.raises(ParamsError) as error:
        params.load(section, overrides)
    return str(error.value)


@pytest.mark.parametrize(("path", "value", "says"), [
    ("problem.horizn", "2h", "unknown key; did you mean 'horizon'?"),
    ("processing.tables.orders.columns.amount.nulable", True, "unknown key; did you mean 'nullable'?"),
    ("trainin", {}, "unknown section; did you mean 'training'?"),
    ("problem", ["a", "b"], 'found ["a", "b"], expected a mapping'),
    ("problem.success.confidence", 1.5, "found 1.5, expected less than 1"),
    ("engine.backend", "polars", "found \"polars\", expected 'duckdb' or 'pyspark'"),
    ("engine.memory_limit", "much", 'found "much"'), ("engine.memory", "4GB", "unknown key"),
])  # fmt: skip
def test_what_is_wrong_is_refused_with_its_path(project: Project, path: str, value: Any, says: str) -> None:
    project.params.setdefault(path.partition(".")[0], {})
    project.set(path, value)
    assert f"{path}: {says}" in refusal(path.partition(".")[0])


def test_every_mistake_is_refused_at_once_and_with_its_path_in_optional_parts_and_models_too(project: Project) -> None:
    del project.params["problem"]["owner"]
    project.set("problem.horizon", "soon")
    message = refusal("problem")
    assert "problem.owner: missing, and it has no default; add it" in message
    assert 'problem.horizon: found "soon"' in message
    project.params["problem"] |= {**TASKS["regression"], "owner": "the shop", "horizon": "2h"}
    project.set("training", TRAINING)
    costs = {"costs": {"ovr": 1, "under": 1}}
    assert "problem.costs.ovr: unknown key; did you mean 'over'?" in refusal("problem", costs)
    for wrong, says in (
        ({"max_iter": 5}, "expected options of linear: C, rare; found max_iter"),
        ({"max_itr": 5}, "training.candidates.mine.max_itr: unknown key; did you mean 'max_iter'?"),
    ):
        assert says in refusal("training", {"candidates": {"mine": wrong}})


@pytest.mark.parametrize(("text", "says"), [
    ("problem:\n  start: 2020-01-01\n", 'problem.start: found a bare date; put it in quotes, "2020-01-01"'),
    ("problem:\n  title: [unclosed\n  unit: order\n", "params.yaml: line 3, column 7"),
    ("- problem\n", "found list, expected a mapping with a section per stage"),
])  # fmt: skip
def test_a_file_that_cannot_be_read_is_refused_with_the_place(project: Project, text: Any, says: Any) -> None:
    project.write(text)
    assert says in refusal("problem")


def test_overrides_are_laid_over_the_file_leaf_by_leaf_and_checked_like_it(project: Project) -> None:
    loaded = params.load("problem", {"success": {"confidence": 0.95}})
    assert (loaded.success.confidence, loaded.success.min_payoff_gain) == (0.95, 0.0)
    assert "problem.sucess: unknown key; did you mean 'success'?" in refusal("problem", {"sucess": {}})
    assert "labels.fee.unti: unknown key; did you mean 'unit'?" in refusal("labels", {"fee": {"unti": "EUR"}})
    overrides = {"tables": {"orders": {"columns": {"amount": {"nullable": False, "max": None}}}}}
    first = params.load("processing", overrides)
    assert params.load("processing", first.model_dump(mode="json")) == first
    amount = first.tables["orders"].columns["amount"]
    assert (amount.nullable, amount.max) == (False, None)


def test_the_root_is_found_from_a_folder_below_and_outside_a_project_the_error_says_where(
    project: Project, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    below, elsewhere = project.folder / "notebooks/deeper", tmp_path_factory.mktemp("elsewhere")
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert params.root() == project.folder
    monkeypatch.chdir(elsewhere)
    with pytest.raises(ParamsError, match=f"params.yaml: not found in {elsewhere} or above it"):
        params.root()


def test_texts_that_look_like_booleans_and_times_stay_texts(project: Project) -> None:
    text = (project.folder / "params.yaml").read_text()
    changed = text.replace("comes back", "no").replace("Returned orders", "12:30")
    project.write(changed.replace("min_rows: 2", "min_rows: 0x2").replace("confidence: 0.9", "confidence: 9e-1"))
    loaded = params.load("problem")
    assert (loaded.positive, loaded.title, loaded.success.confidence) == ("no", "12:30", 0.9)
    assert params.load("collection").tables["orders"].min_rows == 2
    project.write(text.replace("horizon: 2h", "horizon: 010"))
    assert "problem.horizon: found 10, expected" in refusal("problem")
