"""Decide on columns in all places of ``params.yaml`` at once: drop what is known too late, keep what is known in time.

Only sections that change are written again, by ruamel's round trip, which keeps comments, quotes and order.
"""

import difflib
import re
from collections.abc import Sequence
from io import StringIO
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAMLError
from ruamel.yaml.comments import CommentedMap

from ninefold import artifacts, features, outdated, params
from ninefold.errors import ParamsError
from ninefold.init.drafting import WIDTH, encoded, has_fragile_key
from ninefold.init.migrate import COMMENT, round_trip, write
from ninefold.problem import Problem

# From its name to its last entry, without comments that follow.
SECTION = re.compile(r"(?m)^(exploration|features|training|deployment):.*(?:\n(?:[ \t]*(?:#.*)?\n)*[ \t]+[^\s#].*)*")

ROUND_TRIP = round_trip(WIDTH)
LISTS: list[tuple[str, ...]] = [("features", kind) for kind in ("numeric", "categorical", "text", "dates")]
LISTS += [("exploration", "by"), ("training", "protected"), ("deployment", "log", "redact")]
DECIDED = (("exploration", "known_later"), ("exploration", "justified"), ("training", "justified"))
CALENDAR = ("weekday", "hour", "month")  # columns that stage 05 adds


def drop(names: list[str], why: str) -> list[str]:
    """Take columns out of all that uses the row's own value, and declare them known too late; return what changed, a line each.

    A join by such a column goes with all that it joins; histories of past values stay. Raises `ParamsError`, and writes
    nothing, for unknown names, those of the problem (key, time, target, group), and if no feature would be left.
    """
    values, declared, known = _read(names)
    problem = Problem.of(params.load("problem"))
    own: dict[str, list[Any]] = {"key": problem.key, "group": problem.group or []}
    own |= {"time": [problem.time], "target": [problem.target]}
    for name in names:
        if role := next((role for role, columns in own.items() if name in columns), None):
            raise ParamsError(f"{name}: is problem.{role}, which every row needs; expected another column to drop")
        if any(name == window.name for window in features.windows(declared, problem.horizon)):
            raise ParamsError(f"{name}: is a history of past values; change `over` or `by` in features.history instead")
    gone, places = set(names), list[tuple[Any, ...]]()
    for place, join in enumerate(declared.joins):
        new = join.renamed()
        out = [old for old in new if gone & {new[old], f"{join.table}.{old}"}]
        if gone & {*join.keys()} or len(out) == len(new):
            places.append(("features", "joins", place))
            out = [*new]
        else:
            at = ("features", "joins", place, "columns")
            where = [*new].index if isinstance(_at(values, at, None), list) else str
            places += [(*at, where(old)) for old in out]
        gone |= {new[old] for old in out}
    for place, history in enumerate(declared.history):
        out = [n for n, by in enumerate(history.by) if gone & {*by}]
        lost = history.of in gone - known["column"]
        every = lost or len(out) == len(history.by)
        places += [("features", "history", place)] if every else [("features", "history", place, "by", n) for n in out]
    places += [(*keys, n) for keys in LISTS for n, old in enumerate(params.plain(_at(values, keys, []))) if old in gone]
    lines = _undecided(values, names)
    for *above, last in reversed(places):
        home = _at(values, above, None)
        old = params.plain(_pop(home, last))
        what = (old.get("table") or old["prefix"]) if isinstance(old, dict) else last if isinstance(home, dict) else old
        lines.append(f"{'.'.join(map(str, above))}: without {what}")
    later = [(*DECIDED[0], name) for name in names if name in known["column"]]
    return [*lines, *_declare(values, later, why)]


def keep(names: list[str], why: str) -> list[str]:
    """Declare that columns or features are known in time, though they look like leaks; return what changed, a line each."""
    values, declared, known = _read(names)
    joined = {f"{join.table}.{old}": new for join in declared.joins for old, new in join.renamed().items()}
    lines = _undecided(values, names)
    places = [(*DECIDED[1], name) for name in names if name in known["column"]]
    used = [each for each in (joined.get(name, name) for name in names) if each in known["feature"]]
    lines += _declare(values, [*places, *((*DECIDED[2], name) for name in dict.fromkeys(used))], why)
    unused = [name for name in names if joined.get(name, name) not in used]
    return [*lines, *(f"{name}: is no feature yet; add it to section features to learn from it" for name in unused)]


