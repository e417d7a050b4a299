"""What the commands share: the application, clear errors, a question before writing, options as params."""

import sys
from collections.abc import Sequence
from functools import reduce
from typing import Annotated, Any

import typer
import yaml
from typer.core import TyperGroup

from ninefold.errors import NinefoldError, ParamsError

OPTIONS = "How to read it, such as header=false or delimiter=;. May repeat."
Options = Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help=OPTIONS)]


class Commands(TyperGroup):
    """Commands that print an error which the user can fix as one message, without a stack, and exit with 1."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except NinefoldError as error:
            print(f"error: {error}", file=sys.stderr)
        except Exception as error:
            from ninefold import artifacts

            if not artifacts.disk_is_full(error):
                raise
            what_to_do = "make room and run this again; what was written before is as it was"
            print(f"error: the disk is full ({str(error)[:300]}); {what_to_do}", file=sys.stderr)
        raise typer.Exit(1)


app = typer.Typer(
    cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)


@app.callback()
def _main() -> None:
    """Machine learning on tables, through nine stages. `dvc repro` runs them; these commands are its parts."""


def confirm(question: str, yes: bool, remedy: str) -> None:
    """Ask before something is written, unless `yes`; without a terminal the answer is no."""
    if not yes and not (sys.stdin.isatty() and typer.confirm(question)):
        raise NinefoldError(f"nothing was changed; {remedy}")


def overrides(pairs: Sequence[str] | None, flag: str, example: str, read: Any = yaml.safe_load) -> dict[str, Any]:
    """Return the nested values of ``KEY=VALUE`` options."""
    overrides: dict[str, Any] = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ParamsError(f"{flag} {pair}: expected KEY=VALUE, such as {example}")
        *parents, leaf = key.split(".")
        reduce(lambda inner, name: inner.setdefault(name, {}), parents, overrides)[leaf] = read(value)
    return overrides


def options(pairs: Sequence[str] | None) -> dict[str, Any]:
    """Return how a table is read, of ``--option KEY=VALUE``."""
    from pydantic import ValidationError

    from ninefold.collection import Options as Known

    values = overrides(pairs, "--option", "delimiter=;", lambda value: value.replace(r"\t", "\t"))
    try:
        return Known.model_validate(values).model_dump()
    except ValidationError as error:
        key, expected = str(error.errors()[0]["loc"][0]), error.errors()[0]["msg"].removeprefix("Input should be ")
        expected = expected if key in Known.model_fields else f"one of {', '.join(Known.model_fields)}"
        raise ParamsError(f"--option {key}: found {values[key]!r}, expected {expected}") from None
