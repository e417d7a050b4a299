"""Propose a project for a table: its task, key, time, split, contract, features and models."""

from dataclasses import replace

import numpy as np
import pandas as pd

from ninefold import timestamps
from ninefold.errors import DataError
from ninefold.init import entities, inference, persons
from ninefold.init.columns import STRAY_TIMES, Column, called
from ninefold.init.proposal import LEAST_ROWS, Proposal, Related, Wish, find
from ninefold.init.tasks import choose_split, choose_task, encoded
from ninefold.init.times import LIKELY
from ninefold.metrics import subsample
from ninefold.sentences import render

SAMPLE = 50_000
FEW = 50  # values of a join key that may be names of kinds


def propose(table: str, frame: pd.DataFrame, wish: Wish, related: dict[str, pd.DataFrame] | None = None) -> Proposal:
    """Return the project that a table is best begun with; `frame` and the `related` tables to join are all text.

    Raises `DataError` if a column is not there, the target cannot be predicted, or the time cannot be read.
    """
    if len(frame) < LEAST_ROWS:
        raise DataError(f"{table}: found {len(frame)} rows, expected at least {LEAST_ROWS} to learn and evaluate on")
    names = list(frame.columns)
    untimed = wish.time is not None and wish.time.lower() == "none" and wish.time not in names
    target = find(names, wish.target, "--target", table)
    others = {"--time": None if untimed else wish.time, "--id": wish.key}
    time, key = (None if name is None else find(names, name, option, table) for option, name in others.items())
    if target in (time, key):
        raise DataError(f"{table}: found --target {target} also as --time or --id, expected three different columns")
    named = replace(wish, target=target, time=time, key=key)
    return _propose(table, inference.describe(frame, time, target), named, related or {}, untimed=untimed)


def _propose(
    table: str, columns: dict[str, Column], wish: Wish, related: dict[str, pd.DataFrame], *, untimed: bool
) -> Proposal:
    """Return the project for described columns, to which the `wish` gives exact names; `untimed`: rows have no order."""
    target, time, key = wish.target, wish.time, wish.key
    p = Proposal(table, len(columns[target].codes), dict(columns), columns[target])
    choose_task(p, wish)
    _choose_persons(p, {target, time, key})
    p.time = _read_time(p, time) if time else None if untimed else _guess_time(p)
    _note_grain(p)
    _note_later(p)
    _choose_key(p, key)
    _set_aside(p)
    for name, other in related.items():
        _join(p, name, other)
    if (entity := _keep_together(p, time is not None)) and time is None:
        again = _propose(table, columns, replace(wish, key=entity), related, untimed=True)
        again.warnings += [each for each in p.warnings if each.kind == "settled"]
        return again
    _agree_on_missing(p)
    _choose_features(p)
    if not choose_split(p, time_is_named=time is not None):
        again = _propose(table, columns, wish, related, untimed=True)
        again.warnings += p.warnings[-1:]
        return again
    _choose_comparisons(p)
    _choose_protected(p)
    _note_warnings(p)
    return p


def _read_time(p: Proposal, name: str) -> Column:
    """Return the column that the user names as the time of a row; refuse it if it cannot be read."""
    column, where = p.columns[name], f"{p.table}: the time {name}"
    if column.kind in ("duplicate", "constant", "missing"):
        raise DataError(f"{where} is the same in every row; init again without --time")
    bad = column.stray | (column.gap[column.codes] & (column.missing > LIKELY * p.rows)) | (column.kind != "timestamp")
    if bad.mean() > STRAY_TIMES:
        rows = {int(row) + 1: column.texts[column.codes[row]] for row in np.flatnonzero(bad)[:3]}
        raise DataError(render("init", "unreadable", where=where, bad=bad, rows=rows, why=column.warnings[:1]))
    days = len(np.unique(column.times().astype("datetime64[D]")))
    if days < 3:
        raise DataError(f"{where} has {days} different days, expected 3 or more to split by; init again without --time")
    return column


