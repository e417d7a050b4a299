"""Small bundles to test with: for every task, with names as people give them, texts, dates, no time, and a single field."""

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from conftest import PARAMS as PROJECT
from conftest import TASKS, statement
from threadpoolctl import threadpool_limits

from ninefold import artifacts, training
from ninefold.features import FeatureSchema
from ninefold.metrics import EvaluationPlan
from ninefold.problem import Problem, decisions
from ninefold.problem.metric_names import PRIMARY
from ninefold.serving import bundle as packing
from ninefold.serving import deployment, log_export
from ninefold.serving.fields import EPOCH
from ninefold.serving.log import SQL, Log, connect
from ninefold.training import cross_validation, model_file

NOW = datetime(2020, 2, 1, 9, tzinfo=UTC)
CASES = ("binary", "multiclass", "regression", "text", "dated")
PARAMS = deployment.Params(
    name="returns", max_rows=100, max_body_mb=0.05, latency_budget_ms=250, parity_rows=20, single_rows=20
)
TABLES = PROJECT["processing"]  # whose contract has an amount of 0 to 1000
MODELS = {
    "linear": {"model": "linear", "C": 1.0, "rare": 2},
    "boosting": {"model": "gradient_boosting", "max_iter": 10, "max_leaf_nodes": 4, "min_samples_leaf": 5},
}
LARGE = {"large": {"model": "gradient_boosting", "max_iter": 40, "max_leaf_nodes": 15, "min_samples_leaf": 2}}
PLAIN: dict[str, Any] = {
    "time": None, "label_delay": "0h", "success": {"scores": {}, "min_payoff_gain": 0.0, "confidence": 0.9},
}  # fmt: skip
PROBLEMS: dict[str, dict[str, Any]] = {
    "binary": {"time": "placed"},
    "multiclass": {
        "target": "class", "positive": "is large", "classes": ["s/m", 'the "l"', "É $"], "focus": 'the "l"',
        "payoffs": {
            "stock": {"s/m": 1, 'the "l"': -1, "É $": 0},
            "$end": {"s/m": -1, 'the "l"': 2, "É $": 0},
            "wait": {"s/m": 0, 'the "l"': 0, "É $": 1},
        },
    },
    "regression": {"group": ["owner"], "positive": None},
    "text": {
        "positive": "is rubbish",
        "payoffs": {"drop": {"positive": 0, "negative": -2}, "keep": {"positive": -1, "negative": 0}},
    },
    "dated": {"time": "placed"},  # which is a feature too
}  # fmt: skip
KINDS: dict[str, dict[str, str]] = {
    "binary": {
        "amount": "numeric", "items": "numeric", "rate_by_customer_7d": "history", "customer": "categorical",
        "channel": "categorical",
    },
    "multiclass": {
        "a.b": "numeric", "Größe (cm)": "numeric", "action": "categorical", 'say "from"': "text", "@x": "date",
    },
    "regression": {"prediction": "numeric", "built": "date", "$ & <b>": "categorical"},
    "text": {"comment": "text"},
    "dated": {"amount": "numeric", "placed": "date"},
}  # fmt: skip
FEATURES = {case: [{"name": name, "kind": kind} for name, kind in kinds.items()] for case, kinds in KINDS.items()}

_FITTED: dict[tuple[str, str, int], bytes] = {}  # the same rows give the same model


def problem_of(case: str) -> Problem:
    """Return the problem of a case."""
    return statement(case if case in TASKS else "binary", **{**PLAIN, **PROBLEMS[case]})


def rows(case: str, count: int = 400) -> pd.DataFrame:
    """Return labelled rows with features; some values are missing."""
    random = np.random.default_rng(0)
    made = {"binary": _orders, "multiclass": _sizes, "regression": _prices, "text": _comments, "dated": _orders}
    return pd.DataFrame({"id": np.arange(count), **made[case](random, count)})


