"""What ``features`` of ``params.yaml`` and ``project.features.define`` declare: features, joins, and history windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict, Unpack

import ibis.expr.types as ir
import pandas as pd
from pydantic import Field, ValidationError, model_validator

from ninefold import hooks
from ninefold.errors import DataError, ParamsError
from ninefold.params import Duration, Keyed, Name, Section, Sparse, Text
from ninefold.problem import Problem

How = Literal["mean", "sum", "count", "min", "max", "std"]


class History(Sparse):
    """A column aggregated over past rows with the same keys, in windows that close before the decision.

    `how` is the aggregate of the values: mean, sum, count, minimum, maximum, or standard deviation (n - 1). `prior` is
    used where a window has no value (a deviation needs two); without it such a value is missing, and a count is 0.
    """

    of: Name
    prefix: Text
    known_after: Duration
    over: list[Duration] = Field(min_length=1)
    by: list[list[Name]] = Field(min_length=1)
    how: How = "mean"
    prior: float | None = Field(default=None, allow_inf_nan=False)


class Join(Keyed):
    """Columns of a related table: its row of the same key; with `as_of`, the newest at or before the decision.

    `columns` lists what is joined, or maps old names to new ones.
    """

    columns: list[Name] | dict[Name, Name] = Field(min_length=1)
    as_of: Name | None = None

    @model_validator(mode="after")
    def _columns_once(self) -> Join:
        if repeated := _repeated([name.casefold() for name in self.renamed().values()]):
            raise ValueError(f"every column once; {repeated} stands there twice")
        return self

    def renamed(self) -> dict[str, str]:
        """Return the columns joined: the related table's -> the events'."""
        return self.columns if isinstance(self.columns, dict) else {name: name for name in self.columns}


class Params(Section):
    """Section ``features`` of ``params.yaml``."""

    numeric: list[Name] = Field(default_factory=list)
    categorical: list[Name] = Field(default_factory=list)
    text: list[Name] = Field(default_factory=list)
    dates: list[Name] = Field(default_factory=list)
    joins: list[Join] = Field(default_factory=list)
    history: list[History] = Field(default_factory=list)

    @model_validator(mode="after")
    def _names_once(self) -> Params:
        past = [window.name for window in windows(self, "0h")]
        names = [*self.numeric, *self.categorical, *self.text, *self.dates, *past]
        if repeated := _repeated(names):
            raise ValueError(f"every feature once; {repeated} stands there twice")
        if not names:
            raise ValueError("at least one feature")
        return self


class Options(TypedDict, total=False):
    """The optional fields of `History`."""

    how: How
    prior: float | None
    prefix: str


def history(
    of: str, by: str | list[str], over: str | list[str], known_after: str, **options: Unpack[Options]
) -> History:
    """Declare an aggregate of `of` over past rows with the same `by`, for ``project.features.define``.

    Parameters
    ----------
    of : str
        A column of the events, after joins and ``project.features.build``.
    by : str or list of str
        The columns in which a past row has to agree.
    over : str or list of str
        Lengths of the windows, such as "28d"; one feature each.
    known_after : str
        How long after its event a value is known: a window ends that long before the decision.
    **options
        ``how``, ``prior``, ``prefix``, see `History`; the features are named ``<prefix>_by_<by>_<over>``, with `of` as
        the default prefix.
    """
    lengths, keys = ([value] if isinstance(value, str) else value for value in (over, by))
    fields = {"of": of, "prefix": of, "known_after": known_after, "over": lengths, "by": [keys]}
    return History.model_validate({**fields, **options})


def join(
    table: str, by: str | list[str] | dict[str, str], columns: list[str] | dict[str, str], as_of: str | None = None
) -> Join:
    """Declare columns of a related table, for ``project.features.define``; see `Join`."""
    keys = [by] if isinstance(by, str) else by
    return Join.model_validate({"table": table, "by": keys, "columns": columns, "as_of": as_of})


def declared(params: Params, problem: Problem) -> Params:
    """Return the params with the joins and histories that ``project.features.define`` adds.

    Raises
    ------
    ParamsError
        If it returns anything else, a feature twice, or a declaration that `Join` or `History` refuses.
    """
    define, where = hooks.project("features", "define", lambda problem: []), "project.features.define"
    try:
        result = define(problem)
        more = result if isinstance(result, list | tuple) else [None]
        if any(not isinstance(each, Join | History) for each in more):
            raise ParamsError(f"{where}: found {result!r}, expected a list of what `join` and `history` return")
        joins = [*params.joins, *(each for each in more if isinstance(each, Join))]
        histories = [*params.history, *(each for each in more if isinstance(each, History))]
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
    """Return the window of every history feature.

    The value of an event at ``s`` can be used for one at ``t`` if ``s + known_after <= t - horizon``; there the window
    ends, and `over` is its length.
    """
    result = []
    for each in params.history:
        end = pd.Timedelta(each.known_after) + pd.Timedelta(horizon)
        prior = 0.0 if each.how == "count" and each.prior is None else each.prior
        for by in each.by:
            for over in each.over:
                name, start = f"{each.prefix}_by_{'_'.join(by)}_{over}", end + pd.Timedelta(over)
                result.append(Window(name, each.of, list(by), each.how, prior, start, end))
    return result


def reach(params: Params, problem: Problem) -> pd.Timedelta:
    """Return how long before an event its history begins."""
    return max((window.start for window in windows(params, problem.horizon)), default=pd.Timedelta(0))


def kinds(params: Params, horizon: str) -> dict[str, str]:
    """Return the features in the order of the model's columns, each with its kind.

    ``numeric``, ``history`` and ``date`` are numbers (a date as days since 1970-01-01), ``categorical`` and ``text`` texts.
    """
    by_kind = {
        "numeric": params.numeric,
        "history": [window.name for window in windows(params, horizon)],
        "date": params.dates,
        "categorical": params.categorical,
        "text": params.text,
    }
    return {name: kind for kind, names in by_kind.items() for name in names}


def require_columns(table: ir.Table, columns: list[str], key: str) -> None:
    """Raise `DataError` if the events lack a column that a key of ``params.yaml`` names."""
    if missing := sorted({name for name in columns if name not in table.columns}):
        raise DataError(
            f"params.yaml, {key}: {', '.join(missing)} is no column of the events (with joins, and what "
            f"project.features.build adds); found {', '.join(table.columns)}"
        )


def _repeated(names: list[str]) -> str:
    return ", ".join(sorted({name for name in names if names.count(name) > 1}))
