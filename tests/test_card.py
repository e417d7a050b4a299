"""The model card says what is known and nothing else, and its lineage leads back to data, params and commit."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from bundles import lay_out, pack
from conftest import TASKS, Project, statement

from ninefold import deployment
from ninefold.core import io, lineage
from ninefold.core.errors import DataError
from ninefold.serving.bundle import Bundle
from ninefold.serving.card import model_card

ALWAYS = ["Intended use", "Model", "Data", "Scores on the holdout", "Policy", "Limits and risks", "Lineage"]
HALF = {"value": 0.5, "low": 0.4, "high": 0.6}
MD5 = "0123456789abcdef0123456789abcdef"
EVIDENCE: dict[str, Any] = {
    "slices": [
        {"feature": "a | b", "group": "$x$", "rows": 1234, "bias": 0.031, "low": 0.01, "high": 0.052, "q": 0.0004},
        {"feature": "shop", "group": "north", "rows": 50, "bias": -0.2, "low": None, "high": None, "q": None},
    ],
    "fairness": [{"column": "sex", "measure": "selection_rate | difference", "value": 0.1, "low": 0.05, "high": 0.15}],
    "tests": [{"comparison": "model against <always act>", "difference": 0.0004, "low": 0.0001, "high": 0.0007, "p": 0.01}],
    "prices": [
        {"price": "act, positive", "factor": 0.5, "payoff": -0.5, "gain": 0.25, "low": 0.2, "high": 0.3, "policy": "always *act*"}
    ],
    "policies": [{"policy": "follow the model", "payoff": -0.75, "low": -0.8, "high": -0.7}],
}  # fmt: skip


def described(task: str = "binary", **changed: Any) -> dict[str, Any]:
    """Return a bundle's description of the tiny project, as far as the card reads it."""
    stated = statement(task)
    days = {"rows": 100, "first": "2020-01-01", "last": "2020-01-31"}
    return {
        "problem": {key: value for key, value in stated.items() if key not in deployment.POLICY},
        "policy": {key: stated[key] for key in deployment.POLICY if stated.get(key)},
        "model": {"model": "linear", "calibration": "none"},
        "signature": [{"name": "amount", "kind": "numeric"}, {"name": "id", "kind": "identity"}],
        "holdout": {"roc_auc": HALF, "payoff": {"value": -0.75}, "gain": {**HALF, "value": 0.0012}},
        "periods": {"train": days, "validation": days, "holdout": days},
        "lineage": {},
        **changed,
    }


def sections(card: str) -> dict[str, str]:
    """Return a card's sections by heading."""
    parts = re.split(r"^### (.+)\n\n", card, flags=re.M)
    assert parts[0] == ""
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def lines(table: str) -> list[list[str]]:
    """Return the cells of a Markdown table below its head."""
    rows = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows[2:]]


@pytest.mark.parametrize("task", TASKS)
def test_a_card_without_evidence_leaves_out_what_was_not_looked_at(task: str) -> None:
    assert list(sections(model_card(described(task)))) == ALWAYS
    assert list(sections(model_card(described(task, evidence={})))) == ALWAYS


@pytest.mark.parametrize("task", TASKS)
def test_a_card_with_evidence_has_every_section_in_order(task: str) -> None:
    found = list(sections(model_card(described(task, evidence=EVIDENCE))))
    assert found == [*ALWAYS[:4], "Where it is weaker", "Fairness", "Tests against baselines", *ALWAYS[4:]]


def test_every_score_has_its_interval_and_its_meaning() -> None:
    card = sections(model_card(described()))["Scores on the holdout"]
    assert "- roc auc: 0.500 (0.400 to 0.600); higher is better: chance that a random event" in card
    assert "- gain: 0.0012 (0.400 to 0.600); by how much that is more than the best policy" in card
    assert "for days like those of the holdout" in card
    lost = described(holdout={"roc_auc": {"value": None, "low": None, "high": None}, "own_score": HALF})
    found = sections(model_card(lost))
    assert "- roc auc: –; " in found["Scores on the holdout"]
    assert "- own score: 0.500 (0.400 to 0.600)\n" in found["Scores on the holdout"] + "\n"
    assert "On the holdout it paid" not in found["Policy"]


def test_weak_groups_are_listed_with_their_bias_and_names_mean_nothing_to_markdown() -> None:
    card = sections(model_card(described(evidence=EVIDENCE)))["Where it is weaker"]
    assert lines(card) == [
        ["<code>a &#124; b</code>", "<code>&#36;x&#36;</code>", "1,234", "0.031 (0.010 to 0.052)", "< 0.001"],
        ["`shop`", "`north`", "50", "-0.200", "–"],
    ]
    many = sections(model_card(described(evidence={"slices": EVIDENCE["slices"] * 8})))["Where it is weaker"]
    assert len(lines(many)) == 10
    assert "The first 10 of 16 groups" in many


