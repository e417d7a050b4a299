"""What the commands share: the application, clear errors, a question before writing, options as params."""

from __future__ import annotations

import sys
from datetime import date
from typing import Any

import typer
import yaml

from ninefold.errors import NinefoldError, ParamsError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback()
def _main() -> None:
    """Machine learning on tables, through nine stages. `dvc repro` runs them; these commands are its parts."""


class clear_errors:  # noqa: N801 -- reads as a statement: with clear_errors()
    """Print an error that the user can mend as one message, without a stack, and exit with 1."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, NinefoldError):
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(1) from None


def confirm(question: str, yes: bool, remedy: str) -> None:
    """Ask before something is written, unless `yes`; without a terminal the answer is no."""
    if not yes and not (sys.stdin.isatty() and typer.confirm(question)):
        raise NinefoldError(f"nothing was changed; {remedy}")


def day(text: str | None, flag: str) -> date | None:
    """Return the day that an option gives."""
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise ParamsError(f"{flag} {text}: expected a day, such as 2013-10-31") from None


def overrides(
    pairs: list[str], flag: str = "--param", example: str = "candidates.boosting.max_iter=100"
) -> dict[str, Any]:
    """Return the nested values of ``KEY=VALUE`` options."""
    overrides: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ParamsError(f"{flag} {pair}: expected KEY=VALUE, such as {example}")
        inner = overrides
        *parents, leaf = key.split(".")
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[leaf] = yaml.safe_load(value)
    return overrides
