"""Does the packaged service give the same answers, fast enough?

Reads: ``data/problem.json``, ``data/metrics.json``, ``data/features/``, ``data/online/``, ``models/candidate/``.
Writes: ``models/bundle/``, all that answering takes: model, signature, policy, online history, reference, model card.
Gate: answers over HTTP and from files equal offline ones, bad requests are refused, one row keeps the latency budget.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pydantic import Field
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

import ninefold
from ninefold import features, problem, training
from ninefold import metrics as agreed_metrics
from ninefold.core import gate, io, model_file, plots
from ninefold.core.errors import DataError
from ninefold.core.params import Section

BUNDLE = "models/bundle"
FORMAT = 1
FEATURE_KINDS = ("numeric", "history", "categorical")
POLICY = ("actions", "payoffs", "payoff_unit", "break_even")
TOLERANCE = 1e-9
LISTED = 50
ROWS_A_THREAD = 2000
LATENCY = "reports/timings/08_latency.json"
PURPOSE = {
    "model.skops": "the fitted pipeline; plain data, no code",
    "bundle.json": "signature, policy, problem, holdout scores, lineage",
    "online": "last history values per key",
    "reference.json": "distributions on training rows, for monitoring",
    "MODEL_CARD.md": "what it is for, how good, what it cannot do",
    "checksums.json": "SHA-256 of every other file",
}


class Params(Section):
    """Section ``deployment`` of ``params.yaml``."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    max_rows: int = Field(ge=1, le=1_000_000)
    max_body_mb: float = Field(gt=0, le=1024)
    latency_budget_ms: float = Field(gt=0)
    parity_rows: int = Field(ge=1)
    single_rows: int = Field(ge=20)