def _guess_time(p: Proposal) -> Column | None:
    """Return the column that looks like the time of the event: by name, spread over many days, hardly ever missing."""
    stamps = [column for column in p.columns.values() if column.kind == "timestamp" and column.name not in p.personal]
    likely, scores = [column for column in stamps if not called(column.name, "other_time")], {}
    for column in stamps:
        _, sizes = np.unique(column.times().astype("datetime64[D]"), return_counts=True)
        missing, grain = np.isnat(column.rows()).mean(), timestamps.grain(pd.Series(column.times()))
        if called(column.name, "other_time"):
            p.no_time[column.name] = "its name is that of another time than the event's"
        elif missing > STRAY_TIMES:
            p.no_time[column.name] = f"it is not known in {missing:.0%} of the rows, which would go to quarantine"
        elif len(sizes) < 10 or sizes.max() > 0.2 * p.rows:
            p.no_time[column.name] = f"its rows lie on {len(sizes)} different days, up to {sizes.max():,} on one"
        elif not called(column.name, "time", "period") and len(likely) > 1:
            p.no_time[column.name] = f"{len(likely)} columns hold times, and no name says which is that of the row"
        else:
            scores[column.name] = (called(column.name, "time", "period"), -list(timestamps.GRAINS).index(grain))
    best = max(scores, key=lambda name: scores[name], default="")
    if best:
        p.no_time |= {name: f"{best} is more likely to be it" for name in scores if name != best}
        p.warn("time", best)
        return p.columns[best]
    for name, column in p.columns.items():
        if column.kind == "number" and called(name, "year") and column.distinct > 2 and column.bounds()[0] >= 1000:
            p.no_time[name] = "a column of years may also be a property of what the row is about"
    for name, reason in p.no_time.items():
        p.warn("no_time", name, reason=reason)
    return None


def _choose_persons(p: Proposal, named: set[str | None]) -> None:
    """Note what names a person, which is neither key nor feature, and in the log only a keyed hash."""
    kinds = {name: persons.personal(column) for name, column in p.contract().items() if name not in named}
    p.personal = {name: kind for name, kind in kinds.items() if kind}
    if p.personal:
        p.warn("personal", *p.personal)


def _note_grain(p: Proposal) -> None:
    """Note how fine the time is; what a month stands for, say, is known when the next one begins, and not on its first day."""
    if p.time is not None:
        times = pd.Series(p.time.times())
        p.grain = timestamps.grain(times)
        days, first = timestamps.GRAINS[p.grain][1], times.min()
        if days > 1 and first < timestamps.last_day(first, p.grain):  # else it is the last day that names it
            p.label_delay = f"{days}d"


def _note_later(p: Proposal) -> None:
    """Ask whether times that are hardly ever before the row's are known only after it."""
    start = pd.Series(p.time.rows() if p.time is not None else pd.NaT, range(p.rows))
    for name, column in p.contract().items():
        if column.kind == "timestamp" and column is not p.time:
            end = pd.Series(column.rows())
            has_hours = (end != end.dt.normalize())[end.notna()].any()
            ahead = (end - (start if has_hours else start.dt.normalize())).dropna() >= pd.Timedelta(0)
            if len(ahead) >= LEAST_ROWS and ahead.mean() >= 0.99:
                p.warn("later", name)


def _choose_key(p: Proposal, named: str | None) -> None:
    """Choose what identifies a row, and the entity whose rows stay in one part of the split."""
    kinds = {name: c.kind for name, c in p.columns.items() if called(name, "id", "code") or c.kind == "identifier"}
    kinds |= {n: "place" for n in kinds if called(n, "place") or persons.share("places", p.columns[n].texts) > 0.5}
    kinds |= dict.fromkeys(p.personal, "personal")
    names = [name for name, kind in kinds.items() if kind in ("identifier", "number", "category")]
    for name in [named] if named else names:
        column = p.columns[name]
        if column.kind in ("constant", "missing"):
            raise DataError(f"{p.table}: --id {name} is the same in every row; name another column, or none")
        if column.kind == "duplicate":  # of a column that is as good
            column = p.columns[name] = replace(column, kind="identifier")
        whole = column.type in ("string", "int64") and column.complete
        if whole and len(column.texts) == p.rows == column.distinct and column.name != p.target.name:
            p.key, p.columns[name] = [column.name], replace(column, kind="identifier")
            return
    if named and (column := p.columns[named]).complete:
        p.group = [column.name]
        if p.time is not None:
            both = pd.DataFrame({"id": column.codes, "time": p.time.rows()})
            p.key = [] if both[both["time"].notna()].duplicated().any() else [column.name, p.time.name]
    elif named:
        p.warn("no_key", named, column=column)
    if not p.key:
        in_use = {name.lower() for name in p.columns}
        p.number = next(name for name in ("row", "row_number", "row_no_", "row__") if name not in in_use)
        p.key = [p.number]


def _keep_together(p: Proposal, time_is_named: bool) -> str | None:
    """Name the entity whose rows stay in one part of the split, count copies; return an entity of one outcome, with a time."""
    repeats = entities.copies(p)
    found = entities.find(p, repeats) if p.group is None else {}
    settled = entities.settled(p, found) if p.time is not None and p.group is None else None
    for name, why in found.items():
        if p.time is None:
            p.group = [name]
            p.warn("entity", name, why=why, is_measured=p.columns[name].type == "float64")
            break
        if p.columns[name].kind == "number":
            p.columns[name] = p.columns[name].as_text()
        p.warn("entity_in_time", name, why=why)
    if settled:
        p.warn("settled", settled, kept=time_is_named)
    if repeats:
        p.warn("copies", rows=repeats)
    return settled


