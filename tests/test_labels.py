"""What a column and a class are called in ``params.yaml``, figures, tables and sentences call them, too."""

import json
from typing import Any

import pandas as pd
import seaborn as sns
from conftest import CLASSES, Project, statement

from ninefold import display, labels, pictures
from ninefold.problem import decisions, stage


def test_a_label_is_on_axes_in_tables_and_in_sentences(project: Project, shown: list[Any]) -> None:
    project.set("labels", {"amount": {"label": "order value", "unit": "EUR"}})
    df = pd.DataFrame({"amount": [1234.5, 0.25], "id": [2013, 7]})
    points = json.loads(pictures.picture(sns.histplot(df, x="amount").figure)["points"])
    assert points[0][2] == ["order value (EUR)", "Count"]
    points = json.loads(pictures.picture(df.isna().sum().plot.barh().figure)["points"])
    assert [each[-1] for each in points[0][3]] == ["order value (EUR)", "id"]
    display.table(df.describe().T.rename_axis("column"), "Distribution")
    by_line = [shown[0]["text/html"], *map(display.own_table, (df.T, df.describe().T, df.isna().mean()))]
    assert ['title="amount">order value (EUR)</span>' in html for html in by_line] == [True] * 4
    assert not any("></th>" in html for html in by_line)  # a header without a text says nothing to a screen reader
    two = display.own_table(df)
    assert [text for text in (">order value (EUR)</th>", ">2013<", ">1234<", ">0.25<") if text not in two] == []
    values = pd.Series(["amount", "id"], name="kind").value_counts()  # texts of the data, which only look like columns
    assert ("amount" in display.own_table(values), "order value" in display.own_table(values)) == (True, False)


def test_a_label_of_no_column_is_named_with_the_column_that_is_probably_meant(project: Project) -> None:
    project.set("features", {"numeric": ["shop"]})
    project.set("labels", {name: {"unit": "EUR"} for name in ("returned", "orders.placed", "shop", "retruned", "x")})
    assert labels.misspelt(["returned", "placed"]) == "retruned (did you mean returned?), x"


def test_classes_are_called_by_their_labels_and_0_and_1_by_what_they_are() -> None:
    named = statement(classes={0: "kept", "1": "sent back"})
    sizes = statement("multiclass", classes=dict(zip(CLASSES, "SML", strict=True)))
    assert (named.class_labels, "is *sent back*)" in stage.sentence(named)) == ({"0": "kept", "1": "sent back"}, True)
    assert [*statement(classes=["0", "1"]).class_labels.values()] == ["no event", "event"]
    assert decisions.level_name(sizes) == 'share of "M"'
