"""Which bundle answers: swapped under load without a lost request, and challenged in the shadow or by a canary."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bundles
import httpx
import pandas as pd
import pytest
import yaml
from conftest import Project
from fastapi.testclient import TestClient

from ninefold import artifacts
from ninefold.errors import DataError
from ninefold.serving import app, checksums, hot_swap, log_export
from ninefold.serving import bundle as packing
from ninefold.serving.challenger import Challenger, Params, incompatible
from ninefold.serving.hot_swap import SwappableApp, Watcher
from ninefold.serving.log import Log
from ninefold.serving.middleware import Metrics

ROW = {"customer": "ann", "amount": 50.0}
SWAPS, CALLERS = 12, 6


@pytest.fixture
def pair(project: Project, tmp_path: Path) -> tuple[packing.Bundle, packing.Bundle]:
    """Two bundles of the same question; the second is ``models/bundle``."""
    first = bundles.pack(bundles.lay_out())
    shutil.copytree(first.place, tmp_path / "first")
    second = bundles.pack(bundles.lay_out(model="linear"))
    return packing.Bundle.load(tmp_path / "first"), second


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    opened = Log(tmp_path / "log.sqlite")
    yield opened
    opened.close()


def tried(champion: packing.Bundle, challenger: packing.Bundle, log: Log | None = None, **how: Any) -> Challenger:
    """Return a trial of a challenger beside a champion."""
    trial, place = Challenger(Metrics(champion, log), log), Watcher(lambda: challenger.place)
    place.look()
    trial.set(Params(**how), place, champion)
    return trial


def ask(client: TestClient, **row: Any) -> dict[str, Any]:
    answer = client.post("/predict", json={"rows": [{**ROW, **row}]})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def until(true: Callable[[], Any], seconds: float = 30) -> None:
    """Wait until it is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.02)


def test_what_is_installed_is_in_production_whole_and_what_was_there_stays(
    pair: tuple[packing.Bundle, packing.Bundle],
) -> None:
    assert hot_swap.in_production() == "models/bundle"
    for one in (*pair, pair[0]):
        hot_swap.install(one.place)
        assert packing.Bundle.load(artifacts.path(hot_swap.in_production())).version == one.version
    assert sorted(each.name for each in artifacts.path(hot_swap.VERSIONS).iterdir()) == sorted(
        one.version for one in pair
    )


def test_a_bundle_that_was_tampered_with_is_not_installed(pair: tuple[packing.Bundle, packing.Bundle]) -> None:
    hot_swap.install(pair[0].place)
    (pair[1].place / "bundle.json").write_text("{}")
    with pytest.raises(DataError, match=r"changed: bundle\.json"):
        hot_swap.install(pair[1].place)
    assert checksums.verify(artifacts.path(hot_swap.PRODUCTION)) == pair[0].version


def test_a_damaged_copy_of_a_version_is_made_again(pair: tuple[packing.Bundle, packing.Bundle]) -> None:
    kept = hot_swap.install(pair[0].place)
    (kept / "model.skops").unlink()
    hot_swap.install(pair[0].place)
    assert checksums.verify(artifacts.path(hot_swap.PRODUCTION)) == pair[0].version


