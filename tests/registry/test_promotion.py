"""The registry in git: who gets into production, who does not, and the way back, in a small repository of git and DVC."""

import json
import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import bundles
import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import Project
from filelock import lock_descriptor
from shop import Shop, dvc
from typer.testing import CliRunner

from ninefold import artifacts, features, metrics, training
from ninefold.cli import app
from ninefold.errors import DataError
from ninefold.metrics import scores
from ninefold.metrics.plan import EvaluationPlan
from ninefold.problem.statement import Problem
from ninefold.registry import promotion, repository
from ninefold.serving import bundle as packing
from ninefold.serving import hot_swap

api = pytest.importorskip("gto.api")

ROOT = Path(__file__).parents[2]
REMOTE = "NINEFOLD_TEST_REMOTE"
NAME = bundles.PARAMS.name


@pytest.fixture
def shop(project: Project) -> Shop:
    """A repository without any model; GTO finds a name for its tags."""
    return Shop(project)


def committed(shop: Shop, **how: Any) -> packing.Bundle:
    bundle = shop.build(**how)
    shop.commit()
    return bundle


def refused(message: str, *reason: str, act: Any = promotion.promote) -> None:
    with pytest.raises(DataError, match=message):
        act(*reason)


@pytest.fixture
def weak(shop: Shop) -> packing.Bundle:
    """A first version in production, whose model learned nothing."""
    bundle = committed(shop, good=False)
    promotion.promote()
    return bundle


