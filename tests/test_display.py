import json
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import seaborn as sns
import yaml
from bs4 import BeautifulSoup
from conftest import Project

from ninefold import artifacts, display, params, pictures
from ninefold.errors import DataError
from project.figures import Histogram


def markup(shown: list[Any]) -> str:
    return "".join(thing["text/html"] if isinstance(thing, dict) else thing.data for thing in shown)


def declare(project: Project, **stages: dict[str, Any]) -> None:
    (project.folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))


def test_text_of_the_data_cannot_become_markup_but_a_histogram_is_drawn(shown: list[Any]) -> None:
    frame = pd.DataFrame({"<i>name": ["<script>alert(1)</script>"], "a": [1], "b": [Histogram((0.25, 0.75), 0.75)]})
    display.table(frame, "A <b>caption", {"a": lambda value: f"<{value}>"})
    display.conclusion("5 < 6")
    html = markup(shown)
    escaped = ("&lt;script&gt;alert(1)&lt;/script&gt;", "&lt;i&gt;name", "A &lt;b&gt;caption", "&lt;1&gt;", "5 &lt; 6")
    assert [text for text in escaped if text not in html] == []
    assert BeautifulSoup(html, "html.parser").select_one('td > svg[role="img"] > title').text == "25%, 75%"


NAMES = ["a|b", "`tick", "cost $ per $", "*stars*", "_under_", "<b>", "a\\b", " ", "", "two\nlines", "$$", "x ``y`"]


def test_columns_of_any_name_are_shown_even_two_of_one_name(shown: list[Any]) -> None:
    frame = pd.DataFrame([range(len(NAMES) + 3)], columns=[*NAMES, 7, "twice", "twice"])
    display.table(frame, "c", {7: display.SHARE})
    html = markup(shown)
    assert html.count("<th ") == len(NAMES) + 1  # blank names head their column without a text
    assert [text for text in (">1200.0%<", "mathjax_ignore") if text not in html] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_a_computed_sentence_is_read_as_it_is(name: str) -> None:
    from nbconvert.filters.markdown_mistune import markdown2html_mistune

    html = markdown2html_mistune(f"**Of** {display.code(name)} and $5 and {display.code(name)}: *it*.")
    text = BeautifulSoup(html, "html.parser").get_text().strip()
    written = name.replace("\n", " ") or '""'
    assert text == f"Of {written} and $5 and {written}: it."
    assert html.count("<code>") == 2


def test_numbers_are_short_right_aligned_gaps_are_dashes_and_long_tables_are_cut(shown: list[Any]) -> None:
    frame = pd.DataFrame({"n": [1234567, 2], "x": [0.123456, float("nan")], "big": [12345.678, 1], "t": ["a", None]})
    display.table(pd.concat([frame] * 500), "Many", {"x": display.SHARE}, limit=2)
    html = markup(shown)
    cells = ('<td class="number">1,234,567</td>', ">12.3%<", ">12,346<", "<td>a</td>", "Many (first 2 of 1,000 rows)")
    assert [text for text in cells if text not in html] == []
    assert (html.count('<span class="nf-none">–</span>'), html.count("<tr>")) == (2, 3)


def test_every_figure_carries_its_alternative_text_and_caption(shown: list[Any]) -> None:
    for _ in range(2):
        fig, axes = plt.subplots()
        axes.plot([1, 3, 2])
        display.figure(fig, "A line & more", f'**Most** is "{display.code("a*b")}" or {display.code("$x$")} & more.')
    html = markup(shown)
    assert 'alt="Most is &quot;a*b&quot; or $x$ &amp; more."' in html
    assert "<figcaption>A line &amp; more</figcaption>" in html
    assert html.count("""src="data:image/svg+xml,%3Csvg xmlns:xlink='""") == 2
    assert shown[1].data.startswith('**Most** is "')
    assert shown[0] == shown[2]  # the same bytes
    assert not plt.get_fignums()
    display.figure(plt.plot([[0] * 3000, [1] * 3000])[0], "Many marks", "There are 3,000 lines.")
    assert 'src="data:image/png;base64,' in markup(shown)


def test_points_of_a_figure_have_the_texts_of_their_scales() -> None:
    def texts(fig: Any) -> list[Any]:
        return [[texts for _, _, *texts in points] for *_, points in json.loads(pictures.picture(fig)["points"])]

    ends, values = [["0.2", "a"], ["0.4", "a"], ["0.15", "b"], ["0.25", "b"]], [["0.3", "a"], ["0.2", "b"]]
    plt.figure().gca().barh(["a", "b"], [0.3, 0.2], xerr=[0.1, 0.05])
    assert texts(plt.gcf()) == [ends, values]
    plt.figure().gca().plot(pd.to_datetime(["2020-01-31 00:00", "2020-02-01 12:30"]), [1234.5, 0.123456])
    assert texts(plt.gcf()) == [[["2020-01-31", "1,234"], ["2020-02-01 12:30", "0.1235"]]]
    cells = sns.heatmap(pd.DataFrame([[0.5, float("nan")]], ["row"], ["p", "q"]), ax=plt.figure().gca())
    assert texts(cells.figure) == [[["p", "row", "0.5"]]]


