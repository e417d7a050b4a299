"""The guides in docs/: every command is run, in one project, and shows what the guide says that it shows."""

import doctest
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from clones import ROOT, lighten

from ninefold.testing import project as testing

LISTED = re.findall(r"\]\((\S+\.md)\)", (ROOT / "docs/README.md").read_text(encoding="utf-8"))
GUIDES = [name for name in LISTED if name not in ("engine.md", "checks.md")]  # these are made to look things up
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
BY_A_PERSON = ("uvx copier copy", "cd my-project", "make setup", ". .venv/bin/activate", "make spark")
BY_A_PERSON += ("dvc exp run -S engine",)
LONGEST = 95  # lines of a guide, its code included
ADDRESS = "http://127.0.0.1:8000"
LIKE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass
class Step:
    """What a guide asks for: a command and what it shows, or a change of a file."""

    kind: str
    text: str
    shown: list[str] = field(default_factory=list)


def steps(guide: str) -> list[Step]:
    """Return the steps of a guide in their order; a change begins with the file that the prose named last."""
    text, found = (ROOT / "docs" / guide).read_text(encoding="utf-8"), []
    for block in BLOCK.finditer(text):
        kind, content = block.groups()
        if kind == "console":
            for line in content.splitlines():
                if line.startswith("$ "):
                    found.append(Step(kind, line[2:]))
                else:
                    found[-1].shown.append(line)
        elif kind == "sh":
            found.append(Step(kind, content))
        else:
            before = BLOCK.sub("", text[: block.start()])
            place = re.findall(r"`(params\.yaml|src/project/\w+\.py)`", before)[-1]
            found.append(Step(kind, f"{place}\n{content}"))
    return found


def shop(folder: Path) -> None:
    """Write the tables of the guides: orders of eight months, and of nine; customers; the prices of each month."""
    random, count = np.random.default_rng(11), 1000
    days = np.sort(random.choice(pd.date_range("2025-01-01", "2025-09-30"), count))
    placed = pd.Series(days) + pd.to_timedelta(random.integers(7 * 60, 22 * 60, count), "min")
    names = np.array([f"C{number:03d}" for number in range(120)])
    tier = random.choice(["basic", "plus"], 120, p=[0.6, 0.4])
    since = pd.Timestamp("2020-01-01") + pd.to_timedelta(random.integers(0, 1700, 120), "D")
    who = random.integers(0, 120, count)
    product = random.choice(["shoes", "shirt", "lamp", "book"], count, p=[0.3, 0.3, 0.2, 0.2])
    amount = np.round(random.gamma(3, 25, count) + 5, 2)
    # Strong enough that no gate hangs on luck; in September fewer come back, and the model has to be noticed as wrong.
    logit = -4.2 + 4 * (product == "shoes") + 2 * (product == "shirt") + 2 * (tier[who] == "basic") + amount / 100
    logit -= 1.2 * (placed >= "2025-09-01").to_numpy()
    back = random.random(count) < 1 / (1 + np.exp(-logit))
    orders = pd.DataFrame({
        "order_id": [f"O{number:05d}" for number in range(1, count + 1)],
        "placed": placed.dt.strftime("%Y-%m-%d %H:%M:%S"), "customer": names[who], "product": product, "amount": amount,
        "items": random.integers(1, 5, count), "refund": np.where(back, amount.astype(str), ""),
        "outcome": np.where(back, "returned", "kept"),
    })  # fmt: skip
    orders[placed < "2025-09-01"].to_csv(folder / "orders.csv", index=False)
    orders.to_csv(folder / "orders-september.csv", index=False)
    people = {"customer": names, "tier": tier, "since": since.strftime("%Y-%m-%d")}
    pd.DataFrame(people).to_csv(folder / "customers.csv", index=False)
    months = pd.date_range("2024-12-01", "2025-09-01", freq="MS").strftime("%Y-%m-%d")
    kinds = ("shoes", "shirt", "lamp", "book")
    each = [(kind, month, round(random.gamma(5, 10), 2)) for kind in kinds for month in months]
    pd.DataFrame(each, columns=["product", "valid_from", "list_price"]).to_csv(folder / "prices.csv", index=False)


