"""Write ``docs/engine.md``, the public functions of the engine by room, from the stubs and docstrings of ``src/ninefold``."""

import ast
from pathlib import Path

from ninefold.stages import STAGES

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src/ninefold"
SPINE = ("errors", "stages", "params", "artifacts", "gate", "display", "plotting", "engine")
ROOMS = (*STAGES[:7], "serving", "monitoring", "registry", "reports", "init", "testing")
HEAD = """# The engine

The public functions and classes of the library `ninefold`, which notebooks and `src/project` import. `help(name)` in a
notebook shows the whole docstring. A room imports only from rooms above it, and only what is listed here.
"""


def public(room: str) -> dict[str, list[str]]:
    """Return the names that a room's stub exports, by module; modules themselves under an empty name."""
    names: dict[str, list[str]] = {}
    for node in ast.parse((SOURCE / room / "__init__.pyi").read_text()).body:
        if isinstance(node, ast.ImportFrom):
            names.setdefault(node.module or "", []).extend(alias.name for alias in node.names)
    return names


def page() -> str:
    parts = [HEAD, "## The spine\n"]
    for module in SPINE:
        tree = ast.parse((SOURCE / f"{module}.py").read_text())
        parts.append(f"**`ninefold.{module}`**: {_first_line(tree)}\n\n{_lines(tree)}")
    for room in ROOMS:
        tree = ast.parse((SOURCE / room / "__init__.py").read_text())
        parts.append(f"## `ninefold.{room}`\n\n{_first_line(tree)}\n")
        for module, names in sorted(public(room).items()):
            if not module:
                modules = ((name, ast.parse((SOURCE / room / f"{name}.py").read_text())) for name in sorted(names))
                lines = "".join(f"- `{name}` (module): {_first_line(tree)}\n" for name, tree in modules)
            else:
                lines = _lines(ast.parse((SOURCE / room / f"{module}.py").read_text()), names)
            parts.append(lines)
    return "\n".join(part for part in parts if part)


def _lines(tree: ast.Module, names: list[str] | None = None) -> str:
    nodes = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    shown = names or [name for name in nodes if not name.startswith("_")]
    return "".join(f"- `{name}`: {_first_line(nodes[name])}\n" for name in sorted(shown) if name in nodes)


def _first_line(node: ast.Module | ast.FunctionDef | ast.ClassDef) -> str:
    return (ast.get_docstring(node) or "").split("\n")[0]


if __name__ == "__main__":
    (ROOT / "docs/engine.md").write_text(page(), encoding="utf-8")
