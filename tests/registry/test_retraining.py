"""Retraining: what is new, who is promoted, what is put back, and that no kill changes how it ends."""

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import bundles
import pandas as pd
import pytest
import yaml
from conftest import Project
from filelock import lock_descriptor
from shop import Shop, dvc
from typer.testing import CliRunner

from ninefold import artifacts, collection, hooks, lineage, params
from ninefold.cli import app
from ninefold.errors import DataError
from ninefold.problem.statement import Problem
from ninefold.registry import planning, promotion, repository, retraining

ROOT = Path(__file__).resolve().parents[2]
NAME, DAY = bundles.PARAMS.name, date(2020, 4, 30)
BRANCH = f"retrain/{DAY}"
BUILT = ("data", "models", "reports", "dvc.lock")
CHANGING = ("switch", "add", "commit", "restore", "symbolic-ref", "branch", "update-ref")  # of git's commands
LAST = "2020-05-20T18:00:00"  # row of the source
COMMENTED = '  as_of: "2020-02-29"  # the last day that has arrived\n'


class Home:
    """A copy of the tiny project with a champion, in which `dvc repro` lays out what was built beforehand."""

    git = Shop.git

    def __init__(self, folder: Path, built: Path) -> None:
        self.folder, self.built, self.gives, self.code = folder, built, "better", 0
        self.did: list[str] = []
        self.kill_after: int | None = None

    def dvc(self, command: str, *arguments: str) -> int:
        if command == "repro":
            lay_out(self.built / self.gives, self.folder)
            if self.code:
                check, reports = {"name": "gain exceeded", "value": -0.1, "limit": "> 0"}, self.folder / "reports"
                gate = {"passed": False, "checks": [{**check, "passed": False}]}
                artifacts.write_json({"gate": gate}, reports / "failed/07_training.json")
                artifacts.write_text("{}", reports / "failed/07_training.ipynb")
                artifacts.write_text("the run that failed", reports / "07_training.html")
        elif command == "checkout":
            assert set(arguments[2:]) == {"models/bundle", "models/candidate", "data/metrics.json"}
            lay_out(self.built / "champion", self.folder, ("data", "models"))
        self.done(command)
        return self.code if command == "repro" else 0

    def done(self, what: str) -> None:
        self.did.append(what)
        if len(self.did) == self.kill_after:
            raise KeyboardInterrupt

    def state(self) -> dict[str, Any]:
        return {
            "refs": self.git("for-each-ref", "--format=%(refname) %(objectname)", "refs/heads", "refs/tags"),
            "branch": self.git("branch", "--show-current"),
            "changed": self.git("status", "--porcelain"),
            "params": (self.folder / "params.yaml").read_text(),
            "lock": (self.folder / "dvc.lock").read_text(),
            "bundle": (self.folder / "models/bundle/bundle.json").read_text(),
            "journal": sorted(place.name for place in (self.folder / ".git").glob("ninefold-retrain.json")),
        }


