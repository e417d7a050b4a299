"""Any text is a name of a column, and any type is read: random tables go through the cells of the stages' notebooks.

`NINEFOLD_EXAMPLES=1000 pytest tests/test_any_table.py` looks for faults among more tables, others each time.
"""

import ast
import csv
import json
import keyword
import os
import re
import shutil
import tempfile
from contextlib import chdir
from pathlib import Path
from typing import Any

import cells
import numpy as np
import pandas as pd
import pytest
from dvc.utils.serialize import modify_yaml
from hypothesis import Phase, given, note, settings
from hypothesis import strategies as st
from matplotlib import pyplot as plt

import ninefold
from ninefold import artifacts, display, gate, hooks, pictures
from ninefold.collection import names as usable
from ninefold.errors import NinefoldError
from ninefold.init import command
from ninefold.params import FILE, parse
from ninefold.serving import fields, schemas
from ninefold.stages import STAGES, label

ASKED = [("deployment", "packed"), ("training", "holdout"), ("training", "predicted")]
HERE, FEW = Path(__file__).parents[1], 8
EXAMPLES = int(os.environ.get("NINEFOLD_EXAMPLES", FEW))
REFUSED = re.compile(r"params\.yaml: |\S*\borders\b|0\d_\w+: |data/\w+: |metrics\.split: ")  # where something is wrong
ODD = [
    "", " ", "\t", "a\nb", "{{ x }}", "{% if %}", "%s", "${HOME}", "$x$", "a\\", "'", '""', "`", "a,b", "__", ".", "-", "--yes", "=1+1",
    "@row", "# c", ": x", ":&", "? a", "!tag", "*", "~", "null", "1.5", "2020-01-01", "NaN", "x" * 200, "a b " * 50, "a  b\t" * 40,
    "\ufeff", "\u202eabc", "\u05e9\u05dc", "e\u0301", "\u00e9", "\U0001f600", "\u00df", "\u0130", "\x01", "\x85", "\u2028", "<b>", "../x",
    "\u00a6", "'; DROP TABLE x; --", "rowid", "level_0", "A", "a ", "a", "key", "value", "prediction", "__target", "\u200b",
]  # fmt: skip
SOURCES = [ast.parse(file.read_text("utf-8")) for file in Path(ninefold.__file__).parent.rglob("*.py")]
OURS = {node.value for tree in SOURCES for node in ast.walk(tree) if isinstance(node, ast.Constant)}
SHORT = {word for word in OURS if isinstance(word, str) and "\0" not in word and 0 < len(word) < 30}
WORDS = sorted({*keyword.kwlist, *dir(pd.DataFrame), *SHORT})
SIGNS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")  # which no engine takes
NAMES = st.sampled_from(ODD) | st.sampled_from(WORDS) | st.text(SIGNS, max_size=12)
LONG = ["Longtail duck of the coast (Aythya exempli)", "How much? " * 9, "two  blanks " * 9, "\u00e9 " * 150]
CLASSES = [LONG, ["no", "yes"], ["{{ x }}", "%s"], ["0", "1"], ["a  b", "<i>", "O'Neil"], ["\u00e9", ": x", "\u05e9"]]
DATES = ["%Y-%m-%d", "%d.%m.%Y %H:%M", "%m/%d/%Y", "%Y%m%d", "%b %d, %Y", "%Y-%m", "%Y-%m-%dT%H:%M:%S+02:00", "%H:%M"]


def columns(rows: int, random: np.random.Generator) -> dict[str, Any]:
    """Return columns of all kinds, as a source writes them."""
    whole, floats, words = random.integers(-50, 1000, rows), random.normal(0, 1000, rows), random.choice(WORDS, rows)
    days = pd.Timestamp("2019-01-01") + pd.to_timedelta(random.integers(0, 10**6, rows), unit="m")
    mixed = np.select([whole % 3 == 0, whole % 3 == 1], [words, ""], whole.astype(str))
    return {
        **{form: days.strftime(form) for form in DATES}, "whole": whole, "large": 10.0 ** whole.clip(-300, 300),
        "decimal": floats.round(2), "comma": [f"{each:_.2f}".translate({46: ",", 95: "."}) for each in floats],
        "money": [f"${each:,.2f}" if each > 0 else f"(${-each:,.2f})" for each in floats], "id": random.permutation(rows),
        "count": random.poisson(1, rows), "entity": [f"u{each}" for each in whole % 20], "bool": whole % 2 == 0, "mixed": mixed,
        "rare": np.where(whole % 20 == 0, *words[:2]), "missing": [""] * rows, "constant": words[:1].repeat(rows),
        "text": [" ".join(random.choice(WORDS[:40], 8)) for _ in range(rows)], "inf": np.where(whole % 3 == 0, "inf", whole),
    }  # fmt: skip


