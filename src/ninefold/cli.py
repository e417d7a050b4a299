"""The command line: begin with a table, run a stage, render the site, ask in SQL, score a table, serve the model."""

from __future__ import annotations

import json
import sys
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from ninefold.core.errors import NinefoldError, ParamsError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback()
def _main() -> None:
    """Machine learning on tables, through nine stages. `dvc repro` runs them; these commands are its parts."""


@app.command()
def init(
    table: Annotated[
        str,
        typer.Argument(
            metavar="TABLE",
            help="A file (CSV, Parquet, JSON lines, Excel), a folder of such, FILE.db::TABLE, s3://..., or the URL of a database.",
        ),
    ],
    target: Annotated[str, typer.Option(metavar="COL", help="The column to foresee.")],
    time: Annotated[str | None, typer.Option(metavar="COL", help="When a row's event happens; none: no time.")] = None,
    key: Annotated[str | None, typer.Option("--id", metavar="COL", help="What identifies a row, or an entity.")] = None,
    task: Annotated[str, typer.Option(help="auto, binary, multiclass or regression.")] = "auto",
    join: Annotated[
        list[str] | None,
        typer.Option(metavar="TABLE", help="A table that tells more of what a column names; may repeat."),
    ] = None,
    name: Annotated[str | None, typer.Option("--table", help="The table in a database file, or the sheet.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="How to read it, such as header=false or delimiter=;. May repeat."),
    ] = None,
    ask: Annotated[bool, typer.Option("--ask", help="Ask whether what was found is right.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace edited files; a copy stays beside each.")] = False,
) -> None:
    """Begin with your own table: write params.yaml and src/project so that `dvc repro` runs all nine stages."""
    from ninefold.init import command

    with _clear_errors():
        options = _overrides(option or [], "--option", "delimiter=;") | ({"table": name} if name else {})
        print(
            command.run(
                table,
                target,
                time=time,
                key=key,
                task=task,
                joins=join or [],
                options=options or None,
                ask=ask,
                force=force,
            )
        )


@app.command(name="notebook")
def add_notebook(title: Annotated[str, typer.Argument(help='Its title, such as "Seasonality by region".')]) -> None:
    """Add a numbered notebook of your own, which runs with the pipeline after stage 05 and appears in the report."""
    from ninefold import own_notebook

    with _clear_errors():
        print(own_notebook.describe(own_notebook.add(title)))


@app.command(name="migrate")
def migrate_project(yes: Annotated[bool, typer.Option("--yes", help="Write without asking.")] = False) -> None:
    """Give the project the keys and names that this version of the engine reads; show the changes first."""
    from ninefold import migrate

    with _clear_errors():
        edits = migrate.plan()
        if not edits:
            print("nothing to migrate")
            return
        print(migrate.diff(edits))
        _confirm("Apply these changes?", yes, "`ninefold migrate --yes` writes these changes")
        migrate.apply(edits)
        print(f"changed {', '.join(edit.file for edit in edits)}")


@app.command()
def sources() -> None:
    """Write clean copies of the notebooks to reports/sources, on which the stages depend."""
    from ninefold.notebook import refresh_sources

    with _clear_errors():
        refresh_sources()


@app.command()
def stage(
    name: Annotated[
        str, typer.Argument(help="The stage: problem, collection, ... monitoring; or a notebook of your own, 05b_...")
    ],
    param: Annotated[
        list[str] | None, typer.Option("--param", "-p", help="KEY=VALUE laid over the stage's params; may repeat.")
    ] = None,
) -> None:
    """Execute one stage's notebook; exit non-zero, with a report, if a cell or the gate fails."""
    from ninefold import notebook

    with _clear_errors():
        try:
            notebook.execute(name, _overrides(param or []))
        except notebook.StageFailed as error:
            from ninefold import site

            site.render()
            raise NinefoldError(f"{error}\nThe run so far: {site.place_of(name)}") from None


@app.command(name="site")
def render_site(
    all_passed: Annotated[
        bool, typer.Option("--all-passed", help="Forget failed runs first; DVC comes here only when all gates passed.")
    ] = False,
) -> None:
    """Render the executed notebooks and the index to reports/*.html; refresh data/warehouse.duckdb."""
    from ninefold import notebook, site
    from ninefold.core import warehouse

    with _clear_errors():
        if all_passed:
            notebook.clear_failures()
        print(f"wrote {site.render()}")
        if warehouse.found():
            warehouse.refresh()


@app.command()
def ingest(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Files land here: <table>/<file>, or <table>-....csv.")],
    follow: Annotated[bool, typer.Option("--follow", help="Go on until stopped, taking files as they land.")] = False,
    every: Annotated[float, typer.Option(min=0.05, help="Seconds between two looks.")] = 1.0,
) -> None:
    """Take files as they land, each exactly once, through the contract into data/stream/lake."""
    from ninefold import ingest as ingesting

    with _clear_errors():
        try:
            ingesting.run(folder, follow, every)
        except KeyboardInterrupt:
            print("stopped; what was taken is kept")


@app.command()
def summary() -> None:
    """Print the gates, the headline figures, and where the report is."""
    from ninefold import site

    with _clear_errors():
        site.summarize()


@app.command()
def sql(
    query: Annotated[
        str | None, typer.Argument(metavar="QUERY", help="Such as 'SELECT * FROM metrics.gates'; none: list the views.")
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Write the whole answer as CSV.")] = False,
) -> None:
    """Ask the project's tables in SQL: raw data, lake, quarantine, features, predictions, metrics."""
    from ninefold.core import warehouse

    with _clear_errors():
        if not query and not csv:
            print(warehouse.describe())
            return
        names, rows = warehouse.ask(query) if query else warehouse.outline()
        if csv:
            warehouse.write_csv(names, rows, sys.stdout)
        else:
            print(warehouse.as_text(names, rows))


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen at; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8000,
    bundle: Annotated[
        Path | None,
        typer.Option(help="A bundle's folder; default: models/production, or models/bundle before a promotion."),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(
            help="Where to log predictions; default: data/predictions/log.sqlite, for a named bundle nowhere."
        ),
    ] = None,
    no_log: Annotated[bool, typer.Option("--no-log", help="Log nothing.")] = False,
    desk: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Rows to decide on, .csv or .parquet; default: the newest of the project."),
    ] = None,
) -> None:
    """Serve the bundle over HTTP until stopped: answers for programs, and a desk at / for people."""
    from ninefold.serving import service

    with _clear_errors():
        service.run(bundle, host, port, log, no_log, desk)