def lay_out(source: Path, target: Path, names: tuple[str, ...] = BUILT) -> None:
    for name in names:
        artifacts.remove(target / name)
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name)
        elif (source / name).exists():
            shutil.copyfile(source / name, target / name)  # as of now: git tells files of one size apart by their time


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `home`, a repository whose champion learned nothing, and beside it what rebuilds would give."""
    place = tmp_path_factory.mktemp("built")
    home = place / "home"
    home.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        project = Project(home)
        patch.setattr(hooks, "project", project.find)
        project.params["monitoring"] = yaml.safe_load((ROOT / "params.yaml").read_text())["monitoring"]
        project.params["monitoring"] |= {"source": "replay"}
        shop = Shop(project)
        shop.git("symbolic-ref", "HEAD", "refs/heads/main")
        file = home / "params.yaml"
        (home / ".gitignore").write_text("/data/\n/models/\n/reports/*\n!/reports/metrics/\n")
        for name, how in {"better": {}, "worse": {"good": False, "seed": 1}, "champion": {"good": False}}.items():
            shop.build(**how)
            text = re.sub(r"  as_of: .*\n", COMMENTED, file.read_text(), count=1)
            file.write_text(text)  # which a build writes again
            dvc(home, "commit")
            lay_out(home, place / name)
        shop.commit("The champion")
        promotion.promote()
    return place


@pytest.fixture
def fresh(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Home]:
    """Return how to stand in a fresh copy; DVC's commands are stood in for, git's are its own."""
    own = {("collection", "read"): read}
    monkeypatch.setattr(hooks, "project", lambda module, function, default: own.get((module, function), default))
    monkeypatch.setattr(artifacts, "_pending", {})
    monkeypatch.setattr(planning, "changes", dict)
    monkeypatch.setattr(lineage, "default_remote", lambda: ("store", ""))
    git, count = repository.git, iter(range(1000))

    def enter() -> Home:
        home = Home(shutil.copytree(built / "home", tmp_path / f"home-{next(count)}"), built)

        def noted(*arguments: str) -> str:
            said = git(*arguments)
            if arguments[0] in CHANGING and "--show-current" not in arguments:
                home.done(arguments[0])
            return said

        monkeypatch.chdir(home.folder)
        monkeypatch.setattr(retraining, "_dvc", home.dvc)
        monkeypatch.setattr(repository, "git", noted)
        return home

    return enter


@pytest.fixture
def home(fresh: Callable[[], Home]) -> Home:
    return fresh()


def read(table: str, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    """Stand in for the project's own reader: orders every three hours, up to `LAST`."""
    times = pd.Series(pd.date_range("2020-01-01", LAST, freq="3h"))
    return pd.DataFrame({"placed": times[(times >= start) & (times < end)].astype("str")})


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stand in for the registry: its judgement is what the dictionary says, and time stands still, for equal hashes."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_DATE", "2020-05-01T00:00:00Z")
    conclusion: dict[str, Any] = {"fit": True, "refuses": None}

    def promote(reason: str | None = None) -> str:
        if conclusion["refuses"]:
            raise DataError(conclusion["refuses"])
        subprocess.run(["git", "tag", "--force", f"{NAME}@v0.0.2"], check=True, capture_output=True)
        return "promoted"

    champion = {"champion": True, "version": "v0.0.1", "commit": "main", "bundle": "0123"}
    monkeypatch.setattr(promotion, "models", lambda: [champion])
    monkeypatch.setattr(promotion, "evaluate", lambda *_: (conclusion["fit"], "was judged"))
    monkeypatch.setattr(promotion, "promote", promote)
    return conclusion


def refused(message: str, *arguments: Any) -> None:
    with pytest.raises(DataError, match=message):
        retraining.retrain(*arguments or [DAY])


def test_a_better_challenger_is_promoted_and_the_branch_moves_on_to_it(home: Home) -> None:
    before = home.git("rev-parse", "HEAD")
    assert re.search(f"{NAME} v0.0.2.* after v0.0.1: beats champion v0.0.1: gain", retraining.retrain(DAY))
    state = home.state()
    assert (state["branch"], state["changed"], state["journal"]) == ("main\n", "", [])
    assert "retrain/" not in state["refs"]
    after = home.git("rev-parse", "HEAD")
    assert home.git("rev-parse", "HEAD^", f"{NAME}@v0.0.2^{{}}") == before + after
    changed = re.findall(r"^[-+] .*\n", home.git("diff", "-U0", "HEAD^", "params.yaml"), re.MULTILINE)
    assert changed == [f"-{COMMENTED}", f"+{COMMENTED}".replace("2020-02-29", str(DAY))]
    message = " ".join(home.git("log", "-1", "--format=%B").split())
    assert message.startswith(f"Retrain with the data until {DAY} challenger")
    assert re.search(r"on \d+ of \d+ holdout rows of \d+ days, 2020-02-10 to 2020-04-09, which neither", message)
    assert "The interval holds for these days alone" in message
    assert home.did.index("commit") < home.did.index("push") < home.did.index("update-ref")


def test_one_that_is_not_significantly_better_stays_on_its_own_branch_and_is_not_built_again(home: Home) -> None:
    before = home.state()
    home.gives = "worse"
    told = retraining.retrain(DAY)
    assert "does not significantly beat champion v0.0.1" in told
    assert f"kept champion v0.0.1, main is as it was; the challenger is on {BRANCH}" in told
    after = home.state()
    refs = [line for line in after["refs"].splitlines(True) if BRANCH not in line]
    assert {**after, "refs": "".join(refs)} == before
    assert "does not significantly beat" in " ".join(home.git("log", "-1", "--format=%B", BRANCH).split())
    again = retraining.retrain(DAY)
    assert again.startswith(f"nothing new: {BRANCH} was built from this commit already, and not promoted")
    assert home.did.count("repro") == 1
    home.git("commit", "-q", "--allow-empty", "-m", "Better code")
    retraining.retrain(DAY)
    assert home.git("branch", "--list", "retrain/*", "--format=%(refname:short)").split() == [BRANCH, f"{BRANCH}-2"]
    home.git("commit", "-q", "--allow-empty", "-m", "More code")
    assert "forced, it has seen April" in retraining.retrain(DAY, "it has seen April")


