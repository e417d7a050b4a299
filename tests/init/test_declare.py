"""`ninefold drop` and `ninefold keep` change params in all places that name a column, and no other section."""

import difflib

import pytest
from conftest import Project
from typer.testing import CliRunner

from ninefold import cli, params

TEXT = """\
features:
  numeric: [amount,
            seats]   # numbers
  categorical:
    - status  # of an order
  joins:
    - {table: customers, by: [customer], columns: {city: town, age: age}}
  history:
    - {of: amount, prefix: spent, over: [7d], by: [[customer], [status, customer]]}

exploration:
  by: ["status", amount]
  related: {customers: {key: [customer], columns: [city]}}
  known_later: {}  # too late
# 07
training:
  seed: 1
  candidates: {line: {model: linear}}
  importance_rows: 100
  protected: [status]
"""


def changed(project: Project, *command: str) -> tuple[int, list[str], str]:
    """Run a command and return its exit code, the lines of params that changed, and its output."""
    before = (project.folder / "params.yaml").read_text()
    done = CliRunner().invoke(cli.app, command)
    after = (project.folder / "params.yaml").read_text()
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
    return done.exit_code, [line for line in lines if line[:3] not in ("---", "+++") and line[0] != "@"], done.output


@pytest.fixture
def written(project: Project) -> Project:
    project.write((project.folder / "params.yaml").read_text() + TEXT)
    return project


def test_drop_changes_every_place_that_names_a_column_and_keep_takes_it_back(written: Project) -> None:
    code, lines, output = changed(written, "drop", "status", "amount", "--why", "paid: later # it's")
    assert (code, lines) == (0, [
        "-  numeric: [amount,", "-            seats]   # numbers", "-  categorical:", "-    - status  # of an order",
        "+  numeric: [seats]   # numbers", "+  categorical: []",
        "-    - {of: amount, prefix: spent, over: [7d], by: [[customer], [status, customer]]}",
        "+    - {of: amount, prefix: spent, over: [7d], by: [[customer]]}",
        '-  by: ["status", amount]', "+  by: []", "-  known_later: {}  # too late", "+  known_later:     # too late",
        '+    status: "paid: later # it\'s"', '+    amount: "paid: later # it\'s"',
        "-  protected: [status]", "+  protected: []",
    ])  # fmt: skip
    assert params.load("exploration").known_later == dict.fromkeys(["status", "amount"], "paid: later # it's")
    code, lines, output = changed(written, "keep", "amount", "status", "seats", "--why", "known")
    assert params.load("exploration").justified == dict.fromkeys(["amount", "status"], "known")
    assert {"-  known_later:     # too late", "+  known_later: {}  # too late"} <= {*lines}
    assert params.load("training").justified == {"seats": "known"}
    assert "amount: is no feature yet" in output
    assert "# 07" in (written.folder / "params.yaml").read_text()


def test_a_join_by_a_dropped_column_goes_with_what_it_joins(written: Project) -> None:
    assert changed(written, "drop", "customers.city", "--why", "moved")[1] == [
        "-  numeric: [amount,", "-            seats]   # numbers", "+  numeric: [amount, seats] # numbers",
        "-    - {table: customers, by: [customer], columns: {city: town, age: age}}",
        "+    - {table: customers, by: [customer], columns: {age: age}}",
        "-  known_later: {}  # too late", "+  known_later:     # too late", "+    customers.city: moved",
    ]  # fmt: skip
    changed(written, "drop", "customer", "--why", "moved")
    assert (params.load("features").joins, params.load("features").history) == ([], [])


def test_names_and_reasons_that_dvc_would_change_stay_encoded(project: Project) -> None:
    listed = '  known_later:\n    - key: {encoded: "%3A%20late"}\n      value: early\n'
    text = TEXT.replace("  known_later: {}  # too late\n", listed).replace("[amount,", '[amount, {encoded: "%3Aq"},')
    project.write((project.folder / "params.yaml").read_text() + text)
    lines = changed(project, "drop", "status", ":q", "--why", ": paid")[1]
    assert {"+    - key: status", "+        encoded: '%3A%20paid'"} <= {*lines}
    assert params.load("exploration").known_later == {": late": "early", "status": ": paid"}
    assert params.load("features").numeric == ["amount", "seats"]


@pytest.mark.parametrize(("command", "named"), [
    (["drop", "statis"], "status"), (["keep", "ammount"], "amount"), (["drop", "id"], "problem.key"),
    (["drop", "returned"], "problem.target"), (["drop", "spent_by_customer_7d"], "features.history"),
    (["drop", "amount", "seats", "status", "customer"], "at least one feature"),
])  # fmt: skip
def test_what_cannot_be_decided_is_refused_with_the_reason(written: Project, command: list[str], named: str) -> None:
    code, lines, output = changed(written, *command, "--why", "late")
    assert (code, lines) == (1, [])
    assert named in output
