"""Entity leakage: columns made of outcomes of other rows of their entity that were not known yet."""

import numpy as np
import pandas as pd
from scipy import stats

from ninefold.exploration.combinations import EXACT, exact_share
from ninefold.exploration.one_sided import events_of
from ninefold.metrics import clusters
from ninefold.problem import Problem

# Of 452 public tables with entities 33 have such a column: means by group, formulas, leads, and some slow series.
ENTITIES, MOST_ENTITIES, MOST_ROWS = 30, 4, 20_000  # fewest entities; most columns that identify them; most rows used
NOISE = 0.35  # share of the noise in outcomes that a column of the entity explains; an honest column explains none
AHEAD = 0.1  # R² with later outcomes, less that with earlier ones
FALSE_ALARM = 1e-5  # probability of evidence by chance
PIECES, PIECE = 50, 50  # of time, whose shared trend is removed: the most, and the fewest rows of each
FEW, CLASSES = 20, 5  # values of a column that a design may balance; most classes used
MEASURE, SAMPLE = 0.5, 5000  # rank correlation from which a whole number is a measurement, not a name; rows used for it


class EntityLeakage:
    """Checks whether a column depends on outcomes of its entity's rows that were not known yet, its own among them."""

    def __init__(self, frame: pd.DataFrame, names: list[str], outcome: np.ndarray, problem: Problem) -> None:
        """Find the entities among the columns `names`; rows are in order of time, where they have one.

        Columns known later than the outcome should not be among them: the rows of one value are selected by the outcome.
        """
        self.time = frame[problem.time].to_numpy() if problem.time else None
        self.piece = np.arange(len(frame)) * int(np.clip(len(frame) // PIECE, 1, PIECES)) // max(len(frame), 1)
        coded = [pd.factorize(frame[name], use_na_sentinel=False) for name in names]
        self.design = [code for code, distinct in coded if 2 <= len(distinct) <= FEW]  # which a design may balance
        self.neighbours = [] if self.time is None else _neighbours(coded, self.time)
        events = [*events_of(outcome, problem).values()] if problem.is_class else [np.asarray(outcome)]
        self.labels = [label.astype("float64") for label in sorted(events, key=np.sum, reverse=True)[:CLASSES]]
        entities = _entities(frame, names, problem)
        if problem.time:
            entities.append(("local day", _some(clusters(frame, problem))))
        self.entities = [(name, _Groups(code)) for name, code in entities]

    def evidence(self, name: str, numbers: pd.Series | None) -> str:
        """Return how a column depends on outcomes of other rows, in words; empty if it does not."""
        if numbers is None:
            return ""
        values = numbers.to_numpy("float64")
        for rows, after in self.neighbours:
            for label in self.labels:
                ahead, behind = exact_share(label[after], values[rows]), exact_share(label[rows], values[after])
                if ahead >= EXACT > behind:
                    return f"it is the outcome of the next row in {ahead:.1%} of rows"
        finite = np.isfinite(values)
        values = values / max(np.abs(values[finite]).max(initial=0), 1e-300)  # of which squares are finite
        for entity, groups in self.entities:
            if name in entity.split(" and "):
                continue
            known = groups if finite[groups.rows].all() else _Groups(np.where(finite, groups.source, -1))
            if known.many < ENTITIES or len(known.rows) < 2 * ENTITIES:
                continue
            for label in self.labels:
                if text := self._evidence(values[known.rows], label, known, entity):
                    return text
        return ""

    def _evidence(self, values: np.ndarray, label: np.ndarray, groups: "_Groups", entity: str) -> str:
        if (values == values[groups.first]).all():
            share = self._noise(values, label, groups) if len(np.unique(values)) >= 5 else 0.0
            whose = "own and later" if self.time is not None else "own"
            text = f"it contains outcomes of the {whose} rows of each {entity}: it explains {share:.0%} of their noise"
            return text if share >= NOISE else ""
        if _linear(values, label[groups.rows], groups):
            return f"within each {entity} it is a linear function of the outcome"
        later, earlier = (0.0, 0.0) if self.time is None else self._ahead(values, label, groups, self.time[groups.rows])
        if later > earlier:
            return f"it predicts later outcomes of its {entity} (R² {later:.2f}), not earlier ones ({earlier:.2f})"
        return ""

    def _noise(self, values: np.ndarray, label: np.ndarray, groups: "_Groups") -> float:
        """Return the share of the noise in an entity's outcomes that a column of the entity explains.

        The residuals are correlated within an entity, or independent, as what was known before cannot explain their
        noise. If their sums vary less than independent noise would, the column was made of them. Outcomes that exclude
        each other, or that a design balances, look similar; the first is tested, the second is removed.
        """
        design = [code[groups.rows] for code in self.design if groups.balances(code[groups.rows])]
        if self.time is not None:
            design += [self.piece[groups.rows], np.minimum(groups.place, FEW)]
        residuals = _residuals(label[groups.rows], design)
        limit = stats.t.ppf(1 - FALSE_ALARM, groups.many - 1)
        pooled = len(np.unique(label)) == 2
        if groups.correlation(residuals, pooled)[1] < -3:
            return 0.0
        size, each = groups.size[groups.code], (values - values.mean()) / (values.std() or 1)
        basis = np.column_stack([np.ones(len(each)), each, each / size, each**2, size, 1 / size])
        basis /= np.sqrt((basis**2).mean(axis=0))
        fitted = basis @ np.linalg.lstsq(basis, residuals, rcond=None)[0]
        correlation, z = groups.correlation(residuals - fitted, pooled)
        return -correlation if z < -limit else 0.0

    def _ahead(self, values: np.ndarray, label: np.ndarray, groups: "_Groups", time: np.ndarray) -> tuple[float, float]:
        """Return the partial R² of a column with an entity's later and earlier outcomes, if the first is significantly larger.

        Each conditional on the other and the row's own outcome; both 0 if not. What was known in time predicts the past at
        least as well. Trends shared by all are removed. The standard error is by entity.
        """
        piece, between = self.piece[groups.rows], groups.between
        apart = (time[1:] != time[:-1]) | (groups.place[1:] == 0)
        constant = groups.within(values).var() < 0.1 * (values.var() or 1)
        if constant or between.sum() < 2 * ENTITIES or apart.mean() < 0.9:
            return 0.0, 0.0
        y = _residuals(stats.rankdata(label[groups.rows]), [piece])
        before = np.cumsum(y) - y
        before = before - before[groups.first]
        after = groups.total(y)[groups.code] - before - y
        past, future = (before / np.maximum(groups.place, 1))[between], (after / np.maximum(groups.ahead, 1))[between]
        ways = values, values / np.maximum(groups.ahead, 1)  # a mean, or a sum, of later outcomes
        ranks = (_residuals(stats.rankdata(way), [piece])[between] for way in ways)
        pairs = (_asymmetry(x, y[between], past, future, groups.code[between]) for x in ranks)
        return max(pairs, key=lambda r2: r2[0] - r2[1])


class _Groups:
    """Rows sorted by entity, in order of time within each; `code` tells the entity of every row, -1 none."""

    def __init__(self, code: np.ndarray) -> None:
        self.source, self.rows = code, np.argsort(code, kind="stable")[(code < 0).sum() :]
        self.code = np.unique(code[self.rows], return_inverse=True)[1]
        self.size = np.bincount(self.code).astype("float64")
        starts = (np.cumsum(self.size) - self.size).astype("int64")
        self.first = starts[self.code]
        self.place = np.arange(len(self.rows)) - self.first
        self.ahead = self.size[self.code] - 1 - self.place
        self.between = (self.place > 0) & (self.ahead > 0)
        self.many = int((self.size > 1).sum())

    def total(self, values: np.ndarray) -> np.ndarray:
        """Return the sum of each entity."""
        return np.bincount(self.code, values, len(self.size))

    def within(self, values: np.ndarray) -> np.ndarray:
        """Return values less the mean of their entity."""
        return values - (self.total(values) / self.size)[self.code]

    def correlation(self, values: np.ndarray, pooled: bool) -> tuple[float, float]:
        """Return the correlation of values within entities, -1 if they cancel, and its ratio to its standard error.

        If not pooled, every entity has the same weight: of a quantity, the largest values would decide otherwise.
        """
        square = (self.total(values**2) / self.size)[self.size > 1]
        excess = (self.total(values) ** 2 / self.size)[self.size > 1] - square
        if not pooled:
            excess, square = excess / np.maximum(square, 1e-300), np.ones(len(square))
        error = np.sqrt((excess**2).sum())
        return float(excess.sum() / max(square.sum(), 1e-300)), float(excess.sum() / max(error, 1e-300))

    def balances(self, code: np.ndarray) -> bool:
        """Return whether entities have the values of a column more evenly than chance would, by Pearson's chi square."""
        width = int(code.max()) + 1
        table = np.bincount(self.code * width + code, minlength=len(self.size) * width).reshape(-1, width)
        square, _, freedom, _ = stats.chi2_contingency(table[:, table.any(axis=0)], correction=False)
        return bool(freedom > 0 and square / freedom < 0.5)


def _neighbours(coded: list[tuple[np.ndarray, pd.Index]], time: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the positions of rows and of the next ones in time, of the table and of each code in which no time comes twice."""
    codes = [code for code, distinct in coded if len(distinct) <= len(time) / FEW]
    pairs, step = [], len(time) // MOST_ROWS + 1
    for code in (np.zeros(len(time), dtype="int64"), *codes):
        order = np.lexsort((time, code))
        same = code[order][1:] == code[order][:-1]
        if (time[order][1:] != time[order][:-1])[same].all():
            pairs.append((order[:-1][same][::step], order[1:][same][::step]))
    return pairs[:MOST_ENTITIES]


def _entities(frame: pd.DataFrame, names: list[str], problem: Problem) -> list[tuple[str, np.ndarray]]:
    """Return columns that repeat in several rows: the problem's group, texts, then whole numbers, each the finest first.

    With their codes; in tables of more than `MOST_ROWS` rows, those of some entities, and -1.
    """
    entities = {}
    if problem.group:
        code = frame.groupby(problem.group, sort=False).ngroup().to_numpy()
        entities[" and ".join(problem.group)] = (0, 0, code)
    measures = _measures(frame[names]) - set(problem.key)
    for name in names:
        values = frame[name]
        whole = pd.api.types.is_integer_dtype(values) and name not in measures
        if not (whole or pd.api.types.is_string_dtype(values) or values.dtype == object) or [name] == problem.group:
            continue
        code, distinct = pd.factorize(values)
        if ENTITIES <= len(distinct) <= (code >= 0).sum() / 2:
            entities[name] = (2 if whole else 1, -len(distinct), code)
    finest = sorted(entities.items(), key=lambda entity: entity[1][:2])[:MOST_ENTITIES]
    return [(name, _some(code)) for name, (_, _, code) in finest]


def _some(code: np.ndarray) -> np.ndarray:
    """Return the code of every row, -1 for so many entities that the others have at most about `MOST_ROWS` rows."""
    return np.where(code % max(-(-int((code >= 0).sum()) // MOST_ROWS), 1) == 0, code, -1)


def _measures(frame: pd.DataFrame) -> set[str]:
    """Return the columns that correlate with another number, by ranks in a sample of rows: measurements, not names."""
    rows = frame.iloc[:: max(len(frame) // SAMPLE, 1)].select_dtypes(["number", "datetime"])
    correlation = rows.rank().corr(min_periods=ENTITIES).abs() - np.eye(rows.shape[1])
    return set(rows.columns[correlation.max() > MEASURE])


def _residuals(values: np.ndarray, codes: list[np.ndarray]) -> np.ndarray:
    """Return values less their means by each code, twice over."""
    residuals = values - values.mean()
    for code in codes * 2:
        residuals = residuals - (np.bincount(code, residuals) / np.maximum(np.bincount(code), 1))[code]
    return residuals


def _linear(values: np.ndarray, label: np.ndarray, groups: "_Groups") -> bool:
    """Return whether a column is linear in the outcome within each entity, as a mean of the other rows is."""
    x, y = groups.within(values), groups.within(label)
    xx, yy, xy = groups.total(x * x), groups.total(y * y), groups.total(x * y)
    moves = (groups.size >= 4) & (xx > 1e-9 * values.var()) & (yy > 1e-9 * label.var())
    exact = 0.99 if len(np.unique(label)) == 2 else 1 - 1e-6
    return bool(moves.sum() >= ENTITIES and (xy[moves] ** 2 / xx[moves] / yy[moves]).mean() > exact)


def _asymmetry(
    x: np.ndarray, own: np.ndarray, past: np.ndarray, future: np.ndarray, code: np.ndarray
) -> tuple[float, float]:
    """Return the partial R² of x with future and past outcomes; 0 and 0 unless the first is significantly larger."""
    entities = len(np.unique(code))
    if entities < ENTITIES or past.var() < 0.5 * future.var():  # an outcome that ends an entity has no past
        return 0.0, 0.0
    moves, squares = np.zeros(int(code.max()) + 1), []
    for other, control, sign in ((future, past, 1), (past, future, -1)):
        basis = np.linalg.qr(np.column_stack([np.ones(len(x)), own, control]))[0]
        one, two = (each - basis @ (basis.T @ each) for each in (x, other))
        one, two = (each / (each.std() or 1) for each in (one, two))
        r = float((one * two).mean())
        moves += np.bincount(code, sign * 2 * r * (one * two - r * (one**2 + two**2) / 2)) / len(x)
        squares.append(r * r)
    more, error = squares[0] - squares[1], np.sqrt((moves**2).sum())
    significant = more > AHEAD and more > stats.t.ppf(1 - FALSE_ALARM, entities - 1) * error
    return (squares[0], squares[1]) if significant else (0.0, 0.0)
