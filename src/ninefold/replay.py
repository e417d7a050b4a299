"""Production in fast motion: later rows go through the running service, labels come late, the monitor judges, and retrains.

Reads: the source after ``collection.as_of``, ``data/lake/``, ``data/features/``, ``models/bundle/``.
Writes: ``data/replay/``: of each strategy the prediction log, the labels and every bundle that answered; ``strategies.json``.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from ninefold import deployment, labels, metrics, monitoring, problem, production, strategies, training
from ninefold.core import decisions, io, model_file
from ninefold.core.errors import DataError, ParamsError
from ninefold.core.params import load
from ninefold.serving import bundle as packing
from ninefold.serving import client, rollout, signature
from ninefold.serving.bundle import Bundle
from ninefold.strategies import CALENDAR, NEVER, TRIGGERED, Followed, Setting

REPLAY = "data/replay"
STRATEGIES = {"never": NEVER, "monthly": CALENDAR, "triggered": TRIGGERED}
BATCH = 100  # rows in a request: as many as the fast form answers
PATIENCE = 60.0  # seconds that the service may take to answer with a new bundle


class Production:
    """A running service with its log and labels, in a folder of its own; it answers, learns outcomes, and is retrained.

    Attributes
    ----------
    apart : float
        By how much an answer over HTTP was ever apart from the bundle's own, and a logged feature from the one sent.
    """

    def __init__(self, folder: Path, url: str, volume: pd.DataFrame, setting: Setting) -> None:
        self.folder, self.url, self.setting = folder, url, setting
        self.own = production.identity(setting.stated)
        self.closes = volume.set_index("period")["end"]
        self.apart = 0.0
        self._waiting: list[pd.DataFrame] = []

    def follow(
        self, strategy: str, bundle: Bundle, parts: dict[str, pd.DataFrame], frame: pd.DataFrame, volume: pd.DataFrame
    ) -> Followed:
        """Return what came of a strategy, see `strategies.follow`, with every outcome that came in the end."""
        acts = (self.answer, self.retrain, self.refresh)
        one = strategies.follow(strategy, bundle, parts, frame, volume, self.setting, *acts)
        self.deliver(volume["end"].max())
        return one._replace(frame=self.refresh(one.frame))

    def answer(self, rows: pd.DataFrame, bundle: Bundle) -> pd.DataFrame:
        """Send the rows of a period to the service, wait for its close, and return what the log and the labels hold.

        Raises
        ------
        DataError
            If the service refuses a row, answers unlike the bundle, or an answer is not in the log.
        """
        if rows.empty:
            return monitoring.predict(rows, bundle)
        stated, began = bundle.stated, datetime.now(UTC)
        sent = signature.as_rows(rows, bundle.signature)
        answers, _ = client.ask(self.url, sent, min(BATCH, bundle.described["limits"]["max_rows"]))
        self._compare(answers, bundle.decide(rows)[decisions.forecast_columns(stated)], stated)
        self._waiting.append(rows)
        self.deliver(self.closes[rows[monitoring.PERIOD].iloc[0]])
        served = production.served(bundle, self.folder / "log.sqlite", since=began, like=rows)
        if len(served) != len(rows):
            raise DataError(f"{self.folder}/log.sqlite: {len(rows):,} rows were answered, {len(served):,} are logged")
        skew = production.skew(served, rows, stated, bundle.features)
        self.apart = max(self.apart, float(skew["largest"].max(skipna=True)) if skew["differ"].any() else 0.0)
        known = labels.join(served, labels.load(self.folder / "labels"), stated).table
        added = [name for name in known if name.startswith("@") and name not in rows]
        return self._with(rows, known[[*self.own, stated["target"], *added]])

    def refresh(self, answered: pd.DataFrame) -> pd.DataFrame:
        """Return answered rows with every outcome that has been delivered by now.

        Raises
        ------
        DataError
            If one did not come to exactly one prediction.
        """
        stated = self.setting.stated
        served = production.served(packing.load(self._bundle()), self.folder / "log.sqlite", like=answered, columns=[])
        joined = labels.join(served, labels.load(self.folder / "labels"), stated)
        if lost := joined.counts["unmatched"] + joined.counts["contradicted"] + joined.counts["superseded"]:
            raise DataError(
                f"{self.folder}: {lost:,} outcomes did not come to one prediction each; keys stand there twice"
            )
        return self._with(answered, joined.table[[*self.own, stated["target"]]])

    def deliver(self, close: pd.Timestamp) -> None:
        """Deliver the outcomes that became known by `close`, as files of them would: in no order, some of them twice."""
        stated, wait = self.setting.stated, pd.Timedelta(self.setting.monitoring.label_delay)
        rows = pd.concat(self._waiting, ignore_index=True) if self._waiting else pd.DataFrame()
        due = rows[stated["time"]] + wait <= close if len(rows) else pd.Series(dtype=bool)
        if not due.any():
            return
        self._waiting = [rows[~due]]
        table = rows.loc[due, [*self.own, stated["target"]]].assign(known_at=rows.loc[due, stated["time"]] + wait)
        if decisions.is_class(stated):
            names = dict(enumerate(stated["classes"]))
            table[stated["target"]] = [
                None if value != value else names[int(value)] for value in table[stated["target"]]
            ]
        shuffled = table.sample(frac=1, random_state=0)
        place = self.folder / "delivery.parquet"
        for part in (shuffled, shuffled.head(len(shuffled) // 10)):
            part.to_parquet(place, index=False)
            labels.keep(
                labels.read(str(place), packing.load(self._bundle()), self.folder / "log.sqlite"),
                self.folder / "labels",
            )
        place.unlink()

    def retrain(self, bundle: Bundle, rows: pd.DataFrame, setting: Setting) -> tuple[Bundle, dict[str, pd.DataFrame]]:
        """Fit the model anew, pack it, and put it into production while the service runs.

        Raises
        ------
        DataError
            If the service does not take it over.
        """
        fitted, parts = strategies.refit(bundle, rows, setting)
        packed = pack(strategies.with_figures(fitted, parts["holdout"], setting), self.folder / "packed")
        rollout.install(packed.place, self.folder)
        until = time.monotonic() + PATIENCE
        while client.version(self.url) != packed.version:
            if time.monotonic() > until:
                raise DataError(
                    f"{self.url}: goes on with {client.version(self.url)}, expected {packed.version} within a minute"
                )
            time.sleep(0.1)
        return packing.load(self._bundle().resolve()), parts

    def _bundle(self) -> Path:
        return self.folder / rollout.PRODUCTION

    def _with(self, rows: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
        plain = rows.drop(columns=self.setting.stated["target"])
        return plain.merge(found, on=self.own, how="left", validate="one_to_one")[[*rows, *(set(found) - set(rows))]]

    def _compare(self, answers: pd.DataFrame, predicted: pd.DataFrame, stated: dict[str, Any]) -> None:
        found = deployment.compare({self.url: answers}, {self.url: predicted}, stated).iloc[0]
        if found["difference"] > deployment.TOLERANCE or found["actions"]:
            apart = f"{found['difference']:.3g}, and in {found['actions']} actions"
            raise DataError(f"{self.url}: answers unlike its bundle, by {apart}; run `dvc repro deployment`")
        self.apart = max(self.apart, float(found["difference"]))


def run(first: str | None = None, last: str | None = None, chosen: list[str] | None = None) -> Iterator[str]:
    """Replay production by each strategy, and yield what happens, line by line, for the command line.

    Parameters
    ----------
    first, last : str, optional
        Months, such as ``2013-10``; default: all that the source holds after ``collection.as_of``.
    chosen : list of str, optional
        Names of `STRATEGIES`; default: all. What they won is told against ``never``.

    Raises
    ------
    DataError
        If nothing has arrived in these months.
    ParamsError
        If a month is none, or before ``collection.as_of``.
    """
    stated, agreed, bundle = problem.load(), metrics.load(), packing.load()
    if hidden := set(bundle.described["log"]["redact"]) & {*stated["key"], stated["time"]}:
        raise ParamsError(
            f"deployment.log.redact: found {', '.join(sorted(hidden))}, by which answers are led back to their rows; replay a "
            "bundle that was packed without"
        )
    earlier = {slug: load(slug) for slug in ("collection", "processing", "features")}
    params = _until(load("monitoring"), last)
    calendar = _since(monitoring.periods(params, earlier["collection"], stated), first)
    parts = training.read(stated, agreed)
    frame, volume = monitoring.replay(calendar, earlier, stated)
    if frame.empty:
        raise DataError(
            f"{first or 'later'} to {last or 'the end'}: nothing arrived after the model was built; see collection.as_of"
        )
    setting = Setting(stated, agreed, load("metrics"), load("training"), params)
    yield f"{len(frame):,} {stated['units']} in {len(volume)} periods, from {volume['period'].iloc[0]} to {volume['period'].iloc[-1]}"
    root = io.path(REPLAY)
    shutil.rmtree(root, ignore_errors=True)
    followed: dict[str, Followed] = {}
    for name in chosen or STRATEGIES:
        with _producing(root / name, bundle, volume, setting) as made:
            one = made.follow(STRATEGIES[name], bundle, parts, frame, volume)
            followed[STRATEGIES[name]] = one
        closes = ", ".join(each["close"] for each in one.retrained) or "never"
        yield f"retrained {STRATEGIES[name]}: at the close of {closes}; answers apart from offline by {made.apart:.2g} at most"
    if NEVER in followed:
        table = strategies.compare(followed, setting)
        io.write_json(strategies.told(table, followed), root / "strategies.json")
        from ninefold.figures import strategies as figures

        yield figures.strategy_table(table, stated).to_string(index=False)
        if set(STRATEGIES.values()) <= set(followed):
            yield figures.describe_strategies(table, stated)
    yield f"wrote {REPLAY}"


def pack(bundle: Bundle, place: Path) -> Bundle:
    """Write a bundle whose model, description or reference were replaced as a folder of its own, and return it, loaded."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(bundle.place, place)
    model_file.dump(bundle.model, place / "model.skops")
    packing.describe(bundle.described, bundle.reference, deployment.card(bundle.described), place)
    return packing.load(place)


