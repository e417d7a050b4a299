"""Which bundle answers: swapped under load without a lost request, and challenged in the shadow or by a canary."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bundles
import httpx
import pytest
import yaml
from conftest import Project
from fastapi.testclient import TestClient
from servers import started

from ninefold import artifacts
from ninefold.errors import DataError
from ninefold.serving import app, checksums, hot_swap, log_export
from ninefold.serving.bundle import Bundle
from ninefold.serving.challenger import Challenger, incompatible
from ninefold.serving.hot_swap import Watcher
from ninefold.serving.log import Log
from ninefold.serving.middleware import Metrics

ROW = {"customer": "ann", "amount": 50.0}
SWAPS, CALLERS = 12, 6
Pair = tuple[Bundle, Bundle]


@pytest.fixture
def pair(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """Two bundles of the same question; the second is ``models/bundle``."""
    monkeypatch.setattr(hot_swap, "RETRY", 0.0)
    first = bundles.pack(bundles.lay_out())
    shutil.copytree(first.place, tmp_path / "first")
    second = bundles.pack(bundles.lay_out(model="linear"))
    return Bundle.load(tmp_path / "first"), second


def challenge(champion: Bundle, challenger: Bundle, log: Log | None = None, **how: Any) -> Challenger:
    """Return a challenger beside a champion, as ``params.yaml`` says."""
    Path("params.yaml").write_text(yaml.safe_dump({"serving": {"challenger": str(challenger.place), **how}}))
    beside = Challenger(Metrics(champion, log), log, Path.cwd())
    beside.refresh(champion)
    return beside


def break_answers(bundle: Bundle | None) -> None:
    object.__setattr__(bundle, "answer", lambda rows: 1 / 0)


def ask(client: TestClient, **row: Any) -> dict[str, Any]:
    answer = client.post("/predict", json={"rows": [{**ROW, **row}]})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def until(true: Callable[[], Any], seconds: float = 30) -> None:
    """Wait until it is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not become true"
        time.sleep(0.02)


def test_what_is_installed_is_in_production_whole_and_what_was_there_stays(pair: Pair) -> None:
    assert hot_swap.in_production() == "models/bundle"
    for bundle in (*pair, pair[0]):
        copy = hot_swap.install(bundle.place)
        assert Bundle.load(artifacts.path(hot_swap.in_production())).version == bundle.version
    versions = [folder.name for folder in artifacts.path(hot_swap.VERSIONS).iterdir()]
    assert sorted(versions) == sorted(bundle.version for bundle in pair)
    (pair[1].place / "bundle.json").write_text("{}")
    with pytest.raises(DataError, match=r"changed: bundle\.json"):
        hot_swap.install(pair[1].place)
    (copy / "model.skops").unlink()  # a damaged copy is made again
    hot_swap.install(pair[0].place)
    assert checksums.verify(artifacts.path(hot_swap.PRODUCTION)) == pair[0].version


def test_a_bundle_that_is_refused_does_not_replace_the_one_before(pair: Pair) -> None:
    """Such as one whose review cannot decide on the rows of its file."""
    watcher = Watcher(lambda: artifacts.path(hot_swap.PRODUCTION))
    refusals = [DataError("rows.csv: lacks amount")]

    def use(_: Bundle) -> None:
        if refusals:
            raise refusals.pop()

    hot_swap.install(pair[0].place)
    watcher.load()
    hot_swap.install(pair[1].place)
    for new, version, reason in ((False, pair[0].version, "rows.csv: lacks amount"), (True, pair[1].version, None)):
        assert watcher.look(use) == new
        assert watcher.bundle is not None
        assert (watcher.bundle.version, watcher.reason) == (version, reason)


def test_a_shadow_answers_in_the_log_and_nowhere_else_and_harms_nobody_if_it_fails(pair: Pair, log: Log) -> None:
    champion, challenger = pair
    beside = challenge(champion, challenger, log, mode="shadow")
    assert beside.active is not None
    client = TestClient(app.create_app(champion, log, challenger=beside))
    count = ("ninefold_challenger_answers_total", {"role": "shadow"})
    assert client.get("/ready").json()["challenger"] == f"{challenger.version} (shadow)"
    answers = [ask(client, amount=float(number)) for number in range(20)]
    until(lambda: beside.metrics.registry.get_sample_value(*count) == 20)
    break_answers(beside.active.bundle)
    answers.append(ask(client))
    assert {each["version"] for each in answers} == {champion.version}
    beside.close()
    until(lambda: not log.waiting())
    rows = log_export.read(log.place).set_index("role")
    assert rows.index.value_counts().to_dict() == {"champion": 21, "shadow": 20}
    assert set(rows.loc["shadow", "version"]) == {challenger.version}
    given = dict(zip(rows.loc["champion", "request_id"], rows.loc["champion", "probability"], strict=True))
    assert given == {each["request_id"]: each["predictions"][0]["probability"] for each in answers}
    records = challenger.answer([{**ROW, "amount": float(number)} for number in range(20)]).records
    wanted = [record["probability"] for record in records]
    assert rows.loc["shadow"].sort_values("amount")["probability"].tolist() == pytest.approx(wanted, abs=1e-12)
    assert rows.loc["shadow", "request_id"].isin(list(given)).all()


