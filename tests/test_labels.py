"""What a column and a class are called in ``params.yaml``, figures, tables and sentences call them, too."""

from typing import Any

import pandas as pd
from conftest import CLASSES, Project, statement

from ninefold import display
from ninefold.problem import decisions, stage
from ninefold.training import sentences
from project.figures.exploration import plot_histograms


def test_a_label_is_on_axes_in_tables_and_in_sentences(project: Project, shown: list[Any]) -> None:
    project.set("labels", {"amount": {"label": "order value", "unit": "EUR"}})
    df = pd.DataFrame({"amount": [1234.5, 0.25], "id": [2013, 7]})
    axes = plot_histograms(df, ["amount", "id"], pd.Series(["kept", "back"])).axes
    assert [each.get_xlabel() for each in axes] == ["order value (EUR)", "id"]
    display.table(df.describe().T.rename_axis("column"), "Distribution")
    display.rows(pd.concat([df] * 7, axis=1), "Each column is a line")
    display.rows(df, "Two rows")
    *by_line, two = (each["text/html"] for each in shown)
    assert ['title="amount">order value (EUR)</span>' in html for html in by_line] == [True, True]
    assert [text for text in (">order value (EUR)</th>", ">2013<", ">1234<", ">0.25<") if text not in two] == []
    top = pd.DataFrame({"feature": ["shop.amount"], "loss": 0.1})
    assert "`order value (EUR)` (0.100)" in sentences.describe_importance(top, statement())


def test_classes_are_called_by_their_labels_and_0_and_1_by_what_they_are() -> None:
    named = statement(classes={0: "kept", "1": "sent back"})
    sizes = statement("multiclass", classes=dict(zip(CLASSES, "SML", strict=True)))
    assert (named.class_labels, "*1*: sent back)" in stage.sentence(named)) == ({"0": "kept", "1": "sent back"}, True)
    assert [*statement(classes=["0", "1"]).class_labels.values()] == ["no event", "event"]
    assert (decisions.level_name(sizes), [*stage.payoff_table(sizes)][1:]) == ('share of "M"', [*"SML"])
