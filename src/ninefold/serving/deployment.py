"""Does the packaged service give the same answers, fast enough?

Reads: ``data/problem.json``, ``data/metrics.json``, ``data/features/``, ``data/online/``, ``models/candidate/``.
Writes: ``models/bundle/``: model, signature, policy, online history, reference distributions, model card.
Gate: answers over HTTP and from files equal offline ones, bad requests are refused, one row keeps the latency budget.
"""

import json
import shutil
from collections.abc import Mapping
from itertools import cycle, islice
from typing import Any

import numpy as np
import pandas as pd

from ninefold import artifacts, features, gate, training
from ninefold.errors import DataError, ParamsError
from ninefold.lineage import dvc_md5, sha256
from ninefold.metrics import EvaluationPlan
from ninefold.params import load
from ninefold.problem import Problem, decisions
from ninefold.sentences import render
from ninefold.serving.bundle import BUNDLE, CHECKSUMS, FORMAT, Bundle, answer_columns, edges_of, files, verify
from ninefold.serving.fields import FEATURE_KINDS, as_rows, signature
from ninefold.serving.model_card import model_card
from ninefold.serving.params import Params

ELSEWHERE = {"features", "holdout", "evidence", "lineage"}  # keys of the candidate at other places of the bundle
POLICY = ("actions", "payoffs", "costs", "payoff_unit", "break_even")
LIMITS = ("max_rows", "max_body_mb", "timeout_s", "max_waiting", "latency_budget_ms")  # params of the service
INPUTS = (f"{training.CANDIDATE}/model.skops", "data/problem.json", "data/metrics.json", "data/features", "data/online")
NUMBERS, BOUNDS = ("int64", "float64"), {"min", "max", "allowed"}  # of a column of the contract
TOLERANCE = 1e-9
EXAMPLES = 200
BATCH, ENVELOPE = 500, 100  # rows in a request; bytes around them
POLICIES_SHOWN = 3
LATENCY = "reports/timings/08_latency.json"


def describe(
    candidate: dict[str, Any], parts: dict[str, pd.DataFrame], problem: Problem, params: Params
) -> dict[str, Any]:
    """Return ``bundle.json``: what a caller, a reader and stage 09 need to know about the model.

    `candidate` is what stage 07 wrote beside the model, `parts` the ``train``, ``validation`` and ``holdout`` rows. A name
    in ``log.redact`` that is neither a field of a row nor a column of a contract, which could become one, is a `ParamsError`.
    """
    schema = signature(parts, artifacts.read_json(f"{features.ONLINE}/online.json"), problem, contract_bounds(problem))
    fields, redact = [field["name"] for field in schema], params.log.redact
    known = {*fields, *(name for contract in load("processing").tables.values() for name in contract.columns)}
    if unknown := ", ".join(name for name in redact if name not in known):
        expected = f"expected fields of a row, some of {', '.join(fields)}; fix the name"
        raise ParamsError(f"params.yaml: deployment.log.redact: found {unknown}, {expected}")
    values, hashes = problem.values(), {name: sha256(name) for name in INPUTS} | candidate.get("lineage", {})
    policy = {key: values[key] for key in POLICY if values.get(key)}
    return {
        "name": params.name,
        "signature": schema,
        "policy": policy,
        "problem": {key: value for key, value in values.items() if key not in policy},
        "model": {key: value for key, value in candidate.items() if key not in ELSEWHERE},
        "holdout": candidate["holdout"],
        "evidence": candidate.get("evidence", {}),
        "periods": {name: _period(rows, problem) for name, rows in parts.items()},
        "limits": {name: getattr(params, name) for name in LIMITS},
        "log": {"keep": params.log.keep, "redact": [name for name in fields if name in redact]},
        "lineage": {**hashes, "dvc": dvc_md5(training.CANDIDATE).removesuffix(".dir")},
        "example": _example(parts["validation"], schema),
    }


def contract_bounds(problem: Problem) -> dict[str, dict[str, Any]]:
    """Return ``min``, ``max`` and ``allowed`` of the numbers in the contract: columns of events, and those that joins add."""
    tables, joins = load("processing").tables, features.declared(load("features"), problem).joins
    columns = dict(tables[problem.table].columns)
    for join in (join for join in joins if join.table in tables):
        related = tables[join.table].columns
        columns |= {to: related[name] for name, to in join.renamed().items() if name in related}
    numbers = {name: column for name, column in columns.items() if column.type in NUMBERS}
    return {name: column.model_dump(include=BOUNDS, exclude_none=True) for name, column in numbers.items()}


