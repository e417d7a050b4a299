"""Commands on the project: begin with a table, run a stage, render the reports, ask in SQL, own the engine."""

import sys
from csv import writer
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from ninefold import processing, reports  # each loads its modules where they are used
from ninefold.cli.common import Options, app, confirm, options, overrides
from ninefold.errors import NinefoldError, ParamsError
from ninefold.sentences import render

TABLE = "A file (CSV, Parquet, JSON lines, Excel), a folder of such, FILE.db::TABLE, s3://..., or a database's URL."
EXPLAIN = "Say what columns, named in place of TABLE or after it, were taken for and why; none: all. Writes nothing."
PARAM = "KEY=VALUE of its params; may repeat"

Names = Annotated[list[str], typer.Argument(metavar="COLUMN...", help="Columns, or features, by their names.")]
Why = Annotated[str, typer.Option(metavar="TEXT", help="The reason, which the reports repeat.")]


@app.command()
def init(  # noqa: PLR0913, PLR0917
    names: Annotated[list[str] | None, typer.Argument(metavar="TABLE", help=TABLE)] = None,
    target: Annotated[str, typer.Option(metavar="COL", help="The column to predict.")] = "",
    time: Annotated[str | None, typer.Option(metavar="COL", help="When a row's event happens; none: no time.")] = None,
    key: Annotated[str | None, typer.Option("--id", metavar="COL", help="What identifies a row, or an entity.")] = None,
    task: Annotated[str, typer.Option(help="auto, binary, multiclass or regression.")] = "auto",
    join: Annotated[list[str] | None, typer.Option(metavar="TABLE", help="A table to join; may repeat.")] = None,
    name: Annotated[str | None, typer.Option("--table", help="The table in a database file, or the sheet.")] = None,
    option: Options = None,
    yes: Annotated[bool, typer.Option("--yes", help="Replace existing files without asking.")] = False,
    explained: Annotated[bool, typer.Option("--explain", help=EXPLAIN)] = False,
) -> None:
    """Start with your own table: write params.yaml, notebooks and src/project so that `dvc repro` runs all nine stages."""
    from ninefold.init import command, explain

    table, *columns = names or [""]
    if not explained and (columns or not table or not target):
        raise ParamsError(f"init: found {' '.join([table or 'no table', *columns])}, expected TABLE --target COL")
    if explained and not target:
        print(explain.project(names or []))
        return
    how = options(option) | ({"table": name} if name else {})
    plan = command.plan(table, command.Wish(target, time, key, task), join or [], how)
    if explained:
        print(explain.explain(columns, plan.proposal, plan.texts["params.yaml"], plan.texts["params.yaml"]))
        return
    if not yes and (files := ", ".join(command.replaced(plan))):
        confirm(f"init would replace {files}. Replace them?", yes, f"`ninefold init --yes` replaces {files}")
    print(command.apply(plan))


@app.command(context_settings={"ignore_unknown_options": True})  # names may begin with a hyphen
def drop(names: Names, why: Why) -> None:
    """Drop columns that are known too late: out of all of params.yaml, and into exploration.known_later."""
    from ninefold.init import declare

    print("\n".join(declare.drop(names, why)))


@app.command(context_settings={"ignore_unknown_options": True})  # names may begin with a hyphen
def keep(names: Names, why: Why) -> None:
    """Keep columns that look like leaks but are known when deciding; the reports repeat why."""
    from ninefold.init import declare

    print("\n".join(declare.keep(names, why)))


@app.command(name="notebook")
def add_notebook(title: Annotated[str, typer.Argument(help='Its title, such as "Seasonality by region".')]) -> None:
    """Add a numbered notebook of your own, which runs with the pipeline after stage 05 and appears in the report."""
    name = reports.own_notebook.add(title).stem
    print(render("reports", "next", name=name, listed=reports.runner.OWN))


