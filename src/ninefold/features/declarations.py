"""What ``features`` of ``params.yaml`` and ``project.features.define`` declare: features, joins, and history windows."""

from dataclasses import dataclass
from typing import Any, Literal, Self

import ibis.expr.types as ir
import pandas as pd
from pydantic import Field, ValidationError, model_validator

from ninefold import artifacts, hooks
from ninefold.errors import ParamsError
from ninefold.params import Duration, Keyed, Name, Sparse, StageSection, Text
from ninefold.problem import Problem

How = Literal["mean", "sum", "count", "min", "max", "std"]


class History(Sparse):
    """A column aggregated over past rows with the same keys, in windows that end before the decision.

    A value is known `known_after` its row's time; by default, and if it is the target, ``problem.label_delay`` after it.
    `prior` is used where a window has no value (`std` needs two); without it, the feature is missing, and a count is 0.
    """

    of: Name
    prefix: Text
    known_after: Duration | None = None
    over: list[Duration] = Field(min_length=1)
    by: list[list[Name]] = Field(min_length=1)
    how: How = "mean"
    prior: float | None = Field(default=None, allow_inf_nan=False)


class Join(Keyed):
    """Columns of a related table, listed or renamed: its row of the same key; by `as_of`, the newest at the decision."""

    columns: list[Name] | dict[Name, Name] = Field(min_length=1)
    as_of: Name | None = None

    @model_validator(mode="after")
    def _columns_once(self) -> Self:
        _require_distinct("column", [name.casefold() for name in self.renamed().values()])
        return self

    def renamed(self) -> dict[str, str]:
        """Return the columns joined: the related table's -> the events'."""
        return self.columns if isinstance(self.columns, dict) else {name: name for name in self.columns}

    def key(self) -> list[str]:
        """Return the columns that identify a row of the related table."""
        return [*self.keys().values(), *([self.as_of] if self.as_of else [])]


class Params(StageSection):
    """Section ``features`` of ``params.yaml``."""

    numeric: list[Name] = Field(default_factory=list)
    categorical: list[Name] = Field(default_factory=list)
    text: list[Name] = Field(default_factory=list)
    dates: list[Name] = Field(default_factory=list)
    joins: list[Join] = Field(default_factory=list)
    history: list[History] = Field(default_factory=list)

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        past = [window.name for window in windows(self, "0h")]
        names = [*self.numeric, *self.categorical, *self.text, *self.dates, *past]
        _require_distinct("feature", names)
        if not names:
            raise ValueError("at least one feature")
        return self


def history(
    of: str, by: str | list[str], over: str | list[str], known_after: str | None = None, **options: Any
) -> History:
    """Declare an aggregate of `of` over past rows with the same `by`, for ``project.features.define``.

    `of` is a column after joins and ``project.features.build``; `over` holds the lengths of the windows, such as "28d", one
    feature each, named ``<prefix>_by_<by>_<over>``. A window ends `known_after`, after which a value is known, before the
    decision. `options` are ``how``, ``prior`` and ``prefix`` (default: `of`), see `History`.
    """
    lengths, keys = ([value] if isinstance(value, str) else value for value in (over, by))
    return History(**{"of": of, "prefix": of, "known_after": known_after, "over": lengths, "by": [keys], **options})


def join(
    table: str, by: str | list[str] | dict[str, str], columns: list[str] | dict[str, str], as_of: str | None = None
) -> Join:
    """Declare columns of a related table, for ``project.features.define``; see `Join`."""
    return Join(table=table, by=[by] if isinstance(by, str) else by, columns=columns, as_of=as_of)


def declared(params: Params, problem: Problem) -> Params:
    """Return the params, with what ``project.features.define`` declares, and every delay; `ParamsError` if one is wrong."""
    define, where = hooks.project("features", "define", lambda problem: []), "project.features.define"
    try:
        result = define(problem)
        if not isinstance(result, list | tuple) or any(not isinstance(each, Join | History) for each in result):
            raise ParamsError(f"{where}: found {result!r}, expected a list of what `join` and `history` return")
        joins = [*params.joins, *(each for each in result if isinstance(each, Join))]
        histories = [*params.history, *(each for each in result if isinstance(each, History))]
        delay = problem.label_delay
        histories = [each.model_copy(update={"known_after": each.known_after or delay}) for each in histories]
        for own in (each.known_after for each in histories if each.of == problem.target):
            if pd.Timedelta(own) != pd.Timedelta(delay):
                expected = f"expected none, as outcomes are known problem.label_delay ({delay}) after problem.time"
                raise ParamsError(f"features.history: known_after of the target: found {own}, {expected}; leave it out")
        return Params.model_validate({**params.model_dump(), "joins": joins, "history": histories})
    except ValidationError as error:
        detail = error.errors()[0]
        value = f"{'.'.join(map(str, detail['loc']))}: found {detail['input']!r}, expected " if detail["loc"] else ""
        raise ParamsError(f"{where}: {value}{detail['msg'].removeprefix('Value error, ')}") from None


@dataclass(frozen=True)
class Window:
    """One history feature: `how` of `of` over the rows of the same `by` in ``[t - start, t - end]``."""

    name: str
    of: str
    by: list[str]
    how: How
    prior: float | None
    start: pd.Timedelta
    end: pd.Timedelta


def windows(params: Params, horizon: str) -> list[Window]:
    """Return the window of every history feature: it ends where ``s + known_after <= t - horizon``; `over` is its length."""
    result = []
    for each in params.history:
        end = pd.Timedelta(each.known_after) + pd.Timedelta(horizon)
        prior = 0.0 if each.how == "count" and each.prior is None else each.prior
        for by, over in ((by, over) for by in each.by for over in each.over):
            name, start = f"{each.prefix}_by_{'_'.join(by)}_{over}", end + pd.Timedelta(over)
            result.append(Window(name, each.of, by, each.how, prior, start, end))
    return result


def reach(params: Params, problem: Problem) -> pd.Timedelta:
    """Return how long before an event its history begins."""
    return max((window.start for window in windows(params, problem.horizon)), default=pd.Timedelta(0))


def kinds(params: Params, horizon: str) -> dict[str, str]:
    """Return the features in the order of the model's columns, each with its kind; all but ``categorical``, ``text`` numbers."""
    past = [window.name for window in windows(params, horizon)]
    numbers = {"numeric": params.numeric, "history": past, "date": params.dates}
    by_kind = {**numbers, "categorical": params.categorical, "text": params.text}
    return {name: kind for kind, names in by_kind.items() for name in names}


def require_columns(events: ir.Table, columns: list[str], key: str) -> None:
    """Raise `DataError` if the events lack a column that a key of ``params.yaml`` names."""
    what = "the table of events (with joins, and what project.features.build adds)"
    artifacts.require(events, dict.fromkeys(columns), f"params.yaml, {key}: {what}")


def _require_distinct(kind: str, names: list[str]) -> None:
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"every {kind} once; {', '.join(repeated)} stands there twice")
