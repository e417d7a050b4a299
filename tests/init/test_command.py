"""`ninefold init`: from a user's table to a project that runs, and never over the user's own work."""

import re
import sqlite3
import subprocess
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from ruamel.yaml import YAML
from typer.testing import CliRunner, Result

from ninefold import cli, engine, hooks
from ninefold.errors import DataError, NinefoldError
from ninefold.init import command as init
from ninefold.init import drafting, sampling
from ninefold.init.assumptions import CODES, Assumption
from ninefold.init.explain import explain
from ninefold.init.proposal import Proposal, Wish
from ninefold.init.propose import propose
from ninefold.params import parse, plain
from ninefold.processing import stage as processing
from ninefold.stages import STAGES, label

ROWS = 400
NASTY = [
    "on", "no", "y", "NO", "null", "~", "1e5", "1_000", "0x1F", "12:30", "2020-01-01", "a: b", "a #b", " lead", "trail ", "", "-", "- x",
    "?", "[x]", "{x}", "&a", "*a", "!x", "%x", "@x", "`x`", "'x'", '"x"', "a\nb", "a\tb", "caf\u00e9", "\u0000", "\x85", "\U0001f600",
    "\u00a6 x", "=", "<<", "nan", ".inf", "Infinity", "true", "0o7", "1.", "+1", "a, b", "back\\slash", "\u2028", "\ufeff", "class", "x:", "#x",
]  # fmt: skip
MODULES = ["__init__", "collection", "features", "processing", "training"]
FILES = ["params.yaml", *(f"src/project/{name}.py" for name in MODULES)]
FILES += [f"notebooks/{label(slug)}.ipynb" for slug in STAGES]
UNCOMMITTED = " (has changes that are not committed)"
NUMBERS = [0.1, 1e-5, 1e20, -3.5e-9, 12, 0.30000000000000004, True, None]


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def shop(random: Any) -> pd.DataFrame:
    """Return orders, as text: times, numbers, categories, free text, and whether they came back."""
    words = np.array(["the", "a", "red", "blue", "shirt", "shoe", "size", "late", "soft", "broken", "lovely", "cheap"])
    return pd.DataFrame({
        "order_id": [f"o{number:05d}" for number in range(ROWS)],
        "placed": pd.date_range("2021-01-01", periods=ROWS, freq="36h").strftime("%Y-%m-%d %H:%M:%S"),
        "price": np.round(random.gamma(2, 30, ROWS), 2).astype(str),
        "items": random.integers(1, 9, ROWS).astype(str), "country": random.choice(["DE", "NO", "FR"], ROWS),
        "comment": [" ".join(random.choice(words, 8)) for _ in range(ROWS)],
        "returned": random.choice(["Y", "N"], ROWS, p=[0.3, 0.7]),
    })  # fmt: skip


@pytest.fixture
def proposed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Proposal]:
    """Return what proposes a project, having shown that all nine sections load and that stage 03 agrees with it."""

    def propose_and_check(frame: pd.DataFrame, target: str, **wish: Any) -> Proposal:
        related = wish.pop("related", {})
        p = propose("orders", frame, Wish(target, **wish), related)
        texts = drafted(p)
        init._prove(texts["params.yaml"])
        module: dict[str, Any] = {}
        exec(texts["src/project/processing.py"], module)
        monkeypatch.setattr(hooks, "project", lambda _, function, default: module.get(function, default))
        params = processing.Params.model_validate(parse(texts["params.yaml"])["processing"])
        added = {} if p.number is None else {p.number: [str(row) for row in range(1, len(frame) + 1)]}
        connection = engine.local()
        tables = {"orders": frame.assign(**added), **related}
        raw = {name: engine.table(connection, rows, period="all") for name, rows in tables.items()}
        checked = processing.judge(processing.convert(raw, params), params)
        broken = {name: table.filter(table.broken_rule.notnull()).count().execute() for name, table in checked.items()}
        assert broken == {"orders": p.quarantined, **dict.fromkeys(related, 0)}
        assert all(rows <= params.max_quarantined * len(tables[name]) for name, rows in broken.items())
        assert_fits_a_screen(p, texts["params.yaml"])
        return p

    return propose_and_check


def assert_fits_a_screen(p: Proposal, text: str) -> None:
    """Show that a summary has 40 lines of up to 110 letters, and that params hold every key that its warnings name."""
    lines, params = drafting.summary(p, []).split("\n"), parse(text)
    assert (len(lines) <= 40, max(map(len, lines)) <= 110) == (True, True), "\n".join(lines)
    for warning in p.warnings:
        keys = warning.removesuffix(" (likewise for each)").rpartition(": ")[2].split(", ")
        for key in keys if "".join(["a", *warning.names]).isidentifier() else ():
            reduce(lambda values, name: values[name], key.split("."), params)


def drafted(p: Proposal) -> dict[str, str]:
    names = [p.table, *(one.name for one in p.related)]
    return drafting.draft(p, {name: {"source": f"data/source/{name}.csv", "options": {}} for name in names})


def written(p: Proposal) -> dict[str, Any]:
    return parse(drafted(p)["params.yaml"])


def columns(p: Proposal) -> dict[str, Any]:
    return written(p)["processing"]["tables"]["orders"]["columns"]


