"""``params.yaml`` and ``dvc.yaml`` are complete: each stage has its section, its notebook and its place in the pipeline."""

from typing import Any

import pytest

from ninefold import artifacts
from ninefold.params import MODULES, load, parse
from ninefold.reports import runner
from ninefold.stages import STAGES, label


@pytest.fixture(scope="module")
def pipeline() -> dict[str, Any]:
    return parse(artifacts.path("dvc.yaml").read_text(encoding="utf-8"))["stages"]


@pytest.mark.parametrize("section", MODULES)
def test_every_section_of_the_params_loads(section: str) -> None:
    load(section)


def test_the_pipeline_has_the_nine_stages_in_order(pipeline: dict[str, Any]) -> None:
    assert [name for name in pipeline if name in STAGES] == list(STAGES)


@pytest.mark.parametrize("slug", STAGES)
def test_every_stage_runs_its_own_notebook(slug: str, pipeline: dict[str, Any]) -> None:
    assert artifacts.path(f"notebooks/{label(slug)}.ipynb").is_file()
    assert pipeline[slug]["cmd"] == f"ninefold stage {slug}"
    assert f"reports/sources/{label(slug)}.ipynb" in pipeline[slug]["deps"]


@pytest.mark.parametrize("slug", STAGES)
def test_every_stage_depends_on_its_section_of_the_params(slug: str, pipeline: dict[str, Any]) -> None:
    named = pipeline[slug].get("params", [])
    assert slug in named
    assert {name.split(".")[0] for name in named if isinstance(name, str)} <= set(MODULES)


def test_every_notebook_is_that_of_a_stage_or_listed_in_own_yaml() -> None:
    found = {file.stem for file in artifacts.path("notebooks").glob("*.ipynb")}
    assert found == {*map(label, STAGES), *runner.own()}