@pytest.mark.parametrize("fit", [True, False])
def test_what_the_user_has_staged_stays_staged_and_comes_into_no_commit(fit: bool, home: Home, quick: Any) -> None:
    quick["fit"] = fit
    artifacts.write_text("mine", home.folder / "README.md")
    home.git("add", "README.md")
    retraining.retrain(DAY)
    assert (home.state()["changed"], home.state()["branch"]) == ("A  README.md\n", "main\n")
    files = home.git("log", "--all", "--name-only", "--format=").split()
    assert ("README.md" in files, files.count("params.yaml")) == (False, 2)


def test_without_a_champion_the_branch_moves_on_and_nobody_is_promoted(home: Home) -> None:
    home.git("tag", "-d", *home.git("tag").split())
    told = retraining.retrain(DAY)
    assert "no version is in production to compare with; `ninefold promote` makes this one the first" in told
    assert home.git("log", "--format=%s", "-1", "main").startswith("Retrain with the data")
    assert home.git("tag") == ""


@pytest.mark.parametrize("outcome", ["promoted", "kept", "failed", "refused"])
def test_after_a_kill_the_next_start_ends_as_an_undisturbed_run_does(outcome: str, fresh: Any, quick: Any) -> None:
    quick |= {"fit": outcome != "kept", "refuses": "the registry is closed" if outcome == "refused" else None}

    def run(home: Home) -> str:
        home.code = int(outcome == "failed")
        try:
            return retraining.retrain(DAY)
        except DataError as error:
            return str(error).replace(home.folder.name, "home")

    whole = fresh()
    told, state = run(whole), whole.state()
    assert (state["journal"], state["branch"], state["changed"]) == ([], "main\n", "")
    word = {"kept": "kept champion v0.0.1", "failed": "gain exceeded", "refused": "the registry is closed"}
    assert word.get(outcome, "promoted") in told
    for number in range(1, len(whole.did) + 1):
        home = fresh()
        home.kill_after = number
        with pytest.raises(KeyboardInterrupt):
            run(home)
        assert home.state()["journal"], home.did
        assert run(home) == told, home.did
        assert home.state() == state, home.did