def test_a_binary_target_with_time_text_and_key(shop: Any, proposed: Any) -> None:
    p = proposed(shop, "returned")
    assert (p.task, p.classes, p.focus) == ("binary", ["N", "Y"], "Y")
    assert (p.key, p.number, p.time.name) == (["order_id"], None, "placed")
    assert p.features == {
        "numeric": ["price", "items"], "categorical": ["country"], "text": ["comment"], "dates": ["placed"],
    }  # fmt: skip
    params = written(p)
    assert (params["collection"]["start"], params["problem"]["classes"]["Y"]) == ("2021-01-01", "returned")
    assert params["collection"]["tables"]["orders"]["time"] == "placed"
    assert columns(p)["country"]["allowed"] == ["DE", "FR", "NO"]
    assert params["problem"]["payoffs"]["wait"]["positive"] < -1
    plain = proposed(shop, "returned", time="none")
    assert plain.time is None
    stops = [written(each)["training"]["candidates"]["boosting"]["early_stopping"] for each in (p, plain)]
    assert stops == [False, True], "random rows tell when to stop only where rows are independent"
    assert proposed(shop, " Returned").target.name == "returned"


def test_the_task_follows_the_values_of_the_target(shop: Any, random: Any, proposed: Any) -> None:
    p = proposed(shop, "price")
    assert (p.task, written(p)["problem"]["costs"]) == ("regression", {"over": 1, "under": 1})
    shop["kind"] = random.choice(["none", "some", "all"], ROWS, p=[0.6, 0.3, 0.1])
    p = proposed(shop, "kind")
    assert (p.task, p.classes, p.focus, "none" in p.missing) == ("multiclass", ["all", "none", "some"], "all", False)
    assert written(p)["problem"]["payoffs"]["treat as none"] == {"all": -1, "none": 0, "some": -1}
    shop["quality"] = random.integers(3, 9, ROWS).astype(str)
    p = proposed(shop, "quality")
    assert (p.task, "--task multiclass" in " ".join(p.warnings)) == ("regression", True)
    assert proposed(shop.assign(y=np.where(np.arange(ROWS) % 5, "是", "否")), "y").focus == "是"  # rare or not
    assert proposed(shop, "quality", task="multiclass").classes == list("345678")
    shop["species"] = random.integers(0, 3, ROWS).astype(str)
    assert proposed(shop, "species").task == "multiclass"
    shop["mood"] = random.choice(["Very happy", "happy", "fine", "Don't know"], ROWS)
    p = proposed(shop, "mood")
    assert ["an ordered scale" in p.warnings[0], "is not known" in p.warnings[1], p.focus != "Don't know"] == [True] * 3


def test_decimal_commas_semicolons_and_cp1252(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proposed: Any) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [
        f"{n},5;1.{100 + n},{n % 100:02d};K\u00f6ln {n % 7};{f'1.{n:03d}' if n % 9 else 'offen'};{n + 5},000"
        for n in range(120)
    ]
    text = "\r\n".join(["Gr\u00f6\u00dfe;Preis \u20ac;Ort;Menge;Gewicht", *lines])
    (tmp_path / "h\u00e4user.csv").write_bytes(text.encode("cp1252"))
    table = init.read("h\u00e4user.csv")
    assert (table.name, table.options) == ("hauser", {"encoding": "cp1252", "delimiter": ";", "final_newline": False})
    p = proposed(table.rows, "Preis \u20ac")
    assert (p.target.decimal, p.target.thousands, p.target.bounds()) == (",", ".", (1100.0, 1219.19))
    assert p.columns["Gr\u00f6\u00dfe"].decimal == ","
    assert (p.columns["Menge"].thousands, p.columns["Menge"].bounds()) == (".", (1001.0, 1119.0))
    assert (p.columns["Gewicht"].decimal, p.columns["Gewicht"].bounds()) == (",", (5.0, 124.0))
    assert {each.kind for each in p.columns["Menge"].warnings} == {"points", "words_among_numbers"}


@pytest.mark.parametrize("value", [*({text: [text, {text: text}], "many": [text] * 80} for text in NASTY), *NUMBERS])
def test_both_versions_of_yaml_read_what_was_meant(value: Any) -> None:
    line = f"key: {drafting.to_yaml(value)}\n"
    for read in (yaml.safe_load, YAML(typ="safe", pure=True).load):
        assert plain(read(line)["key"]) == (pytest.approx(value) if isinstance(value, float) else value)
    assert drafting.NOTE not in line