@st.composite
def tables(draw: Any) -> tuple[list[str], list[list[str]], bool]:
    """Return the names and the texts of columns, the target first, and whether init may find a time."""
    rows, random = draw(st.integers(30, 80)), np.random.default_rng(draw(st.integers(0, 10**6)))
    known, classes = columns(rows, random), draw(st.sampled_from([*CLASSES, "decimal", "count", "money"]))
    values = known[classes] if isinstance(classes, str) else random.choice(classes, rows)
    kinds = draw(st.lists(st.sampled_from(sorted(known)), min_size=1, max_size=5))
    names = [draw(NAMES) for _ in range(len(kinds) + 1)]
    if draw(st.booleans()):
        names[-1] = f" {names[0].upper()}"
    return names, [list(map(str, each)) for each in (values, *map(known.get, kinds))], draw(st.booleans())


def begin(names: list[str], texts: list[list[str]], timed: bool) -> command.Plan:
    """Write the table, and the project that init plans for it, with a small model; DVC rewrites its params."""
    with open("orders.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([names, *zip(*texts, strict=True)])
    plan = command.plan("orders.csv", command.Wish(usable(names)[0], None if timed else "none"))
    for name, text in plan.texts.items():
        artifacts.write_text(text, artifacts.path(name))
        assert not name.endswith(".py") or compile(text, name, "exec")
    known = parse(plan.texts[FILE])
    with modify_yaml(FILE) as rewritten:
        rewritten["training"] |= {"seed": 2, "candidates": {"linear": {"model": "linear", "rare": 2}}, "folds": 2}
        rewritten["metrics"]["split"]["min_rarest"] = 1
    text = Path(FILE).read_text("utf-8")
    after = parse(text)
    assert text.count("# assumed") == plan.texts[FILE].count("# assumed") > 5
    assert {**after, "training": 0, "metrics": 0} == {**known, "training": 0, "metrics": 0}
    used, left = known["processing"]["tables"]["orders"]["columns"], plan.proposal.left
    assert {column.name for key, column in plan.proposal.columns.items() if key not in left} <= {*used}
    shutil.copy("orders.csv", plan.tables[0].place)
    return plan


def go_through(plan: command.Plan, target: list[str]) -> None:
    """Run the cells of stages 01 to 08, as far as the bundle; no row, class or value is lost; ask the bundle."""
    found = dict[str, dict[str, Any]]()
    for stage in STAGES[:-1]:
        found[stage], notebook = {}, json.loads(plan.texts[f"notebooks/{label(stage)}.ipynb"])
        for code in ("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"):
            if "client.serving" in code:
                break
            cells.run(code, found[stage])
    raw, lake, quarantine = found["processing"]["counts"].loc[0, ["raw", "lake", "quarantine"]]
    kept, p = found["metrics"]["frame"][plan.proposal.target.name], plan.proposal
    assert (raw, lake) == (len(target), len(target) - quarantine)
    if not quarantine:
        same = pd.Series(target).value_counts() if p.classes else pd.Series(p.target.rows())
        assert sorted(kept.value_counts() if p.classes else kept) == sorted(same)
    bundle, holdout, offline = (found[stage][name] for stage, name in ASKED)
    sent = fields.as_rows(holdout.head(3), bundle.signature, without="identity")
    assert schemas.request_model(bundle).model_validate({"rows": sent})
    answers = pd.DataFrame(bundle.answer(sent).records)
    same = answers.columns.intersection(offline.columns)
    np.testing.assert_allclose(answers[same], offline.head(3)[same], rtol=1e-9)


def test_any_text_is_a_name_and_any_type_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished = []
    monkeypatch.setattr(hooks, "project", lambda module, function, default: default)
    monkeypatch.setattr(gate, "close", lambda *_: artifacts.publish())  # whatever it says of noise
    monkeypatch.setattr(display, "display", lambda *_, **__: None)
    monkeypatch.setattr(pictures, "picture", lambda drawing: plt.close(drawing) or {"picture": "", "points": "[]"})

    @settings(max_examples=EXAMPLES, derandomize=EXAMPLES == FEW, database=None, deadline=None, phases=[Phase.generate])
    @given(tables())
    def run(table: Any) -> None:
        note(repr(table))
        monkeypatch.setattr(artifacts, "_pending", {})
        with tempfile.TemporaryDirectory(dir=tmp_path) as folder, chdir(folder):
            for name in ("data/stream/landing", "data/source"):
                Path(name).mkdir(parents=True)
            for name in ("dvc.yaml", "ninefold.yaml"):
                shutil.copy(HERE / name, name)
            Path(FILE).write_text("{}")
            try:
                go_through(begin(*table), table[1][0])
                finished.append(table)
            except NinefoldError as error:
                if not REFUSED.match(str(error)):
                    raise

    run()
    assert len(finished) >= EXAMPLES / 4  # the others are refused, with the place
