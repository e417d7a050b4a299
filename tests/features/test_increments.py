"""What a change concerns is built again, and nothing else."""

import runpy
from typing import Any

import feature_tables as data
import ibis
import numpy as np
import pandas as pd
import pytest
from conftest import Project, statement

from ninefold import artifacts, engine, features
from ninefold.problem.statement import Problem

REACH = pd.Timedelta("21d 2h")
MONTHS = ["2020-01", "2020-02", "2020-03", "2020-04"]
SPREAD = {"of": "weight", "prefix": "spread", "known_after": "1h", "over": ["3d"], "how": "std", "prior": -1}
GROWING = features.Params(
    numeric=["amount", "price", "weight"],
    categorical=["shop"],
    joins=[data.NEWEST, {"table": "parcels", "by": {"parcel": "number"}, "columns": ["weight"]}],
    history=[{**data.HISTORY, "prefix": "back", "over": ["20d"]}, {**data.HISTORY, **SPREAD}],
)


def trade(seed: int = 3, months: int = 4, count: int = 25) -> dict[str, pd.DataFrame]:
    """Return orders of some months from January, so many in each; parcels, sent in the months from November; and prices."""
    random, rows = np.random.default_rng(seed), months * count
    sent = data.stamps("2019-11-05", "2019-12-05", "2020-01-05", "2020-02-05", "2020-03-05")
    parcels = pd.DataFrame({"number": range(20), "sent": sent.repeat(4).to_numpy(), "weight": random.gamma(2, 3, 20)})
    days = [f"{month}-{day:02d}" for month in ("2019-12", "2020-01", "2020-02", "2020-03") for day in (3, 13, 29)]
    prices = pd.DataFrame({"code": ["x", "y"] * 6, "since": data.stamps(*days), "price": random.normal(5, 1, 12)})
    month = np.repeat(np.arange(months), count)
    first = pd.date_range("2020-01-01", periods=months, freq="MS")[month]
    frame = pd.DataFrame({
        "id": np.arange(rows), "placed": first + pd.to_timedelta(random.integers(0, 28 * 1440, rows), "min"),
        "shop": random.choice(["a", "b"], rows), "sku": random.choice(["x", "y"], rows),
        "parcel": np.minimum(month * 4 + random.integers(0, 8, rows), 19),  # sent two months before, or one
        "amount": random.gamma(2, 30, rows), "returned": random.integers(0, 2, rows),
    })  # fmt: skip
    return {"orders": frame.astype({"placed": "datetime64[us]"}), "parcels": parcels, "prices": prices}


def made_by(tables: dict[str, pd.DataFrame], before: dict[str, Any] | None = None) -> tuple[set[str], dict[str, Any]]:
    """Return the partitions that have to be made after another state of the tables, and what each is made of.

    A month is made of its orders and those to which their windows reach back; of the parcels that any of these are in; and
    of the prices that begin before their last moment.
    """
    parts, needs = {name: data.by_month(rows) for name, rows in tables.items()}, {}
    spans = {month: (own["placed"].min(), own["placed"].max()) for month, own in parts["orders"].items()}
    for month, (start, last) in spans.items():
        first = start - REACH
        near = {one: part for one, part in parts["orders"].items() if spans[one][0] <= last and spans[one][1] >= first}
        inside = {number for part in near.values() for number in part["parcel"]}
        sent = {one: part for one, part in parts["parcels"].items() if part["number"].isin(inside).any()}
        known = {one: part for one, part in parts["prices"].items() if part["since"].min() <= last}
        needs[month] = [{one: part.to_csv(index=False) for one, part in each.items()} for each in (near, sent, known)]
    return {month for month, need in needs.items() if (before or {}).get(month) != need}, needs


def made_after(project: Project, params: features.Params = GROWING, **tables: pd.DataFrame) -> set[str]:
    data.lay(project, **tables)
    return data.made_again(project, params)


def stored(project: Project) -> dict[str, bytes]:
    return {**project.bytes(features.FEATURES), **project.bytes("data/state")}