def _period(rows: pd.DataFrame, problem: Problem) -> dict[str, Any]:
    days = problem.local_times(rows).agg({"first": "min", "last": "max"}).dropna()
    return {"rows": len(rows), **{name: day.date().isoformat() for name, day in days.items()}}


def _example(rows: pd.DataFrame, schema: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a row as a caller would send it: without history, the one of the first rows of which most is known."""
    sent = as_rows(rows.head(EXAMPLES), schema, without="history")
    fullest = max(sent, key=lambda row: sum(value is not None for value in row.values()))
    needed = {field["name"] for field in schema if field["required"]}
    return {name: value for name, value in fullest.items() if value is not None or name in needed}


def distributions(parts: dict[str, pd.DataFrame], schema: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how the values of each feature of the signature lie in training and validation rows, see `edges_of`."""
    fitted = pd.concat([parts["train"], parts["validation"]], ignore_index=True)
    kinds = {field["name"]: field["kind"] for field in schema if field["kind"] in FEATURE_KINDS}
    return {"features": {name: edges_of(fitted[name], kind) for name, kind in kinds.items()}}


def save(described: dict[str, Any], reference: dict[str, Any]) -> None:
    """Write ``models/bundle/``, from what `describe` and `distributions` returned; the same inputs give the same bytes."""
    folder = artifacts.output(BUNDLE)
    shutil.copytree(artifacts.pending(features.ONLINE), folder / "online")
    shutil.copyfile(artifacts.pending(f"{training.CANDIDATE}/model.skops"), folder / "model.skops")
    artifacts.write_json({"format": FORMAT, **described}, folder / "bundle.json")
    artifacts.write_json(reference, folder / "reference.json")
    card = f"# Model card: {described['problem']['title']}\n\n{model_card(described, level=2)}\n"
    artifacts.write_text(card, folder / "MODEL_CARD.md")
    artifacts.write_json({name: artifacts.sha256(folder / name) for name in files(folder)}, folder / CHECKSUMS)


def with_online(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows with the history of ``data/online/``, by table joins: a second way that checks the lookups."""
    joined = rows
    for store in artifacts.read_json(f"{features.ONLINE}/online.json")["stores"]:
        by, name = store["by"], store["feature"]
        online = artifacts.read_table(f"{features.ONLINE}/{store['file']}").rename(columns={"value": name})
        online = online.astype({key: rows[key].dtype for key in by})
        joined = joined.drop(columns=name).merge(online, on=by, how="left")
        if "prior" in store:
            joined[name] = joined[name].fillna(store["prior"])
    return joined


def repeated(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Return `count` rows: the first ones, or all of them repeatedly, since a latency needs many requests."""
    return list(islice(cycle(rows), count))


def batch_size(rows: list[dict[str, Any]], params: Params) -> int:
    """Return how many of the rows go into one request: at most `BATCH`, and within both limits of the service."""
    longest = max(len(json.dumps(row)) for row in rows) + 2
    fitting = int((params.max_body_mb * 1_000_000 - ENVELOPE) / longest)
    return max(1, min(BATCH, params.max_rows, fitting))


def compare(answers: Mapping[str, pd.DataFrame], offline: Mapping[str, pd.DataFrame], problem: Problem) -> pd.DataFrame:
    """Return, for each ``way`` of asking, how the answers differ from those to the offline forecasts.

    Columns: ``way``; ``rows``; ``difference``, the largest of any number, as a share of it where it is above 1;
    ``actions``, how many differ (an action that is a number counts as a number).
    """
    rows = []
    numbers = [name for name in answer_columns(problem) if name != "action" or not problem.is_class]
    for way, received in answers.items():
        expected = offline[way].assign(**decisions.decide(offline[way], problem))
        if len(received) != len(expected):
            raise DataError(f"{way}: {len(expected):,} rows were sent, {len(received):,} came back")
        values, others = received[numbers].to_numpy("float64"), expected[numbers].to_numpy("float64")
        apart = np.abs(values - others) / np.maximum(np.abs(others), 1)
        other = received["action"].to_numpy() != expected["action"].to_numpy()
        rows.append((way, len(received), float(apart.max()), int(other.sum()) if problem.is_class else 0))
    return pd.DataFrame(rows, columns=["way", "rows", "difference", "actions"])


def latencies(seconds: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Return the time that requests took: ``request``, ``count``, ``p50``, ``p95``, ``p99`` (milliseconds)."""
    rows = [(what, len(each), *(1000 * np.quantile(each, [0.5, 0.95, 0.99]))) for what, each in seconds.items()]
    return pd.DataFrame(rows, columns=["request", "count", "p50", "p95", "p99"])


def save_latencies(table: pd.DataFrame) -> None:
    """Write the times to ``reports/timings/``: they differ from run to run, and so are no part of the report."""
    artifacts.write_json(table.round(3).to_dict("records"), artifacts.undeclared(LATENCY))
    artifacts.note("deployment", "latency in milliseconds\n" + table.round(1).to_string(index=False))


def in_budget(table: pd.DataFrame, params: Params) -> bool:
    """Return whether 95 of 100 requests of one row, the first line, were answered within the budget."""
    return bool(table["p95"].iloc[0] <= params.latency_budget_ms)


def deciles(answers: pd.DataFrame, outcomes: pd.Series, problem: Problem, plan: EvaluationPlan) -> pd.DataFrame:
    """Return, by decile of the answers, what the actions were expected to pay and what they paid.

    The order is that of the forecast; of several classes, that of the expected payoff. Columns: ``decile``; ``level``, the
    mean of what orders; ``expected`` and ``paid`` per row; each of the best baseline policies; ``rows``.
    """
    target = outcomes.to_numpy()
    policies = decisions.policy_payoffs(target, problem, plan.policies).drop(columns=decisions.FORESIGHT)
    level = answers["expected_payoff"] if problem.task == "multiclass" else decisions.expected(answers, problem)
    paid = decisions.payoff(answers["action"].to_numpy(), target, problem)
    frame = pd.DataFrame({"level": level, "expected": answers["expected_payoff"], "paid": paid}).reset_index(drop=True)
    frame = frame.join(policies[policies.mean().nlargest(POLICIES_SHOWN).index])
    place = frame["level"].rank(method="first").to_numpy() - 1
    groups = frame.groupby((place * min(10, len(frame)) // len(frame)).astype(int) + 1)
    return groups.mean().assign(rows=groups.size()).rename_axis("decile").reset_index()


def checks(
    bundle: Bundle, compared: pd.DataFrame, refused: pd.DataFrame, within: bool, params: Params
) -> list[gate.Check]:
    """Return the checks of the gate."""
    good, ways = int(refused["status"].between(400, 499).sum()), compared.itertuples()
    version, budget = verify(bundle.place), f"<= {params.latency_budget_ms:g} ms"
    return [
        gate.holds("NF801 bundle is as it was packed", version == bundle.version, version, f"version {bundle.version}"),
        *(gate.at_most(f"NF802 largest difference, {row.way}", row.difference, TOLERANCE) for row in ways),
        gate.at_most("NF803 actions that differ from offline", int(compared["actions"].sum()), 0),
        gate.holds("NF804 bad requests refused with 4xx", good == len(refused), f"{good} of {len(refused)}", "all"),
        gate.holds("NF805 single-row latency p95 within its budget", within, "within" if within else "over", budget),
    ]


def metrics(bundle: Bundle, compared: pd.DataFrame, refused: pd.DataFrame, answers: pd.DataFrame) -> dict[str, Any]:
    """Return the metrics of this stage."""
    actions = {action: float((answers["action"] == action).mean()) for action in bundle.problem.actions}
    return {
        "version": bundle.version,
        "features": len(bundle.features),
        "parity": compared.set_index("way").to_dict("index"),
        "refused": len(refused),
        "actions": actions or {"mean": float(answers["action"].mean())},
    }


def headline(bundle: Bundle, compared: pd.DataFrame) -> dict[str, str]:
    """Return the key figures of this stage for the index."""
    return {"bundle": bundle.version, "largest difference from offline": f"{compared['difference'].max():.2g}"}


def conclusion(bundle: Bundle, compared: pd.DataFrame, refused: pd.DataFrame, within: bool, params: Params) -> str:
    """Return the conclusion of this stage."""
    failed = [check.name for check in checks(bundle, compared, refused, within, params) if not check.passed]
    return render("serving", "conclusion", bundle=bundle, failed=failed, budget=params.latency_budget_ms)
