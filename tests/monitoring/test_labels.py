"""Late outcomes: each joined exactly once, whatever the order, repeats, corrections and contradictions that they come in."""

import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import bundles
import pandas as pd
import pytest
from bundles import lay_out, pack, problem_of
from conftest import Project
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from ninefold import cli
from ninefold.errors import DataError
from ninefold.monitoring import labels, production
from ninefold.monitoring.labels import KNOWN_AT, LABEL, OUTCOME, STATES
from ninefold.monitoring.production import MOMENT, REQUEST_ID, ROLE, ROW
from ninefold.serving import Bundle
from ninefold.serving.log import Log

PROBLEM = problem_of("binary")
DUE = "2020-02-01T12:00:00"


def predictions(*rows: dict[str, Any]) -> pd.DataFrame:
    """Return served rows: ``id``, ``due`` and ``at`` (hours of a day), and what else is given."""
    plain = {"due": 12, "row": 0, "at": 9, "role": "champion"}
    table = pd.DataFrame([{**plain, "request": f"r{number}", **row} for number, row in enumerate(rows)])
    for name in ("due", "at"):
        table[name] = (pd.Timestamp("2020-02-01") + pd.to_timedelta(table[name], "h")).astype("datetime64[us]")
    table = table.rename(columns={"due": "placed", "at": MOMENT, "request": REQUEST_ID, "row": ROW, "role": ROLE})
    return table.astype({"id": "str"}) if table["id"].isna().any() else table


def delivered(rows: Any, *columns: str) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=[*columns, OUTCOME]).astype({columns[0]: "str", OUTCOME: "str"})
    return table.assign(**{KNOWN_AT: pd.Series(pd.NaT, table.index, dtype="datetime64[us]")})


def outcomes(*rows: tuple[Any, str]) -> pd.DataFrame:
    return delivered(rows, "id").assign(placed=pd.Timestamp(DUE))


def by_request(*rows: tuple[str, int, str]) -> pd.DataFrame:
    return delivered(rows, REQUEST_ID, ROW)


TWICE = ({"id": 1, "request": "same"}, {"id": 2, "request": "same"})
ROWS = ({"id": 3, "request": "r"}, {"id": 4, "request": "r", "row": 7})


@pytest.mark.parametrize(("predicted", "delivery", "expected"), [
    ([{"id": None}] * 2, by_request(("r0", 0, "1")), ["known", "open"]),  # without a key
    (TWICE, by_request(("same", 0, "1")), ["open", "open"]),  # an id of several cases
    (ROWS, by_request(("r", 7, "1"), ("r", 8, "0")), ["open", "known"]),  # a row of a request
    ([{"id": 1}], outcomes(("1", "2")), ["open"]),  # not an outcome of the problem
    ([{"id": 1}], labels.load(Path("nowhere")), ["open"]),
])  # fmt: skip
def test_each_case_has_one_label(predicted: list[dict[str, Any]], delivery: pd.DataFrame, expected: list[str]) -> None:
    table, counts = labels.join(predictions(*predicted), delivery, PROBLEM)
    assert table[LABEL].tolist() == expected
    assert counts["ambiguous"] == int(predicted is TWICE)


@pytest.mark.parametrize("kind", ["int64", "float64", "str", "Int64"])
def test_seven_is_seven_however_it_is_written(kind: str) -> None:
    predicted = predictions({"id": 7}, {"id": 12}).astype({"id": kind})
    table, _ = labels.join(predicted, outcomes(("7", "1"), ("12.0", "0")), PROBLEM)
    assert table["returned"].tolist() == [1, 0]


def by_hand(predicted: list[dict[str, Any]], told: list[dict[str, Any]]) -> dict[str, tuple[str, str | None]]:
    """Return request -> label and outcome, by the rules as they are told, one row after another."""
    decided = [row for row in predicted if row[ROLE] != "shadow"]
    cases = {row[REQUEST_ID]: (str(row["id"]), row["placed"]) for row in decided}
    found = {}
    for row in decided:
        case = cases[row[REQUEST_ID]]
        others = [one for one in decided if cases[one[REQUEST_ID]] == case]
        early = [one for one in others if one[MOMENT] < one["placed"]] or others
        if max(early, key=lambda one: one[MOMENT]) is not row:
            found[row[REQUEST_ID]] = ("superseded", None)
            continue
        of_it = [
            (pd.Timestamp(0) if pd.isna(one[KNOWN_AT]) else one[KNOWN_AT], one[OUTCOME])
            for one in told
            if (cases.get(one[REQUEST_ID]) if REQUEST_ID in one else (one["id"], one["placed"])) == case
        ]
        last = {value for at, value in of_it if at == max(at for at, _ in of_it)}
        value = next(iter(last), None)
        state = "open" if not last else "contradicted" if len(last) > 1 else "never" if value is None else "known"
        found[row[REQUEST_ID]] = (state, value if state == "known" else None)
    return found