def _join(p: Proposal, name: str, frame: pd.DataFrame) -> None:
    """Add a related table: its key is what both have in common and no two rows there share."""
    common = [column for column in frame.columns if column in p.columns]
    if not common:
        raise DataError(render("init", "nothing_common", p=p, name=name, among=list(frame.columns[:20])))
    by = [column for column in common if not frame[column].duplicated().any()][:1] or common
    keys, twice = ", ".join(by), frame.loc[frame.duplicated(by), by]
    if len(twice):
        raise DataError(render("init", "several_rows", name=name, keys=keys, row=twice.iloc[0].to_dict()))
    columns = inference.describe(frame)
    for key in by:
        both = [columns[key], p.columns[key]]
        if {each.type for each in both} == {"int64", "float64"}:
            both = [replace(each, type="float64") for each in both]
        elif len({(each.type, each.format) for each in both}) > 1:
            both = [each.as_text() for each in both]
        columns[key], p.columns[key] = both
    frames = (pd.DataFrame({key: table[key].rows() for key in by}) for table in (p.columns, columns))
    mine, theirs = map(pd.MultiIndex.from_frame, frames)
    matched = float(mine.isin(theirs).mean())
    if not matched:
        raise DataError(f"--join {name}: no row of {p.table} has its {keys} there; do both write it alike?")
    if matched < 0.5:
        p.warn("few_matched", *by, other=name, share=matched)
    kinds = ("number", "category", "text", "timestamp")
    useful = {column.name: column for key, column in columns.items() if key not in by and column.kind in kinds}
    if own := [column for column in useful if persons.personal(useful[column])]:
        useful = {column: useful[column] for column in useful if column not in own}
        p.warn("persons_not_joined", *own, other=name)
    if not useful:
        raise DataError(f"--join {name}: holds no column of use beside its key {keys}")
    in_use = {column.lower() for column in p.feature_columns()}
    renamed = {column: f"{name}_{column}" if column.lower() in in_use else column for column in useful}
    p.related.append(Related(name, {**{key: columns[key] for key in by}, **useful}, by, renamed))


def _set_aside(p: Proposal) -> None:
    """Note the columns that are no features, and why.

    What tells the target stays one: only a person can say whether it is known in time, and stage 05 stops to ask.
    """
    reasons = {"constant": "always the same", "missing": "always missing", "identifier": "names the row"}
    reasons["nested"] = "nested objects"
    for column in p.columns.values():
        if column.kind in reasons or column.of:
            p.left[column.name] = reasons.get(column.kind, f"a copy of {column.of}")
    p.left |= dict.fromkeys(p.personal, "names persons")
    for column in p.contract().values():
        if column.name != p.target.name and _tells(column, p):
            p.warn("tells", column.name)


def _tells(column: Column, p: Proposal) -> bool:
    """Return whether a column is the target in other words: a value for each class, or a straight line."""
    target = p.target
    if p.task == "regression":
        columns = {"x": column.rows(), "y": target.rows()} if column.kind == "number" else {}
        pairs = pd.DataFrame(columns).dropna()
        is_enough = len(pairs) >= LEAST_ROWS and pairs.nunique().min() >= 2
        return is_enough and bool(abs(np.corrcoef(pairs["x"], pairs["y"])[0, 1]) > 1 - 1e-9)
    if column.kind not in ("category", "number") or column.distinct != len(p.classes):
        return False
    both = ~column.gap[column.codes] & ~target.gap[target.codes]
    pairs = set(zip(column.codes[both].tolist(), target.rows()[both].tolist(), strict=True))
    return bool(both.mean() > 0.5 and len(pairs) == len(p.classes))


def _agree_on_missing(p: Proposal) -> None:
    """Settle the texts that mean "not known", which are the same for all columns; no class is among them."""
    tables = p.tables().values()
    used = [column for table in tables for column in table.values() if column.kind not in ("missing", "constant")]
    classes = {str(text) for text in p.target.texts[~p.target.gap]}
    texts = {str(text) for column in used for text in column.texts[column.gap] if text not in column.aliases}
    p.missing = ["", *sorted(texts - classes - {""})]
    for table in tables:
        table |= {name: column.with_missing(p.missing) for name, column in table.items()}
    p.target = p.columns[p.target.name]
    p.time = p.time and p.columns[p.time.name]