def test_what_a_cell_shows_itself_has_the_look_of_tables_and_figures(shown: list[Any], monkeypatch: Any) -> None:
    times = [pd.Timestamp("2020-01-01"), pd.Timestamp("2020-01-01 12:30")]
    data = {"year": [2013, 20134], "rows": [1, 12345], "missing": [0.25, None], "when": times, "a": ["<i>", "x"]}
    frame = pd.DataFrame(data)
    html = display.own_table(frame) + display.own_table(pd.concat([frame] * 50).set_index("a")["rows"])
    cells = [">20134<", ">12,345<", ">25.0%<", "nf-none", ">2020-01-01<", ">2020-01-01 12:30<", "&lt;i&gt;"]
    assert [text for text in [*cells, "first 60 of 100"] if text not in html] == []
    monkeypatch.setattr(plt, "get_backend", lambda: "inline")
    sns.histplot(frame, x="year").set(title="Years of $$ and $x$ are 2013 & later", ylabel=r"$\alpha$ of a power")
    display.own_figures()
    assert 'alt="Years of $$ and $x$ are 2013 &amp; later"' in markup(shown)
    assert not plt.get_fignums()


def test_rows_of_data_name_their_classes_and_statistics_of_the_target_stay_numbers(project: Project) -> None:
    problem = {"target": "returned", "class_labels": {"no": "kept", "yes": "sent back"}}
    artifacts.write_json(problem, project.folder / "data/problem.json")
    df = pd.DataFrame({"returned": [0, 1, 1], "amount": [1.5, 2.25, 3], "shop": ["a", "b", "a"]})
    rows = df, df.T, df.iloc[1], df["returned"], df["returned"].value_counts(), pd.crosstab(df["shop"], df["returned"])
    assert [">sent back<" in display.own_table(each) for each in rows] == [True] * 6
    numbers = df.describe().T, df.isna().sum(), df.groupby("shop")["returned"].mean()
    assert [">kept<" in display.own_table(each) for each in numbers] == [False] * 3
    assert (df["returned"].tolist(), ">1.50<" in display.own_table(df)) == ([0, 1, 1], True)
    for draw in (partial(sns.histplot, x="amount"), partial(sns.boxplot, x="returned", y="amount")):
        axes = draw(df, hue="returned")
        pictures.picture(axes.figure)
        named = [*axes.get_legend().get_texts(), *(axes.get_xticklabels() if axes.get_xlabel() == "returned" else ())]
        assert {text.get_text() for text in named} == {"kept", "sent back"}


def test_a_styler_keeps_its_look_and_caption_with_the_same_bytes_each_time() -> None:
    one, other = (display.own_style(pd.DataFrame({"a": [1, 2]}).style.set_caption("Mine")) for _ in range(2))
    assert (one == other, "<caption>Mine</caption>" in one, one.count("<caption>")) == (True, True, 1)


def test_params_are_shown_leaf_by_leaf(project: Project, shown: list[Any]) -> None:
    display.params(params.load("processing"))
    leaves = ("<td>tables.orders.columns.amount.max</td><td>1000.0</td>", "<td>missing</td><td>&quot;&quot;, NA</td>")
    assert [leaf for leaf in leaves if leaf not in markup(shown)] == []


def test_what_comes_in_names_the_stage_that_makes_it_for_own_notebooks_too(project: Project, shown: list[Any]) -> None:
    deps = ["${ninefold.code}", "reports/sources/${item}.ipynb", "data/problem.json"]
    own = {"foreach": "${own}", "do": {"deps": deps, "outs": ["reports/notebooks/${item}.ipynb"]}}
    problem = {"outs": [{"data/problem.json": {"persist": True}}]}
    declare(project, problem=problem, collection={"deps": deps}, own=own)
    with pytest.raises(DataError, match=r"data/problem.json: not found"):
        display.inputs("collection")
    artifacts.write_json({}, project.folder / "data/problem.json")
    for name in ("collection", "05b_mine"):
        display.inputs(name)
        assert "<td>data/problem.json</td><td>01_problem</td><td>JSON file</td>" in markup(shown[-1:])
    display.outputs("05b_mine")
    html = markup(shown)
    assert "No outputs: **05b_mine** writes only its report." in html
    assert [folder for folder in ("src/", "reports/") if folder in html] == []


def test_what_goes_out_shows_rows_and_schema_before_it_is_published(project: Project, shown: list[Any]) -> None:
    declare(project, processing={"outs": ["data/lake", "reports/notebooks/03_processing.ipynb"]})
    with pytest.raises(DataError, match=r"processing: did not write data/lake, which dvc.yaml declares"):
        display.outputs("processing")
    artifacts.write_table(pd.DataFrame({"a": [1, 2]}), artifacts.output("data/lake") / "part.parquet")
    display.outputs("processing")
    for text in ('<td>1 Parquet file</td><td class="number">2</td>', "a (int64)"):
        assert text in markup(shown)


def test_a_gate_shows_every_check_with_its_result(shown: list[Any]) -> None:
    row = {"name": "rows", "value": 12345, "limit": ">= 1", "passed": True}
    display.checks([row, {"name": "share", "value": 0.2, "limit": "<= 0.1", "passed": False}])
    for text in ("<td>rows</td><td>12,345</td><td>&gt;= 1</td><td>pass</td>", "<td>FAIL</td>"):
        assert text in markup(shown)