def show_as_anew(project: Project, params: features.Params = GROWING) -> None:
    """Demand that all is, byte for byte, as a run from nothing makes it."""
    result = stored(project)
    data.start_anew(project)
    assert data.made_again(project, params) == set(engine.periods(f"{features.LAKE}/orders"))
    assert stored(project) == result


def alter(random: np.random.Generator, tables: dict[str, pd.DataFrame]) -> tuple[str, dict[str, pd.DataFrame]]:
    """Return the tables after one change such as may come, and what it was."""
    orders, parcels, prices = (tables[name] for name in ("orders", "parcels", "prices"))
    months = sorted(data.by_month(orders))
    row, parcel, price = (int(random.choice(rows.index)) for rows in (orders, parcels, prices))
    placed = orders["placed"][row].to_period("M").start_time + pd.Timedelta(minutes=int(random.integers(0, 28 * 1440)))
    free = data.stamps(f"2020-{random.integers(1, 6):02d}-{random.integers(1, 28):02d} 00:{random.integers(1, 59):02d}")
    month = orders["placed"].dt.strftime("%Y-%m")
    later = orders[month == months[-1]]
    next_month = later.assign(id=later["id"] + 1000, placed=later["placed"] + pd.Timedelta(days=31))
    twin = orders.loc[[row]].assign(id=5000 + random.integers(1_000_000), placed=placed)
    dearer = pd.concat([prices, prices.loc[[price]].assign(since=free.to_numpy())])
    changes: dict[str, dict[str, pd.DataFrame]] = {
        "nothing": {},
        "an order": {"orders": data.changed(orders, row, "amount", random.gamma(2, 30))},
        "its outcome": {"orders": data.changed(orders, row, "returned", 1 - orders["returned"][row])},
        "its time": {"orders": data.changed(orders, row, "placed", placed)},
        "its parcel": {"orders": data.changed(orders, row, "parcel", int(random.integers(0, 25)))},
        "one more": {"orders": pd.concat([orders, twin], ignore_index=True)},
        "one less": {"orders": orders.drop(index=row).reset_index(drop=True)},
        "a new month": {"orders": pd.concat([orders, next_month], ignore_index=True)},
        "a month less": {"orders": orders[month != random.choice(months)].reset_index(drop=True)},
        "a parcel": {"parcels": data.changed(parcels, parcel, "weight", random.gamma(2, 3))},
        "a price": {"prices": data.changed(prices, price, "price", random.normal(5, 1))},
        "a new price": {"prices": dearer.drop_duplicates(["code", "since"], ignore_index=True)},
    }
    what = str(random.choice([name for name in changes if name != "a month less" or len(months) > 2]))
    return what, {**tables, **changes[what]}


@pytest.mark.parametrize("seed", range(12))
def test_any_changes_make_what_they_concern_and_give_what_a_run_anew_gives(project: Project, seed: int) -> None:
    random, tables = np.random.default_rng(seed), trade(seed)
    made, needs = made_by(tables)
    assert made_after(project, **tables) == made == set(MONTHS)
    history = []
    for _ in range(3):
        what, tables = alter(random, tables)
        history.append(what)
        made, needs = made_by(tables, needs)
        assert made_after(project, **tables) == made, history
    show_as_anew(project)


@pytest.mark.parametrize(("other", "concerned"), [
    (lambda _: ibis.row_number().over(group_by="shop", order_by=["amount", "id"]), MONTHS),
    (lambda rows: rows["amount"] / rows["amount"].max().as_scalar(), MONTHS),
    (lambda rows: rows["placed"].hour() * rows["price"], MONTHS[1:3]),  # each row by itself
])  # fmt: skip
def test_a_build_that_looks_at_other_rows_makes_all_months_again(project: Project, other: Any, concerned: Any) -> None:
    tables, params = trade(), GROWING.model_copy(update={"numeric": [*GROWING.numeric, "other"]})
    project.functions["features", "build"] = lambda found, _: found["orders"].mutate(other=other(found["orders"]))
    made_after(project, params, **tables)
    assert made_after(project, params, **tables) == set()
    tables["orders"] = data.changed(tables["orders"], 30, "amount", 1e4)
    assert made_after(project, params, **tables) == set(concerned)
    show_as_anew(project, params)