def _choose_features(p: Proposal) -> None:
    kinds = {"number": "numeric", "category": "categorical", "text": "text", "timestamp": "dates"}
    p.features = {name: [] for name in kinds.values()}
    keys = [key for one in p.related for key in one.by]
    joined = [key for key in keys if p.columns[key].type != "string" or p.columns[key].distinct > FEW]
    p.left |= dict.fromkeys(joined, "identifies what is joined")
    p.left |= {name: "an entity that comes back" for name in p.group or [] if p.columns[name].type != "float64"}
    apart = {p.target.name, p.number, *(p.key if len(p.key) == 1 else []), *p.left}
    for name, column in p.feature_columns().items():
        if name in apart or column.kind not in kinds:
            continue
        is_version = called(name, "version") and column.type == "float64"
        is_number = column.kind == "number" and (is_version or (column.type == "int64" and column.distinct > 2))
        by_name = called(name, "id", "code", "entity", "coded", "version")
        is_name = is_number and (by_name or entities.are_codes(column))
        p.features["categorical" if is_name else kinds[column.kind]].append(name)
        if is_name and not called(name, "id", "code"):
            p.warn("named_numbers", name, why="name" if by_name else "many digits")
    to_text = set(p.features["categorical"]) - {*p.key, *(name for one in p.related for name in one.by)}
    for table in p.tables().values():
        for key, column in table.items():  # numbers that name something are texts to the contract
            if column.name in to_text and column.kind == "number":
                table[key] = column.as_text()
    if not any(p.features.values()):
        left = ", ".join(f"{name} ({why})" for name, why in p.left.items())
        raise DataError(f"{p.table}: found no column to predict {p.target.name} by; left out: {left or 'none'}")


def _choose_comparisons(p: Proposal) -> None:
    """Choose up to six columns to compare outcomes by: those over whose values the outcome moves most."""
    outcome = encoded(p)
    if p.classes:
        outcome = np.where(np.isnan(outcome), np.nan, outcome == p.classes.index(str(p.focus)))
    places = subsample(p.rows, SAMPLE)
    y, moved = pd.Series(outcome[places]), {}
    own = {column.name: column for column in p.columns.values()}
    for name in [*p.features["numeric"], *p.features["categorical"]]:
        if name not in own or (own[name].kind == "category" and not 2 <= own[name].distinct <= 60):
            continue
        values = pd.Series(own[name].rows()[places])
        if own[name].kind == "number" and values.nunique() > 20:
            values = pd.qcut(values, 6, labels=False, duplicates="drop")
        groups = y.groupby(values)
        sizes = groups.count()
        moved[name] = float((sizes * (groups.mean() - y.mean()) ** 2)[sizes >= 5].sum())
    ranked = sorted(moved, key=lambda name: -moved[name])[: 5 if p.time is not None else 6]
    part = {"hour": "weekday", "day": "weekday", "year": None}.get(p.grain, "month") if p.time is not None else None
    if part == "month" and p.time is not None and len(set(pd.Series(p.time.times()).dt.month)) < 2:
        part = None
    p.by = [*([part] if part and part not in own else []), *(name for name in own if name in ranked)]


def _choose_protected(p: Proposal) -> None:
    """Propose the features by whose groups stage 07 compares what the decision does."""
    columns = p.feature_columns()
    kinds = {name: persons.protected(columns[name]) for name in [*p.features["numeric"], *p.features["categorical"]]}
    p.protected = [name for name, kind in kinds.items() if kind]
    if p.protected:
        p.warn("protected", *p.protected, kinds={kinds[name] for name in p.protected if kinds[name] != name.lower()})


def _note_warnings(p: Proposal) -> None:
    apart = {*(p.key if len(p.key) == 1 else []), *(p.group or [])}
    apart = {*p.left} & {*(name for name in apart if not called(name, "time", "period")), *p.personal}
    joined = [(one.name, one.columns[name]) for one in p.related for name in one.renamed]
    for table, column in [*((p.table, column) for column in p.columns.values()), *joined]:
        if column.name not in apart and column.kind not in ("constant", "missing", "duplicate"):
            p.warnings += [each.of(table) for each in column.warnings]
    if p.time is not None and np.isnat(p.time.rows()).any() and not p.time.stray.any():
        p.warn("time_missing", p.time.name, rows=np.isnat(p.time.rows()).sum())
    monies = [name for name, column in p.contract().items() if called(name, "currency") and 2 <= column.distinct <= 60]
    if monies:
        p.warn("currencies", *monies, shown=", ".join(map(str, p.columns[monies[0]].sizes())))
    if p.target.missing:
        p.warn("target_missing", p.target.name)