def test_a_kill_amid_the_pipeline_leaves_no_lock_and_the_next_goes_on(home: Home, quick: Any, capsys: Any) -> None:
    code = (
        "import datetime, os, signal; from ninefold.registry import planning, retraining; planning.changes = dict\n"
        "def _dvc(*arguments):\n"
        "    open('dvc.lock', 'w').write('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        f"retraining._dvc = _dvc; retraining.retrain(datetime.date.fromisoformat('{DAY}'))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=home.folder, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert str(DAY) in (home.folder / "params.yaml").read_text()
    assert f"would go on with the retraining until {DAY}, which stopped at step repro" in planning.preview()
    assert retraining.retrain(if_needed=True) == "promoted"
    assert f"going on with the retraining until {DAY}, which stopped at step repro" in capsys.readouterr().out
    assert (home.state()["branch"], home.state()["changed"]) == ("main\n", "")


def test_a_gate_that_fails_puts_everything_back_and_its_report_is_kept(home: Home) -> None:
    before, home.code = home.state(), 1
    kept = home.folder / "reports/retrain/07_training.html"
    gate = "07_training: the gate did not pass: gain exceeded: found -0.1, expected > 0"
    refused(f"(?s){gate}.*The report of that run: {kept}")
    assert kept.read_text() == "the run that failed"
    assert home.state() == before
    assert not list((home.folder / "reports/failed").iterdir())


def test_two_at_once_the_second_refuses(home: Home) -> None:
    with (home.folder / ".git/ninefold-retrain.lock").open("w") as lock:
        lock_descriptor(lock.fileno())
        refused(r"another `ninefold retrain` is running.*`--wait` waits")
    assert home.did == []


def test_a_pipeline_that_outlives_its_run_holds_the_lock(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the command itself
    monkeypatch.chdir(home.folder)
    monkeypatch.setattr(retraining, "DVC", (sys.executable, "-c"))
    with repository.locked("retrain", "busy") as lock:
        assert retraining._dvc(f"import os, sys; sys.exit(0 if os.fstat({lock}) else 1)") == 0


def test_a_push_that_fails_is_tried_again_or_abandoned(home: Home, quick: dict[str, Any], monkeypatch: Any) -> None:
    before, dvc = home.state(), home.dvc
    monkeypatch.setattr(retraining, "_dvc", lambda *arguments: int(arguments[0] == "push") or dvc(*arguments))
    for _ in range(2):
        refused(r"dvc push: failed.*goes on from here")
    assert home.did.count("repro") == 1
    assert "is abandoned; main and its files are as they were" in retraining.abandon()
    assert retraining.abandon() == "no retraining was interrupted; nothing to do"
    assert {**home.state(), "refs": ""} == {**before, "refs": ""}


def test_a_dry_run_says_what_would_happen_and_changes_nothing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "stages", lambda: ["collection", "training"])
    files = lambda: {place: place.read_bytes() for place in home.folder.rglob("*") if place.is_file()}  # noqa: E731
    before = files()
    told = CliRunner().invoke(app, ["retrain", "--dry-run"]).output
    shown = dict(re.split(r"  +", line, maxsplit=1) for line in told.splitlines() if "  " in line)
    assert shown["collection.as_of"] == "2020-02-29 -> 2020-03-31"
    assert shown["stages that run"] == "collection, training"
    assert (shown["champion"][:6], shown["branch"]) == ("v0.0.1", "retrain/2020-03-31")
    assert "nothing was changed" in told
    assert (files(), home.did) == (before, [])


def test_nothing_new_changes_nothing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "LAST", "2020-03-01T23:59:00")  # the labels of the first of March are not due
    done = CliRunner().invoke(app, ["retrain"])
    assert (done.exit_code, home.did) == (0, [])
    assert done.output == "nothing new: the source holds no whole day after 2020-02-29 whose labels are due\n"


@pytest.mark.usefixtures("quick")
def test_if_needed_begins_only_when_stage_09_decided_to_retrain(home: Home) -> None:
    with pytest.raises(DataError, match=r"data/monitoring/decision.json: not found; `dvc pull`"):
        retraining.retrain(if_needed=True)
    for decision, hint in {"keep": "", "roll back": " (`ninefold rollback` does it)", "retrain": None}.items():
        artifacts.write_json({"decision": decision}, home.folder / "data/monitoring/decision.json")
        expected = "promoted" if hint is None else f"stage 09 decided: {decision}{hint}; nothing to do"
        assert retraining.retrain(if_needed=True) == expected
    assert params.load("collection").as_of == date(2020, 3, 31)


