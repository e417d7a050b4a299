"""Which bundle answers: swapped under load without a lost request, and challenged in the shadow or by a canary."""

import json
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import bundles
import httpx
import pytest
import yaml
from bundles import logged_rows
from conftest import Project
from fastapi.testclient import TestClient
from monitoring_data import LOGGED, PARAMS
from servers import started, until
from typer.testing import CliRunner

from ninefold import artifacts, cli, monitoring
from ninefold.errors import DataError
from ninefold.serving import app, hot_swap
from ninefold.serving import bundle as packing
from ninefold.serving.bundle import Bundle
from ninefold.serving.challenger import Challenger, incompatible
from ninefold.serving.hot_swap import Watcher
from ninefold.serving.log import LOG, Log
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


def challenge(champion: Bundle, other: Bundle, log: Log | None = None, **how: Any) -> tuple[Challenger, TestClient]:
    """Return a challenger beside a champion, as ``params.yaml`` says, and a client of the service that has both."""
    Path("params.yaml").write_text(yaml.safe_dump({"serving": {"challenger": str(other.place), **how}}))
    beside = Challenger(Metrics(champion, log), log, Path.cwd())
    beside.refresh(champion)
    return beside, TestClient(app.create_app(champion, log, challenger=beside))


def ask(client: TestClient, **row: Any) -> dict[str, Any]:
    answer = client.post("/predict", json={"rows": [{**ROW, **row}]})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_what_is_installed_is_in_production_whole_and_what_is_refused_replaces_nothing(pair: Pair) -> None:
    assert hot_swap.in_production() == "models/bundle"
    watcher = Watcher(lambda: artifacts.path(hot_swap.in_production()))
    refuse = Mock(side_effect=DataError("rows.csv: lacks amount"))  # as a review of these rows does
    for bundle in (*pair, pair[0]):
        copy, before = hot_swap.install(bundle.place), watcher.bundle
        watcher.look(refuse)
        assert (watcher.bundle, watcher.reason) == (before, "rows.csv: lacks amount")
        watcher.look()
        assert (watcher.bundle.version, watcher.reason) == (bundle.version, None)
    assert {each.name for each in artifacts.path(hot_swap.VERSIONS).iterdir()} == {each.version for each in pair}
    (pair[1].place / "bundle.json").write_text("{}")
    with pytest.raises(DataError, match=r"changed: bundle\.json"):
        hot_swap.install(pair[1].place)
    (copy / "model.skops").unlink()  # a damaged copy is made again
    hot_swap.install(pair[0].place)
    assert packing.verify(artifacts.path(hot_swap.PRODUCTION)) == pair[0].version


def test_all_commands_answer_with_the_bundle_in_production_or_not_at_all(pair: Pair, monkeypatch: Any) -> None:
    def run(command: str, *options: str) -> tuple[int, str]:
        arguments = {"predict": ["rows.csv", "out.csv"], "labels": ["rows.csv"]}[command]
        done = CliRunner().invoke(cli.app, [command, *arguments, *options])
        return done.exit_code, done.output

    Path("rows.csv").write_text("customer,channel,amount,items\nann,web,5,1\n")
    monkeypatch.setattr("ninefold.monitoring.labels.run", lambda files, bundle, *_: [bundle.version])
    copy = hot_swap.install(pair[0].place)  # models/bundle is newer
    for command in ("predict", "labels"):
        assert pair[0].version in run(command)[1]
        assert pair[1].version in run(command, "--bundle", "models/bundle")[1]
    versions = [monitoring.read_bundle(params).version for params in (LOGGED, PARAMS)]
    assert versions == [bundle.version for bundle in pair]
    shutil.rmtree(copy)
    says = f"models/production: leads to versions/{pair[0].version}, which is not there"
    assert [(code, says in said) for code, said in map(run, ("predict", "labels"))] == [(1, True)] * 2
    for load in (lambda: monitoring.read_bundle(LOGGED), app.run):
        with pytest.raises(DataError, match=says):
            load()