def lay_out(
    case: str = "binary", model: str = "boosting", count: int = 400, prior: float | None = None
) -> dict[str, pd.DataFrame]:
    """Write what stages 01, 04, 06 and 07 leave, with a prior of the history or none; return the rows by part."""
    table, problem = rows(case, count), problem_of(case)
    split: dict[str, Any] = {"by": "group" if problem.group else "rows", "validation": 0.6, "holdout": 0.8}
    if problem.time:
        split = {"by": "time", "validation": "2020-02-01", "holdout": "2020-02-10"}
    plan = EvaluationPlan(
        primary={"name": PRIMARY[problem.task], "better": "lower"},
        thresholds=problem.success,
        split=split,
        level=0.9,
        policies=decisions.policies(table[problem.target].to_numpy(), problem),
    )
    problem.save()
    plan.save()
    artifacts.publish()
    artifacts.write_table(table, artifacts.path("data/features/period=all/part-0.parquet"))
    online: dict[str, Any] = {"moment": None, "stores": [], "features": FEATURES[case]}
    if case == "binary":
        values = pd.DataFrame({"customer": ["ann", "bob"], "value": [0.125, 0.1 + 0.2]})
        artifacts.write_table(values, artifacts.path("data/online/rate.parquet"))
        store = {"feature": "rate_by_customer_7d", "by": ["customer"], "file": "rate.parquet"}
        store |= {} if prior is None else {"prior": prior}
        online |= {"moment": "2020-02-20T00:00:00", "stores": [store]}
    artifacts.write_json(online, artifacts.path("data/online/online.json"))
    parts = training.read(problem, plan)
    place = artifacts.path("models/candidate/model.skops")
    if (case, model, count) not in _FITTED:
        _fit(parts, model, problem)
        _FITTED[case, model, count] = place.read_bytes()
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(_FITTED[case, model, count])
    figure = {"value": 0.5, "low": 0.4, "high": 0.6}
    candidate = {"model": model, "calibration": "none", "features": [], "holdout": {"roc_auc": figure}}
    artifacts.write_json(candidate, artifacts.path("models/candidate/candidate.json"))
    return parts


def pack(parts: dict[str, pd.DataFrame]) -> packing.Bundle:
    """Pack the bundle of what `lay_out` wrote, and publish it; sections that ``params.yaml`` lacks are added."""
    place, needed = artifacts.path("params.yaml"), {"processing": TABLES, "features": {"numeric": ["amount"]}}
    if not needed.keys() <= (sections := yaml.safe_load(place.read_text(encoding="utf-8"))).keys():
        artifacts.write_text(yaml.safe_dump(needed | sections), place)
    problem, (_, candidate) = Problem.load(), training.load()
    described = deployment.describe(candidate, parts, problem, PARAMS)
    deployment.save(described, deployment.distributions(parts, described["signature"]))
    artifacts.publish()
    return packing.Bundle.load()


def append(
    log: Log, bundle: packing.Bundle, *rows: dict[str, Any], name: str = "a", at: datetime = NOW, **role: str
) -> None:
    """Write rows to the log as the bundle answers them at a time, in one request of that name."""
    log.submit(log.entry(name, at, bundle, rows, bundle.answer(rows).records, **role)).result()


def logged_rows(place: Path) -> pd.DataFrame:
    """Return the rows of a log in the order of writing, as they are exported."""
    with closing(connect(place)) as connection:
        rows = pd.read_sql(SQL["rows"], connection, params=(0, 2**62))
        parts = [
            log_export._typed(connection, part).to_pandas().set_axis(part.index) for _, part in rows.groupby("version")
        ]
    return pd.concat(parts).sort_index()


def write(table: pd.DataFrame, name: str = "today.parquet") -> Path:
    """Write a table to a file, of the suffix of its name; return its place."""
    table.to_csv(name, index=False) if name.endswith(".csv") else table.to_parquet(name, index=False)
    return Path(name)


def offline(table: pd.DataFrame) -> pd.DataFrame:
    """Return the forecast of the candidate itself."""
    return cross_validation.predict(training.load()[0], table, FeatureSchema.load(), Problem.load())


