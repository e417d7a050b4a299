"""Run one stage's notebook headlessly, by papermill; keep nothing that changes between equal runs."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import yaml
from nbformat import NotebookNode

from ninefold import artifacts, outdated, pin
from ninefold.errors import DataError, NinefoldError, without_secrets
from ninefold.params import load, root
from ninefold.sentences import render
from ninefold.stages import FLOOR, STAGES, is_own, label

SOURCES = "reports/sources"
OWN = "notebooks/own.yaml"
BAR = "{l_bar}{bar:20}| cell {n_fmt} of {total_fmt}, {elapsed}"
BINARY = ("image/", "application/")  # outputs that hold no text for people
RAISED, INJECTED = "papermill-error-cell-tag", "injected-parameters"  # cells that are not in the user's notebook
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
METADATA = {"kernelspec": KERNEL, "language_info": {"name": "python"}}


class StageFailed(NinefoldError):
    """A cell of a stage's notebook raised; the partial notebook is kept in ``reports/failed``."""


def read(place: Path) -> NotebookNode:
    """Read a notebook; `DataError` if it is missing, or not a notebook."""
    try:
        return nbformat.read(place, as_version=4)
    except FileNotFoundError:
        raise DataError(f"{place}: not found; every stage has a notebook of its number and name") from None
    except (ValueError, nbformat.reader.NotJSONError, nbformat.ValidationError) as error:
        raise DataError(f"{place}: not a notebook ({error}); restore it from git") from None


