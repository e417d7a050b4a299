"""A tiny project in a folder of its own: a shop's orders, written as text, two months of them."""

import copy
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import dvc  # noqa: F401  # it logs to the standard output at its import: not to that of a test, which is closed
import matplotlib.pyplot as plt
import pandas as pd
import pytest
import yaml

from ninefold import artifacts, display, hooks, whatif
from ninefold.problem import Params, Problem

os.environ.setdefault("MPLBACKEND", "Agg")
# Git has nobody's settings, a name of its own, and no repository of a hook that runs the tests.
for variable in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
    os.environ.pop(variable, None)
os.environ |= {f"GIT_{role}_{what}": "test@localhost" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
os.environ["GIT_CONFIG_GLOBAL"] = os.devnull

TINY = yaml.safe_load(Path(__file__).with_name("tiny.yaml").read_text("utf-8"))
PARAMS: dict[str, Any] = TINY["params"]
TASKS: dict[str, dict[str, Any]] = TINY["tasks"]
CLASSES = TASKS["multiclass"]["classes"]
LONG = [
    "test_pipeline.py", "test_spark.py", "test_guides.py", "test_template.py", "test_own_tables.py", "test_ingest.py",
    "test_whole_run.py",
]  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the files that take minutes first, so that no processor waits for the last of them."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


def statement(task: str = "binary", **changes: Any) -> Problem:
    """Return the tiny project's problem as stage 01 states it, for one of the three tasks."""
    values = {**copy.deepcopy(PARAMS["problem"]), **TASKS[task], **changes}
    return Problem.of(Params.model_validate(values))


class Project:
    """The tiny project: its folder, its params, and the functions its user wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.functions: dict[tuple[str, str], Callable[..., Any]] = {}
        self.params = copy.deepcopy(PARAMS)
        self.write(yaml.safe_dump(self.params, sort_keys=False))

    def write(self, text: str) -> None:
        """Write ``params.yaml`` as it stands."""
        (self.folder / "params.yaml").write_text(text)

    def set(self, path: str, value: Any) -> None:
        """Set one value of ``params.yaml``, such as ``collection.as_of``."""
        *parents, leaf = path.split(".")
        inner = self.params
        for parent in parents:
            inner = inner[parent]
        inner[leaf] = value
        self.write(yaml.safe_dump(self.params, sort_keys=False))

    def find(self, module: str, function: str, default: Callable[..., Any]) -> Callable[..., Any]:
        """Stand in for `hooks.project`: the tiny project has a user of its own."""
        return self.functions.get((module, function), default)

    def raw(self, table: str, period: str, rows: pd.DataFrame) -> None:
        """Write one raw partition, all text."""
        artifacts.write_table(rows.astype("str"), self.folder / f"data/raw/{table}/{period}.parquet")

    def lake(self, table: str, rows: pd.DataFrame, period: str = "all") -> None:
        """Write one partition of a table of the lake, typed; a table without time has but the one."""
        artifacts.write_table(rows, self.folder / f"data/lake/{table}/period={period}/part-0.parquet")

    def bytes(self, name: str) -> dict[str, bytes]:
        """Return every file below a folder, by its relative path."""
        files = sorted(file for file in (self.folder / name).rglob("*") if file.is_file())
        return {str(file.relative_to(self.folder)): file.read_bytes() for file in files}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Stand in the tiny project's folder."""
    monkeypatch.chdir(tmp_path)
    tiny = Project(tmp_path)
    monkeypatch.setattr(hooks, "project", tiny.find)
    whatif.outputs.clear()
    return tiny


@pytest.fixture
def fresh_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a test import a ``project`` of its own; afterwards the one that was imported before is there again."""

    def imported() -> list[str]:
        return [name for name in sys.modules if name.partition(".")[0] == "project"]

    for name in imported():
        monkeypatch.delitem(sys.modules, name)
    importlib.invalidate_caches()
    yield
    for name in imported():
        del sys.modules[name]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return what is displayed, as it is displayed."""
    things: list[Any] = []
    monkeypatch.setattr(display, "display", lambda thing, **_: things.append(thing))
    return things


@pytest.fixture
def orders() -> pd.DataFrame:
    """Return six orders of two months, as text."""
    return pd.DataFrame({
        "id": ["1", "2", "3", "4", "5", "6"],
        "placed": [f"2020-{day}T12:00:00" for day in ("01-05", "01-20", "01-31", "02-01", "02-10", "02-29")],
        "customer": ["ann", "bob", "ann", "bob", "ann", "bob"],
        "amount": ["10.5", "20", "NA", "40", "50", "60"],
        "status": ["paid", "paid", "open", "paid", "open", "paid"],
        "returned": ["0", "1", "", "0", "1", "0"],
    })  # fmt: skip


@pytest.fixture
def parts(project: Project) -> dict[str, pd.DataFrame]:
    """Lay out the tiny project as stage 08 finds it, of two classes; return its labelled rows by part."""
    from bundles import lay_out  # which imports most of the machinery, for the few files that need it

    return lay_out()


@pytest.fixture
def bundle(parts: dict[str, pd.DataFrame]) -> Any:
    """Return the bundle packed from `parts`."""
    from bundles import pack

    return pack(parts)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return where the prediction log of the tiny project lies."""
    return tmp_path / "data/predictions/log.sqlite"


@pytest.fixture
def log(place: Path) -> Iterator[Any]:
    """Open the prediction log of the tiny project."""
    from ninefold.serving.log import Log

    with closing(Log(place)) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    """Leave no open figure behind."""
    yield
    plt.close("all")
