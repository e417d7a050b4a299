"""Stage 07: one model is chosen on rows it had not seen, and judged once on others that nobody had."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from conftest import TASKS, Project, statement
from pydantic import ValidationError
from sklearn.base import BaseEstimator
from sklearn.datasets import load_diabetes
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression

from ninefold import metrics, training
from ninefold.core import adjustment, decisions, evaluation, fitting, gate, io, model_file, models, scores, selection
from ninefold.core.errors import DataError
from ninefold.core.estimators import Blend, Calibrated, WithInterval

SIGNED = {
    "all": ["amount", "shop", "street", "note", "signup"],
    "numeric": ["amount"],
    "categorical": ["shop", "street"],
    "wide": ["street"],
    "text": ["note"],
    "dates": ["signup"],
}
FEW = {"all": ["amount", "shop"], "numeric": ["amount"], "categorical": ["shop"], "wide": [], "text": [], "dates": []}
MODELS: dict[str, dict[str, Any]] = {
    "line": {"model": "linear", "rare": 5},
    "boosting": {"model": "gradient_boosting", "max_iter": 10, "max_leaf_nodes": 6},
    "forest": {"model": "extra_trees", "n_estimators": 10, "min_samples_leaf": 3},
    "bagging": {"model": "random_forest", "n_estimators": 10, "min_samples_leaf": 3},
    "light": {"model": "lightgbm", "max_iter": 10, "max_leaf_nodes": 6},
}
PARAMS = training.Params(seed=1, folds=2, candidates=MODELS, importance_rows=500)
WORDS = np.array(["red", "green", "slow", "fast", "new", "old", "small", "big"])
ONE = {task: statement(task, time=None) for task in TASKS}  # a problem of each task, without time


class Run(NamedTuple):
    """What the notebook of the stage holds when it is through."""

    name: str
    method: str
    model: BaseEstimator
    compared: pd.DataFrame
    rows: pd.DataFrame
    predicted: pd.DataFrame
    results: dict[str, dict[str, float]]
    policies: pd.DataFrame
    floor: float
    passed: bool
    parts: dict[str, pd.DataFrame]
    agreed: dict[str, Any]


def orders(task: str, count: int = 600, signal: float = 2.0, seed: int = 4) -> pd.DataFrame:
    """Return encoded rows as stage 06 writes them: gaps, rare and unknown categories, words, days; one number matters."""
    random = np.random.default_rng(seed)
    amount = random.normal(size=count)
    score = signal * amount + random.logistic(size=count)
    target: Any = (score > 1).astype("int64")
    if task == "multiclass":
        target = (score > -1).astype("int64") + (score > 1)
    if task == "regression":
        target = np.round(100 + 10 * score)  # whole numbers, as counts are
    frame = pd.DataFrame(
        {
            "id": np.arange(count),
            "placed": pd.Timestamp("2020-01-01") + pd.to_timedelta(np.sort(random.integers(0, 100, count)), "D"),
            "customer": random.integers(0, count // 3, count),
            "amount": pd.Series(amount).mask(random.random(count) < 0.05),
            "shop": pd.Series(random.choice(["a", "b", None], count), dtype="str"),
            "street": pd.Series([f"s{number}" for number in random.integers(0, 300, count)], dtype="str"),
            "note": pd.Series([" ".join(random.choice(WORDS, 3)) for _ in range(count)]).mask(
                random.random(count) < 0.1
            ),
            "signup": pd.Series(18_000.0 + random.integers(0, 700, count)).mask(random.random(count) < 0.1),
        }
    )
    return frame.assign(**{ONE[task]["target"]: target})


def agree(frame: pd.DataFrame, stated: dict[str, Any]) -> dict[str, Any]:
    """Return what stage 04 would agree on for these rows."""
    settings: dict[str, Any] = {
        "primary": scores.PRIMARY[stated["task"]],
        "split": {"validation": 0.2, "holdout": 0.25},
        "bootstrap": {"replicates": 20, "level": 0.95, "seed": 1},
    }
    params = metrics.Params(**settings)
    points = metrics.split(frame, params, stated)
    policies, table = metrics.baselines(frame, points, stated)
    return metrics.agreement(frame, points, policies, table, params, stated)


def parted(frame: pd.DataFrame, stated: dict[str, Any], agreed: dict[str, Any]) -> dict[str, pd.DataFrame]:
    part = metrics.part_of(frame, agreed["split"], stated)
    return {name: frame[part == name].reset_index(drop=True) for name in metrics.PARTS}


def run(
    frame: pd.DataFrame,
    stated: dict[str, Any],
    params: training.Params = PARAMS,
    signed: dict[str, list[str]] = FEW,
    holdout: pd.DataFrame | None = None,
) -> Run:
    """Do what the notebook of the stage does, in its order."""
    agreed = agree(frame, stated)
    parts = parted(frame, stated, agreed)
    if holdout is not None:
        parts["holdout"] = holdout
    candidates = training.candidates(params, signed, stated)
    rows, forecasts = training.validate(candidates, parts, signed, params, stated)
    candidates, forecasts = selection.blend(candidates, rows, forecasts, params.blend, stated)
    compared = selection.compare(rows, forecasts, stated, agreed)
    name = selection.choose(compared)
    recent, unseen = training.newest(rows, forecasts[name], stated)
    method = adjustment.choose(adjustment.compare(unseen, recent, 0.9, stated), recent, params.calibration, stated)
    fitted = training.finish(candidates[name], parts, signed, stated)
    model = adjustment.adjust(fitted, method, unseen, recent, params.interval, stated)
    kept = parts["holdout"]
    target, predicted = kept[stated["target"]].to_numpy(), fitting.predict(model, kept, signed, stated)
    judged = (target, predicted, kept, stated, agreed)
    results, floor = evaluation.evaluate(*judged), evaluation.gain_floor(*judged)
    passed = all(check.passed for check in training.checks(name, results, floor, stated, agreed))
    table = evaluation.policies(*judged)
    return Run(name, method, model, compared, rows, predicted, results, table, floor, passed, parts, agreed)


@pytest.fixture(autouse=True)
def _project(project: Project) -> Project:
    """Stand in the tiny project, which brings no candidates of its own."""
    return project


@pytest.mark.parametrize(
    "changes", [{}, {"time": None}, {"time": None, "group": ["customer"]}], ids=["time", "rows", "group"]
)
@pytest.mark.parametrize("task", TASKS)
def test_a_signal_is_found_and_passes_the_gate(task: str, changes: dict[str, Any]) -> None:
    stated = statement(task, **changes)
    found = run(orders(task, 900, signal=3.0), stated)
    assert found.passed
    assert found.name != selection.NAIVE
    assert found.results[scores.RANKING[task]]["low"] > (0.7 if task != "regression" else 0.6)
    assert found.results["improvement"]["low"] > 0
    assert found.policies["policy"].iloc[0] == evaluation.FOLLOW
    assert found.policies.set_index("policy")["payoff"].idxmax() == decisions.FORESIGHT


@pytest.mark.parametrize(
    "changes", [{}, {"time": None}, {"time": None, "group": ["customer"]}], ids=["time", "rows", "group"]
)
@pytest.mark.parametrize("task", TASKS)
def test_noise_passes_the_gate_with_none_of_twenty_seeds(task: str, changes: dict[str, Any]) -> None:
    few = PARAMS.model_copy(update={"candidates": {name: PARAMS.candidates[name] for name in ("line", "boosting")}})
    stated = statement(task, **changes)
    for seed in range(20):
        frame, random = orders(task, 240, signal=3.0, seed=seed), np.random.default_rng(seed)
        shuffled = frame.assign(**{stated["target"]: random.permutation(frame[stated["target"]])})
        assert not run(shuffled, stated, few).passed, seed


@pytest.mark.parametrize("task", TASKS)
def test_a_naive_model_never_passes_however_well_it_fares(task: str) -> None:
    found = run(orders(task, 900, signal=3.0), ONE[task])
    checks = training.checks(selection.NAIVE, found.results, found.floor, ONE[task], found.agreed)
    assert [check.name for check in checks if not check.passed] == ["model chosen"]
    assert not training.beats_naive(selection.NAIVE, found.results, found.floor)


@pytest.mark.parametrize("changes", [{}, {"time": None, "group": ["customer"]}], ids=["time", "group"])
@pytest.mark.parametrize("task", TASKS)
def test_the_holdout_changes_neither_choice_nor_model(task: str, changes: dict[str, Any]) -> None:
    frame, stated = orders(task, 300), statement(task, **changes)
    first = run(frame, stated)
    kept = first.parts["holdout"]
    turned = kept.assign(**{stated["target"]: kept[stated["target"]].to_numpy()[::-1], "amount": -kept["amount"]})
    second = run(frame, stated, holdout=turned)
    assert (first.name, first.method) == (second.name, second.method)
    pd.testing.assert_frame_equal(first.compared, second.compared)
    pd.testing.assert_frame_equal(
        fitting.predict(first.model, kept, FEW, stated), fitting.predict(second.model, kept, FEW, stated)
    )
    assert first.results != second.results


@pytest.mark.parametrize("task", TASKS)
def test_every_candidate_answers_messy_rows(task: str) -> None:
    stated, frame = ONE[task], orders(task, 300)
    frame.loc[:150, "amount"] = np.nan
    strange = frame.head(4).assign(
        amount=[np.nan, 1e12, -1e12, 0],
        shop=["never seen", None, "a", ""],
        street=None,
        note=[None, "", "ünï 漢字", "!"],
        signup=[np.nan, 1e9, -5, 18_000],
    )
    for name, estimator in training.candidates(PARAMS, SIGNED, stated).items():
        model = fitting.fit(estimator, frame, SIGNED, stated)
        for rows in (frame, strange):
            found = fitting.predict(model, rows, SIGNED, stated)
            assert list(found.columns) == decisions.forecast_columns(stated)
            assert len(found) == len(rows)
            assert np.isfinite(found.to_numpy()).all(), name
            if task != "regression":
                p = decisions.probabilities(found, stated)
                assert ((p >= 0) & (p <= 1)).all()
                np.testing.assert_allclose(p.sum(axis=1), 1)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "column",
    [
        {"amount": np.nan, "signup": np.nan},
        {"amount": 1.0, "signup": 18_000.0},
        {"shop": None, "street": None, "note": None},
        {"shop": "a", "street": "b", "note": "the same words"},
        {"note": [f"word{number}" for number in range(120)]},
    ],
    ids=["numbers missing", "numbers constant", "texts missing", "texts constant", "texts all different"],
)
@pytest.mark.parametrize("task", ["binary", "regression"])
def test_a_column_without_values_or_with_one_alone_is_borne_in_silence(task: str, column: dict[str, Any]) -> None:
    frame = orders(task, 120).assign(**column)
    frame = frame.astype(dict.fromkeys(["shop", "street", "note"], "str"))
    for name, estimator in training.candidates(PARAMS, SIGNED, ONE[task]).items():
        found = fitting.predict(fitting.fit(estimator, frame, SIGNED, ONE[task]), frame, SIGNED, ONE[task])
        assert np.isfinite(found.to_numpy()).all(), name


@pytest.mark.parametrize("kind", ["numeric", "categorical", "text", "dates"])
@pytest.mark.parametrize("task", TASKS)
def test_one_kind_of_features_is_enough(task: str, kind: str) -> None:
    column = {"numeric": "amount", "categorical": "street", "text": "note", "dates": "signup"}[kind]
    signed = {**{name: [] for name in SIGNED}, "all": [column], kind: [column]}
    signed["wide"] = ["street"] if kind == "categorical" else []
    frame = orders(task, 150)
    for estimator in training.candidates(PARAMS, signed, ONE[task]).values():
        found = fitting.predict(fitting.fit(estimator, frame, signed, ONE[task]), frame, signed, ONE[task])
        assert np.isfinite(found.to_numpy()).all()


@pytest.mark.parametrize("name", ["boosting", "forest"])
def test_trees_make_one_number_of_a_category_and_a_quantity_of_whole_numbers(name: str) -> None:
    frame, stated = orders("regression", 200), ONE["regression"]
    model = fitting.fit(training.candidates(PARAMS, SIGNED, stated)[name], frame, SIGNED, stated)
    columns = model[0].transform(frame[SIGNED["all"]]).shape[1]
    assert columns == 1 + 2 + 5 + 30  # the number, the categories, the parts of the date, those of the text


@pytest.mark.parametrize("name", MODELS)
def test_words_tell_what_nothing_else_does(name: str) -> None:
    frame, stated = orders("binary", 400, signal=0.0), ONE["binary"]
    frame["returned"] = frame["note"].str.contains("red", na=False).astype("int64")
    parts = parted(frame, stated, agree(frame, stated))
    signed = {**{kind: [] for kind in SIGNED}, "all": ["note"], "text": ["note"]}
    model = fitting.fit(training.candidates(PARAMS, signed, stated)[name], parts["train"], signed, stated)
    found = fitting.predict(model, parts["holdout"], signed, stated)
    assert scores.scores(parts["holdout"]["returned"].to_numpy(), found, stated)["roc_auc"] > 0.95


@pytest.mark.parametrize("task", TASKS)
def test_small_tables_without_time_choose_by_every_open_row(task: str) -> None:
    stated, frame = ONE[task], orders(task, 200)
    parts = parted(frame, stated, agree(frame, stated))
    rows, forecasts = training.validate(training.candidates(PARAMS, FEW, stated), parts, FEW, PARAMS, stated)
    opened = pd.concat([parts["train"], parts["validation"]])
    assert sorted(rows["id"]) == sorted(opened["id"])
    assert rows["id"].tolist() != sorted(rows["id"])  # in random order, so that its halves are alike
    assert {name: len(found) for name, found in forecasts.items()} == dict.fromkeys(forecasts, len(rows))


@pytest.mark.parametrize("case", ["one fold", "one fold of time", "many rows"])
def test_of_one_fold_or_plenty_of_rows_the_validation_part_chooses(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    stated = statement() if case == "one fold of time" else ONE["binary"]
    params = PARAMS if case == "many rows" else PARAMS.model_copy(update={"folds": 1})
    monkeypatch.setattr(training, "MOST_FOLDED", 100 if case == "many rows" else 20_000)
    frame = orders("binary", 300)
    parts = parted(frame, stated, agree(frame, stated))
    rows, forecasts = training.validate(training.candidates(params, FEW, stated), parts, FEW, params, stated)
    assert sorted(rows["id"]) == sorted(parts["validation"]["id"])
    assert (rows["id"].tolist() == sorted(rows["id"])) == (case == "one fold of time")
    assert all(len(found) == len(rows) for found in forecasts.values())


@pytest.mark.parametrize("task", TASKS)
def test_where_there_is_time_each_fold_is_foreseen_from_what_came_before_it_and_was_known(task: str) -> None:
    stated, frame = statement(task), orders(task, 900)
    params = PARAMS.model_copy(update={"folds": 2, "gap": "2d"})
    parts = parted(frame, stated, agree(frame, stated))
    rows, folds = training.folded(parts, FEW, params, stated)
    assert len(folds) == 2
    for fold in folds:
        before, after = rows["placed"].iloc[fold.fitted], rows["placed"].iloc[fold.unseen]
        assert before.max() < after.min() - pd.Timedelta("2d")
        assert after.min() == after.min().normalize()
    seen = [set(fold.unseen) for fold in folds]
    assert not seen[0] & seen[1]
    assert set(rows["id"].iloc[folds[-1].unseen]) == set(parts["validation"]["id"])
    chosen, forecasts = training.validate({"mine": Recalls()}, parts, KNOWS, params, stated)
    assert chosen["placed"].is_monotonic_increasing
    recent, predicted = training.newest(chosen, forecasts["mine"], stated)
    assert sorted(recent["id"]) == sorted(parts["validation"]["id"])
    assert len(predicted) == len(recent)


def test_a_fold_with_too_little_before_it_is_left_out() -> None:
    stated, frame = statement(), orders("binary", 300)
    parts = parted(frame, stated, agree(frame, stated))
    _rows, folds = training.folded(parts, FEW, PARAMS.model_copy(update={"folds": 20}), stated)
    assert 1 < len(folds) < 5
    assert all(len(fold.fitted) >= len(fold.unseen) for fold in folds)
    parts["train"]["returned"] = 0  # from one outcome nothing can be learned: the last fold stays
    assert len(training.folded(parts, FEW, PARAMS, stated)[1]) == 1


class Recalls(BaseEstimator):
    """A model that knows the rows it was fitted on, by their number in the first column."""

    def fit(self, X: pd.DataFrame, y: pd.Series) -> Recalls:
        self.classes_ = np.unique(y)
        self.seen_ = set(X["id"])
        return self

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        p = np.where(X["id"].isin(self.seen_), 0.99, 0.01)
        return np.column_stack([1 - p, p]) if len(self.classes_) == 2 else np.column_stack([1 - p, p / 2, p / 2])

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        return np.where(X["id"].isin(self.seen_), 1.0, 0.0)


KNOWS = {"all": ["id"], "numeric": ["id"], "categorical": [], "wide": [], "text": [], "dates": []}


@pytest.mark.parametrize(
    "changes", [{}, {"time": None}, {"time": None, "group": ["customer"]}], ids=["time", "rows", "group"]
)
@pytest.mark.parametrize("task", TASKS)
def test_no_row_that_chooses_was_seen_by_the_model_that_forecasts_it(task: str, changes: dict[str, Any]) -> None:
    stated, frame = statement(task, **changes), orders(task, 300)
    parts = parted(frame, stated, agree(frame, stated))
    _rows, forecasts = training.validate({"mine": Recalls()}, parts, KNOWS, PARAMS, stated)
    said = forecasts["mine"].iloc[:, 0]
    assert said.nunique() == 1
    final = training.finish(Recalls(), parts, KNOWS, stated)
    assert final.seen_ == {*parts["train"]["id"], *parts["validation"]["id"]}  # both, and no row of the holdout


@pytest.mark.parametrize("task", TASKS)
def test_each_forecast_stands_beside_its_own_row(task: str) -> None:
    stated, frame = ONE[task], orders(task, 300, signal=9.0)
    parts = parted(frame, stated, agree(frame, stated))
    rows, forecasts = training.validate(training.candidates(PARAMS, FEW, stated), parts, FEW, PARAMS, stated)
    known = rows["amount"].notna()
    said, happened = decisions.expected(forecasts["line"], stated), rows[stated["target"]].to_numpy()
    order = scores.RANKING[task]
    assert scores.scores(happened[known], forecasts["line"][known], stated)[order] > 0.9
    assert len(said) == len(happened)


@pytest.mark.parametrize("task", TASKS)
def test_an_entity_is_never_torn_between_folds_and_every_row_is_in_one(task: str) -> None:
    stated, frame = statement(task, time=None, group=["customer"]), orders(task, 300)
    frame["customer"] = frame["customer"].where(frame["customer"] > 5)  # some have no name: they are one entity
    folds = list(fitting.at_random(frame, PARAMS.folds, 1, stated))
    assert len(folds) == PARAMS.folds
    for others, fold in folds:
        assert not set(frame["customer"].iloc[others].astype(str)) & set(frame["customer"].iloc[fold].astype(str))
    assert sorted(np.concatenate([fold for _, fold in folds])) == list(range(300))


@pytest.mark.parametrize("task", TASKS)
def test_fewer_entities_than_folds_make_fewer_folds(task: str) -> None:
    frame = orders(task, 60).assign(customer=np.arange(60) % 2)
    folds = list(fitting.at_random(frame, PARAMS.folds, 1, statement(task, time=None, group=["customer"])))
    assert [len(fold) for _, fold in folds] == [30, 30]


@pytest.mark.filterwarnings("error")
def test_a_rare_class_makes_fewer_folds_and_is_in_each() -> None:
    frame = orders("binary", 60).assign(returned=[1, 1, *[0] * 58])
    folds = list(fitting.at_random(frame, PARAMS.folds, 1, ONE["binary"]))
    assert [frame["returned"].iloc[fold].sum() for _, fold in folds] == [1, 1]


def test_a_class_that_a_fold_never_saw_has_no_chance_there_and_breaks_nothing() -> None:
    stated, frame = ONE["multiclass"], orders("multiclass", 60)
    frame["size"] = [2, *[1] * 20, *[0] * 39]
    for estimator in training.candidates(PARAMS, FEW, stated).values():
        found = fitting.predict(fitting.fit(estimator, frame.tail(59), FEW, stated), frame, FEW, stated)
        assert (found.iloc[:, -1] == 0).all()


def judged_by(behind: list[float], errors: list[float], models: str = "abc") -> pd.DataFrame:
    """Return what `selection.compare` would, of models that stand from simple to complex."""
    return pd.DataFrame({"model": [selection.NAIVE, *models], "behind": behind, "standard error": errors})


def test_the_simplest_within_a_standard_error_of_the_best_is_chosen() -> None:
    assert selection.choose(judged_by([0.3, 0.2, 0.1, 0.0], [0.01, 0.05, 0.05, 0.0])) == "c"
    assert selection.choose(judged_by([0.3, 0.2, 0.04, 0.0], [0.01, 0.05, 0.05, 0.0])) == "b"
    assert selection.choose(judged_by([0.3, 0.05, 0.04, 0.0], [0.01, 0.06, 0.05, 0.0])) == "a"
    assert selection.choose(judged_by([0.3, 0.0, 0.04, 0.1], [0.01, 0.0, 0.05, 0.2])) == "a"


def test_no_features_are_chosen_only_where_none_help() -> None:
    assert selection.choose(judged_by([0.001, 0.2, 0.1, 0.0], [0.01, 0.05, 0.05, 0.0])) == "c"
    assert selection.choose(judged_by([0.0, 0.2, 0.1, 0.01], [0.0, 0.05, 0.05, 0.2])) == selection.NAIVE


@pytest.mark.parametrize(("primary", "better"), [("log_loss", "lower"), ("brier", "lower"), ("roc_auc", "higher")])
def test_candidates_are_compared_on_the_same_draws_so_that_what_is_hard_for_all_does_not_count(
    primary: str, better: str
) -> None:
    random, stated, frame = np.random.default_rng(3), ONE["binary"], orders("binary", 800)
    p = np.clip(0.15 + 0.5 * frame["returned"] + random.normal(0, 0.2, 800), 0.02, 0.98)
    forecasts = {
        "worse": pd.DataFrame({"probability": np.clip(p + random.normal(0, 0.1, 800), 0.02, 0.98)}),
        "good": pd.DataFrame({"probability": p}),
    }
    agreed = {**agree(frame, stated), "primary": {"name": primary, "better": better}}
    found = selection.compare(frame, forecasts, stated, agreed).set_index("model")
    assert found.loc["good", ["behind", "standard error"]].tolist() == [0, 0]
    apart = abs(found[primary].diff().iloc[1])
    assert found.loc["worse", "behind"] == pytest.approx(apart)
    # Unpaired, the standard error would be that of each by itself, many times as large.
    alone = scores.replicates(primary, frame["returned"].to_numpy(), forecasts, np.arange(800), stated, 100, 1).std()
    assert 0 < found.loc["worse", "standard error"] < 0.6 * np.hypot(*alone)


@pytest.mark.parametrize("task", TASKS)
def test_a_blend_is_better_than_its_parts_where_they_err_apart(task: str) -> None:
    stated, frame, random = ONE[task], orders(task, 300), np.random.default_rng(1)
    target, names = frame[stated["target"]].to_numpy(), decisions.forecast_columns(stated)
    forecasts = {selection.NAIVE: evaluation.naive_forecast(300, stated, agree(frame, stated))}
    for name in MODELS:
        if task == "regression":
            forecasts[name] = pd.DataFrame({column: target + random.normal(0, 9, 300) for column in names})
            continue
        p = np.exp(np.eye(len(stated["classes"]))[target] + random.normal(0, 1, (300, len(stated["classes"]))))
        forecasts[name] = pd.DataFrame((p / p.sum(axis=1, keepdims=True))[:, -len(names) :], columns=names)
    single = training.candidates(PARAMS, FEW, stated)
    candidates, more = selection.blend(single, frame, forecasts, True, stated)
    scored = selection.compare(frame, more, stated, agree(frame, stated)).set_index("model")[scores.PRIMARY[task]]
    assert scored.idxmin() == selection.BLEND
    assert sum(candidates[selection.BLEND].weights) == pytest.approx(1)
    # Fitted, it forecasts the mean of its parts.
    blend = fitting.fit(candidates[selection.BLEND], frame, FEW, stated)
    mean = sum(
        weight * fitting.predict(model, frame, FEW, stated)
        for model, weight in zip(blend.models, blend.weights, strict=True)
    )
    pd.testing.assert_frame_equal(fitting.predict(blend, frame, FEW, stated), mean)
    assert selection.BLEND not in selection.blend(single, frame, forecasts, False, stated)[1]


def distort(predicted: pd.DataFrame, stated: dict[str, Any]) -> pd.DataFrame:
    """Return a forecast that is too sure of itself, and of the last class."""
    p = decisions.probabilities(predicted, stated) ** 3
    p *= np.linspace(1, 4, p.shape[1])
    p /= p.sum(axis=1, keepdims=True)
    return pd.DataFrame(p[:, 1:] if stated["task"] == "binary" else p, columns=predicted.columns)


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_calibration_mends_a_distorted_forecast(task: str) -> None:
    stated, random = ONE[task], np.random.default_rng(1)
    count = len(stated["classes"])
    p = random.dirichlet(np.full(count, 1.5), 6000)
    target = (random.random((6000, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(0, count - 1)
    names = decisions.forecast_columns(stated)
    right = pd.DataFrame(p[:, -len(names) :], columns=names)
    rows = pd.DataFrame({stated["target"]: target})
    table = adjustment.compare(distort(right, stated), rows, 0.9, stated)
    loss = table.set_index("calibration")["log_loss"]
    assert (loss[["sigmoid", "isotonic"]] < loss["none"] - 0.05).all()
    best = adjustment.choose(table, rows, "auto", stated)
    assert best != "none"
    mended = table.set_index("calibration").loc[best]
    assert abs(mended["mean"] - mended["observed"]) < 0.02
    # What is right already is left alone.
    table = adjustment.compare(right, rows, 0.9, stated)
    assert adjustment.choose(table, rows, "auto", stated) == "none"


def test_the_calibration_that_params_name_is_taken() -> None:
    table = pd.DataFrame({"calibration": list(adjustment.METHODS), "log_loss": [0.1, 0.5, 0.05]})
    rows = pd.DataFrame({"returned": [0, 1] * 400})
    for method in adjustment.METHODS:
        assert adjustment.choose(table, rows, method, ONE["binary"]) == method
    assert adjustment.choose(table, rows, "auto", ONE["binary"]) == "none"  # too few rows for steps
    assert adjustment.choose(table, pd.concat([rows] * 2), "auto", ONE["binary"]) == "isotonic"
    assert adjustment.choose(table, rows, "auto", ONE["regression"]) == "conformal"


def test_a_half_of_one_outcome_teaches_no_calibration() -> None:
    rows = pd.DataFrame({"returned": [0] * 30 + [0, 1] * 15})
    predicted = pd.DataFrame({"probability": np.linspace(0.1, 0.9, 60)})
    table = adjustment.compare(predicted, rows, 0.9, ONE["binary"])
    assert table["log_loss"].nunique() == 1
    assert adjustment.choose(table, rows, "auto", ONE["binary"]) == "none"


@pytest.mark.parametrize("method", adjustment.METHODS)
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_the_final_model_is_set_right_as_was_chosen(task: str, method: str) -> None:
    stated, frame = ONE[task], orders(task, 300)
    found = run(frame, stated, PARAMS.model_copy(update={"calibration": method}))
    assert found.method == method
    assert isinstance(found.model, Calibrated) == (method != "none")
    p = decisions.probabilities(found.predicted, stated)
    assert ((p > 0) & (p < 1)).all()
    np.testing.assert_allclose(p.sum(axis=1), 1)


def test_intervals_of_quantities_hold_what_they_promise_where_errors_vary() -> None:
    random = np.random.default_rng(1)
    amount = random.uniform(0, 4, 9000)
    frame = orders("regression", 9000).assign(
        amount=amount, price=10 * amount + (1 + 5 * amount) * random.normal(size=9000)
    )
    stated = ONE["regression"]
    params = training.Params(
        seed=1, folds=2, blend=False, candidates={"boosting": MODELS["boosting"]}, importance_rows=500
    )
    found = run(frame, stated, params)
    assert isinstance(found.model, WithInterval)
    assert found.results["covered"]["value"] == pytest.approx(0.9, abs=0.03)
    kept = found.parts["holdout"]
    held = (kept["price"] >= found.predicted["low"]) & (kept["price"] <= found.predicted["high"])
    assert held.groupby(pd.qcut(kept["amount"], 3, labels=False)).mean().between(0.84, 0.96).all()
    # The quantity acted on is the 75 % quantile, as a unit too low costs three times a unit too high.
    assert (kept["price"] <= found.predicted["quantile"]).mean() == pytest.approx(0.75, abs=0.03)
    assert -found.predicted["loss"].mean() == pytest.approx(found.results["payoff"]["value"], rel=0.1)
    table = adjustment.compare(found.predicted, kept, 0.9, stated).set_index("interval")
    assert table.loc["conformal", "holds"] == pytest.approx(0.9, abs=0.04)


def test_intervals_hold_between_88_and_92_of_100_outcomes_like_those_of_diabetes() -> None:
    known, random = load_diabetes(as_frame=True), np.random.default_rng(7)
    spread = np.linalg.cholesky(known.data.cov() + 1e-9 * np.eye(10))
    X = pd.DataFrame(random.normal(size=(20_000, 10)) @ spread.T, columns=known.data.columns)
    expected = LinearRegression().fit(known.data, known.target).predict(X) + 2e4 * X["bmi"] * X["bp"]
    noise = random.gamma(2, 1, 20_000) - 2  # skewed, and larger where more is expected
    frame = X.assign(id=np.arange(20_000), price=expected + (0.15 * expected.abs() + 15) * noise)
    signed = {**{kind: [] for kind in SIGNED}, "all": list(X), "numeric": list(X)}
    found = run(
        frame,
        ONE["regression"],
        PARAMS.model_copy(update={"candidates": {"boosting": PARAMS.candidates["boosting"]}}),
        signed,
    )
    held = found.results["covered"]
    assert 0.88 <= held["value"] <= 0.92
    kept = found.parts["holdout"]
    inside = (kept["price"] >= found.predicted["low"]) & (kept["price"] <= found.predicted["high"])
    assert inside.groupby(pd.qcut(found.predicted["prediction"], 5, labels=False)).mean().between(0.84, 0.95).all()


def test_the_gain_is_over_the_best_policy_without_a_model() -> None:
    target = np.array([1, 0, 0, 0, 1, 0, 0, 0] * 10)
    predicted = pd.DataFrame({"probability": np.where(target == 1, 0.9, 0.1)})
    frame = pd.DataFrame({"placed": pd.Series(np.repeat(pd.date_range("2020-01-01", periods=10), 8))})
    agreed = {
        "bootstrap": {"replicates": 40, "level": 0.95, "seed": 1},
        "policies": {"always act": "act", "always wait": "wait"},
        "naive": [0.75, 0.25],
    }
    results = evaluation.evaluate(target, predicted, frame, statement(), agreed)
    # Foresight pays -1 for each of 20 events; always acting and always waiting both pay -80 for 80 rows.
    assert results["payoff"]["value"] == pytest.approx(-0.25)
    assert results["gain"]["value"] == pytest.approx(0.75)
    assert results["observed"]["value"] == 0.25
    naive = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    assert results["improvement"]["value"] == pytest.approx(naive + np.log(0.9))
    assert evaluation.gain_floor(target, predicted, frame, statement(), agreed) == pytest.approx(
        0.75
    )  # every day is the same


def test_more_confidence_asks_for_more() -> None:
    random = np.random.default_rng(2)
    target = random.integers(0, 2, 600)
    predicted = pd.DataFrame({"probability": np.clip(target * 0.3 + random.random(600) * 0.6, 0, 1)})
    frame = pd.DataFrame({"placed": pd.Series(np.repeat(pd.date_range("2020-01-01", periods=30), 20))})
    agreed = {
        "bootstrap": {"replicates": 40, "level": 0.95, "seed": 1},
        "policies": {"always act": "act", "always wait": "wait"},
    }
    floors = [
        evaluation.gain_floor(target, predicted, frame, {**statement(), "success": {"confidence": sure}}, agreed)
        for sure in (0.8, 0.9, 0.99)
    ]
    assert floors[0] > floors[1] > floors[2]


@pytest.mark.parametrize("task", TASKS)
def test_the_naive_forecast_improves_on_itself_by_nothing(task: str) -> None:
    stated, frame = ONE[task], orders(task)
    agreed = agree(frame, stated)
    kept = parted(frame, stated, agreed)["holdout"]
    naive = evaluation.naive_forecast(len(kept), stated, agreed)
    results = evaluation.evaluate(kept[stated["target"]].to_numpy(), naive, kept, stated, agreed)
    assert results["improvement"]["low"] == pytest.approx(0)
    assert results["improvement"]["high"] == pytest.approx(0)


@pytest.mark.parametrize(("limit", "passes"), [(0.6, True), (0.999, False)])
def test_a_criterion_of_the_problem_is_a_check_of_the_gate(limit: float, passes: bool) -> None:
    success = {"scores": {"roc_auc": limit, "brier": 0.9}, "min_payoff_gain": 0, "confidence": 0.9}
    stated = statement(time=None, success=success)
    found = run(orders("binary", 600, signal=3.0), stated)
    checks = {check.name: check for check in training.checks("line", found.results, found.floor, stated, found.agreed)}
    assert checks["holdout ROC AUC"].passed == passes
    assert checks["holdout Brier score"].limit == "<= 0.9"


def test_a_gain_below_what_the_problem_asks_for_fails_the_gate() -> None:
    found = run(orders("binary", 600, signal=3.0), ONE["binary"])
    greedy = {**ONE["binary"], "success": {"scores": {}, "min_payoff_gain": 9.0, "confidence": 0.9}}
    checks = training.checks("line", found.results, found.floor, greedy, found.agreed)
    assert [check.name for check in checks if not check.passed] == ["gain over the best policy without a model"]


def test_the_projects_own_candidates_stand_beside_those_of_params(project: Project) -> None:
    own = models.linear({"C": 0.01, "rare": 2}, 1, FEW, ONE["regression"])
    project.functions["training", "candidates"] = lambda params, signed, stated: {"mine": own, "line": DummyRegressor()}
    found = training.candidates(PARAMS, FEW, ONE["regression"])
    assert list(found) == [selection.NAIVE, *MODELS, "mine"]
    assert isinstance(found["line"], DummyRegressor)
    assert run(orders("regression", 300), ONE["regression"]).name in (*found, selection.BLEND)


@pytest.mark.parametrize("task", TASKS)
def test_a_model_of_each_kind_is_built_for_the_task(task: str) -> None:
    found = training.candidates(PARAMS, SIGNED, ONE[task])
    for name in (selection.NAIVE, *MODELS):
        assert hasattr(found[name], "predict_proba") == (task != "regression")


@pytest.mark.parametrize("model", models.OPTIONS)
def test_an_option_of_another_model_is_refused(model: str) -> None:
    foreign: dict[str, Any] = {"max_iter": 5} if model == "linear" else {"C": 1.0}
    with pytest.raises(ValidationError, match=f"options of {model}: .*; found {next(iter(foreign))}"):
        models.Candidate(model=model, **foreign)
    assert models.Candidate(model=model).options() == models.OPTIONS[model]


def test_what_is_injected_as_params_loads_to_the_same_candidates() -> None:
    assert training.Params.model_validate(PARAMS.model_dump(mode="json")) == PARAMS


def saved(project: Project, model: BaseEstimator) -> bytes:
    place = project.folder / "model.skops"
    model_file.dump(model, place)
    return place.read_bytes()


@pytest.mark.parametrize("name", [selection.NAIVE, *MODELS, selection.BLEND])
@pytest.mark.parametrize("task", TASKS)
def test_two_runs_give_the_same_bytes_which_answer_the_same(project: Project, task: str, name: str) -> None:
    stated, frame = ONE[task], orders(task, 150)
    single = training.candidates(PARAMS, SIGNED, stated)
    if name == selection.BLEND:
        single[name] = Blend([single["boosting"], single["line"]], [0.5, 0.5])
    written = []
    for _ in range(2):
        model = fitting.fit(single[name], frame, SIGNED, stated)
        said = fitting.predict(model, frame, SIGNED, stated)
        target = frame[stated["target"]].to_numpy()
        if task == "regression":
            model = WithInterval(model, 0.9, **stated["costs"]).fit_errors(said["prediction"].to_numpy(), target)
        else:
            model = Calibrated(model, "isotonic" if name == "line" else "sigmoid").fit_map(
                decisions.probabilities(said, stated), target
            )
        written.append(saved(project, model))
    assert written[0] == written[1]
    loaded = model_file.load(project.folder / "model.skops")
    one, other = (fitting.predict(each, frame, SIGNED, stated) for each in (model, loaded))
    pd.testing.assert_frame_equal(one, other, check_exact=True)


@pytest.mark.parametrize("task", TASKS)
def test_what_is_saved_answers_the_same_and_repeats(project: Project, task: str) -> None:
    stated, frame = ONE[task], orders(task, 300)
    io.write_json({"features": [{"name": "amount", "kind": "numeric"}]}, project.folder / "data/online/online.json")
    write(frame, stated, project)
    written = []
    for _ in range(2):
        found = run(frame, stated)
        kept = found.parts["holdout"]
        target = kept[stated["target"]].to_numpy()
        drawn = evaluation.curves(target, found.predicted, kept, found.model, stated, found.agreed)
        training.save(found.model, found.name, found.method, drawn, found.results, {}, PARAMS, found.agreed)
        io.publish()
        written.append({**project.bytes("models"), **project.bytes("reports")})
    assert written[0] == written[1]
    loaded, described = training.load()
    pd.testing.assert_frame_equal(fitting.predict(loaded, kept, FEW, stated), found.predicted, check_exact=True)
    assert described["holdout"] == gate.tidy(found.results)
    assert described["split"] == {"by": "rows"}


@pytest.mark.parametrize("task", TASKS)
def test_what_matters_is_found_to_matter(task: str) -> None:
    stated, frame = ONE[task], orders(task, 300, signal=4.0)
    model = fitting.fit(training.candidates(PARAMS, SIGNED, stated)["boosting"], frame, SIGNED, stated)
    table = training.importance(model, frame, SIGNED, stated, PARAMS)
    assert table.loc[0, "feature"] == "amount"
    assert set(table["feature"]) == set(SIGNED["all"])


def test_groups_are_the_values_of_a_category_or_the_quarters_of_a_number() -> None:
    frame = orders("binary", 600)
    predicted = pd.DataFrame({"probability": np.random.default_rng(1).random(600)})
    assert training.by_group(frame, predicted, FEW, ONE["binary"])["group"].str.startswith("shop: ").all()
    numbers = training.by_group(frame, predicted, {**FEW, "categorical": []}, ONE["binary"])
    assert sorted(numbers["group"]) == [
        f"amount: {name}" for name in ("highest quarter", "lowest quarter", "second", "third")
    ]
    assert numbers["rows"].sum() == frame["amount"].notna().sum()
    empty = training.by_group(frame.assign(amount=np.nan), predicted, {**FEW, "categorical": []}, ONE["binary"])
    assert empty.empty


def write(frame: pd.DataFrame, stated: dict[str, Any], project: Project) -> None:
    io.write_table(frame, project.folder / "data/features/period=all/part-0.parquet")


@pytest.mark.parametrize("task", TASKS)
def test_the_rows_are_read_in_their_parts_and_only_those_of_a_known_outcome_and_time(
    project: Project, task: str
) -> None:
    stated, frame = statement(task), orders(task, 300)
    agreed = agree(frame, stated)
    unknown = frame.tail(20).assign(**{stated["target"]: np.nan})
    timeless = frame.head(20).assign(placed=pd.NaT)
    write(pd.concat([frame, unknown, timeless], ignore_index=True), stated, project)
    parts = training.read(stated, agreed)
    assert {name: len(rows) for name, rows in parts.items()} == {
        name: len(rows) for name, rows in parted(frame, stated, agreed).items()
    }
    assert parts["train"][stated["target"]].dtype == ("float64" if task == "regression" else "int64")


def test_a_part_with_one_outcome_is_refused(project: Project) -> None:
    frame, stated = orders("binary", 300), ONE["binary"]
    agreed = agree(frame, stated)
    part = metrics.part_of(frame, agreed["split"], stated)
    write(frame[(part != "validation") | (frame["returned"] == 0)], stated, project)
    with pytest.raises(DataError, match=r"data/features: validation has \d+ rows and not two different outcomes"):
        training.read(stated, agreed)


def test_the_columns_are_those_that_stage_06_signed(project: Project) -> None:
    kinds = {"a": "numeric", "b": "history", "c": "date", "d": "categorical", "e": "categorical", "f": "text"}
    signed = [{"name": name, "kind": kind, **({"wide": True} if name == "e" else {})} for name, kind in kinds.items()]
    io.write_json({"features": signed}, project.folder / "data/online/online.json")
    assert training.columns() == {
        "all": list("abcdef"),
        "numeric": ["a", "b"],
        "categorical": ["d", "e"],
        "wide": ["e"],
        "text": ["f"],
        "dates": ["c"],
    }