def test_what_git_does_not_have_is_refused_with_what_to_do(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    artifacts.write_text("", home.folder / "src/mine.py")
    refused(r"^src/: not committed; `git add` and `git commit` first")
    shutil.rmtree(home.folder / "src")
    with monkeypatch.context() as patched:
        patched.setattr(planning, "changes", lambda: {"data/source/orders.csv.dvc": []})
        refused(r"data/source/orders.csv: not as its .dvc file .* `dvc add data/source/orders")
    home.git("checkout", "-q", "--detach")
    refused("no branch is checked out")
    refused(r"--as-of 2020-02-28: found a day before collection.as_of \(2020-02-29\)", date(2020, 2, 28))
    assert home.did == []


@pytest.mark.usefixtures("quick")
def test_one_that_moved_elsewhere_meanwhile_is_not_gone_on_with(home: Home) -> None:
    home.kill_after = 1
    with pytest.raises(KeyboardInterrupt):
        retraining.retrain(DAY)
    home.git("switch", "-q", "-C", "another")
    refused(rf"interrupted on main at .*, found another at .* expected main or {BRANCH}")


@pytest.mark.parametrize(("source", "last", "day"), [
    ("replay", "2020-06-01T00:00:00", "2020-03-31"),  # the rest of one month
    ("replay", "2020-03-20T18:00:00", "2020-03-18"),  # of the 19th the labels are due at the end of the 20th
    ("log", "2020-05-02T00:00:00", "2020-04-30"), ("landed", "2020-05-02T00:00:00", "2020-04-30"),
    ("log", "2020-02-10T00:00:00", "2020-02-29"),
    ("log", "2262-01-01T00:00:00", "2020-02-29"), ("landed", "2262-01-01T00:00:00", "2020-02-29"),  # of the future
])  # fmt: skip
def test_the_last_day_is_whole_and_labelled(home: Home, monkeypatch: Any, source: str, last: str, day: str) -> None:
    if source == "landed":
        artifacts.write_text(f"id,placed\n1,{last}\n", home.folder / f"{collection.LANDING}/orders/2020-08.csv")
        source, last = "log", "2020-01-05T00:00:00"
    rows = pd.DataFrame({"placed": ["2020-01-05T00:00:00", last]})
    monkeypatch.setattr(hooks, "project", lambda *_: lambda *_: rows)
    monitored = params.load("monitoring").model_copy(update={"source": source})
    found = planning.due(params.load("collection"), Problem.of(params.load("problem")), monitored)
    assert str(found) == day


@pytest.mark.parametrize("text", [
    "problem: {as_of: x}\ncollection:\n  # as_of: \"2019-01-01\"\n  start: '2020-01-01'\n  as_of:   '2020-02-29' # äöü\r\n  as: 1\n",
    'collection: {tables: {as_of: {as_of: 1}}, as_of: "2020-02-29", start: x}\n',
])  # fmt: skip
def test_one_value_of_params_is_set_and_every_other_byte_stays(text: str) -> None:
    changed = retraining.with_as_of(text, "2020-03-31")
    assert params.parse(changed)["collection"]["as_of"] == "2020-03-31"
    value = r"(as_of:\s+)(>-\n\s+|['\"]?)2020-0\d-\d\d['\"]?\n?"
    before, after = ("".join(re.sub(value, r"\1", each).split()) for each in (text, changed))
    assert before == after


def test_what_cannot_be_set_alone_is_refused() -> None:
    with pytest.raises(DataError, match=r"collection.as_of: not found; add it"):
        retraining.with_as_of("collection: {start: x}\n", "2020-03-31")
    with pytest.raises(DataError, match=r"cannot be changed alone"):
        retraining.with_as_of("problem: {day: &day '2020-02-29'}\ncollection: {as_of: *day}\n", "2020-03-31")


@pytest.mark.usefixtures("quick")
def test_a_project_without_time_is_built_anew_when_something_changed(home: Home, monkeypatch: Any) -> None:
    file = home.folder / "params.yaml"
    text = re.sub(r"\n  (time|as_of|start): .*|\n {6}time: .*", "", file.read_text())
    file.write_text(text)
    home.git("commit", "-q", "-a", "-m", "No time")
    assert retraining.retrain() == "nothing new: what was built is what the source and the params give"
    refused("found no time in this project")
    monkeypatch.setattr(planning, "changes", lambda: {"collection": []})
    assert retraining.retrain() == "promoted"
    assert file.read_text() == text


def test_what_changes_nothing_is_neither_committed_nor_promoted(home: Home, quick: dict[str, Any]) -> None:
    home.gives, before = "champion", home.state()
    assert "the same files came out" in retraining.retrain(date(2020, 2, 29))
    assert home.state() == before


def test_the_workflow_s_commands_are_shell_and_push_all_that_a_run_leaves(home: Home, tmp_path: Path) -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/retrain.yml").read_text(encoding="utf-8"))
    assert workflow["concurrency"] == {"group": "retrain", "cancel-in-progress": False}
    assert workflow["permissions"] == {}
    steps = workflow["jobs"]["retrain"]["steps"]
    assert all(re.search(r"@(v\d+\.\d+\.\d+|[0-9a-f]{40})$", step.get("uses", "@v0.0.0")) for step in steps)
    commands = [step["run"] for step in steps if "run" in step]
    assert "${{" not in "".join(commands)
    for command in commands:
        subprocess.run(["bash", "-n"], input=command, text=True, check=True)
    assert any("ninefold retrain --if-needed" in command for command in commands)
    push = next(command for command in commands if "git push" in command)
    home.git("init", "-q", "--bare", str(tmp_path / "origin"))
    home.git("remote", "add", "origin", str(tmp_path / "origin"))
    for branch in (BRANCH, f"{BRANCH}-2"):  # a run may leave a branch, or none
        subprocess.run(["bash", "-c", push], cwd=home.folder, check=True, capture_output=True)
        home.git("branch", branch)
    found = home.git("ls-remote", "origin")
    for ref in ("refs/heads/main", f"refs/heads/{BRANCH}", f"refs/tags/{NAME}@v0.0.1"):
        assert f"{ref}\n" in found
