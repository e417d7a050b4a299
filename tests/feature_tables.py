"""Orders of a shop, their lake, and the feature table made of them."""

from typing import Any

import numpy as np
import pandas as pd
from conftest import Project, statement

from ninefold import artifacts, engine, features
from ninefold.problem.statement import Problem

PROBLEM = statement()
HISTORY = {"of": "returned", "prefix": "returned", "known_after": "24h", "over": ["2d"], "by": [["shop"]]}
PARAMS = features.Params(numeric=["amount"], categorical=["shop"], history=[HISTORY])
NAME = "returned_by_shop_2d"


def orders(count: int = 400, seed: int = 2) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    returned = pd.Series(random.integers(0, 2, count), dtype="Int64").mask(random.random(count) < 0.05)
    return pd.DataFrame({
        "id": np.arange(count),
        "placed": pd.Timestamp("2020-01-01") + pd.to_timedelta(np.sort(random.integers(0, 20 * 1440, count)), "m"),
        "shop": random.choice(["a", "b"], count),
        "amount": random.normal(10, 3, count),
        "returned": returned,
    })  # fmt: skip


def compute(frame: pd.DataFrame, params: features.Params = PARAMS, problem: Problem = PROBLEM) -> pd.DataFrame:
    events = features.add_history(engine.connect().create_table("orders", frame), params, problem)
    table = features.assemble(events, params, problem)
    return table.order_by(features.order(problem)).to_pandas()


def lay(project: Project, **tables: pd.DataFrame) -> None:
    """Make these tables the lake: by month of their first column of times, or in one partition if they have none."""
    artifacts.remove(project.folder / features.LAKE)
    for name, rows in tables.items():
        for period, part in by_month(rows).items():
            project.lake(name, part, period)


def by_month(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    times = rows.select_dtypes("datetime")
    if not len(times.columns):
        return {"all": rows}
    return {str(month): part for month, part in rows.groupby(times.iloc[:, 0].dt.strftime("%Y-%m"))}


def run(params: features.Params = PARAMS, problem: Problem = PROBLEM) -> Any:
    wanted = features.declared(params, problem)
    tables = features.read(engine.connect(), problem)
    events = features.build(tables, wanted, problem)
    features.update(tables, events, wanted, problem)
    return events


def start_anew(project: Project) -> None:
    artifacts.discard()
    for name in (features.FEATURES, features.ONLINE, "data/state"):
        artifacts.remove(project.folder / name)


def stamps(*texts: str | None) -> pd.Series:
    return pd.Series(pd.to_datetime(list(texts), format="ISO8601")).astype("datetime64[us]")


TIMES = stamps("2020-01-01 02:00", "2020-01-05 01:00", "2020-01-05 03:00", "2020-01-09")
SALES = pd.DataFrame({"id": [1, 2, 3, 4], "placed": TIMES, "sku": ["x", "y", "y", None], "returned": [0, 1, 0, 1]})
ITEMS = pd.DataFrame({"sku": ["x", "y", "z"], "price": [1.5, 2.5, 9.0], "brand": ["u", None, "w"]})
SINCE = stamps("2019-12-01", "2020-01-01 00:00", "2020-01-01", "2020-01-05", "2020-02-01")
PRICES = pd.DataFrame({"code": ["x", "x", "y", "y", "y"], "since": SINCE, "price": [1.0, 2.0, 3.0, 4.0, 5.0]})
NEWEST = {"table": "prices", "by": {"sku": "code"}, "as_of": "since", "columns": ["price"]}


def made_again(project: Project, params: features.Params = PARAMS, problem: Problem = PROBLEM) -> set[str]:
    """Run the stage and publish; return the partitions that it made again, as their files show and its note says."""
    before = files(project)
    run(params, problem)
    artifacts.publish()
    after = files(project)
    made = {period for period, found in after.items() if before.get(period) != found}
    count = f"made {len(made)} partition{'s' if len(made) != 1 else ''}, kept {len(after) - len(made)}\n"
    assert (project.folder / "reports/timings/06_features.txt").read_text() == count
    return made


def files(project: Project) -> dict[str, set[Any]]:
    """Return the files of each partition of the feature table: a file that was kept is the same one, not one like it."""
    found: dict[str, set[Any]] = {}
    for file in (project.folder / features.FEATURES).rglob("*.parquet"):
        place = (file.name, file.stat().st_ino, file.stat().st_mtime_ns)
        found.setdefault(file.parent.name.removeprefix("period="), set()).add(place)
    return found


def changed(frame: pd.DataFrame, row: int, column: str, value: Any) -> pd.DataFrame:
    found = frame.copy()
    found.loc[row, column] = value
    return found


def write(project: Project, frame: pd.DataFrame, params: features.Params, problem: Problem) -> dict[str, bytes]:
    """Run the stage again on some orders; return the bytes of what it writes."""
    start_anew(project)
    lay(project, orders=frame)
    save(run(params, problem), params, problem)
    return {**project.bytes("data/features"), **project.bytes("data/online")}


def save(events: Any, params: features.Params, problem: Problem) -> features.PointInTime:
    """Write the online values of the run, and publish all of it; return what proves it."""
    backend = events.get_backend()
    features.PointInTime(events, engine.read(backend, features.FEATURES), params, problem).save([])
    artifacts.publish()
    return features.PointInTime(events, engine.read(backend, features.FEATURES), params, problem)


def past_of(frame: pd.DataFrame, keys: dict[str, Any], moment: pd.Timestamp, over: str) -> pd.DataFrame:
    end = moment - pd.Timedelta("26h")  # 24 h until an outcome is known, 2 h from decision to event
    alike = [frame[name].isna() if pd.isna(value) else frame[name] == value for name, value in keys.items()]
    same = np.logical_and.reduce(alike)
    return frame[same & frame["placed"].between(end - pd.Timedelta(over), end)]


def plainly(column: pd.Series, how: str, prior: float | None) -> float:
    values = column.dropna().astype("float64")
    if len(values) < (2 if how == "std" else 1):
        return {"count": 0.0}.get(how, np.nan) if prior is None else prior
    return float(getattr(values, how)())


def prove(
    frame: pd.DataFrame, params: Any = PARAMS, problem: Problem = PROBLEM, table: Any = None
) -> tuple[float, int]:
    """Return what the two proofs find, online and future, of the events and their feature table, or of another table."""
    events = engine.connect().create_table("orders", frame)
    made = compute(frame, params, problem) if table is None else table
    proof = features.PointInTime(events, engine.table(events.get_backend(), made), params, problem)
    return proof.online_difference(made), proof.future_difference(made)
