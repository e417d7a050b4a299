"""Run the code cells of a notebook as Jupyter does: what a cell shows is rendered, its figures are drawn and closed."""

import ast
import re
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt

from ninefold import display, pictures


def run(code: str, names: dict[str, Any]) -> None:
    tree = ast.parse(re.sub("(?m)^%.*", "", code))
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, code, "exec"), names)
    value = eval(compile(ast.Expression(last.value), code, "eval"), names) if isinstance(last, ast.Expr) else None
    if isinstance(value, pd.DataFrame | pd.Series):
        display.own_table(value)
    for number in plt.get_fignums():
        pictures.picture(plt.figure(number))
