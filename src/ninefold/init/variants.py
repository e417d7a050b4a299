"""The notebooks of a project: of the cells of the master notebooks, those that fit its task and its columns.

A cell may be tagged with the tasks that it is for, and with ``time`` or ``entity`` if it needs such a column. After a change
of a master, ``python -m ninefold.init.variants`` writes the notebooks of the repository's example again.
"""

import json
from pathlib import Path
from typing import Any

from ninefold import artifacts
from ninefold.params import load

MASTERS = Path(__file__).with_name("templates") / "notebooks"
TASKS = {"binary", "multiclass", "regression"}
COLUMNS = {"time", "entity"}


def notebooks(task: str, time: Any, entity: Any) -> dict[str, str]:
    """Return the text of every notebook by its path; `time`, `entity`: the columns of the project, None where it has none."""
    facts = {task, *["time"] * (time is not None), *["entity"] * (entity is not None)}
    return {f"notebooks/{place.name}": variant(place.read_text("utf-8"), facts) for place in sorted(MASTERS.glob("*"))}


def variant(master: str, facts: set[str]) -> str:
    """Return a notebook with the cells of `master` that fit, without the tags that say so, as Jupyter saves it."""
    notebook = json.loads(master)
    cells, notebook["cells"] = notebook["cells"], []
    for cell in cells:
        tags = cell["metadata"].pop("tags", [])
        tasks, columns = TASKS.intersection(tags), COLUMNS.intersection(tags)
        if (tasks & facts or not tasks) and columns <= facts:
            others = [tag for tag in tags if tag not in TASKS | COLUMNS]
            cell["metadata"] |= {"tags": others} if others else {}
            notebook["cells"].append(cell)
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    problem = load("problem")
    for name, text in notebooks(problem.task, problem.time, problem.group).items():
        artifacts.write_text(text, artifacts.path(name))