class Project:
    """A copy of the repository, in which the guides are followed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = ADDRESS
        self.server: subprocess.Popen[str] | None = None
        # Relative, so that a clone runs its own code; what DVC starts runs in the project's folder, too.
        paths = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": "src"}
        self.environment = {**os.environ, **paths, "COLUMNS": "80"}
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)  # each of some forty processes would compile again

    def follow(self, guide: str) -> None:
        for step in steps(guide):
            if step.kind == "console":
                is_to_fail = any(line.lower().startswith("error: ") for line in step.shown)
                said = self.serve() if step.text == "ninefold serve" else self.run(step.text, is_to_fail)
                if step.text.startswith("ninefold init"):
                    lighten(self.folder)
                expected = "\n".join(step.shown) + "\n"
                assert not step.shown or doctest.OutputChecker().check_output(expected, said, LIKE), (
                    f"{guide}: $ {step.text}\nexpected:\n{expected}\nfound:\n{said}"
                )
            elif step.kind != "sh":
                self.change(step)

    def run(self, command: str, is_to_fail: bool = False) -> str:
        command = command.replace(ADDRESS, self.address)
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self.environment, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert (done.returncode != 0) == is_to_fail, f"$ {command}\nended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def serve(self) -> str:
        """Start the service on a free port of this machine; return what it said, with the usual address."""
        log = self.folder.parent / "serve.log"
        with log.open("w") as output:
            self.server = subprocess.Popen(
                ["ninefold", "serve", "--port", "0"], cwd=self.folder, env=self.environment, stdout=output, text=True
            )
        end = time.monotonic() + 60
        while "\n" not in log.read_text() and self.server.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        self.address = log.read_text().split(" at ")[-1].strip()
        assert self.address.startswith("http://127.0.0.1:"), log.read_text()
        return log.read_text().replace(self.address, ADDRESS)

    def change(self, step: Step) -> None:
        """Change a file as a block says: code goes to its end; of a diff, every part (``...`` stands between) to its place."""
        name, _, content = step.text.partition("\n")
        place = self.folder / name
        text = place.read_text(encoding="utf-8")
        if step.kind == "python":
            text = f"{text}\n\n{content}"
        else:
            for part in content.split("...\n"):
                text = patched(text, part.splitlines(), name)
        place.write_text(text, encoding="utf-8")


def patched(text: str, marked: list[str], name: str) -> str:
    """Return a text after one part of a diff; the comments at the ends of old lines do not count."""
    assert {line[:1] for line in marked} <= {" ", "-", "+"}, marked
    lines, old = text.splitlines(), [line[1:] for line in marked if line[0] != "+"]
    plain = [re.sub(r"\s+# .*", "", line) for line in lines]
    found = [at for at in range(len(lines)) if plain[at : at + len(old)] == old]
    assert len(found) == 1, f"{name}: {len(found)} places for {old}"
    kept, new = iter(lines[found[0] : found[0] + len(old)]), []
    for line in marked:
        whole = line[1:] if line[0] == "+" else next(kept)
        if line[0] != "-":
            new.append(whole)
    return "\n".join([*lines[: found[0]], *new, *lines[found[0] + len(old) :]]) + "\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("guides") / "my-project"
    testing.copy_tracked(ROOT, folder, ("reports/", "dvc.lock"))
    shop(folder.parent)
    copied = Project(folder)
    copied.run("git init -q && git add -A && git commit -q -m 'As it was copied'")
    yield copied
    if copied.server is not None:
        copied.server.terminate()
        copied.server.wait(30)


@pytest.fixture(scope="module")
def broken() -> list[str]:
    """Guides that failed: those that come after stand on them."""
    return []


@pytest.mark.parametrize("guide", GUIDES)
def test_a_guide_is_short_and_links_to_what_is_there(guide: str) -> None:
    text = (ROOT / "docs" / guide).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST
    assert max(map(len, BLOCK.sub("", text).splitlines())) <= 130
    assert [name for name in re.findall(r"\]\((\S+\.md)\)", text) if not (ROOT / "docs" / name).exists()] == []


def test_the_index_lists_every_guide_and_only_what_needs_the_network_or_a_person_is_not_run() -> None:
    assert len(GUIDES) == 13
    assert sorted([*LISTED, "README.md"]) == sorted(place.name for place in (ROOT / "docs").glob("*.md"))
    every = [step for guide in GUIDES for step in steps(guide)]
    assert {step.kind for step in every} <= {"console", "sh", "diff", "python"}
    unrun = [line for step in every if step.kind == "sh" for line in step.text.splitlines()]
    assert [line for line in unrun if not line.startswith(BY_A_PERSON)] == []


@pytest.mark.parametrize("guide", GUIDES)
def test_a_guide_does_what_it_says(guide: str, project: Project, broken: list[str]) -> None:
    if broken:
        pytest.skip(f"stands on {broken[0]}, which failed")
    broken.append(guide)
    project.follow(guide)
    broken.remove(guide)


def test_the_guides_ran_on_the_code_of_the_copy_and_left_it_clean(project: Project, broken: list[str]) -> None:
    if broken:
        pytest.skip(f"stands on {broken[0]}, which failed")
    for name in ("ninefold", "project"):
        found = project.run(f"python -c {shlex.quote(f'import {name}; print({name}.__file__)')}").strip()
        assert (project.folder / found).resolve().is_relative_to(project.folder.resolve())
    assert project.run("git status --short") == ""
    assert "Data and pipelines are up to date" in project.run("dvc status")