def expected(table: pd.DataFrame) -> pd.DataFrame:
    """Return the answers that the candidate itself would give."""
    predicted = offline(table)
    decided = predicted.assign(**decisions.decide(predicted, Problem.load()))
    return decided[packing.answer_columns(Problem.load())]


def _fit(parts: dict[str, pd.DataFrame], model: str, problem: Problem) -> None:
    options = training.Params(seed=1, candidates={**MODELS, **LARGE}, calibration="none", importance_rows=100)
    schema = FeatureSchema.load()
    with threadpool_limits(1):  # threads wait for each other where tests run beside other work
        estimator = training.candidates(options, schema, problem)[model]
        folds = training.Folds(parts, schema, options, problem)
        predicted = folds.validate({model: estimator})[model]
        fitted = training.fit(estimator, folds.rows, schema, problem)
        ready = training.Calibrator(predicted, folds.unseen, problem).calibrate(fitted, "none")
    model_file.dump(ready, artifacts.path("models/candidate/model.skops"))


def _orders(random: np.random.Generator, count: int) -> dict[str, Any]:
    amount = random.uniform(0, 100, count).round(2)
    customer = random.choice(["ann", "bob", "eve"], count)
    returned = random.uniform(size=count) < 0.1 + 0.006 * amount * (customer == "eve")
    return {
        "placed": pd.date_range("2020-01-01", periods=count, freq="3h"),
        "returned": returned.astype("int64"),
        "amount": _gaps(random, amount),
        "items": random.integers(1, 5, count).astype("float64"),
        "rate_by_customer_7d": _gaps(random, random.uniform(size=count)),
        "customer": pd.array(customer, dtype="str"),
        "channel": pd.array(np.where(random.uniform(size=count) < 0.1, None, "web"), dtype="str"),
    }


def _sizes(random: np.random.Generator, count: int) -> dict[str, Any]:
    size = random.uniform(1, 9, count)
    words = random.choice(['say "hi"', "naïve, plain", "two\nlines", "return\r\nand tab\t", " spaces "], count)
    texts = [f"{word} word{number}" for word, number in zip(words, random.integers(0, 60, count), strict=True)]
    moments = pd.Timestamp("2020-01-01") + pd.to_timedelta(random.integers(0, 10**7, count), unit="s")
    return {
        "class": np.digitize(size + random.normal(size=count), [4, 7]).astype("int64"),
        "a.b": _gaps(random, size),
        "Größe (cm)": random.uniform(size=count),
        "action": pd.array(random.choice(["red", "blue"], count), dtype="str"),
        'say "from"': pd.array([None, *texts[1:]], dtype="str"),
        "@x": _gaps(random, (moments - EPOCH) / pd.Timedelta(days=1)),
    }


def _prices(random: np.random.Generator, count: int) -> dict[str, Any]:
    size, year = random.uniform(20, 200, count), random.integers(-20_000, 20_000, count).astype("float64")
    return {
        "price": 2000 * size + year + random.normal(0, 5000, count),
        "owner": pd.array([f"owner {number}" for number in random.integers(0, 150, count)], dtype="str"),
        "prediction": _gaps(random, size),
        "built": _gaps(random, year),
        "$ & <b>": pd.array(random.choice(["", "x$y$", "ß"], count), dtype="str"),
    }


def _comments(random: np.random.Generator, count: int) -> dict[str, Any]:
    bad = random.uniform(size=count) < 0.3
    words = np.where(bad, "buy cheap pills now", "thank you for the parcel")
    texts = [f"{text} word{number}" for text, number in zip(words, random.integers(0, 50, count), strict=True)]
    return {"returned": bad.astype("int64"), "comment": pd.array(texts, dtype="str")}


def _gaps(random: np.random.Generator, values: Any) -> np.ndarray:
    return np.where(random.uniform(size=len(values)) < 0.1, np.nan, np.asarray(values, dtype="float64"))