def test_a_canary_answers_its_share_and_the_same_customer_meets_the_same_model(pair: Pair, log: Log) -> None:
    champion, challenger = pair
    beside = challenge(*pair, log, mode="canary", share=0.3)
    client = TestClient(app.create_app(champion, log, challenger=beside))
    given: dict[int, set[str]] = {}
    for number in [*range(300), *range(30)]:
        given.setdefault(number, set()).add(ask(client, id=number)["version"])
    assert all(len(versions) == 1 for versions in given.values())
    share = Counter(version for versions in given.values() for version in versions)[challenger.version] / len(given)
    assert 0.2 < share < 0.4  # four standard deviations
    rows = log_export.read(log.place)
    assert set(rows.loc[rows["role"] == "canary", "version"]) == {challenger.version}
    assert set(rows.loc[rows["role"] == "champion", "version"]) == {champion.version}
    beside = challenge(*pair, mode="canary", share=1)
    assert beside.active is not None
    client = TestClient(app.create_app(champion, challenger=beside))
    tensors = [{"name": "customer", "shape": [1], "datatype": "BYTES", "data": ["ann"]}]
    answer = client.post("/v2/models/returns/infer", json={"inputs": tensors}).json()
    assert answer["model_version"] == ask(client)["version"] == challenger.version
    break_answers(beside.active.bundle)
    assert ask(client)["version"] == champion.version  # which answers what the canary cannot


def test_a_challenger_of_another_question_is_not_used_and_why_is_said(project: Project, tmp_path: Path) -> None:
    champion = bundles.pack(bundles.lay_out())
    shutil.copytree(champion.place, tmp_path / "first")
    champion = Bundle.load(tmp_path / "first")
    beside = challenge(champion, bundles.pack(bundles.lay_out("regression")), mode="canary")
    assert beside.active is None
    ready = TestClient(app.create_app(champion, challenger=beside)).get("/ready").json()
    assert ready["no_challenger"].endswith("answers another question: task differs")
    assert incompatible(bundles.pack(bundles.lay_out("dated")), champion) is not None  # asks for what nobody sends
    assert challenge(champion, champion, mode="canary", share=1).active is None  # the champion itself is none


@contextmanager
def served(folder: Path, log: Path) -> Iterator[tuple[str, list[str]]]:
    """Run `ninefold serve` in a project; yield its address, and a list that gets what it complained of."""
    complaints: list[str] = []
    with started("-m", "ninefold", "serve", "--port", "0", "--log", str(log), cwd=folder) as (child, line):
        yield line.split()[-1], complaints
        child.terminate()
        complaints.append(child.communicate(timeout=60)[1])
        assert child.returncode == 0, complaints


def test_promotion_and_rollback_under_load_fail_no_request(pair: Pair, project: Project, tmp_path: Path) -> None:
    hot_swap.install(pair[0].place)
    stop, log = threading.Event(), tmp_path / "log.sqlite"
    answers: list[list[tuple[str, str, float]]] = [[] for _ in range(CALLERS)]

    def call(url: str, own: list[tuple[str, str, float]]) -> None:
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
            while not stop.is_set():
                answer = client.post("/predict", json={"rows": [ROW]})
                assert answer.status_code == 200, answer.text
                body = answer.json()
                own.append((body["request_id"], body["version"], body["predictions"][0]["probability"]))

    with served(project.folder, log) as (url, complaints):
        with ThreadPoolExecutor(CALLERS) as pool:
            callers = [pool.submit(call, url, own) for own in answers]
            try:
                for number in range(SWAPS):
                    bundle = pair[(number + 1) % 2]
                    hot_swap.install(bundle.place)  # what `promote` and `rollback` do in the end
                    until(lambda one=bundle: all(own and own[-1][1] == one.version for own in answers))
            finally:
                stop.set()
            for caller in callers:
                caller.result()
        metrics = httpx.get(f"{url}/metrics", trust_env=False).text
        assert f"ninefold_swaps_total {SWAPS:.1f}" in metrics
        assert f'version="{pair[0].version}"' in metrics
    assert complaints[0].count("answers now") == SWAPS
    wanted = {bundle.version: bundle.answer([ROW]).records[0]["probability"] for bundle in pair}
    answered = [each for own in answers for each in own]
    assert all(wanted[version] == pytest.approx(probability, abs=1e-12) for _, version, probability in answered)
    logged = log_export.read(log).set_index("request_id")["version"]
    assert logged.to_dict() == {number: version for number, version, _ in answered}


def test_the_running_service_follows_promotion_params_and_a_broken_bundle(
    pair: Pair, project: Project, tmp_path: Path
) -> None:
    with served(project.folder, tmp_path / "log.sqlite") as (url, complaints):

        def ready() -> dict[str, Any]:
            return dict(httpx.get(f"{url}/ready", trust_env=False).json())

        assert ready()["version"] == pair[1].version  # the newest, for nothing was promoted yet
        listing = hot_swap.install(pair[0].place) / "checksums.json"
        until(lambda: ready()["version"] == pair[0].version)
        project.params["serving"] = {"mode": "canary", "share": 1}
        project.write(yaml.safe_dump(project.params))
        until(lambda: ready().get("challenger") == f"{pair[1].version} (canary)")
        answer = httpx.post(f"{url}/predict", json={"rows": [ROW]}, trust_env=False).json()
        assert answer["version"] == pair[1].version
        project.write("serving: {mode: canarie}")
        until(lambda: "no_challenger" in ready())
        assert ready()["challenger"] == f"{pair[1].version} (canary)"  # what ran before goes on
        assert "serving.mode: found" in ready()["no_challenger"]
        project.write(yaml.safe_dump({**project.params, "serving": {}}))
        until(lambda: "challenger" not in ready())
        listing.write_text(json.dumps({**json.loads(listing.read_text()), "lost": ""}))
        until(lambda: "ninefold_swap_failing 1.0" in httpx.get(f"{url}/metrics", trust_env=False).text)
        assert ready()["version"] == pair[0].version
    assert "goes on: " in complaints[0]
    assert "missing: lost" in complaints[0]
