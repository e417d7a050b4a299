"""``docs/engine.md`` lists the public functions as their docstrings describe them."""

import ast

import pytest
from engine_docs import ROOMS, ROOT, SOURCE, page, public


def test_the_page_of_the_engine_is_up_to_date() -> None:
    message = "renew it: python tests/engine_docs.py"
    assert (ROOT / "docs/engine.md").read_text(encoding="utf-8") == page(), message


@pytest.mark.parametrize("room", ROOMS)
def test_a_public_function_has_a_docstring(room: str) -> None:
    bare = [
        f"{module}.{node.name}"
        for module, names in public(room).items()
        if module
        for node in ast.parse((SOURCE / room / f"{module}.py").read_text()).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in names and not ast.get_docstring(node)
    ]
    assert bare == []
