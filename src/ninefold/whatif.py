"""A what-if: other params, tried in a notebook by hand; it writes to a folder of its own, and no output changes."""

import sys
from pathlib import Path
from typing import Any

INJECTED = "# Parameters\n"  # how papermill begins the cell in which it sets values
FOLDER = "data/whatif"  # not in git, no output of the pipeline
overrides: dict[str, Any] = {}  # of the what-if that runs; empty if none does
outputs: dict[str, Path] = {}  # name -> where this run has written it: a what-if or not


def by_hand() -> bool:
    """Return whether a person runs a notebook, in JupyterLab or VS Code: no cell was injected by papermill."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and not any(cell.startswith(INJECTED) for cell in shell.history_manager.input_hist_raw)


def begin(values: dict[str, Any]) -> None:
    """Begin a what-if, which has written nothing yet; without values, end the one that runs. Headless, do nothing."""
    if by_hand() and (values or overrides):
        outputs.clear()
        overrides.clear()
        overrides.update(values)
