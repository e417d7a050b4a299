"""The model card: every section, its figures with intervals, and its lineage."""

import re
from typing import Any

import pytest
from bundles import lay_out, pack
from conftest import TASKS, Project, statement

from ninefold import artifacts, lineage
from ninefold.serving import deployment
from ninefold.serving.model_card import model_card

ALWAYS = ["Intended use", "Model", "Data", "Scores on the holdout", "Policy", "Limits and risks", "Lineage"]
HALF = {"value": 0.5, "low": 0.4, "high": 0.6}
MD5 = "0123456789abcdef0123456789abcdef"
EVIDENCE: dict[str, Any] = {
    "slices": [
        {"feature": "a | b", "group": "$x$", "rows": 1234, "bias": 0.031, "low": 0.01, "high": 0.052, "q": 0.0004},
        {"feature": "shop", "group": "north", "rows": 50, "bias": -0.2, "low": None, "high": None, "q": None},
    ],
    "fairness": [
        {"column": "sex", "measure": "selection_rate | difference", "value": 0.1, "low": 0.05, "high": 0.15,
         "rate": "selection_rate", "highest": "m|f", "lowest": None}
    ],
    "tests": [{"comparison": "model against <always act>", "difference": 0.0004, "low": 0.0001, "high": 0.0007, "p": 0.01}],
    "prices": [
        {"price": "act, *positive*", "factor": 0.5, "payoff": -0.5, "unmoved": -0.6, "gain": 0.25, "low": 0.2, "high": 0.3}
    ],
    "policies": [{"policy": "follow the model", "payoff": -0.75, "low": -0.8, "high": -0.7}],
}  # fmt: skip


def described(task: str = "binary", **changed: Any) -> dict[str, Any]:
    """Return a bundle's description of the tiny project, as far as the card reads it."""
    problem = statement(task).values()
    days = {"rows": 100, "first": "2020-01-01", "last": "2020-01-31"}
    return {
        "problem": {key: value for key, value in problem.items() if key not in deployment.POLICY},
        "policy": {key: problem[key] for key in deployment.POLICY if problem.get(key)},
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
def test_a_card_has_its_sections_in_order_and_leaves_out_those_without_evidence(task: str) -> None:
    assert list(sections(model_card(described(task)))) == ALWAYS
    complete = list(sections(model_card(described(task, evidence=EVIDENCE))))
    assert complete == [*ALWAYS[:4], "Where it is weaker", "Fairness", "Tests against baselines", *ALWAYS[4:]]


def test_every_score_has_its_interval_and_its_meaning() -> None:
    card = sections(model_card(described()))["Scores on the holdout"]
    assert "- ROC AUC: 0.500 (0.400 to 0.600); higher is better: chance that a random event" in card
    assert "- gain: 0.001 (0.400 to 0.600); by how much that is more than the best baseline policy" in card
    assert "for days like those of the holdout" in card
    unknown = {"roc_auc": {"value": None, "low": None, "high": None}, "own_score": HALF}
    card = model_card(described(holdout=unknown))
    assert "- ROC AUC: –; " in card
    assert "- own score: 0.500 (0.400 to 0.600)\n" in card
    assert "On the holdout it paid" not in card


def test_evidence_is_in_tables_of_figures_with_intervals_and_names_mean_nothing_to_markdown() -> None:
    card = sections(model_card(described(evidence=EVIDENCE)))
    policies, _, prices = card["Policy"].partition("If one payoff were halved or increased by half")
    assert lines(card["Where it is weaker"]) == [
        ["<code>a &#124; b</code>", "<code>&#36;x&#36;</code>", "1,234", "0.031 (0.010 to 0.052)", "< 0.001"],
        ["`shop`", "`north`", "50", "-0.200", "–"],
    ]
    assert [lines(table)[0] for table in (card["Fairness"], card["Tests against baselines"], policies, prices)] == [
        ["`sex`", "selection&#95;rate &#124; difference", "0.100 (0.050 to 0.150)", "<code>m&#124;f</code>", "–"],
        ["model against &#60;always act&#62;", "0.00040 (0.00010 to 0.00070)", "0.010"],
        ["follow the model", "-0.750 (-0.800 to -0.700)"],
        ["act, &#42;positive&#42;", "0.5", "-0.500", "-0.600", "0.250 (0.200 to 0.300)"],
    ]
    assert "it paid -0.750 per order, which is 0.001 (0.400 to 0.600) more than" in card["Policy"]
    one = {**EVIDENCE["slices"][0], "bias_low": 0.02, "bias_high": 0.04}
    card = sections(model_card(described(evidence={"slices": [one]})))
    assert lines(card["Where it is weaker"])[0][3] == "0.031 (0.020 to 0.040)"


def test_evidence_without_a_finding_is_reported() -> None:
    card = sections(model_card(described(evidence={"slices": [], "fairness": [], "tests": []})))
    assert card["Where it is weaker"].startswith("In no group do the predictions differ significantly")
    assert "No protected column was declared" in card["Fairness"]
    assert "Tests against baselines" not in card


def test_lineage_names_hashes_and_the_way_to_the_commit() -> None:
    known = {"models/candidate/model.skops": "a" * 64, "features": "b" * 12, "data/features": "b" * 64}
    known |= {"params": "c" * 12, "dvc": MD5}
    card = sections(model_card(described(lineage=known)))["Lineage"]
    assert [line[1] for line in lines(card)] == [f"`{letter * 12}`" for letter in "abc"]
    assert f"`git log -S{MD5} -- dvc.lock`" in card
    assert "has changed" not in card
    changed = sections(model_card(described(lineage={**known, "data/features": "d" * 64})))["Lineage"]
    assert "**The feature table has changed since the model was fitted.**" in changed
    assert [line[1] for line in lines(changed)] == [f"`{letter * 12}`" for letter in "abcd"]


def test_the_bundle_carries_what_the_candidate_recorded(project: Project) -> None:
    parts, place = lay_out(), "models/candidate/candidate.json"
    recorded = {"features": lineage.of_folder("data/features"), "params": lineage.of_values({"seed": 1})}
    candidate = {**artifacts.read_json(place), "lineage": recorded, "evidence": EVIDENCE}
    artifacts.write_json(candidate, artifacts.path(place))
    bundle = pack(parts)
    assert bundle.described["evidence"] == EVIDENCE
    assert recorded.items() <= bundle.described["lineage"].items()
    assert lineage.dvc_md5("models/candidate") == f"{bundle.described['lineage']['dvc']}.dir"
    card = (bundle.place / "MODEL_CARD.md").read_text()
    assert card == f"# Model card: Returned orders\n\n{model_card(bundle.described, level=2)}\n"
    assert "\n## Where it is weaker\n" in card
