"""Why a forecast is what it is: contributions that sum up, treat equals alike, and are exact where that can be known."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import TASKS, statement
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from ninefold.errors import DataError
from ninefold.training import explanation_figures as figures
from ninefold.training.explanation import COLUMNS, as_text, explain

NAMES = ["a", "b", "c", "d"]


def numbers(count: int, seed: int = 1) -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(seed).normal(size=(count, len(NAMES))), columns=NAMES)


def tangled(frame: pd.DataFrame) -> np.ndarray:
    """A forecast in which three features are correlated, so that orders of becoming known differ."""
    a, b, c, d = (frame[name].to_numpy() for name in NAMES)
    return 10 + a * b * c + 2 * np.maximum(a, d) + b


def exact(predict: Callable[[pd.DataFrame], np.ndarray], row: pd.DataFrame, background: pd.DataFrame) -> np.ndarray:
    """Shapley values by their definition, over all coalitions."""

    def value(known: tuple[str, ...]) -> float:
        return float(predict(background.assign(**{name: row[name].iloc[0] for name in known})).mean())

    found, count = [], len(NAMES)
    for name in NAMES:
        others = [other for other in NAMES if other != name]
        gains = [
            sum(value((*known, name)) - value(known) for known in combinations(others, size)) / comb(count - 1, size)
            for size in range(count)
        ]
        found.append(sum(gains) / count)
    return np.array(found)


def test_the_base_and_the_contributions_sum_to_the_forecast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ninefold.training.explanation.PERMUTATIONS", 2)
    rows, background = numbers(5), numbers(30, seed=2)
    table = explain(tangled, rows, background, NAMES, seed=0)
    assert list(table) == COLUMNS
    assert table["base"].to_numpy() == pytest.approx(tangled(background).mean(), abs=1e-12)
    summed = table.groupby("row")["contribution"].sum() + table["base"].iloc[0]
    assert np.abs(summed.to_numpy() - tangled(rows)).max() < 1e-9


def test_contributions_are_the_shapley_values_within_their_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ninefold.training.explanation.PERMUTATIONS", 300)
    rows, background = numbers(2), numbers(10, seed=2)
    table = explain(tangled, rows, background, NAMES, seed=0)
    expected = np.concatenate([exact(tangled, rows.iloc[[number]], background) for number in range(2)])
    off = np.abs(table["contribution"].to_numpy() - expected)
    assert (off < 4 * table["standard_error"].to_numpy() + 1e-12).all()
    assert table["standard_error"].max() < 0.05


def test_the_standard_error_is_that_of_repeated_sampling() -> None:
    rows, background = numbers(1), numbers(10, seed=2)
    runs = [explain(tangled, rows, background, NAMES, seed=seed) for seed in range(200)]
    spread = np.std([run["contribution"] for run in runs], axis=0)[:3]  # d hangs together with one other: exact
    claimed = np.mean([run["standard_error"] for run in runs], axis=0)[:3]
    assert (spread > 0.02).all()
    assert claimed == pytest.approx(spread, rel=0.2)


def test_a_linear_model_is_explained_exactly() -> None:
    rows, background, weights = numbers(3), numbers(20, seed=2), np.array([2.0, -1.0, 0.5, 0.0])
    table = explain(lambda frame: frame[NAMES].to_numpy() @ weights + 7, rows, background, NAMES, seed=0)
    expected = weights * (rows - background.mean()).to_numpy()
    assert table["contribution"].to_numpy() == pytest.approx(expected.ravel(), abs=1e-12)
    assert table["standard_error"].max() < 1e-12


def test_features_that_interact_in_pairs_are_explained_exactly() -> None:
    rows, background = numbers(1), numbers(10, seed=2)

    def paired(frame: pd.DataFrame) -> np.ndarray:
        return (frame["a"] * frame["b"] + np.maximum(frame["c"], frame["d"])).to_numpy()

    table = explain(paired, rows, background, NAMES, seed=0)
    assert table["contribution"].to_numpy() == pytest.approx(exact(paired, rows, background), abs=1e-12)


def test_a_feature_that_the_model_does_not_use_contributes_exactly_nothing() -> None:
    table = explain(lambda frame: tangled(frame.assign(d=0.0)), numbers(3), numbers(20, seed=2), NAMES, seed=0)
    assert table.loc[table["feature"] == "d", ["contribution", "standard_error"]].eq(0).all(axis=None)
    assert table.loc[table["feature"] != "d", "contribution"].ne(0).all()


def test_a_value_that_all_background_rows_share_contributes_exactly_nothing() -> None:
    table = explain(tangled, numbers(1).assign(b=3.0), numbers(20, seed=2).assign(b=3.0), NAMES, seed=0)
    assert table["contribution"].tolist()[1] == 0


def test_features_that_are_equal_and_used_alike_share_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ninefold.training.explanation.PERMUTATIONS", 50)
    rows, background = (numbers(1, seed).assign(b=lambda frame: frame["a"]) for seed in (1, 2))
    table = explain(lambda frame: np.exp(frame[NAMES].sum(axis=1)).to_numpy(), rows, background, NAMES, 0)
    one, other, *_ = table.itertuples()
    assert abs(one.contribution) > 10 * one.standard_error > 0
    assert one.contribution == pytest.approx(other.contribution, abs=4 * (one.standard_error + other.standard_error))


def test_the_same_seed_gives_the_same_table_and_a_row_does_not_depend_on_its_neighbours() -> None:
    rows, background = numbers(3), numbers(20, seed=2)
    table = explain(tangled, rows, background, NAMES, seed=5)
    pd.testing.assert_frame_equal(table, explain(tangled, rows, background, NAMES, seed=5))
    assert not table.equals(explain(tangled, rows, background, NAMES, seed=6))
    alone = explain(tangled, rows.iloc[[2]], background, NAMES, seed=5)
    pd.testing.assert_frame_equal(alone.assign(row=2), table[table["row"] == 2].reset_index(drop=True))


def test_coalitions_are_predicted_in_few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def counted(frame: pd.DataFrame) -> np.ndarray:
        sizes.append(len(frame))
        return tangled(frame)

    whole = explain(counted, numbers(3), numbers(20, seed=2), NAMES, seed=0)
    assert len(sizes) == 2 + 3
    monkeypatch.setattr("ninefold.training.explanation.MOST_CELLS", 1000)
    pd.testing.assert_frame_equal(whole, explain(counted, numbers(3), numbers(20, seed=2), NAMES, seed=0))
    assert max(sizes[5:]) * len(NAMES) <= 1000


MIXED = ["$x$ {a}", 'the "shop"', "über.b", "@when", "a note", "yes"]


def mixed(count: int, seed: int) -> pd.DataFrame:
    """Rows with names as people give them, of every kind of column, with values that are missing."""
    random = np.random.default_rng(seed)
    lost = random.uniform(size=count) < 0.2
    return pd.DataFrame(
        {
            MIXED[0]: np.where(lost, np.nan, random.normal(size=count)),
            MIXED[1]: pd.array(np.where(lost, None, random.choice(["$a$", "b"], count)), dtype="str"),
            MIXED[2]: pd.Categorical(random.choice(["x", "y"], count), categories=["x", "y", "z"]),
            MIXED[3]: pd.Timestamp("2020-01-01") + pd.to_timedelta(random.integers(0, 99, count), "D"),
            MIXED[4]: pd.array(random.choice(["two\nlines", "b | c"], count), dtype="str"),
            MIXED[5]: random.uniform(size=count) < 0.5,
        },
        index=np.arange(count) + 100,
    )


def test_columns_of_every_kind_reach_the_model_as_they_are() -> None:
    background, rows = mixed(40, 1), mixed(4, 2)
    rows.iloc[0, :2] = None
    seen: list[pd.Series] = []

    def predict(frame: pd.DataFrame) -> np.ndarray:
        seen.append(frame.dtypes)
        score = frame[MIXED[0]].fillna(3) + frame[MIXED[1]].isna() + 2 * (frame[MIXED[2]] == "x")
        days = (frame[MIXED[3]] - pd.Timestamp("2020-01-01")) / pd.Timedelta(days=1)
        return (score * (1 + frame[MIXED[5]]) + days / 50 + frame[MIXED[4]].str.len()).to_numpy("float64")

    table = explain(predict, rows, background, MIXED, seed=0)
    for dtypes in seen:
        pd.testing.assert_series_equal(dtypes, background.dtypes)
    summed = table.groupby("row")["contribution"].sum() + table["base"].iloc[0]
    assert summed.to_numpy() == pytest.approx(predict(rows), abs=1e-9)
    assert table["feature"].tolist() == MIXED * 4
    first = table.head(len(MIXED))["value"].tolist()
    assert first[:2] == ["missing", "missing"]
    assert first[3] == str(rows[MIXED[3]].iloc[0].date())


def test_a_pipeline_of_scikit_learn_is_explained() -> None:
    background, random = mixed(300, 1).drop(columns=[MIXED[3], MIXED[4]]), np.random.default_rng(3)
    target = background[MIXED[0]].fillna(-1) * 3 + background[MIXED[5]] + random.normal(0, 0.1, 300)
    encode = ColumnTransformer([("c", OneHotEncoder(sparse_output=False), MIXED[1:3])], remainder="passthrough")
    model = make_pipeline(encode, HistGradientBoostingRegressor(max_iter=20, random_state=0)).fit(background, target)
    rows = background.iloc[:2]
    table = explain(model.predict, rows, background.iloc[50:90], list(background), seed=0)
    summed = table.groupby("row")["contribution"].sum() + table["base"].iloc[0]
    assert summed.to_numpy() == pytest.approx(model.predict(rows), abs=1e-9)
    strongest = table.groupby("feature")["contribution"].agg(lambda each: each.abs().mean()).idxmax()
    assert strongest == MIXED[0]


def test_a_single_feature_explains_all() -> None:
    rows, background = numbers(2)[["a"]], numbers(10, seed=2)[["a"]]
    table = explain(lambda frame: frame["a"].to_numpy() ** 2, rows, background, ["a"], seed=0)
    expected = rows["a"] ** 2 - (background["a"] ** 2).mean()
    assert table["contribution"].to_numpy() == pytest.approx(expected.to_numpy())


@pytest.mark.parametrize(
    ("value", "date", "text"),
    [
        (3.0, False, "3"), (2013, False, "2013"), (0.123456, False, "0.1235"), (12345.678, False, "12,346"),
        (True, False, "True"), ("say $5", False, "say $5"), (np.nan, False, "missing"), (None, False, "missing"),
        (pd.NaT, False, "missing"), (np.nan, True, "missing"), (18262.0, True, "2020-01-01"),
        (18262.5, True, "2020-01-01 12:00:00"), (pd.Timestamp("2020-01-01"), True, "2020-01-01"),
        (float("inf"), False, "inf"),
    ],
)  # fmt: skip
def test_values_are_shown_as_one_reads_them(value: Any, date: bool, text: str) -> None:
    assert as_text(value, date) == text


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"columns": ["a", "e"]}, "rows to explain: lacks e; found a, b, c, d"),
        ({"background": numbers(0)}, "background: found no row, expected at least one"),
        ({"columns": []}, "columns: found none"),
        ({"predict": lambda frame: frame.to_numpy()}, r"predict: found values of shape \(20, 4\)"),
        ({"predict": lambda frame: np.full(len(frame), np.nan)}, "of which 0 are finite; expected 20 finite"),
    ],
)
def test_what_cannot_be_explained_is_named(changed: dict[str, Any], says: str) -> None:
    given = {"predict": tangled, "rows": numbers(20), "background": numbers(20), "columns": NAMES, "seed": 0}
    with pytest.raises(DataError, match=says):
        explain(**{**given, **changed})


def drawn(task: str, features: int, decisions: int = 2) -> tuple[Any, pd.DataFrame, str]:
    """Return a figure, its table and its sentence, with contributions 0, 0.01, -0.02, ... for each decision."""
    problem = statement(task, payoff_unit="$ $", unit="$order$")
    moved = 0.01 * np.arange(features) * (-1.0) ** np.arange(features)
    one = pd.DataFrame(
        {
            "feature": [f"${number}$ {{x" for number in range(features)],
            "value": "$v$ | `w`",
            "contribution": moved,
            "standard_error": 0.001,
            "base": 0.5,
        }
    )
    table = pd.concat([one.assign(row=number) for number in range(decisions)], ignore_index=True)
    titles = [f"the {number}th, $5 of $6" for number in range(decisions)]
    figure = figures.plot_contributions(table, titles, problem)
    figure.canvas.draw()
    return figure, table, figures.describe_contributions(table, titles, problem)


@pytest.mark.parametrize("task", TASKS)
def test_a_panel_shows_the_six_largest_contributions_and_the_sum_of_the_others(task: str) -> None:
    figure, table, _ = drawn(task, features=9)
    assert len(figure.axes) == 2
    for axes in figure.axes:
        lengths = [bar.get_width() for bar in axes.patches]
        assert lengths[:6] == pytest.approx([0.08, -0.07, 0.06, -0.05, 0.04, -0.03])
        assert sum(lengths) == pytest.approx(table.loc[table["row"] == 0, "contribution"].sum())
        assert {bar.get_x() for bar in axes.patches} == {0.5}
        names = [tick.get_text() for tick in axes.get_yticklabels()]
        assert names[-1] == "the other 3 features"
        assert names[0] == r"\$8\$ {x = \$v\$ | `w`"


def test_few_features_are_all_shown_and_one_left_over_is_called_so() -> None:
    for features, last in ((3, r"\$0\$ {x = \$v\$ | `w`"), (7, "the other feature")):
        figure, _, _ = drawn("binary", features, decisions=1)
        assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()][-1] == last


@pytest.mark.parametrize("task", TASKS)
def test_the_sentence_tells_the_forecast_the_average_and_what_moved_it_and_claims_no_cause(task: str) -> None:
    _, _, sentence = drawn(task, features=9)
    for words in ("the 1th", "average", "not what causes the outcome"):
        assert words in sentence
    assert ("+8.0 points" in sentence) == (task != "regression")
    assert ("(+0.08)" in sentence) == (task == "regression")
    assert "nan" not in sentence
