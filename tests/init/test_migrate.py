"""What a newer engine wants of an older project is refused with the line to change, and changed by `ninefold migrate`."""

import functools
import json
from pathlib import Path
from pydoc import locate
from typing import Any

import pytest
import yaml
from conftest import Project
from typer.testing import CliRunner

from ninefold import artifacts, cli, hooks, outdated, params, pin, renamed
from ninefold.errors import NinefoldError
from ninefold.init import migrate
from ninefold.renamed import KEYS, NAMES, Name
from ninefold.reports import runner

ROOT = Path(__file__).parents[2]
FIND = hooks.project  # as it is outside of tests
CASES = yaml.safe_load(Path(__file__).with_name("migrations.yaml").read_text("utf-8"))


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return how to leave one entry alone in the tables: one of its own, or a key that is there."""

    def leave(entry: Any) -> None:
        one = Name(**entry) if isinstance(entry, dict) else next(key for key in KEYS if key.old == entry)
        monkeypatch.setattr(renamed, "NAMES" if "ninefold" in one.old else "KEYS", (one,))

    return leave


@pytest.mark.parametrize("case", CASES["keys"])
def test_a_key_moves_with_its_value_and_its_comment(only: Any, case: Any) -> None:
    only(case["entry"])
    assert functools.reduce(migrate._moved, outdated.in_params(case["old"]), case["old"]) == case["new"]


@pytest.mark.parametrize("case", CASES["names"])
def test_an_old_name_is_found_where_it_is_imported_and_used(only: Any, case: Any) -> None:
    only(case["entry"])
    found = [f"x.py, {where}: {change}; change it by hand" for where, change in case["changes"].items()]
    assert [str(change) for change in outdated.in_code("x.py", case["code"])] == found


@pytest.mark.parametrize("case", CASES["refused"])
@pytest.mark.usefixtures("project")
def test_what_cannot_be_changed_says_what_to_do(only: Any, case: Any) -> None:
    only(case["entry"])
    artifacts.write_text("", artifacts.path("ninefold.yaml"))
    artifacts.write_text(case["text"], artifacts.path(case["file"]))
    with pytest.raises(NinefoldError, match=f"{case['file']}, {case['message']}"):
        migrate.plan()


def test_only_the_code_of_a_notebook_is_looked_at(only: Any) -> None:
    only({"old": "ninefold.core.models.f", "new": "ninefold.training.models.f"})
    line = "from ninefold.core import models"
    cells = [
        {"cell_type": "markdown", "source": [line]},
        {"cell_type": "code", "outputs": [{"text": f"{line} ü"}], "source": ["%time\n", line]},
        {"cell_type": "code", "source": ["models.f()"]},
    ]
    text = json.dumps({"cells": cells, "nbformat": 4}, indent=1, ensure_ascii=False) + "\n"
    (change,) = outdated.in_code("notebooks/a.ipynb", text)
    assert str(change).startswith("notebooks/a.ipynb, cell 3, line 1: ninefold.core.models.f is now ninefold")


@pytest.fixture
def old(project: Project) -> Project:
    """Return the tiny project with a key, dependencies and a name as an older engine had them."""
    success = project.params["problem"]["success"]
    success["min_roc_auc"] = success.pop("scores")["roc_auc"]
    project.write(yaml.safe_dump(project.params, sort_keys=False))
    artifacts.write_text("ninefold: {code: src/ninefold}\n", artifacts.path("ninefold.yaml"))
    deps = "stages:\n  x:\n    deps:\n    - src/ninefold/a  # b\n    - c\n  y:\n    deps: [c, src/ninefold]\n"
    artifacts.write_text(deps, artifacts.path("dvc.yaml"))
    return project


@pytest.mark.usefixtures("fresh_imports")
def test_all_old_lines_are_refused_before_anything_starts(old: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pin, "check", lambda: None)
    artifacts.write_text("from ninefold.core.models import OPTIONS\n", artifacts.path("src/project/training.py"))
    name = "src/project/training.py, line 1: ninefold.core.models.OPTIONS is now ninefold.training.models.OPTIONS; .*"
    lines = (
        r"params.yaml, line \d+: problem.success.min_roc_auc is now problem.success.scores.roc_auc\n"
        r"dvc.yaml, line 4: src/ninefold/a is now \$\{ninefold.code\}; write .*\n"
        rf"dvc.yaml, line 7: src/ninefold is now \$\{{ninefold.code\}}; write .* below vars\n{name}\n"
        r"run `ninefold migrate`, which shows the changes first$"
    )
    for start in (runner.refresh_sources, lambda: runner.execute("problem"), lambda: params.load("problem")):
        with pytest.raises(NinefoldError, match=lines):
            start()
    artifacts.write_text("", artifacts.path("src/project/__init__.py"))
    monkeypatch.syspath_prepend(old.folder / "src")
    with pytest.raises(NinefoldError, match=name):
        FIND("training", "candidates", list)


def test_the_command_shows_the_changes_and_writes_them_with_yes(old: Project) -> None:
    run = CliRunner()
    assert "dvc.yaml, line 4" in run.invoke(cli.app, ["migrate"]).output
    artifacts.path("dvc.yaml").unlink()
    artifacts.write_text(artifacts.path("params.yaml").read_text().replace("\n", "\r\n"), artifacts.path("params.yaml"))
    before, shown = old.bytes("."), run.invoke(cli.app, ["migrate"])
    assert (shown.exit_code, old.bytes(".")) == (1, before)
    assert "-    min_roc_auc: 0.6\n+    scores:\n+      roc_auc: 0.6\n" in shown.output
    assert "nothing was changed; `ninefold migrate --yes` writes these changes" in shown.output
    assert run.invoke(cli.app, ["migrate", "--yes"]).output.endswith("changed params.yaml\n")
    assert run.invoke(cli.app, ["migrate"]).output == "nothing to migrate\n"
    assert params.load("problem").success.scores == {"roc_auc": 0.6}
    assert before["params.yaml"].count(b"\r\n") == artifacts.path("params.yaml").read_bytes().count(b"\r\n") - 1


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name.old)
def test_a_name_in_the_table_is_gone_and_its_new_one_is_there(name: Name) -> None:
    for full, is_there in {name.old: False, name.new or "ninefold.cli.app": True}.items():
        assert (locate(full) is not None) == is_there
        assert (renamed.new_name(full)[1] is None) == is_there


def test_the_params_of_the_first_version_load_after_the_migration(project: Project) -> None:
    """All old keys of the table, with the values they had, in the repository's params."""
    values = params.parse((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["problem"]["success"] = {"min_roc_auc": 0.67, "min_payoff_gain": 0.01, "confidence": 0.9}
    exploration, training, alerts = values["exploration"], values["training"], values["monitoring"]["alerts"]
    exploration |= {"leak_auc": exploration.pop("leak_score"), "timezone": values["problem"].pop("timezone")}
    training |= {one.pop("model"): one for one in training.pop("candidates").values()}
    training["logistic_regression"] = training.pop("linear")
    alerts |= {"share": alerts.pop("outcomes"), "brier": alerts.pop("error")}
    training["gap"], values["monitoring"]["label_delay"] = "720h", values["problem"].pop("label_delay")
    values["metrics"]["bootstrap"] = {"replicates": 200, "level": values["metrics"].pop("level"), "seed": 1}
    values["monitoring"]["deliver"]["webhook"] = values["monitoring"]["deliver"].pop("notify")
    project.write(yaml.safe_dump(values, sort_keys=False))
    assert {change.old for change in outdated.needed(project.folder)} == {key.old for key in KEYS}
    migrate.write(migrate.plan())
    assert params.load("problem").success.scores == {"roc_auc": 0.67}
    assert params.load("problem").label_delay == "720h", "the longest of several delays holds for all stages"
    assert set(params.load("training").candidates) == {"logistic_regression", "gradient_boosting"}