@app.command(name="log")
def export_log(
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", help="Default: data/predictions/lake.")] = None,
    log: Annotated[Path | None, typer.Option(help="The log; default: data/predictions/log.sqlite.")] = None,
) -> None:
    """Export new predictions as Parquet, by day; delete exported ones older than deployment.log.keep."""
    from ninefold.core import io, params
    from ninefold.serving import log as logs

    with _clear_errors():
        place, target = log or io.path(logs.LOG), folder or io.path("data/predictions/lake")
        rows, old = logs.export(place, target), logs.prune(place, params.load("deployment").log.keep)
        print(f"exported {rows:,} rows to {target}; deleted {old:,} old requests")


@app.command()
def alerts(as_json: Annotated[bool, typer.Option("--json", help="As JSON, with all fields.")] = False) -> None:
    """Tell of the alerts that stage 09 found and of those that ended, each once; list the open ones."""
    from ninefold import monitoring, notify
    from ninefold.core import incidents, io

    with _clear_errors():
        judged = io.read_json(f"{monitoring.MONITORING}/periods.json")
        deliver = _deliver()
        place, found = io.path(deliver.file or notify.ALERTS), incidents.find(judged)
        sent = notify.deliver(judged, deliver, place)
        waiting = {name: len(kept) for name, kept in notify.read(place).waiting.items()}
        if not as_json:
            print(notify.as_text(found, sent, waiting))
            return
        opened = [incident.model_dump() for incident in incidents.worst_first(found) if incident.until is None]
        ended = [incident.model_dump() for incident in found if incident.until is not None]
        told = {"open": opened, "ended": ended, "sent": [one.model_dump() for one in sent], "waiting": waiting}
        print(json.dumps(told, indent=1, ensure_ascii=False))


@app.command()
def predict(
    source: Annotated[
        str,
        typer.Argument(
            metavar="IN",
            help="The features: .csv, .parquet, a folder of .parquet files, FILE.db::TABLE (DuckDB or SQLite), or URL::TABLE.",
        ),
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="OUT",
            help="Where to, of the same kinds. A file is replaced whole; of tables only one that an earlier run wrote.",
        ),
    ],
    bundle: Annotated[Path | None, typer.Option(help="A bundle's folder; default: models/bundle.")] = None,
    query: Annotated[
        str | None, typer.Option(metavar="SQL", help="What to score of the database IN, instead of a table.")
    ] = None,
    log: Annotated[
        bool,
        typer.Option("--log", help="It is decided by: write the answers to the prediction log, which stage 09 judges."),
    ] = False,
) -> None:
    """Score a table: the rows of IN with forecast, action and expected payoff."""
    from contextlib import closing, nullcontext

    from ninefold.core import io
    from ninefold.serving import bundle as bundles
    from ninefold.serving import log as logs
    from ninefold.serving import scoring

    with _clear_errors():
        loaded = bundles.load(bundle)
        with closing(logs.Log(io.path(logs.LOG))) if log else nullcontext() as kept:
            print(scoring.describe(scoring.predict(source, target, loaded, query=query, log=kept), loaded))