def clean(notebook: NotebookNode) -> NotebookNode:
    """Return a notebook's source alone, with its pasted pictures: no outputs, no counts, only tags and the kernel."""
    cells: list[dict[str, Any]] = []
    for index, cell in enumerate(notebook.cells):
        data = {"source": "", **{name: cell[name] for name in ("cell_type", "source", "attachments") if cell.get(name)}}
        tags = {"tags": list(cell.metadata["tags"])} if cell.metadata.get("tags") else {}
        cells.append({"id": f"cell-{index:02d}", "metadata": tags, **data})  # editors give ids where there are none
        if cell.cell_type == "code":
            cells[-1] |= {"outputs": [], "execution_count": None}
    return nbformat.from_dict({"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5})


def own() -> list[str]:
    """Return the names of your own notebooks, as ``notebooks/own.yaml`` lists them; `DataError` if one is none."""
    place = artifacts.path(OWN)
    try:
        entries = (yaml.safe_load(place.read_text(encoding="utf-8")) or {}).get("own") if place.exists() else []
        listed = [str(name) for name in entries or []]
    except (yaml.YAMLError, AttributeError, TypeError):
        raise DataError(f"{OWN}: not readable; expected `own:` and below it a line `- 05b_a_title` each") from None
    if wrong := [name for name in listed if not is_own(name)]:
        raise DataError(f"{OWN}: found {wrong[0]!r}, expected the name of a notebook of yours, such as 05b_a_title")
    return listed


def refresh_sources() -> None:
    """Write a clean copy of every notebook of ``notebooks/`` to ``reports/sources/``, on which the stages depend.

    Running and saving a notebook in JupyterLab changes its outputs, not its clean copy, so no stage runs again. Raises
    `NinefoldError` if a notebook is damaged or lost, or the project is written for another engine.
    """
    pin.check()
    outdated.refuse(root())
    folder = artifacts.path(SOURCES)
    notebooks = sorted(artifacts.path("notebooks").glob("*.ipynb"))
    if lost := sorted(set(own()) - {notebook.stem for notebook in notebooks}):
        raise DataError(render("reports", "lost_notebook", listed=OWN, name=lost[0]))
    for stale in set(folder.glob("*.ipynb")) - {folder / notebook.name for notebook in notebooks}:
        stale.unlink()
    for notebook in notebooks:
        _write(clean(read(notebook)), folder / notebook.name)


def execute(slug: str, overrides: dict[str, Any] | None = None) -> None:
    """Run the notebook of a stage, or one of your own, and write it, executed and stripped, to ``reports/notebooks``.

    `overrides` are nested values laid over its section of ``params.yaml``. `NinefoldError` as `refresh_sources`, or if the
    params are wrong. `StageFailed` names the cell that raised, and its error; the run so far is kept in ``reports/failed``.
    """
    name = label(slug)
    pin.check()
    outdated.refuse(root())
    source = artifacts.path(SOURCES) / f"{name}.ipynb"
    edited = artifacts.path("notebooks") / f"{name}.ipynb"
    if edited.exists():
        _write(clean(read(edited)), source)
    read(source)  # refuses a missing or damaged notebook before a kernel starts
    params = load(FLOOR if is_own(slug) else slug, overrides).model_dump(mode="json")
    clear_failures(name)
    note = artifacts.path(f"reports/timings/{name}.txt")
    note.unlink(missing_ok=True)
    partial = artifacts.path(f"reports/.{name}.partial.ipynb")
    started = time.perf_counter()
    which = f"notebook {name}" if is_own(slug) else f"stage {STAGES.index(slug) + 1} of {len(STAGES)}, {slug}"
    print(f"{which}: running {edited.name}", flush=True)
    failure = _papermill(source, partial, slug, params)
    executed = strip(read(partial))
    partial.unlink()
    seconds = time.perf_counter() - started
    artifacts.write_json({"seconds": round(seconds, 1)}, artifacts.path(f"reports/timings/{name}.json"))
    if failure:
        _write(executed, artifacts.path(f"reports/failed/{name}.ipynb"))
        raise StageFailed(f"{name}: {failure}")
    _write(executed, artifacts.path(f"reports/notebooks/{name}.ipynb"))
    print(f"{which}: gate passed, {seconds:.0f} s", flush=True)
    if note.exists():
        print(note.read_text(encoding="utf-8").rstrip(), flush=True)


def clear_failures(name: str = "*") -> None:
    """Remove what failed runs of a stage, or of all, left in ``reports/failed``."""
    for trace in artifacts.path("reports/failed").glob(f"{name}.*"):
        trace.unlink()


def strip(notebook: NotebookNode) -> NotebookNode:
    """Return an executed notebook without secrets, and what differs between equal runs: times, random ids, log lines."""
    stripped = clean(notebook)
    for cell, original in zip(stripped.cells, notebook.cells, strict=True):
        cell.id = INJECTED if INJECTED in cell.metadata.get("tags", []) else original.id
        if cell.cell_type == "code":
            cell.execution_count = original.execution_count
            cell.outputs = [output for output in original.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                output.update({"metadata": {}} if "metadata" in output else {})
                for texts in (output, output.get("data", {})):
                    texts.update({name: _masked(text) for name, text in texts.items() if not name.startswith(BINARY)})
    stripped.cells = [cell for cell in stripped.cells if RAISED not in cell.metadata.get("tags", [])]
    return stripped


def _papermill(source: Path, target: Path, slug: str, params: dict[str, Any]) -> str | None:
    """Execute `source` into `target`; return what went wrong, or None."""
    import papermill
    from nbclient.exceptions import DeadKernelError
    from traitlets.config import Config

    config = Config()
    config.KernelManager.transport = "ipc"  # no open port, and no warning about one
    config.NotebookClient.shutdown_kernel = "immediate"  # the polite way interrupts the kernel, which prints an error
    os.environ.setdefault("PYTHONHASHSEED", "0")
    bar = {"desc": label(slug), "bar_format": BAR, "disable": not sys.stderr.isatty(), "leave": False}
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        options = {"kernel_name": "python3", "cwd": root(), "progress_bar": bar, "config": config}
        options["stderr_file"] = sys.stderr if sys.stderr.isatty() else None  # bars of cells that take long
        papermill.execute_notebook(source, target, parameters={"section": slug, "overrides": params}, **options)
    except papermill.PapermillExecutionError as error:
        cells = [cell for cell in read(target).cells if not {RAISED, INJECTED} & set(cell.metadata.get("tags", []))]
        raised = [any(output.output_type == "error" for output in cell.get("outputs", [])) for cell in cells]
        number = 1 + raised.index(True) if any(raised) else "with the parameters"
        first = error.source.strip().partition("\n")[0]
        return f"cell {number} ({first!r}) raised {error.ename}: {error.evalue}"
    except DeadKernelError:
        return "the kernel died; the machine may have run out of memory"
    return None


def _masked(value: Any) -> Any:
    if isinstance(value, list):  # a traceback
        return [_masked(each) for each in value]
    return without_secrets(value) if isinstance(value, str) else value


def _write(notebook: NotebookNode, place: Path) -> None:
    artifacts.write_text(json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n", place)