def test_a_table_that_a_build_reads_itself_concerns_all_months_and_one_that_it_does_not_none(project: Project) -> None:
    tables, params = trade(), features.Params(numeric=["amount", "sent_weight"])

    def weighed(found: dict[str, Any], problem: Problem) -> Any:
        events, parcels = found["orders"], found["parcels"]
        narrow = parcels.select(parcel_number=parcels["number"], sent_weight=parcels["weight"])
        both = events.left_join(narrow, events["parcel"] == narrow["parcel_number"])
        return both.select("id", "placed", "amount", "returned", "sent_weight")  # where the rows lie is found again

    project.functions["features", "build"] = weighed
    made_after(project, params, **tables)
    tables["prices"] = data.changed(tables["prices"], 0, "price", 77)
    assert made_after(project, params, **tables) == set()
    tables["orders"] = data.changed(tables["orders"], 30, "amount", 1)
    assert made_after(project, params, **tables) == {"2020-02"}
    tables["parcels"] = data.changed(tables["parcels"], 0, "weight", 77)
    assert made_after(project, params, **tables) == set(MONTHS)
    show_as_anew(project, params)


@pytest.mark.parametrize("damage", ["changed", "cut", "gone", "doubled"])
def test_a_damaged_file_is_made_again(project: Project, damage: str) -> None:
    made_after(project, **trade())
    sound = project.bytes(features.FEATURES)
    file = project.folder / features.FEATURES / "period=2020-02/part-0.parquet"
    content = file.read_bytes()
    file.unlink()
    if damage == "doubled":
        file.write_bytes(content)
        (file.parent / "part-1.parquet").write_bytes(content)
    elif damage != "gone":
        file.write_bytes(content[:-1] if damage == "cut" else content[:100] + b"!" + content[101:])
    assert data.made_again(project, GROWING) == {"2020-02"}
    assert project.bytes(features.FEATURES) == sound


def test_another_recipe_makes_all_again(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    made_after(project, **trade())
    other = GROWING.model_copy(update={"numeric": ["amount", "price"]})
    assert data.made_again(project, other) == set(MONTHS)
    assert data.made_again(project, other, statement(horizon="3h")) == set(MONTHS)
    assert data.made_again(project, other, statement(horizon="3h", title="Another name")) == set()
    file = tmp_path_factory.mktemp("own") / "own.py"
    for text in ("tables['orders']", "tables['orders'].mutate(amount=1.0)"):
        file.write_text(f"def build(tables, problem):\n    return {text}\n")
        project.functions["features", "build"] = runpy.run_path(str(file))["build"]
        assert data.made_again(project, other, statement(horizon="3h")) == set(MONTHS)
    assert features.load()["amount"].eq(1).all()


def test_what_a_failed_run_has_made_is_not_taken_for_done(project: Project) -> None:
    tables = trade()
    made_after(project, **tables)
    before = stored(project)
    data.lay(project, **{**tables, "orders": data.changed(tables["orders"], 99, "amount", 1e4)})
    data.run(GROWING)
    artifacts.discard()
    assert stored(project) == before
    assert data.made_again(project, GROWING) == {"2020-04"}


def test_a_month_of_which_no_row_is_sound_is_an_empty_partition(project: Project) -> None:
    tables = trade()
    data.lay(project, **tables)
    project.lake("orders", tables["orders"].head(0), "2020-05")
    assert data.made_again(project, GROWING) == {*MONTHS, "2020-05"}
    assert engine.count(features.FEATURES, "2020-05") == 0
    assert features.moment_of(data.PROBLEM) == tables["orders"]["placed"].max().normalize() + pd.Timedelta(days=1)
    project.lake("orders", tables["orders"].tail(1).assign(id=1000, placed=pd.Timestamp("2020-05-02")), "2020-05")
    assert data.made_again(project, GROWING) == {"2020-05"}
    assert len(features.load()) == len(tables["orders"]) + 1