@app.command(name="migrate")
def migrate_project(yes: Annotated[bool, typer.Option("--yes", help="Write without asking.")] = False) -> None:
    """Update the keys of params.yaml for this version of the engine, after showing the changes; list other lines to change."""
    from ninefold.init import migrate

    if not (changes := migrate.diff(new := migrate.plan())):
        print("nothing to migrate")
        return
    print(changes)
    confirm("Apply these changes?", yes, "`ninefold migrate --yes` writes these changes")
    migrate.write(new)
    print("changed params.yaml")


@app.command()
def sources() -> None:
    """Write clean copies of the notebooks to reports/sources, on which the stages depend."""
    from ninefold import artifacts

    with artifacts.writing():
        reports.refresh_sources()


@app.command()
def stage(
    name: Annotated[str, typer.Argument(help="problem, collection, ... monitoring; or your own notebook, 05b_...")],
    param: Annotated[list[str] | None, typer.Option("--param", "-p", help=PARAM)] = None,
) -> None:
    """Execute one stage's notebook; exit non-zero, with a report, if a cell or the gate fails."""
    from ninefold import artifacts

    with artifacts.writing():
        try:
            reports.runner.execute(name, overrides(param, "--param", "candidates.boosting.max_iter=100"))
        except reports.runner.StageFailed as error:
            reports.site.render()
            raise NinefoldError(f"{error}\nThe run so far: {reports.site.place_of(name)}") from None


@app.command(name="site")
def render_site(
    all_passed: Annotated[bool, typer.Option("--all-passed", help="Remove failed runs: all gates passed.")] = False,
    as_pdf: Annotated[bool, typer.Option("--pdf", help="Print all pages to reports/report.pdf, too.")] = False,
) -> None:
    """Render the executed notebooks and the index to reports/*.html; refresh data/warehouse.duckdb."""
    from ninefold import artifacts

    with artifacts.writing():
        if all_passed:
            reports.runner.clear_failures()
        print(f"wrote {reports.site.render()}")
        if as_pdf:
            print(f"wrote {reports.pdf.write()}")
        if processing.warehouse.found():
            processing.warehouse.refresh()


@app.command()
def ingest(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where <table>/<file>, or <table>-....csv, arrive.")],
    follow: Annotated[bool, typer.Option("--follow", help="Read files as they arrive, until stopped.")] = False,
    every: Annotated[float, typer.Option(min=0.05, help="Seconds between two checks.")] = 1.0,
) -> None:
    """Read files as they arrive, each exactly once, through the contract into data/stream/lake."""
    try:
        processing.ingest.run(folder, follow, every)
    except KeyboardInterrupt:
        print("stopped; files that were read are kept")


@app.command()
def summary() -> None:
    """Print the gates, the headline figures, and where the report is."""
    reports.site.summarize()


@app.command()
def sql(
    query: Annotated[str | None, typer.Argument(metavar="QUERY", help="SQL; none: list the views.")] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Write the whole answer as CSV.")] = False,
) -> None:
    """Query the project's tables in SQL: raw data, lake, quarantine, features, predictions, metrics."""
    warehouse = processing.warehouse
    if not query and not csv:
        print(warehouse.describe())
        return
    names, rows = warehouse.ask(query) if query else warehouse.outline()
    if csv:
        writer(sys.stdout, lineterminator="\n").writerows(chain([names], rows))
    else:
        print(warehouse.as_text(names, rows))


@app.command()
def guide(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Such as add-a-feature; none: list them.")] = None,
) -> None:
    """Show a guide: how to bring a table, add a feature or a model, deploy, monitor, retrain."""
    from rich.console import Console
    from rich.markdown import Markdown

    text = reports.guides.read(name)
    Console().print(Markdown(text)) if sys.stdout.isatty() else print(text)


@app.command()
def eject(yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Own the engine: copy its sources to src/ninefold and make the project use them. Only git undoes it."""
    from ninefold import pin

    print(pin.plan())
    confirm("Eject?", yes, "`ninefold eject --yes` does it")
    print(pin.eject())
