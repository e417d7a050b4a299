from __future__ import annotations

import pytest
from conftest import TASKS, Project

from ninefold import params
from ninefold.errors import ParamsError


def refusal(section: str, overrides: dict | None = None) -> str:
    with pytest.raises(ParamsError) as error:
        params.load(section, overrides)
    return str(error.value)


def test_values_come_from_the_file(project: Project) -> None:
    assert params.load("problem").horizon == "2h"


def test_an_unknown_key_is_refused_with_the_nearest_known_one(project: Project) -> None:
    project.set("problem.horizn", "2h")
    assert "problem.horizn: unknown key; did you mean 'horizon'?" in refusal("problem")


def test_an_unknown_key_inside_a_table_is_refused_with_the_nearest_known_one(project: Project) -> None:
    project.set("processing.tables.orders.columns.amount.nulable", True)
    assert "processing.tables.orders.columns.amount.nulable: unknown key; did you mean 'nullable'?" in refusal(
        "processing"
    )


def test_an_unknown_key_of_an_optional_part_is_refused_with_the_nearest_known_one(project: Project) -> None:
    project.params["problem"] |= TASKS["regression"]
    project.set("problem.costs", {"ovr": 1, "under": 1})
    assert "problem.costs.ovr: unknown key; did you mean 'over'?" in refusal("problem")


def test_an_option_of_another_model_is_refused_with_its_path(project: Project) -> None:
    training = {"seed": 1, "importance_rows": 100, "candidates": {"mine": {"model": "linear", "max_iter": 5}}}
    project.params["training"] = training
    project.set("training.seed", 1)
    message = refusal("training")
    assert "training.candidates.mine: found" in message
    assert "expected options of linear: C, rare; found max_iter" in message
    assert "training.candidates.mine.max_itr: unknown key; did you mean 'max_iter'?" in refusal(
        "training", {"candidates": {"mine": {"max_itr": 5}}}
    )


@pytest.mark.parametrize("name", ["a.b", "two words", "ünï", 'the "q"', "select", " "])
def test_a_column_may_be_called_anything(project: Project, name: str) -> None:
    project.set("problem.target", name)
    project.set("problem.key", [name])
    assert params.load("problem").key == [name]


def test_an_unknown_section_is_refused_with_the_nearest_known_one(project: Project) -> None:
    project.params["trainin"] = {}
    project.set("problem.title", "x")
    assert "trainin: unknown section; did you mean 'training'?" in refusal("problem")


def test_a_section_that_is_no_mapping_is_refused(project: Project) -> None:
    project.params["problem"] = ["a", "b"]
    project.set("collection.start", "2020-01-01")
    assert 'problem: found ["a", "b"], expected a mapping' in refusal("problem")


def test_a_wrong_value_is_refused_with_its_path_what_was_found_and_what_was_expected(project: Project) -> None:
    project.set("problem.success.confidence", 1.5)
    assert "problem.success.confidence: found 1.5, expected less than 1" in refusal("problem")


def test_every_mistake_is_reported_at_once(project: Project) -> None:
    project.set("problem.success.confidence", 0.1)
    project.set("problem.horizon", "soon")
    message = refusal("problem")
    assert "problem.success.confidence: found 0.1" in message
    assert 'problem.horizon: found "soon"' in message


def test_a_missing_key_is_named(project: Project) -> None:
    del project.params["problem"]["owner"]
    project.set("problem.title", "x")
    assert "problem.owner: missing, and it has no default; add it" in refusal("problem")


def test_a_bare_date_is_refused_because_dvc_cannot_read_it(project: Project) -> None:
    project.write("collection:\n  start: 2020-01-01\n")
    assert 'collection.start: found a bare date; put it in quotes, "2020-01-01"' in refusal("collection")


def test_broken_yaml_is_refused_with_its_line(project: Project) -> None:
    project.write("problem:\n  title: [unclosed\n  unit: order\n")
    assert "params.yaml: line 3, column 7" in refusal("problem")


def test_a_file_that_is_no_mapping_is_refused(project: Project) -> None:
    project.write("- problem\n")
    assert "found list, expected a mapping with a section per stage" in refusal("problem")


def test_overrides_are_laid_over_the_file_leaf_by_leaf(project: Project) -> None:
    loaded = params.load("problem", {"success": {"confidence": 0.95}})
    assert (loaded.success.confidence, loaded.success.min_payoff_gain) == (0.95, 0.0)


def test_overrides_are_checked_like_the_file(project: Project) -> None:
    assert "problem.sucess: unknown key; did you mean 'success'?" in refusal("problem", {"sucess": {}})


def test_what_is_injected_loads_to_the_same_params(project: Project) -> None:
    overrides = {"tables": {"orders": {"columns": {"amount": {"nullable": False, "max": None}}}}}
    first = params.load("processing", overrides)
    again = params.load("processing", first.model_dump(mode="json"))
    assert again == first
    assert again.tables["orders"].columns["amount"].nullable is False
    assert again.tables["orders"].columns["amount"].max is None


def test_loaded_params_do_not_change(project: Project) -> None:
    with pytest.raises(ValueError, match="frozen"):
        params.load("problem").title = "another"


def test_the_root_is_found_from_a_folder_below(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    below = project.folder / "notebooks" / "deeper"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert params.root() == project.folder


def test_outside_a_project_the_error_says_where_it_looked(tmp_path_factory, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    with pytest.raises(ParamsError, match=f"params.yaml: not found in {elsewhere} or above it"):
        params.root()


def test_texts_that_look_like_booleans_and_times_stay_texts(project: Project) -> None:
    text = (project.folder / "params.yaml").read_text()
    project.write(
        text.replace("comes back", "no").replace("Returned orders", "12:30").replace("min_rows: 2", "min_rows: 0x2")
    )
    loaded = params.load("problem")
    assert (loaded.positive, loaded.title) == ("no", "12:30")
    assert params.load("collection").tables["orders"].min_rows == 2
    project.write(text.replace("confidence: 0.9", "confidence: 9e-1").replace("horizon: 2h", "horizon: 010"))
    with pytest.raises(ParamsError, match=r"problem.horizon: found 10, expected"):
        params.load("problem")
