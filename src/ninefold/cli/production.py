"""Commands for production: serve, predict, deliver labels, monitor, promote, roll back, retrain."""

import json
from contextlib import closing, nullcontext, suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from ninefold import monitoring, registry, reports, serving  # each loads its modules where they are used
from ninefold.cli.common import Options, app, options
from ninefold.errors import DataError, ParamsError
from ninefold.stages import label

READS = "The features: .csv, .parquet, a folder of .parquet files, FILE.db::TABLE (DuckDB or SQLite), or URL::TABLE."
WRITES = "Where to, of the same kinds. A file is replaced whole; of tables only one that an earlier run wrote."
LAST = "The last day; default: the last with labels."
LABELS = "The target, by request_id (and row) or key and time; known_at if known."
AsJson = Annotated[bool, typer.Option("--json", help="As JSON, with all fields.")]
IN_PRODUCTION = "the one in production, models/production, or models/bundle while nothing was promoted."
BundleFolder = Annotated[Path | None, typer.Option("--bundle", help=f"A bundle's folder; default: {IN_PRODUCTION}")]
LogFile = Annotated[Path | None, typer.Option("--log", help="The log; default: data/predictions/log.sqlite.")]
FORCED = "Why to promote what does not significantly beat the champion."
Force = Annotated[str | None, typer.Option("--force", metavar="REASON", help=FORCED)]


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen at; 0.0.0.0 allows other machines.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 chooses a free one.")] = 8000,
    bundle: BundleFolder = None,
    log: Annotated[Path | None, typer.Option(help="Default: data/predictions/log.sqlite; with --bundle none.")] = None,
    no_log: Annotated[bool, typer.Option("--no-log", help="Log nothing.")] = False,
    review: Annotated[Path | None, typer.Option(metavar="FILE", help="Rows to review; default: the newest.")] = None,
) -> None:
    """Serve the bundle over HTTP until stopped: predictions for programs, and a review page at / for people."""
    serving.app.run(bundle, host, port, log, no_log, review)


@app.command(name="log")
def export_log(
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", help="Also copy there what it lacks.")] = None,
    log: LogFile = None,
) -> None:
    """Export new predictions as Parquet, by day, to the folder lake beside the log; delete those older than deployment.log.keep."""
    from ninefold import artifacts, params

    exports, place, keep = serving.log_export, log or artifacts.path(serving.LOG), params.load("deployment").log.keep
    rows, old = exports.export(place, folder), exports.prune(place, keep)
    print(f"exported {rows:,} rows to {folder or exports.lake(place)}; deleted {old:,} requests older than {keep}")


@app.command()
def alerts(as_json: AsJson = False) -> None:
    """Notify of alerts that stage 09 raised or closed, each once, also if its gate failed; list the open ones."""
    from ninefold import artifacts, incidents, params

    failed = artifacts.published(f"reports/failed/{label('monitoring')}.periods.json")
    periods = artifacts.read_json(f"{monitoring.MONITORING}/periods.json") if failed is None else failed
    deliver, notification = params.load("monitoring").deliver, monitoring.notification
    place, alerts = artifacts.path(deliver.file or notification.ALERTS), incidents.find(periods)
    sent = notification.deliver(periods, deliver, place)
    waiting = {name: len(unsent) for name, unsent in notification.read(place).waiting.items()}
    if not as_json:
        print(notification.as_text(alerts, sent, waiting))
        return
    opened = [incident.model_dump() for incident in incidents.worst_first(alerts) if incident.until is None]
    ended = [incident.model_dump() for incident in alerts if incident.until is not None]
    report = {"open": opened, "ended": ended, "sent": [one.model_dump() for one in sent], "waiting": waiting}
    print(json.dumps(report, indent=1, ensure_ascii=False))


@app.command()
def predict(
    source: Annotated[str, typer.Argument(metavar="IN", help=READS)],
    target: Annotated[str, typer.Argument(metavar="OUT", help=WRITES)],
    bundle: BundleFolder = None,
    query: Annotated[str | None, typer.Option(metavar="SQL", help="What to score of the database IN.")] = None,
    log: Annotated[bool, typer.Option("--log", help="Log the predictions too, for stage 09 to evaluate.")] = False,
) -> None:
    """Score a table: the rows of IN with forecast, action and expected payoff."""
    from ninefold import artifacts

    loaded = serving.hot_swap.load(bundle)
    with closing(serving.log.Log(artifacts.path(serving.LOG))) if log else nullcontext() as open_log:
        done = serving.batch.predict(source, target, loaded, query, open_log)
    print(serving.batch.describe(done, loaded))


@app.command(name="labels")
def deliver_labels(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help=LABELS)],
    bundle: BundleFolder = None,
    log: LogFile = None,
    option: Options = None,
) -> None:
    """Deliver outcomes: late, in any order, repeated or corrected; each is joined to its prediction once."""
    paths = [str(Path(file).resolve()) if Path(file).exists() else file for file in files]
    for line in monitoring.labels.run(paths, serving.hot_swap.load(bundle), log, options(option)):
        print(line)


@app.command()
def monitor() -> None:
    """Run stage 09 on the prediction log, then `ninefold alerts`, also if its gate failed."""
    from ninefold import artifacts, params

    if params.load("monitoring").source != "log":
        what_to_do = "`ninefold monitor` reads the prediction log; for a replay run `dvc repro`"
        raise ParamsError(f"params.yaml, monitoring.source: found replay, expected log: {what_to_do}")
    with artifacts.writing():
        if (place := artifacts.path(serving.LOG)).is_file():
            serving.log_export.prune(place, params.load("deployment").log.keep)
        try:
            reports.runner.execute("monitoring", {})
        except reports.runner.StageFailed:
            reports.site.render()
            with suppress(DataError):  # which may not hide why the stage failed
                alerts()
            raise
        reports.site.render()
    alerts()


@app.command()
def promote(force: Force = None) -> None:
    """Make the bundle a version in git, and the champion, if its gates passed and it beats the one in production."""
    print(registry.promotion.promote(force))


@app.command()
def models(as_json: AsJson = False) -> None:
    """List the versions of the model, how good they are, and which one is in production."""
    versions = registry.promotion.models()
    print(json.dumps(versions, indent=1, ensure_ascii=False) if as_json else registry.promotion.as_table(versions))


@app.command()
def rollback() -> None:
    """Go back to the version that was in production before, bundle and all."""
    print(registry.promotion.rollback())


@app.command(name="retrain")
def retrain_model(
    as_of: Annotated[datetime | None, typer.Option(metavar="DATE", formats=["%Y-%m-%d"], help=LAST)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen; change nothing.")] = False,
    if_needed: Annotated[bool, typer.Option("--if-needed", help="Only if stage 09 says so: for cron and CI.")] = False,
    force: Force = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for another run to end, instead of refusing.")] = False,
    abandon: Annotated[bool, typer.Option("--abandon", help="Put back what an interrupted run has changed.")] = False,
) -> None:
    """Add new data, build a challenger, promote it if it significantly beats the champion; continue an interrupted run.

    Exit code 0: done, or nothing to do, or the champion is kept; 1: refused, or a step failed and all was put back.
    """
    last = as_of and as_of.date()
    if abandon:
        print(registry.retraining.abandon())
    elif dry_run:
        print(registry.planning.preview(last))
    else:
        print(registry.retraining.retrain(last, force, wait, if_needed))
