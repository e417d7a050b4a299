"""How good a model is in slices of the holdout, by feature and over time; and whether it is better than the baselines.

Rows of one cluster (`resampling.clusters`) are correlated: intervals and tests use the sums of whole clusters.
"""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ninefold import metrics, timestamps
from ninefold.exploration import MOST_CLUSTERS, range_names, univariate
from ninefold.features import FeatureSchema
from ninefold.metrics import LEAST_CLUSTERS, Evaluation, cluster_sums, estimate, influence, means, student
from ninefold.problem import PRIMARY, Problem, title

MISSING = "(missing)"
MOST_GROUPS = 50  # of a feature, the most frequent ones
BINS = 4  # of about equal size, of a number of more values
LEAST_ROWS = 30  # of a period
PERIODS = (4, 60)  # fewer show no course, more cannot be read
UNITS = ("week", "month", "year", "day")  # tried in this order: a day has no clusters of its own
SLICES = [
    "feature", "group", "rows", "loss", "skill", "gain", "low", "high", "bias", "bias_low", "bias_high", "p", "q", "flagged",
]  # fmt: skip
COURSE = ["period", "rows", "observed", "predicted", "loss", "gain", "low", "high", "unit"]


def losses(target: np.ndarray, predicted: pd.DataFrame, problem: Problem) -> np.ndarray:
    """Return the proper loss of each row: log loss of classes, squared error of quantities; float64, shape (n,)."""
    return np.asarray(metrics.row_losses(PRIMARY[problem.task], target, predicted, problem))