def test_what_was_looked_at_without_a_finding_is_told() -> None:
    found = sections(model_card(described(evidence={"slices": [], "fairness": [], "tests": []})))
    assert found["Where it is weaker"].startswith("In no group that was looked at")
    assert "No protected column was declared" in found["Fairness"]
    assert "Tests against baselines" not in found


def test_fairness_tests_and_prices_are_tables_of_figures_with_intervals() -> None:
    found = sections(model_card(described(evidence=EVIDENCE)))
    assert lines(found["Fairness"]) == [["`sex`", "selection&#95;rate &#124; difference", "0.100 (0.050 to 0.150)"]]
    expected = ["model against &#60;always act&#62;", "0.0004 (0.0001 to 0.0007)", "0.010"]
    assert lines(found["Tests against baselines"]) == [expected]
    policies, _, prices = found["Policy"].partition("If one price were another")
    assert lines(policies) == [["follow the model", "-0.750 (-0.800 to -0.700)"]]
    assert lines(prices) == [["act, positive", "0.5", "-0.500", "0.250 (0.200 to 0.300)", "always &#42;act&#42;"]]
    assert "it paid -0.750 per order, which is 0.0012 (0.400 to 0.600) more than" in found["Policy"]


def test_a_bias_has_its_own_interval_beside_that_of_the_gain() -> None:
    one = {**EVIDENCE["slices"][0], "gain": 9.0, "low": 8.0, "high": 10.0, "bias_low": 0.02, "bias_high": 0.04}
    card = sections(model_card(described(evidence={"slices": [one]})))["Where it is weaker"]
    assert lines(card)[0][3] == "0.031 (0.020 to 0.040)"


def test_what_more_is_known_of_gaps_and_prices_is_told() -> None:
    gap = {**EVIDENCE["fairness"][0], "rate": "selection_rate", "highest": "m|f", "lowest": None}
    price = {
        "price": "as stated",
        "factor": 1.0,
        "payoff": -0.5,
        "unmoved": -0.6,
        "gain": 0.25,
        "low": 0.2,
        "high": 0.3,
    }
    found = sections(model_card(described(evidence={"fairness": [gap], "prices": [price]})))
    assert lines(found["Fairness"])[0][3:] == ["<code>m&#124;f</code>", "–"]
    assert lines(found["Policy"]) == [["as stated", "1", "-0.500", "-0.600", "0.250 (0.200 to 0.300)"]]


def test_lineage_names_hashes_and_the_way_to_the_commit_but_no_commit() -> None:
    known = {
        "models/candidate/model.skops": "a" * 64, "features": "b" * 12, "data/features": "b" * 64, "params": "c" * 12,
        "dvc": MD5,
    }  # fmt: skip
    card = sections(model_card(described(lineage=known)))["Lineage"]
    assert [line[1] for line in lines(card)] == [f"`{letter * 12}`" for letter in "abc"]
    assert f"`git log -S{MD5} -- dvc.lock`" in card
    assert "has changed" not in card
    changed = sections(model_card(described(lineage={**known, "data/features": "d" * 64})))["Lineage"]
    assert "**The feature table has changed since the model was fitted.**" in changed
    assert [line[1] for line in lines(changed)] == [f"`{letter * 12}`" for letter in "abcd"]
    packed_only = sections(model_card(described(lineage={"data/features": "d" * 64})))["Lineage"]
    assert [line[1] for line in lines(packed_only)] == ["`dddddddddddd`"]


def test_the_bundle_carries_what_the_candidate_recorded(project: Project) -> None:
    parts = lay_out()
    place = io.path("models/candidate/candidate.json")
    recorded = {"features": lineage.of_folder("data/features"), "params": lineage.of_values({"seed": 1})}
    io.write_json({**io.read_json("models/candidate/candidate.json"), "lineage": recorded, "evidence": EVIDENCE}, place)
    bundle = pack(parts)
    assert bundle.described["evidence"] == EVIDENCE
    assert not {"evidence", "lineage"} & set(bundle.described["model"])
    assert recorded.items() <= bundle.described["lineage"].items()
    card = (bundle.place / "MODEL_CARD.md").read_text()
    assert card.startswith("# Model card: Returned orders\n\n## Intended use\n\n")
    assert f"`{recorded['params']}`" in card
    assert "has changed" not in card
    assert "\n## Where it is weaker\n" in card
    assert model_card(bundle.described, level=2) in card