def test_two_at_once_or_a_failure_half_way_leave_no_tag_and_the_first_version_needs_no_champion(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gto.exceptions import TagExists

    bundle = committed(shop)
    with (shop.folder / ".git/ninefold-registry.lock").open("w") as lock:
        lock_descriptor(lock.fileno())
        for act in (promotion.promote, promotion.rollback):
            refused(r"another `ninefold promote` or `rollback` is running", act=act)
    with monkeypatch.context() as patched:
        patched.setattr(api, "assign", Mock(side_effect=TagExists(name=f"{NAME}#production#1")))
        refused(r"tag 'returns#production#1' already exists")
    assert shop.tags() == []
    told = promotion.promote()
    assert f"{NAME} v0.0.1, bundle {bundle.version}, is in production: first version" in told
    assert all(command in told for command in (f"git push origin '{NAME}@v0.0.1' '{NAME}#production#1'", "dvc push"))
    assert shop.tags() == [f"{NAME}#production#1", f"{NAME}@v0.0.1"]
    assert [one["version"] for one in api.show(str(shop.folder), f"{NAME}#production")] == ["v0.0.1"]


def test_a_worse_challenger_is_refused_or_forced_with_a_reason_that_the_tag_keeps(shop: Shop) -> None:
    committed(shop)
    promotion.promote()
    committed(shop, good=False)
    before = shop.tags()
    refused(r"does not significantly beat champion v0.0.1: gain -.*--force")
    refused("--force: found no reason", " ")
    assert shop.tags() == before
    assert "v0.0.2" in promotion.promote("the old one leaks")
    for tag in (f"{NAME}@v0.0.2", f"{NAME}#production#2"):
        assert "forced, the old one leaks" in shop.git("tag", "-n9", tag)


def test_models_are_compared_by_what_their_actions_pay_on_the_same_rows(shop: Shop) -> None:
    both = [shop.build(good=False), shop.build()]
    rows = training.read(Problem.load(), EvaluationPlan.load())["holdout"]
    found, swapped = promotion.compare(*both, rows), promotion.compare(*both[::-1], rows)
    act, back = [one.decide(rows)["action"] == "act" for one in both], rows["returned"] == 1
    paid = [np.where(chosen, -1, np.where(back, -4, 0)) for chosen in act]
    loss = [scores.one_score("log_loss", rows["returned"].to_numpy(), one.predict(rows), one.problem) for one in both]
    gain = partial(metrics.means, {"gain": paid[1] - paid[0]})
    expected = metrics.intervals(gain, rows, both[1].problem, 0.8)  # whose lower end is exceeded with 90 % confidence
    assert found["gain"] == pytest.approx(expected["gain"])
    assert 0 < found["gain"]["low"] < found["gain"]["value"] < found["gain"]["high"]
    assert swapped["gain"]["low"] == pytest.approx(-found["gain"]["high"])
    assert found["improvement"]["value"] == pytest.approx(loss[0] - loss[1])


def test_rows_that_the_champion_learned_from_do_not_count(shop: Shop, weak: packing.Bundle) -> None:
    rows = training.read(Problem.load(), EvaluationPlan.load())["holdout"]
    later = weak.described["periods"]
    later["validation"]["last"] = "2020-03-01"  # as if it had been trained again since
    assert promotion.unseen(rows, weak, "HEAD")["placed"].min() == pd.Timestamp("2020-03-02")
    later["validation"]["last"] = "2020-04-07"
    few = promotion.unseen(rows, weak, "HEAD")
    with pytest.raises(DataError, match=r"not fitted on \d+ of \d+ holdout rows, of 2 days; expected 50"):
        promotion._demand_enough(few, len(rows), Problem.load())


def test_without_time_the_split_of_the_champions_commit_tells_what_it_learned_from(shop: Shop) -> None:
    champion, plan = committed(shop, case="regression"), EvaluationPlan.load()
    rows = training.read(Problem.load(), plan)["holdout"]
    assert len(promotion.unseen(rows, champion, "HEAD")) == len(rows)
    plan = plan.model_copy(update={"split": plan.split.model_copy(update={"validation": 0.5, "holdout": 0.6})})
    plan.save()  # the holdout of today has rows of the champion's training
    artifacts.publish()
    larger = training.read(Problem.load(), plan)["holdout"]
    assert set(promotion.unseen(larger, champion, "HEAD")["id"]) == set(rows["id"]) < set(larger["id"])
    older = artifacts.read_json(promotion.PLAN) | {"split": {"by": "rows", "edges": {"all": [0.6, 0.8]}}}
    artifacts.write_json(older, artifacts.path(promotion.PLAN))
    shop.commit()
    with pytest.raises(DataError, match=r"its commit: found a split of by, edges, .* promote with --force"):
        promotion.unseen(rows, champion, "HEAD")


@pytest.mark.usefixtures("weak")
def test_a_champion_of_other_features_data_or_another_question_is_not_compared(shop: Shop) -> None:
    challenger = shop.build()
    challenger.signature.pop(0)
    assert "its features amount are not" in promotion.evaluate("v0.0.1", "HEAD", challenger)[1]
    table = shop.folder / "data/features/period=all/part-0.parquet"
    artifacts.write_table(pd.read_parquet(table).head(700), table)
    other = promotion.evaluate("v0.0.1", "HEAD", packing.Bundle.load())[1]
    assert f"{features.FEATURES}: not what the challenger was made from" in other
    committed(shop, case="text")
    refused(r"cannot be compared with champion v0.0.1: it answers another question: time was")
    assert "forced, another decision; cannot be compared" in promotion.promote("another decision")


@pytest.mark.parametrize(("slug", "file"), promotion.RECORDS.items())
def test_a_failed_or_missing_gate_keeps_a_model_out_whatever_the_reason(slug: str, file: str, shop: Shop) -> None:
    shop.gate(slug, {"version": shop.build().version}, passed=False)
    shop.commit()
    refused(f"{file}: the gate did not pass: gain exceeded: found -0.1", "now")
    artifacts.path(file).unlink()
    refused(f"{file}: not found, .* run `dvc repro deployment`", "now")
    assert shop.tags() == []


def test_the_gates_of_another_bundle_or_candidate_are_not_taken_nor_a_bundle_that_was_changed(shop: Shop) -> None:
    bundle = shop.build()
    shop.gate("deployment", {"version": "0123456789ab"})
    shop.commit()
    refused(r"the gate of stage 08 passed for 0123456789ab")
    shop.gate("deployment", {"version": bundle.version})
    candidate = shop.folder / "models/candidate/candidate.json"
    candidate.write_text(candidate.read_text().replace("0.5", "0.9"))  # trained again, and not packed
    shop.commit()
    refused(r"models/candidate: not what the committed dvc.lock .* `dvc repro deployment`")
    card = shop.folder / "models/bundle/MODEL_CARD.md"
    card.chmod(0o644)
    card.write_text("perfect")
    refused(r"not as it was packed; changed: MODEL_CARD.md", "now")


def test_a_version_that_git_and_dvc_could_not_restore_is_refused(shop: Shop) -> None:
    shop.build()
    refused(r"(?s)dvc.yaml.*not committed, .*`git add` and `git commit` first")
    shop.commit()
    shop.build(good=False)  # another bundle than the one that was committed
    shop.gate("deployment", {"version": shop.bundle()})
    shop.git("commit", "-q", "-a", "-m", "Without dvc.lock")
    refused(r"models/bundle: not what the committed dvc.lock records .* `dvc checkout`", "now")
    shop.commit()
    shutil.rmtree(shop.folder / ".dvc/cache")
    refused(r"models/bundle of HEAD: neither in DVC's cache nor in its remote")
    assert shop.tags() == []


def test_rollback_goes_back_one_version_at_a_time_with_tag_and_bundle(shop: Shop, weak: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(hot_swap, "KEPT", 1)
    shop.project.set("serving", {"challenger": "models/next"})
    found, copies = [weak.version], lambda: {copy.name for copy in artifacts.path(hot_swap.VERSIONS).iterdir()}
    for seed in (1, 2):
        found.append(committed(shop, good=False, seed=seed).version)
        promotion.promote("a try")
    assert copies() == {*found[1:]}  # the champion, and the one before
    artifacts.path("models/next").symlink_to(f"versions/{found[2]}")
    head, lock = shop.git("rev-parse", "HEAD"), (shop.folder / "dvc.lock").read_bytes()
    told = promotion.rollback()
    assert f"{NAME} v0.0.2, bundle {found[1]}, is in production again, after v0.0.3" in told
    assert f"`git push origin '{NAME}@v0.0.2' '{NAME}#production#4'`, which starts the release" in told
    assert copies() == {*found[1:]}  # the champion, and the challenger
    assert [one["version"] for one in api.show(str(shop.folder), f"{NAME}#production")] == ["v0.0.2"]
    assert shop.served() == found[1]
    promotion.rollback()  # not to v0.0.3, which held production before, but was taken back
    assert shop.served() == found[0]
    assert copies() == {found[0], found[2]}
    refused(r"only v0.0.1 has been in production, so there is nothing to go back to", act=promotion.rollback)
    assert shop.served() == found[0]
    assert (shop.git("rev-parse", "HEAD"), (shop.folder / "dvc.lock").read_bytes()) == (head, lock)
    assert shop.git("status", "--porcelain") == ""
    assert [one["version"] for one in promotion.models() if one["champion"]] == ["v0.0.1"]
    assert f"{NAME} v0.0.3" in promotion.promote("fixed")  # the pipeline's newest: it comes again as what it was
    shutil.rmtree(shop.folder / ".dvc/cache")
    before = shop.tags()
    refused(r"neither in DVC's cache nor in its remote .* `dvc push`", act=promotion.rollback)
    assert (shop.tags(), shop.bundle(), shop.served()) == (before, found[2], found[2])


def test_a_better_challenger_is_promoted_once_with_what_it_gains_and_listed(shop: Shop, weak: packing.Bundle) -> None:
    newer, head = committed(shop), shop.git("rev-parse", "HEAD").strip()
    told = promotion.promote()
    assert re.search("v0.0.2.* after v0.0.1: beats champion v0.0.1: gain", told)
    assert told.splitlines()[0][-20:] in shop.git("tag", "-n9", f"{NAME}@v0.0.2")
    before = shop.tags()
    shop.git("commit", "-q", "--allow-empty", "-m", "The same model")
    assert "in production already: nothing to promote" in promotion.promote()
    assert shop.tags() == before
    api.assign(str(shop.folder), NAME, "staging", version="v0.0.1")
    models, names = promotion.models(), ("version", "champion", "stages", "bundle")
    found = [[one[name] for name in names] for one in models]
    assert found == [["v0.0.2", True, ["production"], newer.version], ["v0.0.1", False, ["staging"], weak.version]]
    assert models[0]["commit"] == head
    names, new, old = CliRunner().invoke(app, ["models"]).output.splitlines()[:3]
    assert " ".join(names.split()) == "version commit date stage bundle model ROC AUC log loss gain"
    assert (new[:9], old[0]) == ("*  v0.0.2", " ")
    assert all(figure in new for figure in ("0.750 (0.700 to 0.800)", "0.125 (0.050 to 0.200)"))
    assert json.loads(CliRunner().invoke(app, ["models", "--json"]).output) == models


def test_commands_fail_with_what_is_wrong_and_without_git_say_so(project: Project, monkeypatch: Any) -> None:
    project.params["deployment"] = bundles.PARAMS.model_dump()
    project.write(yaml.safe_dump(project.params))
    for command in (["models"], ["promote"], ["promote", "--force", "now"], ["rollback"]):
        done = CliRunner().invoke(app, command)
        assert (done.exit_code, "error: " in done.output) == (1, True), command
        assert "not a git repository" in done.output or "bundle" in done.output, done.output
    (project.folder / "inner").mkdir()
    shutil.copy("params.yaml", "inner")
    subprocess.run(["git", "init", "-q"], check=True)
    monkeypatch.chdir("inner")
    for command in (["models"], ["promote"], ["rollback"], ["retrain"]):  # never in the repository around it
        assert "which holds no file of this project" in CliRunner().invoke(app, command).output


def test_any_version_comes_back_from_the_remote_after_the_cache_is_gone(shop: Shop, tmp_path_factory: Any) -> None:
    store = os.environ.get(REMOTE) or tmp_path_factory.mktemp("store")  # the test below runs this one with its own
    (shop.folder / ".dvc/config").write_text(f"[core]\n    remote = store\n['remote \"store\"']\n    url = {store}\n")
    versions = []
    for good in (False, True):
        versions.append(committed(shop, good=good).version)
        dvc(shop.folder, "push")
        promotion.promote()
    shutil.rmtree(shop.folder / ".dvc/cache")
    for number, version in enumerate(versions, 1):
        with repository.restored("models/bundle", f"{NAME}@v0.0.{number}") as fetched:
            assert packing.verify(fetched) == version
    promotion.rollback()
    assert shop.served() == versions[0]
    shutil.rmtree(shop.folder / "models/bundle")
    dvc(shop.folder, "pull", targets=["models/bundle"])
    assert shop.bundle() == versions[1]


def test_a_remote_that_fails_is_named_without_its_password(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def get(*_: Any, **__: Any) -> None:
        raise OSError("https://ann:topsecret@host/store: 403")

    monkeypatch.setattr("dvc.repo.get.get", get)
    with pytest.raises(DataError, match=r"in its remote \(https://ann:\*\*\*@host/store: 403\)"):
        repository.restored("models/bundle", "HEAD").__enter__()


def test_any_version_comes_back_from_s3_too() -> None:
    """The test of the remote again, in a process that finds DVC's S3 in the environment of `make s3`, which moto excludes."""
    dvc_s3 = next((ROOT / ".venv-s3").glob("lib/python3*/site-packages/dvc_s3"), None)
    if dvc_s3 is None:
        assert not os.environ.get("CI"), "DVC with S3 has to be installed where CI is set: `make s3`"
        pytest.skip("a remote in S3 takes dvc[s3]: make s3")
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    client = boto3.client("s3", endpoint_url=address, region_name="us-east-1", **keys)
    client.create_bucket(Bucket="models")
    test = test_any_version_comes_back_from_the_remote_after_the_cache_is_gone
    path = os.pathsep.join([str(dvc_s3.parent), str(ROOT / "src")])
    env = {**os.environ, **{name.upper(): value for name, value in keys.items()}, "AWS_REGION": "us-east-1"}
    env |= {"AWS_ENDPOINT_URL": address, "PYTHONPATH": path, REMOTE: "s3://models/store"}
    command = [sys.executable, "-m", "pytest", f"{__file__}::{test.__name__}"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    files = client.list_objects_v2(Bucket="models", Prefix="store/").get("KeyCount", 0)
    server.stop()
    assert "1 passed" in done.stdout, done.stdout[-3000:] + done.stderr[-1000:]
    assert files > 10  # it was this server that kept them