def test_nothing_ends_the_watcher_and_its_failure_ends_with_the_old_bundle(pair: Pair, monkeypatch: Any) -> None:
    hot_swap.install(pair[0].place)
    watcher = Watcher(lambda: artifacts.path(hot_swap.in_production()))
    watcher.load()
    copy = hot_swap.install(pair[1].place)
    for wrong in (ZeroDivisionError("of any kind"), RuntimeError(), KeyError("format")):
        watcher.look(Mock(side_effect=wrong))
        assert watcher.state().startswith(f"failing: {type(wrong).__name__}")
    shutil.rmtree(copy)
    watcher.look()
    assert watcher.state().startswith("failing: models/production: leads to versions/")
    hot_swap.install(pair[0].place)
    watcher.look()
    assert (watcher.state(), watcher.bundle.version) == ("following", pair[0].version)
    monkeypatch.setattr(hot_swap, "STALLED", 0.0)
    assert watcher.state().startswith("stalled: the last look was ")


def test_what_is_in_production_is_on_disk_and_old_copies_go(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    link, versions, synced = artifacts.path(hot_swap.PRODUCTION), artifacts.path(hot_swap.VERSIONS), set()
    monkeypatch.setattr(artifacts, "sync", lambda place: synced.add((place.name, link.exists())))
    copy = hot_swap.install(pair[0].place)
    files = {Path(name).name for name in (*packing.files(copy), packing.CHECKSUMS)}
    assert {(name, False) for name in (*files, versions.name)} | {(link.parent.name, True)} <= synced
    shutil.copytree(copy, versions / f".{copy.name}.1")  # an install was killed
    monkeypatch.setattr(hot_swap, "KEPT", 1)
    hot_swap.install(pair[1].place)
    hot_swap.prune([copy.name])
    assert {each.name for each in versions.iterdir()} == {each.version for each in pair}
    hot_swap.prune()
    assert [each.name for each in versions.iterdir()] == [pair[1].version]


def test_a_shadow_answers_in_the_log_and_nowhere_else_and_harms_nobody_if_it_fails(pair: Pair, log: Log) -> None:
    champion, challenger = pair
    beside, client = challenge(champion, challenger, log, mode="shadow")
    count = ("ninefold_challenger_answers_total", {"role": "shadow"})
    assert client.get("/ready").json()["challenger"] == f"{challenger.version} (shadow)"
    answers = [ask(client, amount=float(number)) for number in range(20)]
    until(lambda: beside.metrics.registry.get_sample_value(*count) == 20)
    vars(beside.active.bundle)["answer"] = Mock(side_effect=ZeroDivisionError)
    answers.append(ask(client))
    assert {each["version"] for each in answers} == {champion.version}
    beside.close()
    until(lambda: not log.queue)
    rows = logged_rows(log.place).set_index("role")
    own, shadow = rows.loc["champion"], rows.loc["shadow"].sort_values("amount")
    assert set(shadow["version"]) == {challenger.version}
    given = {each["request_id"]: each["predictions"][0]["probability"] for each in answers}
    assert dict(zip(own["request_id"], own["probability"], strict=True)) == given
    assert set(shadow["request_id"]) == {each["request_id"] for each in answers[:20]}
    wanted = challenger.answer([{**ROW, "amount": float(number)} for number in range(20)]).records
    assert shadow["probability"].tolist() == pytest.approx([each["probability"] for each in wanted], abs=1e-12)


def test_a_canary_answers_its_share_and_the_same_customer_meets_the_same_model(pair: Pair, log: Log) -> None:
    champion, challenger = pair
    _, client = challenge(*pair, log, mode="canary", share=0.3)
    given = [ask(client, id=number)["version"] for number in [*range(300), *range(30)]]
    assert given[300:] == given[:30]
    assert 0.2 < given[:300].count(challenger.version) / 300 < 0.4  # four standard deviations
    names = {"canary": challenger.version, "champion": champion.version}
    rows = logged_rows(log.place)
    assert rows["version"].tolist() == rows["role"].map(names).tolist() == given
    beside, client = challenge(*pair, mode="canary", share=1)
    tensors = [{"name": "customer", "shape": [1], "datatype": "BYTES", "data": ["ann"]}]
    answer = client.post("/v2/models/returns/infer", json={"inputs": tensors}).json()
    assert answer["model_version"] == ask(client)["version"] == challenger.version
    vars(beside.active.bundle)["answer"] = Mock(side_effect=ZeroDivisionError)
    assert ask(client)["version"] == champion.version  # which answers what the canary cannot


def test_a_challenger_of_another_question_is_not_used_and_why_is_said(pair: Pair) -> None:
    champion = pair[0]
    beside, client = challenge(champion, bundles.pack(bundles.lay_out("regression")), mode="canary")
    assert beside.active is None
    assert client.get("/ready").json()["no_challenger"].endswith("answers another question: task differs")
    assert incompatible(bundles.pack(bundles.lay_out("dated")), champion) is not None  # asks for what nobody sends
    assert challenge(champion, champion, mode="canary", share=1)[0].active is None  # the champion itself is none


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Run `ninefold serve` in a project; yield its address, and a list that gets what it complained of."""
    complaints: list[str] = []
    with started("-m", "ninefold", "serve", "--port", "0", cwd=folder) as (child, line):
        yield line.split()[-1], complaints
        child.terminate()
        complaints.append(child.communicate(timeout=60)[1])
        assert child.returncode == 0, complaints


def test_promotion_and_rollback_under_load_fail_no_request(pair: Pair, project: Project) -> None:
    hot_swap.install(pair[0].place)
    stop = threading.Event()
    answers: list[list[dict[str, Any]]] = [[] for _ in range(CALLERS)]

    def call(url: str, own: list[dict[str, Any]]) -> None:
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
            while not stop.is_set():
                answer = client.post("/predict", json={"rows": [ROW]})
                assert answer.status_code == 200, answer.text
                own.append(answer.json())

    with served(project.folder) as (url, complaints):
        with ThreadPoolExecutor(CALLERS) as pool:
            callers = [pool.submit(call, url, own) for own in answers]
            try:
                for number in range(SWAPS):
                    version = pair[(number + 1) % 2].version
                    hot_swap.install(pair[(number + 1) % 2].place)  # what `promote` and `rollback` do in the end
                    until(lambda new=version: all(own and own[-1]["version"] == new for own in answers))
            finally:
                stop.set()
            assert [caller.result() for caller in callers] == [None] * CALLERS
        metrics = httpx.get(f"{url}/metrics", trust_env=False).text
    assert f"ninefold_swaps_total {SWAPS:.1f}" in metrics
    assert f'version="{pair[0].version}"' in metrics
    assert complaints[0].count("answers now") == SWAPS
    wanted = {bundle.version: bundle.answer([ROW]).records[0]["probability"] for bundle in pair}
    answered = [each for own in answers for each in own]
    for each in answered:
        assert each["predictions"][0]["probability"] == pytest.approx(wanted[each["version"]], abs=1e-12)
    logged = logged_rows(artifacts.path(LOG)).set_index("request_id")["version"]
    assert logged.to_dict() == {each["request_id"]: each["version"] for each in answered}


def test_the_running_service_follows_promotion_params_and_a_broken_bundle(pair: Pair, project: Project) -> None:
    with served(project.folder) as (url, complaints):

        def ready() -> dict[str, Any]:
            return dict(httpx.get(f"{url}/ready", trust_env=False).json())

        assert ready()["version"] == pair[1].version  # the newest, for nothing was promoted yet
        listing = hot_swap.install(pair[0].place) / "checksums.json"
        until(lambda: ready()["version"] == pair[0].version)
        project.set("serving", {"mode": "canary", "share": 1})
        canary = f"{pair[1].version} (canary)"
        until(lambda: ready().get("challenger") == canary)
        project.write("serving: {mode: canarie}")
        until(lambda: "serving.mode: found" in ready().get("no_challenger", ""))
        assert ready()["challenger"] == canary  # what ran before goes on
        project.set("serving", {})
        until(lambda: "challenger" not in ready())
        (project.folder / "params.yaml").write_bytes(b"\xff")
        until(lambda: "stays as it was" in ready().get("no_challenger", ""))
        hot_swap.install(pair[1].place)
        until(lambda: ready()["version"] == pair[1].version)  # and the service follows all the same
        hot_swap.install(pair[0].place)
        until(lambda: ready()["version"] == pair[0].version)
        assert ready()["watcher"] == "following"
        whole = listing.read_text()
        listing.write_text(json.dumps({**json.loads(whole), "lost": ""}))
        until(lambda: "ninefold_swap_failing 1.0" in httpx.get(f"{url}/metrics", trust_env=False).text)
        assert "missing: lost" in ready()["watcher"]
        assert ready()["version"] == pair[0].version
        listing.write_text(whole)
        until(lambda: "ninefold_swap_failing 0.0" in httpx.get(f"{url}/metrics", trust_env=False).text)
        assert ready()["watcher"] == "following"
    assert "goes on: " in complaints[0]
    assert "missing: lost" in complaints[0]