@dataclass(frozen=True, eq=False)
class Bundle:
    """A verified bundle: model, signature, policy and online history, enough to answer without the project.

    Attributes
    ----------
    place : Path
        The folder that it was read from.
    version : str
        First 12 hexadecimal digits of the SHA-256 of its checksums: equal bundles have equal versions.
    described : dict
        ``bundle.json``: ``signature``, ``policy``, ``problem``, ``model``, ``holdout``, ``limits``, ``lineage``.
    reference : dict
        ``reference.json``, see `reference`.
    moment : str
        ISO time (UTC) for which the online history holds.
    online : dict
        History feature -> its keys, and its value per tuple of their values.
    model : estimator
    """

    place: Path
    version: str
    described: dict[str, Any]
    reference: dict[str, Any]
    moment: str
    online: dict[str, tuple[list[str], dict[tuple[Any, ...], float]]]
    model: Any

    @property
    def name(self) -> str:
        """The model's name in the service's addresses."""
        return str(self.described["name"])

    @property
    def signature(self) -> list[dict[str, Any]]:
        """Every field of a row: ``name``, ``kind``, ``type`` (number, string, any), ``required``, ``known`` values."""
        return self.described["signature"]

    @cached_property
    def features(self) -> list[str]:
        """The model's columns, in order."""
        return [field["name"] for field in self.signature if field["kind"] in FEATURE_KINDS]

    @cached_property
    def fields(self) -> list[str]:
        """What a row may hold that the answer depends on: the model's columns, and other keys of the history."""
        return [field["name"] for field in self.signature if field["kind"] != "identity"]

    @cached_property
    def stated(self) -> dict[str, Any]:
        """The problem as stage 01 stated it."""
        return {**self.described["problem"], **self.described["policy"]}

    @cached_property
    def known(self) -> dict[str, frozenset[str]]:
        """The values of each categorical feature that training rows had."""
        return {field["name"]: frozenset(field["known"]) for field in self.signature if "known" in field}

    def probability(self, frame: pd.DataFrame) -> np.ndarray:
        """Return the probability of the event per row of features: float64, shape (n,)."""
        # For few rows a second thread costs more than it does: up to 0.1 s where the machine is busy (measured).
        with _threads().limit(limits=1 if len(frame) < ROWS_A_THREAD else None, user_api="openmp"):
            return training.probability(self.model, frame, {"all": self.features})

    def decide(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return per row of features ``probability`` (0-1), ``action``, and its ``expected_payoff``."""
        p, payoffs = self.probability(frame), self.stated["payoffs"]
        best = problem.expected_payoff(p, payoffs).max(axis=1).to_numpy()
        return pd.DataFrame(
            {"probability": p, "action": problem.best_action(p, payoffs), "expected_payoff": best}, index=frame.index
        )

    def complete(self, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
        """Return rows as the model's columns; history that a row does not hold is looked up by its keys.

        A field that is None, or absent and no history, is missing. So is the history of an unknown key. A history
        field that is there is taken as it is, None too: the caller knows that there is no value.
        """
        columns = {}
        for name in self.features:
            by, values = self.online.get(name, ([], {}))
            filled = [row[name] if name in row else values.get(tuple(row.get(key) for key in by), None) for row in rows]
            columns[name] = pd.array(filled, dtype="str") if name in self.known else np.array(filled, dtype="float64")
        return pd.DataFrame(columns)

    def look_up(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return a table with the history columns that it lacks, looked up by key: `complete` for a whole table."""
        found = {}
        for name, (by, values) in self.online.items():
            if name not in frame:
                keys = zip(*(frame[key] for key in by), strict=True)
                found[name] = np.array([values.get(key, np.nan) for key in keys], dtype="float64")
        return frame.assign(**found)

    def unseen(self, frame: pd.DataFrame) -> list[dict[str, Any]]:
        """Return the categories that training rows did not have: ``field``, ``value``, ``rows``, ``first_row``."""
        found = []
        for name, known in self.known.items():
            column = frame[name].reset_index(drop=True)
            strange = column[column.notna() & ~column.isin(known)]
            for value, rows in strange.groupby(strange) if len(strange) else ():
                found.append({"field": name, "value": value, "rows": len(rows), "first_row": int(rows.index[0])})
        return found


def signature(train: pd.DataFrame, online: dict[str, Any], stated: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every field of a row: the features in the model's order, other lookup keys, what identifies the row.

    Parameters
    ----------
    train : DataFrame
        The training rows; their categories are the known ones.
    online : dict
        What stage 06 wrote beside the online values: ``features`` and ``stores``.
    stated : dict
        The problem.
    """
    keys = list(dict.fromkeys(key for store in online["stores"] for key in store["by"]))
    fields: dict[str, dict[str, Any]] = {}
    for feature in online["features"]:
        text = feature["kind"] == "categorical"
        fields[feature["name"]] = {
            **feature,
            "type": "string" if text else "number",
            "required": feature["name"] in keys,
        }
        if text:
            fields[feature["name"]]["known"] = sorted(train[feature["name"]].dropna().unique().tolist())
    for name in keys:
        kind = "number" if pd.api.types.is_numeric_dtype(train[name]) else "string"
        fields.setdefault(name, {"name": name, "kind": "key", "type": kind, "required": True})
    for name in [*stated["key"], stated["time"]]:
        fields.setdefault(name, {"name": name, "kind": "identity", "type": "any", "required": False})
    return list(fields.values())


def describe(
    candidate: dict[str, Any], parts: dict[str, pd.DataFrame], stated: dict[str, Any], params: Params
) -> dict[str, Any]:
    """Return ``bundle.json``: what a caller, a reader and stage 09 have to know of the model.

    Parameters
    ----------
    candidate : dict
        The description that stage 07 wrote beside the model.
    parts : dict of DataFrame
        ``train``, ``validation`` and ``holdout`` rows.
    stated : dict
        The problem.
    params : Params
    """
    signed = signature(parts["train"], io.read_json(f"{features.ONLINE}/online.json"), stated)
    sent = [field["name"] for field in signed if field["kind"] != "history"]
    periods = {name: _period(rows[stated["time"]]) | {"rows": len(rows)} for name, rows in parts.items()}
    return {
        "format": FORMAT,
        "name": params.name,
        "signature": signed,
        "policy": {key: stated[key] for key in POLICY},
        "problem": {key: value for key, value in stated.items() if key not in POLICY},
        "model": {key: value for key, value in candidate.items() if key not in ("features", "holdout")},
        "holdout": candidate["holdout"],
        "periods": periods,
        "limits": {"max_rows": params.max_rows, "max_body_mb": params.max_body_mb},
        "lineage": lineage(),
        "example": {
            key: value for key, value in as_rows(parts["validation"].head(1), sent)[0].items() if value is not None
        },
    }


def lineage() -> dict[str, str]:
    """Return the SHA-256 of everything that the bundle is made from, by path; of a folder, that of its files' sums."""
    inputs = (
        f"{training.CANDIDATE}/model.skops",
        "data/problem.json",
        "data/metrics.json",
        features.FEATURES,
        features.ONLINE,
    )
    return {name: _digest(io.pending(name)) for name in inputs}


def reference(
    train: pd.DataFrame, probability: np.ndarray, signed: list[dict[str, Any]], target: str
) -> dict[str, Any]:
    """Return what production is compared with.

    Features and target are described on the training rows, the answers on validation rows, which the model has not seen.

    Returns
    -------
    dict
        ``rows``; ``features``: name -> `distribution`; ``probability``: a `distribution`; ``events``: share, 0-1.
    """
    names = [field["name"] for field in signed if field["kind"] in FEATURE_KINDS]
    return {
        "rows": len(train),
        "features": {name: distribution(train[name]) for name in names},
        "probability": distribution(pd.Series(probability)),
        "events": float(train[target].mean()),
    }


def distribution(column: pd.Series, like: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the shares of a column's values by bin; with `like`, an earlier distribution, by its bins.

    Numbers: ``edges``, the distinct inner deciles, and ``shares``, one more; share ``i`` counts
    ``edges[i-1] <= x < edges[i]``, the ends are open. Text: ``shares`` of the most frequent values, and ``other``.
    Both: ``missing``. All are shares of all rows, and sum to 1.
    """
    present, missing = column.dropna(), float(column.isna().mean()) if len(column) else 0.0
    number = pd.api.types.is_numeric_dtype(column) if like is None else "edges" in like
    binned = _by_decile if number else _by_value
    return {**binned(present, like, max(len(column), 1)), "missing": missing}


def model_card(described: dict[str, Any]) -> str:
    """Return the model card as Markdown (after Mitchell et al., Model Cards for Model Reporting, 2019)."""
    stated = {**described["problem"], **described["policy"]}
    kinds = pd.Series(
        [field["kind"] for field in described["signature"] if field["kind"] in FEATURE_KINDS]
    ).value_counts()
    model, periods = described["model"], described["periods"]
    seen = [
        f"{verb} {periods[name]['rows']:,} {stated['units']} of {periods[name]['first']} to {periods[name]['last']}"
        for verb, name in (
            ("trained on", "train"),
            ("chosen and calibrated on", "validation"),
            ("judged on", "holdout"),
        )
    ]
    scored = [
        f"{name.replace('_', ' ')}: {agreed_metrics.with_interval(figure)}"
        for name, figure in described["holdout"].items()
    ]
    paid = [
        f"{action}: {pay['positive']:g} if it happens, {pay['negative']:g} if not"
        for action, pay in stated["payoffs"].items()
    ]
    return "\n\n".join(
        [
            f"**Intended use.** {problem.sentence(stated)}",
            f"**Model.** {model['model'].replace('_', ' ').capitalize()}, calibration {model['calibration']}, on "
            + ", ".join(f"{count} {kind}" for kind, count in kinds.items())
            + " features.",
            f"**Data.** It was {', '.join(seen)} (UTC). Outside these periods its scores are not known.",
            "**Scores on the holdout**, with intervals:\n\n" + problem.bullets(scored),
            f"**Policy.** The action of the highest expected payoff, in {stated['payoff_unit']}:\n\n"
            + problem.bullets(paid),
            "**Limits and risks.**\n\n" + problem.bullets(stated["risks"]),
        ]
    )


def save(described: dict[str, Any], compared: dict[str, Any]) -> None:
    """Write ``models/bundle/``; the same inputs give the same bytes.

    Parameters
    ----------
    described : dict
        What `describe` returned.
    compared : dict
        What `reference` returned.
    """
    folder = io.output(BUNDLE)
    shutil.copytree(io.pending(features.ONLINE), folder / "online")
    shutil.copyfile(io.pending(f"{training.CANDIDATE}/model.skops"), folder / "model.skops")
    io.write_json(described, folder / "bundle.json")
    io.write_json(compared, folder / "reference.json")
    io.write_text(
        f"# Model card: {described['problem']['title']}\n\n{model_card(described)}\n", folder / "MODEL_CARD.md"
    )
    io.write_json({name: io.sha256(folder / name) for name in sorted(_files(folder))}, folder / "checksums.json")


def verify(place: Path) -> str:
    """Return the version of the bundle at `place`, if every file is as it was packed.

    This finds damage and careless edits. Who rewrites the checksums too makes another bundle, of another version.

    Raises
    ------
    DataError
        Naming the files that are missing, changed, or not listed.
    """
    listing = place / "checksums.json"
    if not listing.is_file():
        raise DataError(f"{place}: holds no bundle (no checksums.json); write it with `dvc repro deployment`")
    expected, found = _json(listing), _files(place)
    wrong = {
        "missing": [name for name in expected if name not in found],
        "changed": [name for name in expected if name in found and io.sha256(place / name) != expected[name]],
        "not listed": [name for name in found if name not in expected],
    }
    if any(wrong.values()):
        listed = "; ".join(f"{how}: {', '.join(sorted(names))}" for how, names in wrong.items() if names)
        raise DataError(f"{place}: not as it was packed; {listed}; restore it with `dvc checkout`, or pack it again")
    return io.sha256(listing)[:12]


def load(place: Path | None = None) -> Bundle:
    """Read and verify a bundle: that of the project, or the one at `place`; it needs nothing else of the project.

    Raises
    ------
    DataError
        If it is missing, damaged or changed, of another format, or its model asks for types that are not trusted.
    """
    place = place or io.pending(BUNDLE)
    version, described = verify(place), _json(place / "bundle.json")
    if described.get("format") != FORMAT:
        raise DataError(f"{place}/bundle.json: format {described.get('format')!r}, expected {FORMAT}; pack it again")
    online = _json(place / "online/online.json")
    return Bundle(
        place=place,
        version=version,
        described=described,
        reference=_json(place / "reference.json"),
        moment=online["moment"],
        online={store["feature"]: _store(place, store) for store in online["stores"]},
        model=model_file.load(place / "model.skops"),
    )


def contents(bundle: Bundle) -> pd.DataFrame:
    """Return what the bundle holds: ``file`` or folder, ``kB``, ``purpose``."""
    sizes = pd.Series(
        {name: (bundle.place / name).stat().st_size / 1000 for name in [*_files(bundle.place), "checksums.json"]}
    )
    table = sizes.groupby(sizes.index.str.split("/").str[0]).sum().reindex(list(PURPOSE))
    return pd.DataFrame({"file": list(PURPOSE), "kB": table.to_numpy(), "purpose": list(PURPOSE.values())})


def sample(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return `count` rows, spread evenly over the table (all of them if there are fewer)."""
    return rows.iloc[np.unique(np.linspace(0, len(rows) - 1, count).astype(int))].reset_index(drop=True)


def as_rows(frame: pd.DataFrame, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Return a table as JSON rows: missing is None, times are ISO text, numbers keep every digit."""
    plain = {}
    for name in columns:
        column = frame[name]
        text = column.map(lambda moment: moment.isoformat()) if pd.api.types.is_datetime64_any_dtype(column) else column
        plain[name] = text.astype(object).where(column.notna(), None).tolist()
    return [dict(zip(plain, values, strict=True)) for values in zip(*plain.values(), strict=True)]


def sent_fields(bundle: Bundle) -> list[str]:
    """Return the fields that a caller knows: all but history, which the bundle looks up."""
    return [field["name"] for field in bundle.signature if field["kind"] != "history"]


def with_online(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows whose history is that of ``data/online/``: by table joins, so that it also proves the lookups."""
    joined = rows
    for store in io.read_json(f"{features.ONLINE}/online.json")["stores"]:
        by, name = store["by"], store["feature"]
        online = io.read_table(f"{features.ONLINE}/{name}.parquet").rename(columns={"value": name})
        online = online.astype({key: rows[key].dtype for key in by})
        joined = joined.drop(columns=name).merge(online, on=by, how="left")
    return joined


@contextmanager
def serving(place: Path | None = None, timeout: float = 60) -> Iterator[str]:
    """Serve a bundle from a process of its own, on a free port of 127.0.0.1; give its address; stop it at the end.

    Parameters
    ----------
    place : Path, optional
        The bundle; that of the project if absent.
    timeout : float
        Seconds to wait until it is ready.

    Raises
    ------
    DataError
        If it does not get ready; with what the process said.
    """
    command = [sys.executable, "-m", "ninefold.service", "--port", "0", "--bundle", str(place or io.pending(BUNDLE))]
    source = os.pathsep.join([str(Path(ninefold.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory() as folder:
        said, complained = Path(folder) / "stdout", Path(folder) / "stderr"
        with said.open("wb") as out, complained.open("wb") as err:
            child = subprocess.Popen(command, stdout=out, stderr=err, env={**os.environ, "PYTHONPATH": source})
        try:
            yield _when_ready(child, said, complained, time.monotonic() + timeout)
        finally:
            _stop(child)


def ask(url: str, rows: list[dict[str, Any]], size: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Send rows to the service at `url`, `size` in a request; return the answers, and the seconds of each request.

    Raises
    ------
    DataError
        If the service refuses a request.
    """
    answers, seconds = [], []
    with _client(url) as client:
        for start in range(0, len(rows), size):
            began = time.perf_counter()
            answer = client.post("/predict", json={"rows": rows[start : start + size]})
            seconds.append(time.perf_counter() - began)
            if answer.status_code != 200:
                raise DataError(f"{url}/predict: answered {answer.status_code}: {answer.text[:500]}")
            answers += answer.json()["predictions"]
    return pd.DataFrame(answers), np.array(seconds)


def bad_requests(bundle: Bundle) -> dict[str, tuple[str, bytes]]:
    """Return requests that cannot be answered: what is wrong -> address and body."""
    row, limits = bundle.described["example"], bundle.described["limits"]
    by_type = {field["type"]: field["name"] for field in reversed(bundle.signature) if field["kind"] in FEATURE_KINDS}
    key = next((field["name"] for field in bundle.signature if field["required"]), None)
    number, text = by_type.get("number"), by_type.get("string")
    rows: dict[str, Any] = {"no rows": [], "too many rows": [row] * (limits["max_rows"] + 1)}
    rows["a row that is no object"] = [row, 7]
    rows["an unknown field"] = [row, {**row, f"{bundle.features[0]}s": 1}]
    if number:
        rows["text for a number"] = [row, {**row, number: "12"}]
        rows["not a number"] = [{**row, number: float("nan")}]
        rows["an infinite number"] = [{**row, number: float("inf")}]
    if text:
        rows["a number for text"] = [{**row, text: 5}]
    if key:
        rows["no key"] = [row, {name: value for name, value in row.items() if name != key}]
    bodies = {what: ("/predict", json.dumps({"rows": sent}).encode()) for what, sent in rows.items()}
    tensor = {"name": bundle.features[0], "shape": [2], "datatype": "FP64", "data": [1.0]}
    infer = json.dumps({"inputs": [tensor]}).encode()
    return {
        "cut short": ("/predict", b'{"rows": [{'),
        "no object": ("/predict", b"[]"),
        **bodies,
        "too large": ("/predict", b" " * int(limits["max_body_mb"] * 1_000_000 + 1)),
        "another model": ("/v2/models/another/infer", infer),
        "a wrong shape": (f"/v2/models/{bundle.name}/infer", infer),
    }


def refusals(url: str, bundle: Bundle) -> pd.DataFrame:
    """Send every bad request; return ``request``, ``status`` (int) and ``answer``."""
    rows = []
    with _client(url) as client:
        for what, (address, body) in bad_requests(bundle).items():
            answer = client.post(address, content=body, headers={"Content-Type": "application/json"})
            rows.append((what, answer.status_code, answer.json().get("error", "")))
    return pd.DataFrame(rows, columns=["request", "status", "answer"])


def compare(
    answers: Mapping[str, pd.DataFrame], offline: Mapping[str, np.ndarray], stated: dict[str, Any]
) -> pd.DataFrame:
    """Return how far answers are from offline ones, a line per way of asking.

    Parameters
    ----------
    answers : mapping of str to DataFrame
        ``probability``, ``action`` and ``expected_payoff``.
    offline : mapping of str to ndarray of float64
        The probabilities of the same rows, from the candidate itself.
    stated : dict
        The problem.

    Returns
    -------
    DataFrame
        ``way``, ``rows``, ``difference`` (the largest, of probability or expected payoff), ``actions`` (that differ).
    """
    rows = []
    for way, given in answers.items():
        p = offline[way]
        if len(given) != len(p):
            raise DataError(f"{way}: {len(p):,} rows were sent, {len(given):,} came back")
        best = problem.expected_payoff(p, stated["payoffs"]).max(axis=1).to_numpy()
        apart = max(np.abs(given["probability"] - p).max(), np.abs(given["expected_payoff"] - best).max())
        differ = int((given["action"].to_numpy() != problem.best_action(p, stated["payoffs"])).sum())
        rows.append((way, len(p), float(apart), differ))
    return pd.DataFrame(rows, columns=["way", "rows", "difference", "actions"])


def latencies(seconds: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Return the time that requests took: ``request``, ``count``, ``p50``, ``p95``, ``p99`` (milliseconds)."""
    rows = [(what, len(each), *(1000 * np.quantile(each, [0.5, 0.95, 0.99]))) for what, each in seconds.items()]
    return pd.DataFrame(rows, columns=["request", "count", "p50", "p95", "p99"])


def save_latencies(table: pd.DataFrame) -> None:
    """Write the times to ``reports/timings/08_latency.json``, and note them: no two runs have the same."""
    io.write_json(table.round(3).to_dict("records"), io.path(LATENCY))
    io.note("deployment", "latency in milliseconds\n" + table.round(1).to_string(index=False))


def in_budget(table: pd.DataFrame, params: Params) -> bool:
    """Return whether 95 of 100 requests of one row, the first line, were answered within the budget."""
    return bool(table["p95"].iloc[0] <= params.latency_budget_ms)


def deciles(answers: pd.DataFrame, outcomes: pd.Series, stated: dict[str, Any]) -> pd.DataFrame:
    """Return, by tenth of the probability, what the actions were expected to pay and what they paid.

    Returns
    -------
    DataFrame
        ``tenth`` (1-10), ``probability`` (mean), ``expected`` and ``paid`` per row, ``rows``, and a column per other
        policy, ``always <action>``.
    """
    target = outcomes.to_numpy()
    paid = {"paid": problem.payoff(answers["action"].to_numpy(), target, stated["payoffs"])}
    for action in stated["actions"]:
        paid[f"always {action}"] = problem.payoff(np.repeat(action, len(target)), target, stated["payoffs"])
    tenth = pd.qcut(answers["probability"].rank(method="first"), min(10, len(answers)), labels=False) + 1
    frame = answers[["probability", "expected_payoff"]].assign(**paid, tenth=tenth)
    table = frame.groupby("tenth").mean().rename(columns={"expected_payoff": "expected"})
    return table.assign(rows=frame.groupby("tenth").size()).reset_index()


def plot_decisions(answers: pd.DataFrame, stated: dict[str, Any]) -> Figure:
    """Draw how often each probability was answered, coloured by the action that came with it."""
    fig, axes = plots.canvas("What did the service decide?", height=3.2)
    groups = [answers.loc[answers["action"] == action, "probability"] for action in stated["actions"]]
    colors = list(plots.PALETTE[: len(groups)])
    labels = [
        f"{action} ({len(group) / len(answers):.0%})" for action, group in zip(stated["actions"], groups, strict=True)
    ]
    axes.hist(groups, bins=np.linspace(0, 1, 51), stacked=True, color=colors, label=labels)
    if stated["break_even"] is not None:
        axes.axvline(stated["break_even"], color=plots.RED, ls="--", lw=1.2, label="break-even")
    axes.set(xlabel=f"probability that the {stated['unit']} {stated['positive']}", ylabel="answers")
    plots.as_share(axes, "x")
    axes.legend(frameon=False)
    return fig


def plot_deciles(table: pd.DataFrame, stated: dict[str, Any]) -> Figure:
    """Draw the expected and the actual payoff by tenth of the probability, and that of always doing the same."""
    fig, axes = plots.canvas("Did the decisions pay what they promised?", height=3.4)
    for action, style in zip(stated["actions"], ("--", ":", "-."), strict=False):
        axes.plot(table["tenth"], table[f"always {action}"], color=plots.GREY, ls=style, label=f"always {action}")
    axes.plot(table["tenth"], table["expected"], color=plots.SKY, marker="o", label="expected by the service")
    axes.plot(table["tenth"], table["paid"], color=plots.BLUE, marker="o", label="paid on the holdout")
    axes.set(xlabel="tenth of the answers, by probability", ylabel=f"payoff per {stated['unit']}")
    axes.set_xticks(table["tenth"])
    axes.legend(frameon=False)
    return fig


def checks(
    bundle: Bundle, compared: pd.DataFrame, refused: pd.DataFrame, within: bool, params: Params
) -> list[gate.Check]:
    """Return the gate: intact, the same answers whichever way one asks, bad requests refused, fast enough."""
    good = int(refused["status"].between(400, 499).sum())
    version = verify(bundle.place)
    return [
        gate.holds("bundle is as it was packed", version == bundle.version, version, f"version {bundle.version}"),
        *(gate.at_most(f"largest difference, {row.way}", row.difference, TOLERANCE) for row in compared.itertuples()),
        gate.at_most("actions that differ from offline", int(compared["actions"].sum()), 0),
        gate.holds("bad requests refused with 4xx", good == len(refused), f"{good} of {len(refused)}", "all of them"),
        gate.holds(
            "single-row latency p95 within its budget",
            within,
            "within" if within else "over",
            f"<= {params.latency_budget_ms:g} ms",
        ),
    ]


def metrics(bundle: Bundle, compared: pd.DataFrame, refused: pd.DataFrame, answers: pd.DataFrame) -> dict[str, Any]:
    """Return the figures of this stage for ``dvc metrics``."""
    return {
        "version": bundle.version,
        "features": len(bundle.features),
        "parity": compared.set_index("way").to_dict("index"),
        "refused": len(refused),
        "actions": {action: float((answers["action"] == action).mean()) for action in bundle.stated["actions"]},
    }


def headline(bundle: Bundle, compared: pd.DataFrame) -> dict[str, str]:
    """Return the figures of this stage for the index."""
    return {"bundle": bundle.version, "answers apart from offline": f"{compared['difference'].max():.2g} at most"}


def describe_bundle(bundle: Bundle) -> str:
    """Return what was packed, in words."""
    needed = [f"`{field['name']}`" for field in bundle.signature if field["required"]]
    keys = f"A row must hold {', '.join(needed)}, by which history is looked up" if needed else "No field is required"
    return (
        f"Bundle **{bundle.version}** takes {len(bundle.features)} features; of these {len(bundle.online)} are history, "
        f"which it looks up as of {bundle.moment} (UTC) when a caller does not send them. {keys}; what else is not known "
        "may be left out."
    )


def describe_answers(compared: pd.DataFrame) -> str:
    """Return how far the answers are from offline ones, in words."""
    apart, differ = compared["difference"].max(), int(compared["actions"].sum())
    return (
        f"Over {compared['rows'].sum():,} answers in {len(compared)} ways of asking, the largest difference from offline "
        f"is **{apart:.3g}** (at most {TOLERANCE:g} is allowed), and {differ or 'no'} action{'' if differ == 1 else 's'} "
        f"differ{'s' if differ == 1 else ''}."
    )


def describe_refusals(refused: pd.DataFrame) -> str:
    """Return how the bad requests ended, in words."""
    good = int(refused["status"].between(400, 499).sum())
    return f"**{good} of {len(refused)}** bad requests were refused with a 4xx status; the service still answered after them."


def describe_decisions(answers: pd.DataFrame, stated: dict[str, Any]) -> str:
    """Return how often each action was chosen, in words."""
    shares = ", ".join(f"{action} in {(answers['action'] == action).mean():.0%}" for action in stated["actions"])
    middle = answers["probability"].median()
    return f"Of {len(answers):,} answers the service chose {shares}; half of the probabilities are below {middle:.1%}."


def describe_deciles(table: pd.DataFrame, stated: dict[str, Any]) -> str:
    """Return where the payoff was furthest from what was expected, in words."""
    gap = table["paid"] - table["expected"]
    worst = table.loc[gap.abs().idxmax()]
    expected, paid = (np.average(table[name], weights=table["rows"]) for name in ("expected", "paid"))
    return (
        f"The decisions were expected to pay {expected:+.3f} per {stated['unit']} and paid {paid:+.3f}. The two are "
        f"furthest apart in tenth {worst['tenth']:.0f}, where the probability averages {worst['probability']:.0%}: "
        f"{worst['expected']:+.3f} expected, {worst['paid']:+.3f} paid."
    )


def describe_latency(within: bool, params: Params) -> str:
    """Return the budget and whether it was kept, in words; the times themselves differ from run to run."""
    return (
        f"95 of 100 single-row requests have to be answered within {params.latency_budget_ms:g} ms: "
        f"**{'they were' if within else 'they were not'}**. The times of the last run on this machine are in "
        f"`{LATENCY}`; they are kept out of this report, so that equal runs give equal reports."
    )


def verdict(bundle: Bundle, compared: pd.DataFrame, refused: pd.DataFrame, within: bool, params: Params) -> str:
    """Return the bottom line."""
    same = compared["difference"].max() <= TOLERANCE and not compared["actions"].sum()
    safe = refused["status"].between(400, 499).all()
    return (
        f"Bundle {bundle.version} {'answers the same' if same else 'does NOT answer the same'} over HTTP, from files and "
        f"offline, {'refuses' if safe else 'does NOT refuse'} what it cannot answer, and "
        f"{'keeps' if within else 'does NOT keep'} the budget of {params.latency_budget_ms:g} ms for one row: "
        f"{'ready' if same and safe and within else 'not ready'} to serve."
    )


def _by_decile(present: pd.Series, like: dict[str, Any] | None, rows: int) -> dict[str, Any]:
    values = present.to_numpy(dtype="float64")
    if like is not None:
        edges = like["edges"]
    else:
        tenths = np.quantile(values, np.arange(1, 10) / 10, method="inverted_cdf") if len(values) else []
        edges = np.unique(tenths).tolist()
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    return {"edges": edges, "shares": (counts / rows).tolist()}


def _by_value(present: pd.Series, like: dict[str, Any] | None, rows: int) -> dict[str, Any]:
    counts = present.astype("str").value_counts().sort_index().sort_values(ascending=False, kind="stable")
    kept = list(like["shares"]) if like is not None else counts.index[:LISTED].tolist()
    shares = (counts.reindex(kept, fill_value=0) / rows).to_dict()
    return {"shares": shares, "other": float(counts.drop(kept, errors="ignore").sum() / rows)}


def _period(times: pd.Series) -> dict[str, str]:
    return {"first": times.min().date().isoformat(), "last": times.max().date().isoformat()}


def _digest(place: Path) -> str:
    if place.is_file():
        return io.sha256(place)
    listed = "".join(f"{name} {io.sha256(place / name)}\n" for name in sorted(_files(place)))
    return hashlib.sha256(listed.encode()).hexdigest()


def _files(place: Path) -> list[str]:
    """Return the files of a folder, relative, without hidden ones and without the list of checksums itself."""
    names = (file.relative_to(place) for file in place.rglob("*") if file.is_file())
    kept = (name.as_posix() for name in names if not any(part.startswith(".") for part in name.parts))
    return [name for name in kept if name != "checksums.json"]


def _json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: not readable as JSON ({error}); restore it with `dvc checkout`") from None
    if not isinstance(value, dict):
        raise DataError(f"{file}: found {type(value).__name__}, expected an object; restore it with `dvc checkout`")
    return value


def _store(place: Path, store: dict[str, Any]) -> tuple[list[str], dict[tuple[Any, ...], float]]:
    table = pd.read_parquet(place / "online" / f"{store['feature']}.parquet")
    keys = zip(*(table[key].tolist() for key in store["by"]), strict=True)
    return store["by"], dict(zip(keys, table["value"].tolist(), strict=True))


@cache
def _threads() -> ThreadpoolController:
    return ThreadpoolController()  # looking for the loaded libraries takes longer than the model


def _client(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, timeout=60, trust_env=False)  # no proxy stands between here and 127.0.0.1


def _when_ready(child: subprocess.Popen[bytes], said: Path, complained: Path, until: float) -> str:
    """Return the address that the child prints, once it answers there."""
    while time.monotonic() < until and child.poll() is None:
        _, found, url = said.read_text(encoding="utf-8").strip().partition(" at ")
        if found:
            with _client(url) as client:
                if client.get("/ready").status_code == 200:
                    return url
        time.sleep(0.05)
    state = "was not ready in time" if child.poll() is None else f"ended with {child.returncode}"
    raise DataError(
        f"the service {state}; it said: {complained.read_text(encoding='utf-8')[-2000:].strip() or 'nothing'}"
    )


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(timeout=15)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