def test_a_place_loads_what_changed_and_keeps_what_it_had_while_that_cannot_be_read(
    pair: tuple[packing.Bundle, packing.Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hot_swap, "RETRY", 0.0)
    hot_swap.install(pair[0].place)
    place = Watcher(lambda: artifacts.path(hot_swap.PRODUCTION))
    assert (place.look(), place.look()) == (True, False)
    kept = hot_swap.install(pair[1].place)
    card = kept / "MODEL_CARD.md"
    whole = card.read_text()
    card.write_text("another card")
    assert not place.look()
    assert place.bundle is not None
    assert place.bundle.version == pair[0].version
    assert "changed: MODEL_CARD.md" in str(place.reason)
    card.write_text(whole)
    assert place.look()
    assert (place.bundle.version, place.reason) == (pair[1].version, None)


def test_a_bundle_that_is_refused_does_not_take_the_place_of_the_one_before(
    pair: tuple[packing.Bundle, packing.Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one whose review cannot decide on the rows of its file."""
    monkeypatch.setattr(hot_swap, "RETRY", 0.0)
    hot_swap.install(pair[0].place)
    place, able = Watcher(lambda: artifacts.path(hot_swap.PRODUCTION)), False

    def take(_: packing.Bundle) -> None:
        if not able:
            raise DataError("rows.csv: lacks amount")

    place.load()
    hot_swap.install(pair[1].place)
    assert not place.look(take)
    assert place.bundle is not None
    assert (place.bundle.version, place.reason) == (pair[0].version, "rows.csv: lacks amount")
    able = True
    assert place.look(take)
    assert (place.bundle.version, place.reason) == (pair[1].version, None)


def test_a_request_is_finished_by_the_bundle_that_began_it(pair: tuple[packing.Bundle, packing.Bundle]) -> None:
    began, go_on = threading.Event(), threading.Event()
    quick = pair[0].answer

    def slow(rows: Any) -> Any:
        began.set()
        assert go_on.wait(30)
        return quick(rows)

    object.__setattr__(pair[0], "answer", slow)
    live = SwappableApp(pair[0], app.create_app)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, TestClient(live))
        assert began.wait(30)
        live.swap(pair[1])
        assert ask(TestClient(live))["version"] == pair[1].version
        go_on.set()
        assert waiting.result()["version"] == pair[0].version


def test_a_shadow_answers_in_the_log_and_nowhere_else(pair: tuple[packing.Bundle, packing.Bundle], log: Log) -> None:
    champion, challenger = pair
    trial = tried(champion, challenger, log, mode="shadow")
    client = TestClient(app.create_app(champion, log, challenger=trial))
    count = ("ninefold_challenger_answers_total", {"role": "shadow"})
    assert client.get("/ready").json()["challenger"] == f"{challenger.version} (shadow)"
    answers = [ask(client, amount=float(number)) for number in range(20)]
    assert {each["version"] for each in answers} == {champion.version}
    until(lambda: trial.metrics.registry.get_sample_value(*count) == 20)
    trial.close()
    until(lambda: not log.waiting())
    found = log_export.read(log.place).set_index("role")
    assert found.index.value_counts().to_dict() == {"champion": 20, "shadow": 20}
    assert set(found.loc["shadow", "version"]) == {challenger.version}
    given = dict(zip(found.loc["champion", "request_id"], found.loc["champion", "probability"], strict=True))
    assert given == {each["request_id"]: each["predictions"][0]["probability"] for each in answers}
    offline = [
        record["probability"] for record in challenger.answer([{**ROW, "amount": float(n)} for n in range(20)]).records
    ]
    assert found.loc["shadow"].sort_values("amount")["probability"].tolist() == pytest.approx(offline, abs=1e-12)
    assert found.loc["shadow", "request_id"].isin(list(given)).all()


def test_a_shadow_that_fails_harms_nobody(pair: tuple[packing.Bundle, packing.Bundle], log: Log) -> None:
    trial = tried(*pair, log, mode="shadow")
    assert trial.active is not None
    object.__setattr__(trial.active.bundle, "answer", lambda rows: 1 / 0)
    client = TestClient(app.create_app(pair[0], log, challenger=trial))
    assert ask(client)["version"] == pair[0].version
    trial.close()
    assert log_export.read(log.place)["role"].tolist() == ["champion"]


def test_a_canary_answers_its_share_and_the_same_customer_meets_the_same_model(
    pair: tuple[packing.Bundle, packing.Bundle], log: Log
) -> None:
    champion, challenger = pair
    client = TestClient(app.create_app(champion, log, challenger=tried(*pair, log, mode="canary", share=0.3)))
    given: dict[int, set[str]] = {}
    for number in [*range(300), *range(30)]:
        given.setdefault(number, set()).add(ask(client, id=number)["version"])
    assert all(len(versions) == 1 for versions in given.values())
    share = Counter(version for versions in given.values() for version in versions)[challenger.version] / len(given)
    assert 0.2 < share < 0.4  # four standard deviations
    found = log_export.read(log.place)
    assert set(found.loc[found["role"] == "canary", "version"]) == {challenger.version}
    assert set(found.loc[found["role"] == "champion", "version"]) == {champion.version}
    tensors = [{"name": "customer", "shape": [1], "datatype": "BYTES", "data": ["ann"]}]
    own = TestClient(app.create_app(champion, challenger=tried(*pair, mode="canary", share=1)))
    answer = own.post("/v2/models/returns/infer", json={"inputs": tensors}).json()
    assert answer["model_version"] == challenger.version
    wanted = challenger.answer([{"customer": "ann"}]).records[0]["probability"]
    assert next(each["data"] for each in answer["outputs"] if each["name"] == "probability") == [wanted]


def test_what_a_canary_cannot_answer_the_champion_answers(pair: tuple[packing.Bundle, packing.Bundle]) -> None:
    trial = tried(*pair, mode="canary", share=1)
    assert trial.active is not None
    client = TestClient(app.create_app(pair[0], challenger=trial))
    assert ask(client)["version"] == pair[1].version
    object.__setattr__(trial.active.bundle, "answer", lambda rows: 1 / 0)
    assert ask(client)["version"] == pair[0].version


def test_a_challenger_of_another_question_is_not_tried_and_why_is_said(project: Project, tmp_path: Path) -> None:
    champion = bundles.pack(bundles.lay_out())
    shutil.copytree(champion.place, tmp_path / "first")
    champion = packing.Bundle.load(tmp_path / "first")
    trial = tried(champion, bundles.pack(bundles.lay_out("regression")), mode="canary")
    assert trial.active is None
    assert (
        TestClient(app.create_app(champion, challenger=trial))
        .get("/ready")
        .json()["no_challenger"]
        .endswith("answers another question: task differs")
    )
    assert incompatible(bundles.pack(bundles.lay_out("dated")), champion) is not None  # asks for what nobody sends


def test_the_champion_itself_is_no_challenger(pair: tuple[packing.Bundle, packing.Bundle]) -> None:
    assert tried(pair[1], pair[1], mode="canary", share=1).active is None


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"mode": "blue"}, r"serving.mode: found \"blue\", expected 'none', 'shadow' or 'canary'"),
        ({"share": 2}, "serving.share: found 2, expected less than or equal to 1"),
        ({"modus": "none"}, "serving.modus: unknown key; did you mean 'mode'?"),
    ],
)
def test_wrong_params_are_refused_where_they_stand(project: Project, values: dict[str, Any], told: str) -> None:
    from ninefold.errors import ParamsError
    from ninefold.params import load

    project.params["serving"] = values
    project.write(yaml.safe_dump(project.params))
    with pytest.raises(ParamsError) as caught:
        load("serving")
    assert told.replace("\\", "") in str(caught.value)


class Served:
    """`ninefold serve` in a project, as a process."""

    def __init__(self, folder: Path, log: Path) -> None:
        command = [sys.executable, "-m", "ninefold", "serve", "--port", "0", "--log", str(log)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.child = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.child.stdout is not None
        self.url = self.child.stdout.readline().split()[-1]

    def stop(self) -> str:
        self.child.terminate()
        return self.child.communicate(timeout=60)[1]


def test_promotion_and_rollback_under_load_fail_no_request(
    pair: tuple[packing.Bundle, packing.Bundle], project: Project, tmp_path: Path
) -> None:
    hot_swap.install(pair[0].place)
    server, stop = Served(project.folder, tmp_path / "log.sqlite"), threading.Event()
    seen: list[list[tuple[str, str, float]]] = [[] for _ in range(CALLERS)]

    def call(mine: list[tuple[str, str, float]]) -> None:
        with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as client:
            while not stop.is_set():
                answer = client.post("/predict", json={"rows": [ROW]})
                assert answer.status_code == 200, answer.text
                told = answer.json()
                mine.append((told["request_id"], told["version"], told["predictions"][0]["probability"]))

    try:
        with ThreadPoolExecutor(CALLERS) as pool:
            callers = [pool.submit(call, mine) for mine in seen]
            try:
                for number in range(SWAPS):
                    one = pair[(number + 1) % 2]
                    hot_swap.install(one.place)  # what `promote` and `rollback` do in the end
                    until(lambda one=one: all(mine and mine[-1][1] == one.version for mine in seen))
            finally:
                stop.set()
            for caller in callers:
                caller.result()
        metrics = httpx.get(f"{server.url}/metrics", trust_env=False).text
        assert f"ninefold_swaps_total {SWAPS:.1f}" in metrics
        assert f'version="{pair[0].version}"' in metrics
    finally:
        told = server.stop()
    assert server.child.returncode == 0, told
    assert told.count("answers now") == SWAPS
    wanted = {one.version: one.answer([ROW]).records[0]["probability"] for one in pair}
    answered = [each for mine in seen for each in mine]
    assert all(wanted[version] == pytest.approx(probability, abs=1e-12) for _, version, probability in answered)
    found = log_export.read(tmp_path / "log.sqlite").set_index("request_id")["version"]
    assert found.to_dict() == {number: version for number, version, _ in answered}


def test_the_running_service_follows_promotion_params_and_a_broken_bundle(
    pair: tuple[packing.Bundle, packing.Bundle], project: Project, tmp_path: Path
) -> None:
    server = Served(project.folder, tmp_path / "log.sqlite")

    def ready() -> dict[str, Any]:
        return dict(httpx.get(f"{server.url}/ready", trust_env=False).json())

    try:
        assert ready()["version"] == pair[1].version  # the newest, for nothing was promoted yet
        kept = hot_swap.install(pair[0].place)
        until(lambda: ready()["version"] == pair[0].version)
        project.params["serving"] = {"mode": "canary", "share": 1}
        project.write(yaml.safe_dump(project.params))
        until(lambda: ready().get("challenger") == f"{pair[1].version} (canary)")
        answer = httpx.post(f"{server.url}/predict", json={"rows": [ROW]}, trust_env=False).json()
        assert answer["version"] == pair[1].version
        project.write("serving: {mode: canarie}")
        until(lambda: "no_challenger" in ready())
        assert ready()["challenger"] == f"{pair[1].version} (canary)"  # what was tried before goes on
        project.write(yaml.safe_dump({**project.params, "serving": {}}))
        until(lambda: "challenger" not in ready())
        place = json.loads((kept / "checksums.json").read_text())
        (kept / "checksums.json").write_text(json.dumps({**place, "lost": ""}))
        metrics = f"{server.url}/metrics"
        until(lambda: "ninefold_swap_failing 1.0" in httpx.get(metrics, trust_env=False).text)
        assert ready()["version"] == pair[0].version
    finally:
        told = server.stop()
    assert "goes on: " in told
    assert "missing: lost" in told


def test_requests_are_counted_in_the_log_by_minute_route_and_status(
    pair: tuple[packing.Bundle, packing.Bundle], tmp_path: Path
) -> None:
    import sqlite3

    log = Log(tmp_path / "log.sqlite")
    client = TestClient(app.create_app(pair[0], log))
    for _ in range(3):
        ask(client)
    client.post("/predict", json={"rows": []})
    log.close()
    with sqlite3.connect(log.place) as connection:
        table = pd.read_sql("SELECT * FROM traffic", connection)
    counts = table.groupby(["route", "status"])["requests"].sum().to_dict()
    assert counts == {("/predict", 200): 3, ("/predict", 422): 1}
    assert abs(table["minute"].iloc[0] - time.time() / 60) < 2
    assert (table["seconds"] > 0).all()