def _read(names: list[str]) -> tuple[dict[str, Any], Any, dict[str, set[str]]]:
    """Return the sections as they are written, section ``features``, and the known names: ``column``, ``feature``."""
    declared, problem, explored = (params.load(name) for name in ("features", "problem", "exploration"))
    contract = params.load("processing").tables.get(problem.table)
    related = {f"{name}.{column}" for name, table in explored.related.items() for column in table.columns}
    columns = {*(contract.columns if contract else ()), *(CALENDAR if problem.time else ()), *related}
    known = {"column": columns, "feature": {*features.kinds(declared, problem.horizon)}}
    for join in declared.joins:
        known["feature"] |= {*join.renamed().values(), *(f"{join.table}.{old}" for old in join.renamed())}
    every = sorted(columns | known["feature"])
    for name in names:
        if name not in every:
            near = ", ".join(difflib.get_close_matches(name, every, n=3, cutoff=0.5) or every[:10])
            raise ParamsError(f"{name}: found in no part of {params.FILE}, expected a column or feature such as {near}")
    found = SECTION.finditer(outdated.read(artifacts.path(params.FILE)))
    values = {section[1]: ROUND_TRIP.load(section[0]) for section in found}
    for section, key in DECIDED:
        if isinstance(pairs := _at(values, (section, key), {}), list):
            values[section][section][key] = CommentedMap(params.plain(pairs))
    return values, declared, known


def _undecided(values: dict[str, Any], names: list[str]) -> list[str]:
    """Take back earlier decisions on columns; return a line for each."""
    taken = [(keys, name) for keys in DECIDED for name in names if name in _at(values, keys, {})]
    for keys, name in taken:
        _pop(_at(values, keys, {}), name)
    return [f"{'.'.join(keys)}: without {name}" for keys, name in taken]


def _declare(values: dict[str, Any], places: Sequence[tuple[str, ...]], why: str) -> list[str]:
    """Add entries with the reason, write the file, and return a line for each; raise if the params would not be valid."""
    for section, key, name in places:
        home = values.setdefault(section, CommentedMap({section: CommentedMap()}))[section]
        if not isinstance(home.get(key), dict):
            home[key] = CommentedMap()
        for mapping in (home, home[key]):
            if not mapping:
                mapping.fa.set_block_style()
        home[key][name] = encoded(why)
    for section, key in DECIDED:
        said = _at(values, (section, key), {})
        if has_fragile_key(said):  # as `drafting.to_yaml` does
            values[section][section][key] = [{"key": encoded(name), "value": reason} for name, reason in said.items()]
    text = outdated.read(artifacts.path(params.FILE))
    new = SECTION.sub(lambda section: _written(section, values), text)
    new += "".join(f"\n{_dumped(added)}" for added in values.values())
    try:
        features.Params.model_validate(params.parse(new).get("features") or {})
    except ValidationError as error:
        found = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ParamsError(f"{params.FILE}: features: expected {found}; nothing was changed") from None
    except YAMLError as error:
        raise ParamsError(f"{params.FILE}: nothing was changed; change these lines by hand: {error}") from None
    write(new)
    lost = [f"{params.FILE}: without the comment {each}" for each in COMMENT.findall(text) if each not in new]
    return [*(f"{section}.{key}: with {name}: {why}" for section, key, name in places), *lost]


def _written(section: re.Match[str], values: dict[str, Any]) -> str:
    """Return the text of a section, the old one if nothing changed."""
    old, new = _dumped(ROUND_TRIP.load(section[0])), _dumped(values.pop(section[1]))
    return section[0] if new == old else new.rstrip("\n")


def _dumped(values: Any) -> str:
    stream = StringIO()
    ROUND_TRIP.dump(values, stream)
    return stream.getvalue()


def _pop(home: Any, key: Any) -> Any:
    """Return what was taken out of a mapping or a list, of which an empty one is left on the line of its name."""
    old = home.pop(key)
    if not home:
        home.fa.set_flow_style()
    return old


def _at(values: Any, keys: Any, default: Any) -> Any:
    """Return the mapping or the list at a place, or the default."""
    values = values.get(keys[0], {})
    for key in keys:
        values = values[key] if isinstance(values, list) else values.get(key, {}) if isinstance(values, dict) else {}
    return values if isinstance(values, dict | list) else default