def fewest(rows: int) -> int:
    """Return the fewest rows of a slice: a hundredth of all, 30 to 500."""
    return int(np.clip(rows // 100, 30, 500))


def slices(evaluation: Evaluation, schema: FeatureSchema) -> pd.DataFrame:
    """Return how good the model is in each slice of the holdout: each value of a category, each bin of a number.

    A slice has at least `fewest` rows, of `LEAST_CLUSTERS` clusters; missing values are one. Student's tests of ratio means
    (`resampling.influence`; degrees of freedom: Carter, Schnepel and Steigerwald, 2017) with variances of at least those of
    outcomes around right predictions. Columns: ``feature``, ``group``, ``rows``; ``loss`` (mean log loss, or root of the mean
    squared error); ``skill``, the share of the naive loss that is avoided; ``gain`` per row, ``low``, ``high``; ``bias`` (mean
    of predicted minus observed), ``bias_low``, ``bias_high``, ``p``, ``q`` (false discovery rate: Benjamini and Yekutieli,
    2001), ``flagged`` (``q <= 1 - level``). Sorted by ``q``, ``p`` and name.
    """
    frame, plan = evaluation.frame, evaluation.plan
    measures, cluster, parts = row_measures(evaluation), few_clusters(frame, evaluation.problem), []
    for name in dict.fromkeys([*schema.categorical, *schema.high_cardinality, *schema.numeric]):
        code, names = groups(frame[name])
        rows = np.bincount(code, minlength=len(names))
        large = np.flatnonzero((rows >= fewest(len(code))) & (rows < len(code)))  # all rows are no slice
        large = large[np.argsort(-rows[large], kind="stable")[:MOST_GROUPS]]
        part = _by_group(pd.Index(large).get_indexer(code), len(large), measures, cluster, evaluation)
        part = part.assign(feature=name, group=[names[number] for number in large], rows=rows[large])
        parts.append(part[part["clusters"] >= LEAST_CLUSTERS])
    if not (parts := [part for part in parts if len(part)]):
        return pd.DataFrame(columns=SLICES).astype({"rows": "int64", "flagged": "bool"})
    table = pd.concat(parts, ignore_index=True)
    table["q"] = stats.false_discovery_control(table["p"], method="by")
    table["flagged"] = table["q"] <= 1 - plan.level
    return table.sort_values(["q", "p", "feature", "group"], ignore_index=True, kind="stable")[SLICES]


def over_time(evaluation: Evaluation) -> pd.DataFrame:
    """Return how good the model is over time: by week, or by month or year if weeks are too many, by day if too few.

    ``period`` (its local start), ``rows`` (at least 30), ``observed`` and ``predicted`` means, ``loss``, ``gain`` over the policy
    that was best in the period, its interval ``low``, ``high``, and ``unit``. Empty without time, or with few periods.
    """
    target, predicted, frame, problem, plan = evaluation
    time = problem.local_times(frame)
    days = timestamps.days_of(time)  # no time stands for less: months are not counted by weeks
    for unit in UNITS:
        freq, _, length = timestamps.GRAINS[unit]
        if length < days:
            continue
        rows = time.dt.to_period(freq).value_counts().sort_index()
        large = rows[rows >= LEAST_ROWS]
        if PERIODS[0] <= len(large) <= PERIODS[1]:
            break
    else:
        return pd.DataFrame(columns=COURSE, dtype="float64")
    group, measures = large.index.get_indexer(time.dt.to_period(freq)), row_measures(evaluation)
    table = _by_group(group, len(large), measures, few_clusters(frame, problem), evaluation)
    for number, mine in enumerate(group == number for number in range(len(large))):  # as stage 09 does
        gain = Evaluation(target[mine], predicted[mine], frame[mine], problem, plan).gain(plan.level)
        table.loc[number, ["gain", "low", "high"]] = [gain[end] for end in ("value", "low", "high")]
    table = table.assign(period=large.index.start_time, rows=large.to_numpy(), unit=unit)
    return table.assign(observed=table["expected"] - table["bias"], predicted=table["expected"])[COURSE]


def gains(evaluation: Evaluation) -> pd.DataFrame:
    """Return what following the model paid: a line per ``day``, in order; without time per ``entity`` or ``row``, by gain.

    Sums in the problem's payoff unit: ``rows``, ``payoff``, ``gain`` (over the policy as in `slices`), ``cumulative gain``.
    """
    frame, problem = evaluation.frame, evaluation.problem
    model, best, _ = evaluation.payoffs()
    unit = "day" if problem.time else "entity" if problem.group else "row"
    by = problem.local_days(frame).to_numpy() if problem.time else metrics.clusters(frame, problem)
    table = pd.DataFrame({unit: by, "rows": 1, "payoff": model, "gain": model - best}).groupby(unit).sum().reset_index()
    table = table if problem.time else table.sort_values("gain", ascending=False, ignore_index=True, kind="stable")
    return table.assign(**{"cumulative gain": table["gain"].cumsum()})


def concentration(table: pd.DataFrame) -> dict[str, Any]:
    """Return how `gains` are spread over days, entities or rows: ``unit``, ``count``, ``positive`` (share of them, 0-1).

    ``largest``: the share of the gain that the three largest make, or None; ``loss_days``: of the longest last stretch of loss.
    """
    gain, total, noise = table["gain"], table["gain"].sum(), 1e-9 * table["gain"].abs().sum()
    unit = timestamps.coarser(pd.Series(table["day"]), "day") if "day" in table else table.columns[0]
    spread = {"unit": unit, "count": len(table), "positive": float((gain > 0).mean())}
    spread["largest"] = gain.nlargest(3).sum() / total if total > noise else None
    lost = (table["cumulative gain"] - gain > total + noise).to_numpy()
    return spread | ({"loss_days": int(len(lost) - lost.argmax()) * bool(lost.any())} if "day" in table else {})


def few_clusters(frame: pd.DataFrame, problem: Problem) -> np.ndarray:
    """Return the cluster of each row; more than `MOST_CLUSTERS` are merged into so many: neighbouring days, or at random."""
    return metrics.merged(metrics.clusters(frame, problem), MOST_CLUSTERS, in_order=bool(problem.time))


def groups(values: pd.Series) -> tuple[np.ndarray, list[str]]:
    """Return the group of each row as a position, and the names: values, bins of a number of more values, missing."""
    if pd.api.types.is_numeric_dtype(values) and values.nunique() > BINS:
        values = values.astype("float64").reset_index(drop=True)
        bin_of = pd.Series(np.searchsorted(univariate.edges(values, BINS), values, side="right")).where(values.notna())
        code, known = pd.factorize(bin_of, sort=True)
        ends = values.groupby(bin_of).agg(["min", "max"]).loc[known].to_numpy()
        names = range_names(ends)
    else:
        code, known = pd.factorize(values)
        names = [f"{value:.12g}" if isinstance(value, float) else str(value) for value in known]
    position, unique = pd.factorize(np.array([*names, MISSING], dtype=object))  # missing is code -1, and so the last
    return position[code], list(unique)


def row_measures(evaluation: Evaluation) -> pd.DataFrame:
    """Return, per row, what is averaged; ``noise`` is the variance of the outcome if the prediction is right."""
    target, predicted, _, problem, plan = evaluation
    model, best, _ = evaluation.payoffs()
    expected, naive = evaluation.expected, metrics.naive_forecast(len(target), problem, plan)
    bias = expected - evaluation.observed
    values = {"loss": losses(target, predicted, problem), "naive": losses(target, naive, problem), "gain": model - best}
    rows = pd.DataFrame({**values, "expected": expected, "bias": bias, "noise": expected * (1 - expected)})
    if problem.is_class:
        return rows
    # Of large quantities the errors vary more: the noise is that of all errors in the decile of the prediction.
    ranks = rows["expected"].rank(method="first")
    decile = pd.qcut(ranks, min(10, max(len(ranks) // 30, 1)), labels=False)
    return rows.assign(noise=rows["bias"].groupby(decile).transform("var", ddof=0))


def _by_group(
    group: np.ndarray, count: int, measures: pd.DataFrame, cluster: np.ndarray, evaluation: Evaluation
) -> pd.DataFrame:
    """Return the means of measures by group, intervals of the gain and the bias, and the ``clusters``; -1 is no group."""
    sums = {name: cluster_sums(measures[name].to_numpy(), cluster, group, count) for name in measures}
    sizes, problem, level = cluster_sums(None, cluster, group, count), evaluation.problem, evaluation.plan.level
    rows = sizes.sum(axis=0)
    table = pd.DataFrame({name: values.sum(axis=0) / rows for name, values in sums.items()})
    if not problem.is_class:  # squared errors
        table[["loss", "naive"]] = np.sqrt(table[["loss", "naive"]])
    table["skill"] = 1 - table["loss"] / table["naive"].where(table["naive"] > 0)
    in_order = bool(problem.time)
    table["low"], table["high"], _ = _student(sums["gain"], sizes, level, in_order)
    *ends, table["p"] = _student(sums["bias"], sizes, level, in_order, sums["noise"].sum(axis=0) / rows**2)
    if problem.is_class:
        ends = [np.clip(end, table["expected"] - 1, table["expected"]) for end in ends]
    table["bias_low"], table["bias_high"] = ends
    return table.assign(clusters=(sizes > 0).sum(axis=0))


def _student(
    sums: np.ndarray, sizes: np.ndarray, level: float, in_order: bool, least_variance: np.ndarray | float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return Student's interval of means that clusters move, and `p` that they are zero: NaN, and 1, of one cluster."""
    value, clusters = sums.sum(axis=0) / sizes.sum(axis=0), (sizes > 0).sum(axis=0)
    effective = sizes.sum(axis=0) ** 2 / (sizes**2).sum(axis=0)
    effective = np.minimum(effective, len(metrics.cosines(np.ones(len(sums)))) + 1) if in_order else effective
    variance = np.maximum(metrics.clustered_variance(influence(sums, sizes), clusters, in_order), least_variance)
    error = np.sqrt(np.where(clusters > 1, variance, np.nan))
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.nan_to_num(2 * stats.t.sf(np.abs(value) / error, np.maximum(effective - 1, 1)), nan=1.0)
    reach = metrics.student(level, effective) * error
    return value - reach, value + reach, p


def paired_tests(evaluation: Evaluation) -> pd.DataFrame:
    """Return whether the model is better than the baselines, on the same rows.

    Student's one-sided test, see `metrics.estimate`. The columns are ``comparison``; ``difference``, the mean per row of log
    loss (or squared error) avoided, or of payoff gained; ``low``, ``high``, its interval; ``p``, 1 where there is no error.
    """
    measures = row_measures(evaluation)
    loss = title("log_loss") if evaluation.problem.is_class else "squared error"
    better = {
        f"{loss} against the naive prediction": (measures["naive"] - measures["loss"]).to_numpy(),
        "payoff against the best baseline policy": measures["gain"].to_numpy(),
    }
    table, degrees = estimate(partial(means, better), evaluation.frame, evaluation.problem)
    difference, reach = table["value"], student(evaluation.plan.level, degrees + 1) * table["error"]
    p = stats.t.sf(difference / table["error"], degrees)
    columns = {"difference": difference, "low": difference - reach, "high": difference + reach, "p": p}
    return pd.DataFrame(columns).fillna({"p": 1.0}).rename_axis("comparison").reset_index()