def test_of_a_large_table_blocks_of_rows_are_looked_at(random: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MOST": 20_000, "BLOCK": 10, "HASHES": 256}.items():
        monkeypatch.setattr(sampling, name, value)
    who = random.permutation(np.repeat(range(10_000), 2))
    table = pd.DataFrame({"id": range(20_000), "who": who, "kind": who % 3}).astype("str")
    rows, notes = sampling.sample((table[start : start + 999] for start in range(0, 20_000, 999)), "orders")
    assert (len(rows) < 2000, rows["id"].iloc[-1], rows["id"].iloc[9]) == (True, "19999", "9")
    assert np.diff(rows["id"].astype(int)).max() < 1000
    assert [(note.kind, *note.names) for note in notes] == [("sampled",), ("comes_back", "who")]
    assert sampling.sample([table.head(50)], "orders")[0].equals(table.head(50))


@pytest.mark.parametrize("named", [None, "day"])
def test_rows_of_an_entity_with_one_outcome_are_split_by_it_unless_the_time_is_named(
    random: Any, proposed: Any, named: str | None
) -> None:
    who = random.permutation(np.repeat(range(150), 8))
    days = pd.date_range("2023-01-02", periods=600).strftime("%Y-%m-%d")
    coin, noise = random.integers(0, 2, 150)[who], random.normal(size=1200).round(2)
    table = pd.DataFrame(
        {"day": np.repeat(days, 2), "subject_no": np.char.add("S", who.astype(str)), "x": noise, "ill": coin}
    )
    p = proposed(table.astype("str"), "ill", time=named)
    expected = (["subject_no"], None) if named is None else (None, "day")
    assert (p.group, p.time and p.time.name) == expected
    assert [note.kind for note in p.warnings if note.kind == "settled"] == ["settled"]
    again = proposed(
        table.assign(ill=random.integers(0, 2, 1200)).astype("str"), "ill"
    )  # outcomes of rows, not of subjects
    assert (again.group, again.time.name) == (None, "day")


def test_a_time_that_comes_back_is_no_entity(shop: Any, proposed: Any) -> None:
    p = proposed(shop, "returned")
    assert p.time is not None
    notes = [Assumption("comes_back", (name,), {"distinct": 9, "rows": 99}, p.table) for name in (p.time.name, "who")]
    p.add(notes)
    assert [note for note in p.warnings if note.kind == "comes_back"] == notes[1:]


def test_useless_columns_are_left_out_with_their_reason(shop: Any, proposed: Any) -> None:
    shop = shop.assign(same="x", nothing="", again=shop["country"], alive=shop["returned"].map({"Y": "1", "N": "0"}))
    shop["mostly"] = np.where(np.arange(ROWS) % 10 == 0, shop["price"], "NA")
    p = proposed(shop, "returned")
    assert p.left == {
        "order_id": "names the row", "same": "always the same", "nothing": "always missing", "again": "a copy of country",
    }  # fmt: skip
    assert (next(text for text in p.warnings if "tells" in text).split()[0], p.missing) == ("alive", ["", "NA"])
    assert "alive" in p.features["categorical"] + p.features["numeric"]  # stage 05 stops at it, and a person decides
    assert ("mostly" in p.features["numeric"], columns(p)["mostly"]["nullable"]) == (True, True)


def test_numbers_keep_their_sign_and_what_is_none_goes_to_quarantine(shop: Any, random: Any, proposed: Any) -> None:
    shop["share_pct"] = random.integers(0, 101, ROWS).astype(str)
    shop["balance"] = random.normal(0, 5, ROWS).round(2).astype(str)
    shop["age"] = np.where(np.arange(ROWS) % 15 == 0, "-999", random.integers(18, 90, ROWS).astype(str))
    shop["zip"] = [f"{number:05d}" for number in random.integers(1000, 1040, ROWS)]
    p = proposed(shop, "returned")
    rules = columns(p)
    assert (rules["share_pct"]["min"], rules["share_pct"]["max"]) == (0, 100)
    assert rules["price"]["min"] == 0 < shop["price"].astype(float).max() < rules["price"]["max"]
    assert rules["balance"]["min"] < -15
    assert any("-999" in warning and "columns.age.aliases" in warning for warning in p.warnings)
    assert (rules["age"]["aliases"], rules["age"]["min"], "-999" in p.missing) == ({"-999": None}, 0, False)
    assert "zip" in p.features["categorical"]
    shop["age"] = np.where(np.arange(ROWS) % 9, random.integers(18, 80, ROWS), -1).astype(str)
    assert proposed(shop, "returned").columns["age"].missing == len(range(0, ROWS, 9))
    shop.loc[3, "price"] = "12 or so"
    shop.loc[::20, "items"] = "unknown"
    p = proposed(shop, "returned")
    assert (p.quarantined, p.missing, p.columns["items"].kind) == (1, ["", "unknown"], "number")
    assert "12 or so" in " ".join(p.warnings)


@pytest.mark.parametrize(("write", "read", "number"), [
    (lambda x, _: f"({x:,.2f})" if x % 2 else f"{x:,.2f}", ("amount", None, ","), -1057), (lambda x, _: f"{x} %", ("amount", None, None), 1057),
    (lambda x, _: f"EUR {x:,}".replace(",", ".") + ",50", ("amount", ",", "."), 1057.5),
    (lambda x, _: f"{x:,} z\u0142".replace(",", " "), ("amount", None, " "), 1057),
    (lambda x, y: f"{x % 24}:{y:02d}", ("h:m", None, None), 117), (lambda x, y: f"{x % 40}:{y:02d}", ("m:s", None, None), 17.95),
    (lambda x, _: f"{x / 10} kg", ("amount kg", None, None), 105.7), (lambda x, _: f"{x},5\u202fµg/m³ ", ("amount µg/m³", ",", None), 1057.5),
    (lambda x, _: f"{x / 1000:.3f}k", ("amount", None, None), 1057), (lambda x, _: f"{x} Dr", ("amount", None, None), -1057),
    (lambda x, _: f"{997 * x:,} EUR".replace(",", "."), ("amount", ",", "."), 1_053_829),
    (lambda x, y: f"{x % 24}h {y}m", ("h:m", None, None), 117), (lambda x, y: f"{y} days 0{x % 9}:00:00", ("h:m", None, None), 82320),
    (lambda x, y: f"{5 + x % 50}:{y:02d}" if x % 3 else f"1:{y:02d}:30", ("m:s", None, None), 12.95), (lambda x, y: f"{x % 12}:{y:02d}", ("h:m", None, None), 117),
])  # fmt: skip
def test_signs_and_units_are_read_with_numbers(write: Any, read: Any, number: Any, shop: Any, proposed: Any) -> None:
    shop["fee"] = [write(1000 + row, row % 60) if row % 9 else "NA" for row in range(ROWS)]
    p = proposed(shop, "returned")
    fee = p.columns["fee"]
    assert ((fee.format, fee.decimal, fee.thousands), "fee" in p.features["numeric"]) == (read, True)
    assert (fee.rows()[57], fee.missing) == (pytest.approx(number), len(range(0, ROWS, 9)))
    assert any("columns.fee.format" in warning for warning in p.warnings)
    units = [each for each in ("%", "EUR", "zł", "kg", "µg/m³") if each in write(1000, 1)] or ["min"] * (":" in read[0])
    assert [*written(p)["labels"].get("fee", {}).values()] == units


@pytest.mark.parametrize(("values", "codes", "is_read"), [
    ([0, 1, 2, 3, 4, 5, 99], ["99"], True), ([1, 2, 3, 4, 5, 8, 9], ["8", "9"], True), ([1, 2, 3, 4, 5, 6, 7, 9], ["9"], False),
    ([*range(20, 80), *[99] * 9], ["99"], False), (range(10), [], False), ([1, 2, 3, 4, 6, 8], [], False),
    ([*range(20, 60), *[-1, -999] * 5], ["-1", "-999"], True), ([*range(40), *[99, 999] * 4], ["99", "999"], True),
    ([*range(40), *[32767, 65535] * 4], ["32767", "65535"], False), ([*range(7), 20, 50, 100], [], False),
])  # fmt: skip
def test_codes_beyond_a_gap_are_not_known_or_asked_about(
    values: Any, codes: Any, is_read: bool, shop: Any, proposed: Any
) -> None:
    p = proposed(shop.assign(pain=np.resize(list(map(str, values)), ROWS)), "returned")
    assert p.columns["pain"].aliases == {code: None if is_read else code for code in codes}
    assert any("columns.pain.aliases" in warning and codes[0] in warning for warning in p.warnings) == bool(codes)


def test_hours_come_first_where_the_name_says_so_and_blank_dates_are_not_known(shop: Any, proposed: Any) -> None:
    clock = [f"{row % 40}:{row % 60:02d}" for row in range(ROWS)]
    blank = np.where(np.arange(ROWS) % 5, shop["placed"].str[:10], "0000-00-00")
    plz = [str(10007 + 43 * (7 * row % ROWS)) for row in range(ROWS)]
    p = proposed(shop.assign(**{"Hours worked": clock, "seen": blank, "plz": plz}), "returned")
    assert (p.columns["Hours worked"].format, p.columns["seen"].missing) == ("h:m", ROWS / 5)
    assert "plz" in p.features["categorical"]


def test_numbers_that_name_an_entity_are_categories_where_there_is_time(shop: Any, random: Any, proposed: Any) -> None:
    who = random.permutation(random.choice(range(100_000, 999_999), 80, replace=False).repeat(5))
    p = proposed(shop.assign(chart=who.astype(str), store=random.integers(1, 9, ROWS).astype(str)), "returned")
    assert {"chart", "store"} <= {*p.features["categorical"]}
    assert any("--id chart --time none" in warning for warning in p.warnings)
    assert any("store holds numbers, read as names" in warning for warning in p.warnings)


def test_what_is_not_read_is_named(shop: Any, proposed: Any) -> None:
    rows = range(ROWS)  # decimal commas make no space a sign between thousands
    written = {"weight": "{0} or {1} kg", "pair": "{1} {2}", "cents": "{0},5"}
    odd = {name: [form.format(row, row % 7, row % 9) for row in rows] for name, form in written.items()}
    warnings = " ".join(proposed(shop.assign(**odd), "returned", time="none").warnings)
    assert "weight holds 400 different texts, such as '0 or 0 kg', '1 or 1 kg', '2 or 2 kg'" in warnings
    assert "pair holds 63 different texts" in warnings
    shop.loc[399, ["country", "price"]] = "Total", "99999"  # of all rows; a country may be called so
    assert "row 400 'Total'" in " ".join(proposed(shop, "returned").warnings)


@pytest.mark.parametrize(("name", "values", "said"), [
    ("pieces", [f"{7 * row + 3:,}".replace(",", ".") for row in range(ROWS)], "'1.004' beside 3"), ("rate", ["39%", "45 %", "0.45"], "'39%' and '0.45'"),
    ("t", [*map(str, range(30)), "-127"], "t holds -127 in 12"), ("x", [f"{row}.5" for row in range(30)] + ["1e20"], "x holds 1e+20 in 12"),
    ("ID_MUNICIP", ["2927", "1200", "3304"], "its name"), ("fw", ["1.1", "1.10", "1.9"], "its name"), ("x", [str(4806381000000 + 137 * row) for row in range(15)], "many digits"),
    ("via", ["-", "Web page", "Fax"], "via holds '-' in 34%"), ("via", ["Nord"] * 9 + ["Summe Nord"], "row 10 'Summe Nord'"),
    ("via", [f"\uff11{n}" for n in range(9)], "full-width digits"), ("via", ["Web", "k.A."], "'k.A.' in 50%"), ("user", ['{"id": 1}', '{"id": 2}'], "nested objects"),
    ("via", ["8 mi", "24 km", "7 mi"], "mi in 267 rows, km in 133"), ("via", ["30k-40k", "40k-50k"], "ranges, such as '30k-40k'"), ("entry", list(map(str, (5, 7, 81, 90))), "such as 5, 7, 81, 90, read as quantities"),
    ("via", ["5.1H", "7.3S", "9.4S"], "S in 266 rows, H in 134"), ("via", ["0,7", "1,2", "<0,5"], "marks, such as '<0,5' beside '0,7'"), ("via", ["\u25b20.7", "\u25bc1.2"], "marks, such as '\u25b20.7'"),
    ("net", ["-", "1,230", "17"], "net holds '-' in 34%"), ("ean", ["4.00638E+12", "4.00712E+12"], "such as 4.00638E+12, as a spreadsheet"), ("via", ["Nord"] * 9 + ["* Nord"], "row 10 '* Nord'"),
    ("hgb", ["13.5", "14.1", "ND"], "words among numbers, 'ND'"), ("via", [f"00{n}.{n}" for n in range(60)], "60 different texts"), ("x", [f"3{13 * n:013d}" for n in range(300)], "many digits"),
    ("plz", [f"{n}xx" for n in range(120, 190)], "'120xx'"), ("shelf", [str(20_000 + n) for n in range(150)], "such as 20000, 20149, read as quantities"), ("dep", [str(100 * (row % 24) + 7 * row % 60) for row in range(ROWS)], "like times of day"), ("spot", [f"47.{row:04d}, 8.{row + 9:04d}" for row in range(ROWS)], "'47.0000, 8.0009'"),
])  # fmt: skip
def test_a_doubt_is_said(name: str, values: list[str], said: str, shop: Any, proposed: Any) -> None:
    p = proposed(shop.drop(columns="order_id").assign(**{name: np.resize(values, ROWS)}), "returned")
    assert said in " ".join(p.warnings)
    is_category = name in {"ID_MUNICIP", "fw", "via", "plz"} or "digits" in said
    assert (p.key, name in p.features["categorical"]) == (["row"], is_category)


def test_a_target_that_piles_up_at_an_end_is_asked_about_and_long_numbers_name_rows(
    shop: Any, random: Any, proposed: Any
) -> None:
    worth = random.gamma(2, 900, ROWS).round(2)
    bill = random.permutation(np.arange(ROWS) * 7_321 + 51_554_294_933).astype(str)
    for ends, said in ((worth, False), (np.where(worth < 300, 1, worth), True), (worth.clip(max=3000), True)):
        p = proposed(
            shop.drop(columns="order_id").assign(
                worth=ends.astype(str), bill=bill, site_id=np.resize(["101", "102", "205", "207"], ROWS)
            ),
            "worth",
        )
        assert ("far more often" in " ".join(p.warnings), p.key) == (said, ["bill"])
        assert "aliases" not in columns(p)["site_id"]


def test_a_class_in_several_spellings_is_one(shop: Any, proposed: Any) -> None:
    p = proposed(shop.assign(liked=np.resize(["s\u00ed", "NO", "Si ", "no", "no", "s\u00ed"], ROWS)), "liked")
    liked = columns(p)["liked"]
    assert (p.task, p.classes, liked["allowed"]) == ("binary", ["no", "s\u00ed"], ["no", "s\u00ed"])
    assert liked["aliases"] == {"NO": "no", "Si ": "s\u00ed"}
    assert any("'no' (133), 'NO' (67) are read as one" in warning for warning in p.warnings)
    p = proposed(shop.assign(mail=np.resize(["ja", "Ja", "nein"], ROWS), blood=np.resize(["a", "A"], ROWS)), "returned")
    assert (columns(p)["mail"]["aliases"], columns(p)["blood"]["allowed"]) == ({"Ja": "ja"}, ["A", "a"])


@pytest.mark.parametrize(("others", "is_value"), [(["DE", "FR"], True), (["Gravel", "Paved"], False)])
def test_a_missing_code_that_is_frequent_is_named(others: Any, is_value: bool, shop: Any, proposed: Any) -> None:
    p = proposed(shop.assign(land=np.resize(["NA", *others], ROWS)), "returned")
    assert columns(p)["land"]["aliases"] == {"NA": "NA" if is_value else None}
    assert {"NA", *others} == set(columns(p)["land"]["allowed"])  # one key makes it the other
    assert any("columns.land.aliases" in warning for warning in p.warnings)


def test_entities_and_copies_are_found_by_values(shop: Any, random: Any, proposed: Any) -> None:
    bare, who = shop[["price", "items", "country", "returned"]], np.repeat(random.permutation(100), 4)
    tall = bare.assign(who=who.astype(str), height=(150 + who / 7).round(3).astype(str)).sample(frac=1, random_state=1)
    regions = [f"R{row}" for row in range(12)]
    kinds = bare.assign(region=np.resize(regions, ROWS), region_id=np.resize(list("123"), ROWS))
    heat, wet = random.normal(9, 2, (2, 100)).round(2).astype(str)[:, who]
    batches = bare.assign(heat=heat, wet=wet, returned=random.choice(["Y", "N"], 100)[who])
    warm = random.integers(-100, 100, ROWS) / 2
    squares = bare.assign(c=warm.astype(str), f=(warm**2).astype(str), returned=np.where(warm > 0, "Y", "N"))
    measured = bare.assign(pay=np.resize(random.integers(900, 99_000, 100), ROWS).astype(str)).sample(
        350, random_state=1
    )
    stray = tall.assign(who=tall["who"].mask(tall.index == 3, "?x"))
    tables = (tall, "who"), (stray, "who"), (bare.assign(ID=who.astype(str)), "ID"), (kinds, None), (measured, None)
    for table, group in (*tables, (squares, None), (bare.assign(heat=heat, wet=wet), None), (batches, "heat")):
        p = proposed(table, "returned")
        assert p.group == ([group] if group else None)
        assert any(warning.kind == "entity" for warning in p.warnings) == bool(group)
        assert any(group in names for names in p.features.values()) == (group == "heat"), "a measurement is a feature"
    assert any("400 of 800 rows are copies" in text for text in proposed(pd.concat([bare] * 2), "returned").warnings)


def test_what_names_a_person_is_no_key_and_no_feature(shop: Any, random: Any, proposed: Any) -> None:
    own = {
        "Vorname": [f"Ada{row}" for row in range(ROWS)], "reach": [f"u{row}@example.org" for row in range(ROWS)],
        "line": [f"+49 30 {5000 + row}" for row in range(ROWS)], "phone_service": random.choice(["yes", "no"], ROWS),
        "sexo": random.choice(["h", "m"], ROWS), "who": random.choice(["male", "female"], ROWS),
        "paid": [str(7 * row) for row in range(ROWS, 0, -1)], "town": np.resize(["San Jose, CA", "New York, NY"], ROWS),
        "sold by": np.resize([f"{name}, {given}" for name in ("Nowak", "Ito") for given in ("Jan", "Anna", "Aki")], ROWS),
        "lives": [f"Hauptstr. {row}, 11346 Berlin" for row in range(ROWS)],
    }  # fmt: skip
    p = proposed(shop.drop(columns=["order_id", "placed"]).assign(**own), "returned")
    assert (p.key, p.protected) == (["row"], ["sexo", "who"])
    assert list(p.personal) == ["Vorname", "reach", "line", "sold by", "lives"]
    params = written(p)
    assert (params["deployment"]["log"]["redact"], params["training"]["protected"]) == ([*p.personal], p.protected)
    assert not {*p.personal} & {name for names in p.features.values() for name in names}


@pytest.mark.parametrize("form", [
    "%d/%m/%Y", "%m/%d/%Y %I:%M %p", "%d.%m.%Y %H:%M", "%Y%m%d", "%Y-%m-%dT%H:%M:%SZ", "%B %d, %Y", "%a %b %d %H:%M:%S %Y",
])  # fmt: skip
def test_times_are_read_in_the_format_of_the_source(form: str, shop: Any, proposed: Any) -> None:
    shop["placed"] = pd.to_datetime(shop["placed"]).dt.strftime(form)
    shop.loc[7, "placed"] = ""
    p = proposed(shop, "returned")
    assert p.time.format == (None if form.endswith("Z") else form)
    assert "read in two ways" not in " ".join(p.warnings)
    shop["placed"] = [f"{1 + number % 12:02d}/{1 + number % 11:02d}/2021" for number in range(ROWS)]
    assert "read in two ways" in " ".join(proposed(shop, "returned").warnings)
    back = pd.date_range("2025-10-25", periods=ROWS, freq="15min", tz="Europe/Berlin").tz_localize(None).astype(str)
    assert "repeats an hour" in " ".join(proposed(shop.assign(seen=back), "returned").warnings)


def test_few_days_are_none_to_split_by_and_times_after_the_row_s_are_asked_about(shop: Any, proposed: Any) -> None:
    few = pd.Series(pd.date_range("2024-01-01", periods=ROWS, freq="36min"))
    for time, kind in ((None, "no_split"), ("placed", "few_clusters")):
        p = proposed(shop.assign(placed=few.astype(str)), "returned", time=time)
        assert (p.time is None, kind in {warning.kind for warning in p.warnings}) == (time is None, True)
    midnight = few.dt.normalize()
    after = {"a": midnight - pd.Timedelta("1D"), "b": midnight + pd.Timedelta("2D"), "placed": few}
    p = proposed(shop.assign(**{name: times.astype(str) for name, times in after.items()}), "returned", time="placed")
    assert [warning.names for warning in p.warnings if warning.kind == "later"] == [("b",)]


def test_a_table_of_months_is_collected_and_monitored_by_whole_ones(shop: Any, proposed: Any) -> None:
    months = pd.Series(pd.date_range("2015-01-01", periods=80, freq="MS").repeat(5))
    quarters = months.dt.to_period("Q").astype(str)
    wanted = (months.dt.strftime("%Y%m"), "2021-08-31", "quarter", "28d"), (quarters, "2021-09-30", "year", "90d")
    for texts, last, period, delay in wanted:
        p = proposed(shop.assign(placed=texts), "returned")
        params = written(p)
        assert (params["collection"]["as_of"], params["monitoring"]["period"]) == (last, period)
        assert (params["problem"]["label_delay"], p.by[0], p.partitioned) == (delay, "month", True)


def test_without_time_rows_are_numbered_and_an_entity_stays_together(shop: Any, random: Any, proposed: Any) -> None:
    customer = random.integers(100, 200, ROWS).astype(str)
    p = proposed(shop.drop(columns="order_id").assign(customer_id=customer), "returned", key="customer_id")
    assert (p.key, "customer_id" in p.features["categorical"]) == (["customer_id", "placed"], False)
    bare = shop.drop(columns=["placed", "order_id"])
    two = bare.assign(began=shop["placed"], paid=shop["placed"].str[:10])
    p = proposed(two, "returned")
    assert (p.time, "--time paid" in " ".join(p.warnings)) == (None, True)
    assert proposed(two.rename(columns={"paid": "Buchungstag"}), "returned").time.name == "Buchungstag"
    p = proposed(bare, "returned")
    assert (p.time, p.key, p.number, p.group) == (None, ["row"], "row", None)
    assert "start" not in written(p)["collection"]
    for key in (None, "customer_id"):
        p = proposed(bare.assign(customer_id=customer), "returned", key=key)
        assert (p.group, p.key) == (["customer_id"], ["row"])
        assert not written(p)["training"]["candidates"]["boosting"]["early_stopping"]
        assert "customer_id" not in str(p.features)


def test_a_related_table_is_joined_by_what_both_have(shop: Any, proposed: Any) -> None:
    facts = {"country": ["DE", "NO", "FR", "IT"], "people": ["83", "5,5", "68", "59"], "price": list("1234")}
    countries = pd.DataFrame(facts)
    p = proposed(shop, "returned", related={"countries": countries})
    assert p.features["numeric"] == ["price", "items", "people", "countries_price"]
    params = written(p)
    wanted = {"table": "countries", "by": ["country"], "columns": {"people": "people", "price": "countries_price"}}
    assert params["features"]["joins"] == [wanted]
    assert params["processing"]["tables"]["countries"]["unique"] == ["country"]
    assert list(params["collection"]["tables"]) == ["orders", "countries"]
    twice, keyless = pd.concat([countries, countries]), countries[["people"]]
    for wrong, match in ((twice, "several rows have the same country"), (keyless, "no column that orders has too")):
        with pytest.raises(DataError, match=match):
            proposed(shop, "returned", related={"countries": wrong})


def test_fifty_rows_two_hundred_columns_and_one_in_two_hundred(shop: Any, random: Any, proposed: Any) -> None:
    p = proposed(shop.head(50), "returned", time="none")
    assert (1 <= p.min_rarest < 20, "min_rarest" in " ".join(p.warnings)) == (True, True)
    wide = pd.DataFrame(random.normal(size=(300, 200)).astype(str)).add_prefix("x")
    assert len(proposed(wide.assign(y=random.choice(["0", "1"], 300)), "y").features["numeric"]) == 200
    rare = pd.DataFrame({"x": random.normal(size=8000).astype(str), "fraud": np.where(np.arange(8000) % 200, "0", "1")})
    p = proposed(rare, "fraud")
    assert (p.classes, p.focus) == (["0", "1"], "1")
    assert written(p)["problem"]["payoffs"]["wait"]["positive"] == -200


@pytest.mark.parametrize("words", [("true", "false"), ("bad", "good"), ("odd", "good"), ("b", "a"), ("2", "1")])
def test_the_event_is_the_word_that_says_so_else_the_rarer(words: Any, shop: Any, proposed: Any) -> None:
    shop["outcome"] = np.where(np.arange(ROWS) % 5 == 0, *words)
    assert proposed(shop, "outcome").classes == [words[1], words[0]]


@pytest.mark.parametrize(("match", "changes", "target", "wish"), [
    ("did you mean 'returned'", {}, "retuned", {}), ("--time names", {}, "returned", {"time": "then"}),
    ("--id names", {}, "returned", {"key": "nr"}), ("always 'x'", {"y": "x"}, "y", {}), ("is 'X' in 200 rows and blank in 200; if", {"y": ["    X", "   "] * 200}, "y", {}),
    ("missing in every row", {"y": "NA"}, "y", {}), ("expected at most 30 classes", {}, "comment", {}),
    ("middle of each range", {"y": [f"{row // 8}-{row // 8 + 9}" for row in range(ROWS)]}, "y", {}),
    ("'rare' \\(2\\)", {"y": ["rare"] * 2 + ["a", "b"] * 199}, "y", {}),
    ("holds texts", {}, "country", {"task": "regression"}), ("three different", {}, "price", {"time": "price"}),
    ("expected\\s+two for --task binary", {}, "country", {"task": "binary"}), ("holds times", {}, "placed", {}),
    ("row 1 'later', row 8 'later'", {"placed": ["later", *["2021-01-01"] * 6] * 57 + ["later"]}, "returned", {"time": "placed"}),
    ("is always the same|same in every row", {"placed": "2021-01-01"}, "returned", {"time": "placed"}),
    ("at least 20", lambda shop: shop.head(12), "returned", {}),
    ("no column to predict", lambda shop: shop[["returned", "order_id"]], "returned", {}),
])  # fmt: skip
def test_what_cannot_be_predicted_is_refused(match: str, changes: Any, target: str, wish: Any, shop: Any) -> None:
    with pytest.raises(DataError, match=match):
        propose("orders", changes(shop) if callable(changes) else shop.assign(**changes), Wish(target, **wish))


def test_a_summary_of_much_is_short_and_all_of_it_can_be_read(shop: Any, proposed: Any) -> None:
    p = proposed(shop, "returned")
    written, names = drafted(p)["params.yaml"], [f"column {number} {'x' * number}" for number in range(300)]
    p.features["numeric"], p.left = names, dict.fromkeys(names, "always the same")
    p.warnings += [
        Assumption("sentinel", [name], {"codes": ("-999",), "rows": 7, "low": 1, "high": 5}, "orders") for name in names
    ]
    p.warnings += [Assumption("few_rows", (), {"p": p, "rows": rows}, "orders") for rows in range(60)]
    assert_fits_a_screen(p, written)
    text = " ".join(drafting.summary(p, []).split())
    assert "... (300 in all) hold column 0 -999 in 7 rows, beside 1 to 5" in text
    assert re.search(r"placed is taken as the time.*beside 1 to 5.*and \d+ more: `ninefold init --explain`", text)
    assert all(f"{rows} rows" in explain([], p, written, written) for rows in (0, 30, 59))
    code = "".join(place.read_text() for place in Path(init.__file__).parent.glob("*.py"))
    assert {*re.findall(r'(?:warned|warn|Assumption)\(\s*"(\w+)"', code)} == {*CODES}


@pytest.fixture
def folder(tmp_path: Path, shop: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a fresh copy of the template, with the user's table beside it."""
    project = tmp_path / "project"
    for name in ("src/project", "notebooks"):
        (project / name).mkdir(parents=True)
    for name in FILES:
        (project / name).write_text("problem: {}\n" if name.endswith("yaml") else '"""An example."""\n')
    (project / ".gitignore").write_text("/data/*\n!/data/source/\n/data/source/*\n!/data/source/*.dvc\n")
    shop.to_csv(tmp_path / "My Orders.csv", index=False)
    shop.drop(columns="placed").to_csv(tmp_path / "sales.csv", index=False, sep=";")
    monkeypatch.chdir(project)
    return project


def begin(table: str, *options: str) -> Result:
    return CliRunner().invoke(cli.app, ["init", table, "--target", "returned", *options])


def git(*command: str) -> str:
    return subprocess.run(["git", *command], check=True, capture_output=True, text=True).stdout


def state(folder: Path) -> dict[Path, bytes]:
    return {place: place.read_bytes() for place in folder.rglob("*") if place.is_file()}


def test_init_begins_and_asks_only_where_a_file_or_a_table_would_differ(folder: Path) -> None:
    done, source = begin("../My Orders.csv", "--yes"), "data/source/my_orders.csv"
    assert (done.exit_code, "task binary" in done.output) == (0, True)
    assert (folder / source).read_bytes() == (folder / "../My Orders.csv").read_bytes()
    git("add", "-A")
    git("commit", "-q", "-m", "Begin")
    files = set(git("ls-files").split())
    assert {*FILES, f"{source}.dvc"} <= files - {source} == files
    (folder / "src/project/features.py").unlink()
    assert begin("../My Orders.csv").exit_code == 0
    assert (folder / "src/project/features.py").is_file()
    (folder / source).write_text("mine\n")
    assert f"replaces {source}{UNCOMMITTED}\n" in begin("../My Orders.csv").output
    assert begin("../sales.csv", "--yes").exit_code == 0
    assert (folder / source).read_text() == "mine\n"
    assert yaml.safe_load((folder / "params.yaml").read_text())["problem"]["table"] == "sales"


def test_columns_are_explained_as_params_have_them(folder: Path, shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def explained(*words: str) -> str:
        before, done = state(folder), CliRunner().invoke(cli.app, ["init", *words, "--explain"])
        assert state(folder) == before, "it writes nothing"
        return " ".join(done.output.split())

    monkeypatch.setattr(hooks, "project", lambda *_: _[2])
    shop.assign(fee=shop["price"] + " %", till=shop["placed"], nil="x").to_csv("../sold.csv", index=False)
    pd.DataFrame({"country": ["DE", "NO", "FR"], "people": [83, 5, 68]}).to_csv("../lands.csv", index=False)
    columns, join = ["fee", "country", "till", "nil"], ["--join", "../lands.csv"]
    told = explained("../sold.csv", "--target", "returned", *join, *columns)
    assert begin("../sold.csv", *join, "--yes").exit_code == 0
    assert explained(*columns) == told
    for part in (
        "fee: a numeric feature", f"none missing, such as '{shop['price'][0]} %'", "read as {type: float64, format: amount",
        "fee is read as numbers without signs", "processing.tables.sold.columns.fee", "ninefold drop fee --why",
        "country: a categorical feature; used by a join", "till: left out: a copy of placed", "every row has the same",
    ):  # fmt: skip
        assert part in told
    assert CliRunner().invoke(cli.app, ["drop", "fee", "--why", "paid later"]).exit_code == 0
    place = folder / "params.yaml"
    place.write_text(place.read_text().replace("time: placed", "time: null", 1))
    dropped, untimed, whole = explained("fee"), explained("placed"), explained()
    assert re.match("fee: dropped as known too late .*take it for: a numeric feature .*reason paid later", dropped)
    assert re.match(r"placed: a feature of dates values.*problem.time \[params.yaml says otherwise\]", untimed)
    assert all(f" {name} " in whole for name in [*shop, "fee", "till", "nil", "lands.people"])
    assert explained("fees") == "error: sold: found no column 'fees', which --explain names; did you mean 'fee'?"


def test_files_to_replace_are_listed_and_kept_without_yes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "As it was copied")
    (folder / "src/project/features.py").write_text("# mine\n")
    before = state(folder)
    listed = ", ".join(f"{name}{UNCOMMITTED if 'project/features' in name else ''}" for name in FILES)
    with pytest.raises(DataError):
        init.plan("../sales.csv", Wish("no such column"))
    done = begin("../My Orders.csv")
    assert done.output == f"error: nothing was changed; `ninefold init --yes` replaces {listed}\n"
    assert (done.exit_code, state(folder)) == (1, before)
    answers = {f"init would replace {listed}. Replace them?": iter([False, True])}  # asked once each time
    monkeypatch.setattr(cli.common.sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(cli.common.typer, "confirm", lambda text: next(answers[text]))
    with pytest.raises(NinefoldError, match="nothing was changed"):
        cli.project.init(["../sales.csv"], "returned")
    assert state(folder) == before
    cli.project.init(["../sales.csv"], "returned")
    assert all(state(folder)[folder / name] != before[folder / name] for name in FILES)


def test_in_a_repository_that_is_not_the_projects_nothing_is_begun(folder: Path) -> None:
    git("init", "-q", "..")
    before, done = state(folder), begin("../My Orders.csv", "--yes")
    assert f"found in the git repository {folder.parent}, which holds no file of this project" in done.output
    assert (done.exit_code, state(folder)) == (1, before)


def test_options_are_of_the_type_that_the_reader_of_a_source_expects() -> None:
    texts = {"footer": "Sum", "comment": "#", "delimiter": ",", "sheet": "1"}
    pairs = [f"{key}={value}" for key, value in texts.items()]
    assert cli.common.options([*pairs, "skip=2", "header=no"]) == {**texts, "skip": 2, "header": False}
    assert cli.common.options(["footer=2"]) == {"footer": 2}
    for pair, match in (("skip=x", "skip: found 'x', .* integer"), ("decimal=,", "decimal: found ',', .* delimiter")):
        with pytest.raises(NinefoldError, match=f"--option {match}"):
            cli.common.options([pair])


def test_tables_of_databases_and_packed_files_are_read(folder: Path, shop: pd.DataFrame) -> None:
    with sqlite3.connect("shop.db") as connection:
        for name in ("orders", "others"):
            shop.to_sql(name, connection, index=False)
    shop.to_csv("2024 orders.csv.gz", index=False)
    (folder / "parts").mkdir()
    shop.to_parquet("parts/a.parquet")
    wanted = {"shop.db::orders": "orders.db", "2024 orders.csv.gz": "table_2024_orders.csv.gz", "parts": "parts"}
    for source, place in wanted.items():
        table = init.read(source)
        assert (table.name, table.place) == (place.partition(".")[0], f"data/source/{place}")
        assert (table.options.get("table"), len(table.rows)) == ("orders" if "::" in source else None, ROWS)
    remote = init.Table("postgresql://ann:secret@host/shop", {"table": "orders"}, "orders", pd.DataFrame())
    assert remote.place == "postgresql://ann:${NINEFOLD_PASSWORD}@host/shop"