@app.command(name="labels")
def deliver_labels(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...", help="The target, by request_id (and row) or key and time; known_at if known."
        ),
    ],
    bundle: Annotated[Path | None, typer.Option(help="A bundle's folder; default: models/bundle.")] = None,
    log: Annotated[Path | None, typer.Option(help="The log; default: data/predictions/log.sqlite.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="How to read the files, such as delimiter=;. May repeat."),
    ] = None,
) -> None:
    """Deliver outcomes: late, in any order, repeated or corrected; each is joined to its prediction once."""
    from ninefold import labels
    from ninefold.serving import bundle as bundles

    with _clear_errors():
        options = _overrides(option or [], "--option", "delimiter=;")
        found = [str(Path(file).resolve()) if Path(file).exists() else file for file in files]
        for line in labels.run(found, bundles.load(bundle), log, options):
            print(line)


@app.command()
def monitor() -> None:
    """Judge what the service answered so far, and tell the alerts: stage 09 on the prediction log, then `ninefold alerts`."""
    from ninefold import notebook, site
    from ninefold.core import params

    with _clear_errors():
        if params.load("monitoring").source != "log":
            raise ParamsError(
                "params.yaml, monitoring.source: found replay, expected log: `ninefold monitor` judges what the service "
                "answered; of a replay `dvc repro` is all there is to run"
            )
        notebook.execute("monitoring", {})
        site.render()
    alerts()


@app.command()
def promote(
    force: Annotated[
        str | None,
        typer.Option("--force", metavar="REASON", help="Why to promote what does not surely beat the champion."),
    ] = None,
) -> None:
    """Make the bundle a version in git, and the champion, if its gates passed and it beats the one in production."""
    from ninefold import registry

    with _clear_errors():
        print(registry.promote(force))


@app.command()
def models(as_json: Annotated[bool, typer.Option("--json", help="As JSON, with all figures.")] = False) -> None:
    """List the versions of the model, how good they are, and which one is in production."""
    from ninefold import registry

    with _clear_errors():
        found = registry.models()
        print(json.dumps(found, indent=1, ensure_ascii=False) if as_json else registry.as_table(found))


@app.command()
def rollback() -> None:
    """Go back to the version that was in production before, bundle and all."""
    from ninefold import registry

    with _clear_errors():
        print(registry.rollback())


def _deliver() -> Any:
    """Return `monitoring.deliver` of ``params.yaml``."""
    from ninefold.core import params

    return params.load("monitoring").deliver


@app.command(name="retrain")
def retrain_model(
    as_of: Annotated[
        str | None,
        typer.Option(metavar="DATE", help="The last day to let in; default: the last whole one with labels."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen; change nothing.")] = False,
    if_needed: Annotated[
        bool, typer.Option("--if-needed", help="Begin only if stage 09 has decided to retrain: for cron and CI.")
    ] = False,
    force: Annotated[
        str | None,
        typer.Option("--force", metavar="REASON", help="Why to promote what does not surely beat the champion."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for another run to end, instead of refusing.")] = False,
    abandon: Annotated[bool, typer.Option("--abandon", help="Put back what an interrupted run has changed.")] = False,
) -> None:
    """Let new data in, build a challenger, promote it if it surely beats the champion; go on where a run was killed.

    Exit code 0: done, or nothing to do, or the champion is kept; 1: refused, or a step failed and all was put back.
    """
    from ninefold import retrain

    with _clear_errors():
        day = _day(as_of, "--as-of")
        if abandon:
            print(retrain.abandon())
        else:
            print(retrain.preview(day) if dry_run else retrain.run(day, force, wait, if_needed))


@app.command()
def guide(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Such as add-a-feature; none: list them.")] = None,
) -> None:
    """Show a guide: how to bring a table, add a feature or a model, deploy, monitor, retrain."""
    from rich.console import Console
    from rich.markdown import Markdown

    from ninefold import guides

    with _clear_errors():
        text = guides.read(name)
        Console().print(Markdown(text)) if sys.stdout.isatty() else print(text)


@app.command()
def eject(yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Own the engine: copy its sources to src/ninefold and make the project use them. There is no way back but git."""
    from ninefold import pin

    with _clear_errors():
        print(pin.plan())
        _confirm("Eject?", yes, "`ninefold eject --yes` does it")
        print(pin.eject())


class _clear_errors:  # noqa: N801 -- reads as a statement: with _clear_errors()
    """Print an error that the user can mend as one message, without a stack, and exit with 1."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, NinefoldError):
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(1) from None


def _confirm(question: str, yes: bool, remedy: str) -> None:
    """Ask before something is written, unless `yes`; without a terminal the answer is no."""
    if not yes and not (sys.stdin.isatty() and typer.confirm(question)):
        raise NinefoldError(f"nothing was changed; {remedy}")


def _day(text: str | None, flag: str) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise ParamsError(f"{flag} {text}: expected a day, such as 2013-10-31") from None


def _overrides(
    pairs: list[str], flag: str = "--param", example: str = "candidates.boosting.max_iter=100"
) -> dict[str, Any]:
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