def test_a_bundle_of_a_candidate_without_evidence_is_packed_too(bundle: Bundle) -> None:
    assert bundle.described["evidence"] == {}
    assert lineage.dvc_md5("models/candidate") == f"{bundle.described['lineage']['dvc']}.dir"


def test_a_hash_is_that_of_names_and_contents_and_of_nothing_else(project: Project) -> None:
    for name, files in {"one": ["b.txt", "a/c.txt"], "other": ["a/c.txt", "b.txt"]}.items():
        for file in files:
            io.write_text(file, io.path(f"{name}/{file}"))
    first = lineage.of_folder("one")
    assert re.fullmatch("[0-9a-f]{12}", first)
    assert lineage.of_folder("other") == first == lineage.of_folder(io.path("one"))
    for unseen in ("__pycache__/x.pyc", ".hidden", ".cache/x"):
        io.write_text("x", io.path(f"one/{unseen}"))
    assert lineage.of_folder("one") == first
    io.path("other/b.txt").rename(io.path("other/d.txt"))
    assert lineage.of_folder("other") != first
    io.write_text("changed", io.path("one/b.txt"))
    assert lineage.of_folder("one") != first
    with pytest.raises(DataError, match="nowhere: not found"):
        lineage.of_folder("nowhere")


def test_params_have_one_hash_in_whichever_order_they_stand() -> None:
    assert lineage.of_values({"a": 1, "b": {"c": [1, 2], "d": "ü"}}) == lineage.of_values(
        {"b": {"d": "ü", "c": [1, 2]}, "a": 1}
    )
    assert lineage.of_values({"a": [1, 2]}) != lineage.of_values({"a": [2, 1]})


def test_lineage_tells_of_what_there_is(project: Project) -> None:
    assert list(lineage.lineage()) == ["params.yaml"]
    io.write_text("x", io.path("data/raw/a.txt"))
    io.write_text("x", io.path("src/project/a.py"))
    assert list(lineage.lineage()) == ["params.yaml", "data/raw", "src"]
    assert lineage.lineage()["data/raw"] == lineage.of_folder("data/raw")


def test_the_hash_of_a_folder_is_the_one_that_dvc_writes(project: Project) -> None:
    from dvc.repo import Repo

    for file in ("ü.txt", "b/c.txt", "a.json", "B.txt"):
        io.write_text(f"content of {file}", io.path(f"models/bundle/{file}"))
    repo = Repo.init(no_scm=True)
    repo.add("models/bundle")
    repo.close()
    assert lineage.dvc_md5("models/bundle") in io.path("models/bundle.dvc").read_text()


@pytest.fixture
def repository(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The tiny project, in a git repository of its own."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    git("init", "--quiet")
    return project


def git(*arguments: str) -> str:
    named = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *named, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def record(*md5: str) -> str:
    """Commit a ``dvc.lock`` that holds the hashes; return the commit."""
    io.write_text("\n".join(md5) + "\n", io.path("dvc.lock"))
    git("add", "dvc.lock")
    git("commit", "--quiet", "--message", "a run")
    return git("rev-parse", "HEAD")


def test_the_commit_is_the_newest_whose_lock_recorded_the_model(repository: Project) -> None:
    record("one")
    again = [record("two"), record("one")][1]
    gone = record("three")
    assert lineage.commit("one") == again
    assert lineage.commit("three") == gone
    assert lineage.commit("unknown", "", "two") != gone
    assert git("show", f"{lineage.commit('unknown', '', 'two')}:dvc.lock") == "two"


def test_a_model_that_no_commit_recorded_is_told_to_be_so(repository: Project) -> None:
    assert lineage.commit("one") == "not committed yet"
    head = record("two")
    io.write_text("one\n", io.path("dvc.lock"))
    assert lineage.commit("one") == f"{head} with changes that are not committed"


def test_a_project_in_a_folder_of_a_repository_is_found(repository: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = repository.folder / "inner"
    inner.mkdir()
    (inner / "params.yaml").write_text("{}\n")
    monkeypatch.chdir(inner)
    assert lineage.commit("one") == lineage.commit("one", "") == "not committed yet"
    assert lineage.commit("one", "two") == "not committed yet"
    found = record("one")
    assert lineage.commit("one") == found


def test_without_git_nothing_fails(project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert lineage.commit("one") == "not in a git repository"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert lineage.commit("one") == "not in a git repository"