def final(table: pd.DataFrame, counts: dict[str, int]) -> tuple[Any, ...]:
    rows = table.sort_values(REQUEST_ID)[[REQUEST_ID, LABEL, "returned", KNOWN_AT]]
    return rows.astype("str").to_numpy().tolist(), counts


HOUR, VALUE, DAY = map(st.sampled_from, ((11, 12), (None, "0", "1"), (None, "2020-03-01", "2020-03-02")))
ROLES = st.sampled_from(["champion", "canary", "shadow"])
ASKED = st.fixed_dictionaries({"id": st.integers(0, 9), "due": HOUR, "role": ROLES})
BY_ID = st.builds(lambda number: {REQUEST_ID: str(number), ROW: 0}, st.integers(0, 49))
BY_KEY = st.builds(lambda id, due: {"id": str(id), "placed": pd.Timestamp(2020, 2, 1, due)}, st.integers(0, 10), HOUR)
WHAT = st.builds(lambda value, day: {OUTCOME: value, KNOWN_AT: pd.Timestamp(day or "NaT")}, VALUE, DAY)
TOLD = st.builds(lambda of, what: of | what, BY_ID | BY_KEY, WHAT)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(ASKED, min_size=20, max_size=45), st.lists(TOLD, min_size=30, max_size=60), st.integers(0, 99))
def test_repeated_shuffled_late_and_contradictory_outcomes_give_the_same_numbers(
    asked: Any, told: Any, seed: int
) -> None:
    predicted = predictions(*({**row, "request": str(at), "at": at / 8 + 8} for at, row in enumerate(asked)))
    table = pd.DataFrame(told, columns=[REQUEST_ID, ROW, "id", "placed", OUTCOME, KNOWN_AT])
    table = table.astype({REQUEST_ID: "str", ROW: "Int64", "id": "str", OUTCOME: "str"})
    table = table.astype(dict.fromkeys(["placed", KNOWN_AT], "datetime64[us]"))
    first, counts = labels.join(predicted, table, PROBLEM)
    values = [None if value != value else f"{value:.0f}" for value in first["returned"]]
    result = dict(zip(first[REQUEST_ID], zip(first[LABEL], values, strict=True), strict=True))
    assert result == by_hand(predicted.to_dict("records"), told)
    assert sum(counts[state] for state in STATES) == counts["predictions"]
    repeated = pd.concat([table, table.sample(frac=0.5, random_state=seed)]).sample(frac=1, random_state=seed)
    with TemporaryDirectory() as folder:
        for late in (repeated[:seed], repeated[seed:]):
            by_id = late[REQUEST_ID].notna()
            labels.keep(late[by_id].drop(columns=["id", "placed"]), Path(folder))
            labels.keep(late[~by_id].drop(columns=[REQUEST_ID, ROW]), Path(folder))
        received = labels.load(Path(folder))
    again = labels.join(predicted.sample(frac=1, random_state=seed), received, PROBLEM)
    assert final(*again) == final(first, counts)


def write(folder: Path, text: str, name: str = "outcomes.csv") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_a_delivery_is_kept_once_whatever_the_order_of_its_rows(bundle: Bundle, place: Path, tmp_path: Path) -> None:
    one = f"id,placed,returned\n1,{DUE},1\n2,{DUE},0\n"
    two = f"placed,returned,other,id\n2020-02-01 13:00:00+01:00,0.0,x,2.0\n{DUE},true,y,1\n{DUE},1,y,1\n"
    folder = place.parent / "labels"
    kept = [labels.keep(labels.read(write(tmp_path, text), bundle, place), folder) for text in (one, one, two)]
    assert kept == [True, False, False]
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert labels.load(folder)[OUTCOME].tolist() == ["1", "0"]


def test_deliveries_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    rows = [outcomes((str(number % 3), "1")) for number in range(30)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda each: labels.keep(each, tmp_path / "labels"), rows))
    assert sorted(labels.load(tmp_path / "labels")["id"]) == ["0", "1", "2"]


WRONG = {
    "id,placed\n1,2020-02-01\n": "lacks returned; found id, placed",
    "id,returned\n1,1\n": "neither request_id nor placed; expected request_id (and row), or id, placed",
    f"id,placed,returned\n1,{DUE},1\n2,{DUE},yes\n": "row 1 (of the data, from 0), column 'returned': found 'yes', expected one of 0, 1",
    "id,placed,returned\n1,soon,1\n": "row 0 (of the data, from 0), column 'placed': found 'soon', expected a date or time",
    f"id,placed,returned\n,{DUE},1\n": "column 'id': found '', expected what identifies the row",
    f"id,placed,returned,known_at\n1,{DUE},1,\n1,{DUE},1,tomorrow\n": "row 1 (of the data, from 0), column 'known_at': found 'tomorrow'",
    "request_id,row,returned\na,-1,1\nb,x,0\n": "row 0 (of the data, from 0), column 'row': found '-1', and 1 more such rows",
    "request_id,returned\n,1\n": "column 'request_id': found '', expected the id of the request",
    "id,placed,returned\n": "no row",
    "": "empty file",
}


