"""What happened, and what does it suggest?

Reads: ``data/problem.json``; ``data/metrics.json``; ``data/lake/``. Of the holdout, no outcome and no value.
Writes: ``data/exploration.json``: the findings, what was decided on suspicious columns, the score of every column.
Gate: no target leakage: every suspicious column is declared as known later, or justified.
"""

from typing import Any

import numpy as np
import pandas as pd

from ninefold import artifacts, gate
from ninefold.errors import DataError
from ninefold.exploration import group_rates, leakage, univariate
from ninefold.exploration.rows import CLUSTER, LABEL, Rows
from ninefold.metrics import clustered_variance, influence, student

MOST_COLUMNS = 12  # compared where the params name none
PIECES = 20  # of a table without time
KNOWN = ("in advance", "justified")  # statuses of columns that may become features


class Exploration(Rows):
    """What the rows before the holdout say of the outcome, each figure with an interval over clusters of correlated rows.

    ``Exploration(df, params, problem, plan)``: `df` is a DataFrame such as `read` returns, or some of its rows; columns that it
    gets later are analysed, too.
    """

    def overall(self) -> dict[str, float]:
        """Return the mean of the outcome of all rows, with its interval: ``mean``, ``low``, ``high``."""
        row = self.rates(pd.Series("all", self.df.index), 0).iloc[0]
        return {name: float(row[name]) for name in ("mean", "low", "high")}

    def rates(self, group: pd.Series, min_rows: int, label: np.ndarray | None = None) -> pd.DataFrame:
        """Return the mean of the outcome, or another label, in each group of enough rows, with its interval.

        Shares: Wilson's interval with the number of rows divided by the design effect, which is measured from the sums of
        clusters (Dean and Pagano, Survey Methodology 41, 2015); it is never narrower than Wilson's of independent rows.
        Where the variance cannot be measured (no event, only events, or one cluster), each cluster counts as one row.
        Quantities: Student's interval of a ratio mean, linearised, from the same sums; missing where there is one cluster.
        Returns ``group``, ``rows``, ``clusters`` (int64), ``mean``, ``low``, ``high``, in the order of the groups.
        """
        own = self.own if label is None else self.own.assign(label=label)
        sums, sizes = group_rates.cells(own, group, min_rows)
        rows, clusters = sizes.sum(), (sizes > 0).sum()
        distinct = own[CLUSTER].groupby(group.astype("category"), observed=True).nunique().reindex(rows.index)
        mean, variance = sums.sum() / rows, clustered_variance(influence(sums, sizes), clusters)
        t = pd.Series(student(self.level, clusters), rows.index)
        if self.problem.is_class:
            binomial = mean * (1 - mean)
            size = (binomial / variance.where(variance > 0)).fillna(np.inf).clip(lower=1).clip(upper=rows)
            size = size.where((clusters > 1) & (binomial > 0), distinct)
            centre = (mean + t**2 / (2 * size)) / (1 + t**2 / size)
            half = t / (1 + t**2 / size) * np.sqrt(binomial / size + t**2 / (4 * size**2))
        else:
            centre, half = mean, (t * np.sqrt(variance)).where(clusters > 1)
        table = {"rows": rows, "clusters": distinct, "mean": mean, "low": centre - half, "high": centre + half}
        return pd.DataFrame(table).rename_axis("group").reset_index()

    def course(self) -> pd.DataFrame:
        """Return the `rates` along time, or, in a table without time, along the order of its key.

        ``period`` is ``day``, ``week``, ``month``, ``year`` (the finest with enough rows in each), or ``piece``, of equally
        many rows; ``group`` its first moment, or its number.
        """
        rows, count, clock = self.least, len(self.df), self.clock
        if self.problem.time:
            unit = group_rates.finest_period(clock, rows)
            table = self.rates(clock.dt.to_period(unit).dt.start_time, rows)
            if len(table) > 1:
                return table.assign(period=group_rates.SPAN[unit][0])
        pieces = int(np.clip(count // rows, 2, PIECES))
        piece = pd.Series(np.arange(count) * pieces // max(count, 1), self.df.index)
        starts = clock.groupby(piece).transform("first") if self.problem.time else piece + 1
        return self.rates(starts, 1).assign(period="piece")

    def compared(self) -> dict[str, list[str]]:
        """Return the columns to compare: ``ordered`` (numbers, times) and ``nominal`` (the others).

        Those of ``exploration.by`` and of the related tables; where ``by`` is empty, of the columns known in advance the
        twelve with the most significant gap, in the order of the table.
        """
        related = [f"{name}.{column}" for name, table in self.params.related.items() for column in table.columns]
        usual = list(self.params.by)
        if not usual:
            left_out = {*self.params.known_later, self.problem.time}
            known = [name for name in self.columns if name not in left_out and not self._is_key(name)]
            top = set(self.gaps(known)["column"].head(MOST_COLUMNS))
            usual = [name for name in known if name in top]
        columns = dict.fromkeys([*usual, *related])
        # Yes and no have no order, weekdays have.
        types = self.df.iloc[:0].select_dtypes(["number", "datetime", "category"])
        ordered = [name for name in columns if name in types]
        return {"ordered": ordered, "nominal": [name for name in columns if name not in types]}

    def by_group(self, columns: list[str]) -> pd.DataFrame:
        """Return the mean of the outcome per group of each column, but the small ones: ``column`` and those of `rates`."""
        order = ["column", "group", "rows", "clusters", "mean", "low", "high"]
        tables = [pd.DataFrame(columns=order)]
        for name in columns:
            table = self.rates(group_rates.groups(self.df[name], self.params.bins), self.least)
            tables += [table.astype({"group": str}).assign(column=name)[order]] if len(table) else []
        return pd.concat(tables[1:] or tables, ignore_index=True)

    def gaps(self, columns: list[str]) -> pd.DataFrame:
        """Return, per column, the gap between its highest and its lowest group, the most significant first.

        The interval, of cluster sums, is widened for the choice of the two groups among all pairs (Bonferroni), so ``low``,
        which orders the table, is what is left of the gap without sampling noise.
        """
        rows: list[tuple[Any, ...]] = []
        options: dict[str, Any] = {"shares": self.problem.is_class, "level": self.level}
        for column in columns:
            group = group_rates.groups(self.df[column], self.params.bins)
            if largest := group_rates.largest_gap(*group_rates.cells(self.own, group, self.least), **options):
                (top, bottom), mean, gap = largest
                rows.append((column, str(top), str(bottom), mean[top], mean[bottom], *gap))
        names = ["column", "highest", "lowest", "mean of highest", "mean of lowest", "gap", "low", "high"]
        table = pd.DataFrame(rows, columns=names)
        return table.sort_values("low", ascending=False, ignore_index=True, kind="stable")

    def missing_effects(self) -> pd.DataFrame:
        """Return, per column with enough rows missing and present, how the outcome differs there, the largest gap first.

        ``column``, ``missing`` (share of rows), ``outcome`` (what is compared: the event, the class that differs most, or
        the quantity), ``if missing``, ``if present`` (its means), ``gap``, ``low``, ``high`` (of missing less present).
        """
        effects, pair, least = [], ("missing", "present"), max(self.least, univariate.FEWEST)
        options: dict[str, Any] = {"shares": self.problem.is_class, "level": self.level}
        for column in self.columns:
            absent = self.df[column].isna()
            if min(absent.sum(), (~absent).sum()) >= least:
                label, name = self._differs(absent)
                group = absent.map({True: "missing", False: "present"})
                sums, sizes = group_rates.cells(self.own.assign(label=label), group, 1)
                mean, gap = sums.sum() / sizes.sum(), group_rates.difference(sums, sizes, pair, **options)
                effects.append((column, absent.mean(), name, mean["missing"], mean["present"], *gap))
        names = ["column", "missing", "outcome", "if missing", "if present", "gap", "low", "high"]
        order = {"key": abs, "ascending": False, "ignore_index": True, "kind": "stable"}
        return pd.DataFrame(effects, columns=names).sort_values("gap", **order)

    def scores(self, missing: pd.DataFrame) -> pd.DataFrame:
        """Return what `leakage.screen` does, the ``status`` of each column, and the ``reason`` of its declaration, if any.

        ``known later`` or ``justified`` if declared, ``identifier`` if it only numbers the rows, ``suspicious`` if there is
        evidence, else ``in advance``. `missing`: `missing_effects`.
        """
        own, params = [name for name in self.columns if self._is_key(name)], self.params
        table = leakage.screen(self, [*filter(None, [self.problem.time]), *own], missing)
        later, justified = (table["column"].isin(list(names)) for names in (params.known_later, params.justified))
        justified &= ~table["comes back"]  # which tells nothing of whether rows belong together
        over = (table["evidence"] != "") & (table["column"] != self.problem.time)
        statuses = ["known later", "justified", "identifier", "suspicious"]
        table["status"] = np.select([later, justified, table["column"].isin(own), over], statuses, "in advance")
        table["reason"] = [{**params.known_later, **params.justified}.get(name, "") for name in table["column"]]
        return table

    def checks(self, scores: pd.DataFrame) -> list[gate.Check]:
        """Return the gate: no suspected leak is undecided, and no row of the holdout was used."""
        suspicious = scores[scores["status"] == "suspicious"].set_index("column")["evidence"]
        found = suspicious.groupby(suspicious, sort=False).groups
        texts = [f"{', '.join(names)} ({evidence})" for evidence, names in found.items()]
        justified = scores.loc[scores["status"] == "justified", ["column", "reason"]].to_numpy()
        value = "; ".join(texts) or "none"
        if not texts and len(justified):
            value = f"none but what is justified ({'; '.join(map(': '.join, justified))})"
        undecided = suspicious.drop(list(self.params.justified), errors="ignore")
        limit = leakage.expected(undecided, self.params, self.problem)
        leaks = gate.holds("NF501 columns that leak the outcome", not texts, value, limit)
        if self.problem.time:
            newest, closed = self.clock.max(), self.plan.split.holdout
            last, limit = f"{newest:%Y-%m-%d}", f"before {closed}, the holdout"
            return [leaks, gate.holds("NF502 newest row used", newest < pd.Timestamp(closed), last, limit)]
        rows = int((self.part == "holdout").sum())
        return [leaks, gate.holds("NF502 rows of the holdout used", rows == 0, rows, "none")]

    def save(self, findings: list[str], scores: pd.DataFrame) -> None:
        """Write ``data/exploration.json``: the findings, the columns dropped (which stage 06 refuses) and kept, the scores."""
        numbers = gate.tidy(scores.set_index("column")["score"].to_dict())
        decided = {"known_later": list(self.params.known_later), "justified": dict(self.params.justified)}
        values = {"findings": findings, **decided, "univariate_score": numbers}
        artifacts.write_json(values, artifacts.output("data/exploration.json"))

    def _differs(self, absent: pd.Series) -> tuple[np.ndarray, str]:
        """Return what to compare where a column is missing: the label, or the class whose share differs most; its name."""
        problem = self.problem
        if problem.task != "multiclass":
            return self.own[LABEL].to_numpy(), problem.focus or problem.target
        code, outcome = absent.to_numpy().astype(int), self.outcome.astype(int)
        counts = np.bincount(2 * outcome + code, minlength=2 * len(problem.classes)).reshape(-1, 2)
        most = int(np.abs(np.diff(counts / counts.sum(axis=0), axis=1)).argmax())
        return (outcome == most).astype("float64"), problem.classes[most]

    def _is_key(self, column: str) -> bool:
        """Return whether a column identifies rows: it is the key, or it numbers them."""
        return [column] == self.problem.key or univariate.is_identifier(self.df[column], self.outcome, self.problem)


def decided(table: pd.DataFrame) -> pd.DataFrame:
    """Return ``column``, ``evidence``, ``decision`` (``open``, ``drop``, ``keep``) and ``reason``, those still open first."""
    decision = table["status"].map({"suspicious": "open", "known later": "drop", "justified": "keep"})
    rows = table.assign(decision=decision).replace({"evidence": {"": "nothing"}})
    columns = ["column", "evidence", "decision", "reason"]
    return pd.concat([rows.loc[decision == each, columns] for each in ("open", "drop", "keep")], ignore_index=True)


def strongest(table: pd.DataFrame) -> pd.Series | None:
    """Return the row of `univariate_scores` with the best ``learned`` score known in advance; None if all are suspicious."""
    known = table[table["status"].isin(KNOWN)]
    if known.empty and not (table["status"] == "suspicious").any():
        raise DataError("exploration.known_later: leaves no column that is known in advance; there is nothing to learn")
    return None if known.empty else known.loc[known["learned"].idxmax()]


def metrics(whole: dict[str, float], ranked: pd.DataFrame, table: pd.DataFrame) -> dict[str, Any]:
    """Return the figures for ``dvc metrics``."""
    gaps, score = ranked.set_index("column")["gap"].to_dict(), table.set_index("column")["score"].to_dict()
    counts = {status: int((table["status"] == status).sum()) for status in ("suspicious", "justified")}
    return {"mean": whole["mean"], "gaps": gaps, "univariate_score": score, **counts}


def load() -> dict[str, Any]:
    """Read what `save` wrote."""
    return artifacts.read_json("data/exploration.json")