@contextmanager
def _producing(folder: Path, bundle: Bundle, volume: pd.DataFrame, setting: Setting) -> Iterator[Production]:
    folder.mkdir(parents=True)
    rollout.install(bundle.place, folder)
    with client.serving(folder / rollout.PRODUCTION, log=folder / "log.sqlite") as url:
        yield Production(folder, url, volume, setting)


def _until(params: monitoring.Params, last: str | None) -> monitoring.Params:
    if last is None:
        return params
    return params.model_copy(update={"replay_until": _month(last, "--to").end_time.date()})


def _since(calendar: pd.DataFrame, first: str | None) -> pd.DataFrame:
    if first is None:
        return calendar
    start = _month(first, "--from").start_time
    if len(calendar) and start < calendar["start"].iloc[0].normalize().replace(day=1):
        raise ParamsError(
            f"--from {first}: the model was built on rows up to {calendar['start'].iloc[0].date()}; begin there or later, or "
            "move collection.as_of back and run `dvc repro`"
        )
    return calendar[calendar["start"] >= start].reset_index(drop=True)


def _month(text: str, option: str) -> pd.Period:
    try:
        return pd.Period(datetime.strptime(text, "%Y-%m"), freq="M")
    except ValueError:
        raise ParamsError(f"{option} {text}: expected a month, such as 2013-10") from None