def test_a_wrong_file_says_what_to_mend_and_leaves_nothing(bundle: Bundle, place: Path, tmp_path: Path) -> None:
    sound = write(tmp_path, f"id,placed,returned\n1,{DUE},1\n", "sound.csv")
    for text, said in WRONG.items():
        with pytest.raises(DataError) as error:
            list(labels.run([sound, write(tmp_path, text)], bundle, place))
        assert said in str(error.value)
        assert "outcomes.csv" in str(error.value)
        assert not (place.parent / "labels").exists()


def test_outcomes_are_named_as_their_problem_names_them(project: Project, place: Path) -> None:
    bundle = pack(lay_out("multiclass"))
    found = labels.read(write(project.folder, 'id,class\n1,s/m\n2, É $ \n3,\n4,NA\n5,"the ""l"""\n'), bundle, place)
    assert found[OUTCOME].fillna("-").tolist() == ["s/m", "É $", "-", "-", 'the "l"']
    table = pd.DataFrame({"id": range(1, 6), REQUEST_ID: "r", ROW: range(5), MOMENT: pd.Timestamp("2020-01-01")})
    table[ROLE] = "canary"
    assert labels.join(table, found, bundle.problem)[0]["class"].fillna(-1).tolist() == [0, 2, -1, -1, 1]
    bundle = pack(lay_out("regression"))
    for value in ("dear", "inf"):
        with pytest.raises(DataError, match=f"column 'price': found '{value}', expected a finite number"):
            labels.read(write(project.folder, f"id,price\n1,{value}\n"), bundle, place)
    found = labels.read(write(project.folder, "id,price\n1,1e3\n2,\n"), bundle, place)
    labels.keep(found, place.parent / "labels")
    told, _ = labels.join(table[:3], labels.load(place.parent / "labels"), bundle.problem)
    assert told["price"].fillna(-1).tolist() == [1000, -1, -1]
    assert told[LABEL].tolist() == ["known", "never", "open"]


def append(place: Path, bundle: Bundle, *rows: dict[str, Any]) -> None:
    with closing(Log(place)) as log:
        bundles.append(log, bundle, *({"customer": "ann", **row} for row in rows))


def test_redacted_keys_join_and_are_on_no_disk(bundle: Bundle, place: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(bundle.described, "log", {"keep": "90d", "redact": ["id"]})
    append(place, bundle, {"id": 777123, "placed": DUE}, {"id": "888456", "placed": DUE})
    text = f"id,placed,returned\n777123.0,{DUE},1\n888456,{DUE},0\n9,{DUE},0\n"
    said = list(labels.run([write(tmp_path, text)], bundle, place))
    assert said[1] == "of 2 predictions: 2 known, 0 never, 0 open, 0 contradicted, 0 superseded"
    stored = b"".join(file.read_bytes() for file in place.parent.rglob("*") if file.is_file())
    assert (b"777123" in stored, b"888456" in stored) == (False, False)


def test_the_command_says_what_came_of_it(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*arguments: str) -> list[str]:
        return CliRunner().invoke(cli.app, ["labels", *arguments]).output.splitlines()

    monkeypatch.chdir(tmp_path)
    file = write(tmp_path, f"id,placed,returned\n7,{DUE},1\n8,{DUE},\n")
    assert run("outcomes.csv") == [
        f"{file}: 2 outcomes by id, placed, 1 of them never known",
        "no prediction is logged yet; the outcomes are stored until there is one",
    ]
    append(tmp_path / "data/predictions/log.sqlite", bundle, {"id": 7, "placed": "2020-02-01T13:00:00+01:00"})
    write(tmp_path, "request_id;returned;known_at\na;0;2020-03-01\n", "late.csv")
    assert run("late.csv", "--option", "delimiter=;")[:1] == [
        f"{tmp_path / 'late.csv'}: 1 outcome by request_id, 0 of them never known"
    ]
    assert run("outcomes.csv") == [
        f"{file}: 2 outcomes by id, placed, 1 of them never known; delivered before, counted once",
        "of 1 predictions: 1 known, 0 never, 0 open, 0 contradicted, 0 superseded",
        "of 3 outcomes, 1 match no prediction (kept for later), 0 have a request id that stands for several cases "
        "(deliver them by key)",
    ]
    table, _ = labels.join(production.served(bundle), labels.load(), bundle.problem)
    assert table["returned"].tolist() == [0.0]  # the dated correction
