"""The source of what a notebook calls, read without running it: of its stage's modules in the project and the engine."""

import ast
import re
from pathlib import Path
from typing import Any

from nbformat.v4 import new_code_cell, new_markdown_cell

from ninefold import artifacts

ENGINE = Path(__file__).parents[1]


def cells(run: Any, stage: str) -> list[Any]:
    """Return cells that show each function and class that the code of a notebook calls; none if it calls none."""
    called = set(re.findall(r"\b(\w+)\(", "\n".join(cell.source for cell in run.cells if cell.cell_type == "code")))
    project, room = artifacts.path("src/project"), "serving" if stage == "deployment" else stage
    files = [project / name for name in (f"figures/{stage}.py", "figures/__init__.py", f"{stage}.py")]
    shown: dict[str, Any] = {}
    for file in filter(Path.is_file, [*files, *sorted((ENGINE / room).glob("*.py"))]):
        lines = file.read_text(encoding="utf-8").splitlines()
        for node in ast.parse("\n".join(lines)).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in called - shown.keys():
                root = project.parent if file.is_relative_to(project) else ENGINE.parent
                where = file.relative_to(root).as_posix()
                metadata = {"label": f"{node.name}, {where}", "anchor": f"source-{node.name}"}
                shown[node.name] = new_code_cell("\n".join(lines[node.lineno - 1 : node.end_lineno]), metadata=metadata)
    return [new_markdown_cell("## Source code"), *shown.values()] if shown else []
