"""The cloud: the image starts from what it holds alone, the template is made and says what it should, releases keep quiet."""

import hashlib
import importlib.metadata
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from contextlib import AbstractContextManager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import yaml
from clones import copy_of_the_repository
from packaging.requirements import Requirement
from servers import started

from ninefold.serving import middleware

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE, RELEASE = ROOT / "deploy/cloudformation.yaml", ROOT / ".github/workflows/release.yml"
LOCKS = [ROOT / "requirements-serve.lock", ROOT / "deploy/requirements-release.lock"]
MADE = {"models/bundle", "deploy/wheels", "requirements-own.lock"}  # by the pipeline, `make wheel`, `make lock`


class Step(NamedTuple):
    """An instruction of the Dockerfile, and which stage it belongs to."""

    stage: int
    name: str
    value: str


def dockerfile() -> list[Step]:
    """Return the instructions, each on one line, with the arguments' defaults in the place of their names."""
    text = re.sub(r"^#.*\n", "", (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8"), flags=re.M)
    found, stage, arguments = [], -1, {}
    for line in filter(None, re.sub(r"\\\n\s*", "", text).splitlines()):
        name, _, value = line.partition(" ")
        stage += name == "FROM"
        value = re.sub(r"\$\{(\w+)\}", lambda match: arguments.get(match[1], match[0]), value)
        if name == "ARG":
            arguments.update([value.split("=", 1)])
        found.append(Step(stage, name, value))
    return found


def values(name: str, stage: int = 1) -> list[str]:
    return [step.value for step in dockerfile() if (step.stage, step.name) == (stage, name)]


def from_the_context() -> set[str]:
    """Return what the Dockerfile copies from the project."""
    copied = [step.value.split()[:-1] for step in dockerfile() if step.name == "COPY" and "--from" not in step.value]
    return {re.sub(r"\[(.)\]", r"\1", source) for sources in copied for source in sources}


def healthcheck() -> list[str]:
    """Return the command that tells whether a container is healthy."""
    return json.loads(values("HEALTHCHECK")[0].partition("CMD ")[2])


def pins(lock: Path) -> dict[str, str]:
    """Return the packages that a lock installs here: name -> version."""
    lines = re.findall(r"^([a-z0-9.\-\[\]]+==[^\\\n]+)", lock.read_text(encoding="utf-8"), flags=re.M)
    wanted = [Requirement(line.strip()) for line in lines]
    here = [each for each in wanted if each.marker is None or each.marker.evaluate()]
    return {each.name: str(each.specifier)[2:] for each in here}


def test_the_image_is_pinned_runs_without_rights_and_holds_nothing_secret() -> None:
    steps, text = dockerfile(), (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
    for source in values("FROM", 0) + values("FROM"):
        assert re.match(r"python:3\.11-slim-\w+( AS build)?$", source), source
    assert [step.name for step in steps].index("USER") < [step.name for step in steps].index("ENTRYPOINT")
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", values("USER")[-1])
    assert values("EXPOSE") == ["8000"]
    assert "/ready" in healthcheck()[-1]
    assert set(json.loads(values("VOLUME")[0])) == {"/data", "/tmp"}
    installs = [step.value for step in steps if step.name == "RUN" and " pip " in step.value]
    assert len(installs) == 2  # the third-party packages, the engine
    assert [each for each in installs if "--require-hashes" not in each or "--only-binary :all:" not in each] == []
    assert not re.search(r"index-url|find-links|pypi|https?://(?!127\.0\.0\.1)", text)
    declared = [step.value for step in steps if step.name in ("ARG", "ENV")]
    assert not re.search(r"token|secret|password|_key", " ".join(declared), re.I)


def test_the_builder_is_sent_what_is_copied_and_nothing_else() -> None:
    lines = (ROOT / "deploy/Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == from_the_context()
    assert [name for name in from_the_context() - MADE if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_locks_hold_hashes_and_no_address(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    assert not re.search(r"https?:|index-url [^ ]*/|find-links [^ ]*/", text)
    packages = re.split(r"^(?=[a-z0-9])", text, flags=re.M)[1:]
    assert len(packages) > 30
    assert [each.split()[0] for each in packages if "--hash=sha256:" not in each] == []


def test_the_image_has_the_versions_that_the_tests_ran_with() -> None:
    served, tested = pins(LOCKS[0]), pins(ROOT / "requirements.lock")
    assert {name: version for name, version in served.items() if tested.get(name, version) != version} == {}
    listed = (ROOT / "deploy/requirements.in").read_text(encoding="utf-8")
    assert set(re.findall(r"^([\w-]+)", listed, flags=re.M)) <= set(served)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that ``make wheel`` fills."""
    project = copy_of_the_repository(tmp_path_factory.mktemp("wheel") / "project")
    ready = project.folder / ".venv/.ready"
    ready.parent.mkdir()
    ready.touch()
    done = project.run("make", "wheel", f"PIP={shlex.quote(sys.executable)} -m pip --quiet --disable-pip-version-check")
    assert done.returncode == 0, done.stdout + done.stderr
    return project.folder / "deploy/wheels"


def test_the_wheel_of_the_engine_is_hashed_and_holds_the_engine_alone(wheels: Path) -> None:
    (wheel,) = wheels.glob("*.whl")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert (wheels / "engine.lock").read_text() == f"./{wheel.name} --hash=sha256:{digest}\n"
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert tops == {"ninefold", wheel.name.replace("-py3-none-any.whl", ".dist-info")}


def build(folder: Path, bundle: Path, wheels: Path) -> Path:
    """Lay out in `folder` what the image holds; return the folder that stands for its root.

    COPY, ``ln -s`` and the installation of the engine's wheel are done as the Dockerfile says; instead of what pip
    downloads there, links stand for the installed files of the packages in the lock, and of no others.
    """
    made, ignore = {"models/bundle": bundle, "deploy/wheels": wheels}, shutil.ignore_patterns("__pycache__", ".*")
    roots = [folder / "stage-0", folder / "stage-1"]
    for step in dockerfile():
        if step.name == "COPY":
            *sources, target = step.value.split()
            start = roots[0] if sources[0].startswith("--from") else ROOT
            for source in [each.lstrip("/") for each in sources if each not in ("--from=build", "/venv")]:
                if (origin := made.get(source, start / source)).exists():
                    place = roots[step.stage] / target.lstrip("/") / (origin.name if target.endswith("/") else "")
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copytree(origin, place, ignore=ignore) if origin.is_dir() else shutil.copy(origin, place)
        for source, target in re.findall(r"ln -s (\S+) (\S+)", step.value) if step.name == "RUN" else ():
            (roots[1] / target.lstrip("/")).symlink_to(roots[1] / source.lstrip("/"))
            (roots[1] / source.lstrip("/")).mkdir(parents=True)
    packages = roots[1] / "venv"
    packages.mkdir()
    for name in pins(LOCKS[0]):
        found = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in found.files or []} - {"..", "__pycache__"}:
            if not (packages / top).exists():
                (packages / top).symlink_to(found.locate_file(top))
    (install,) = [step.value for step in dockerfile() if "engine.lock" in step.value]
    command = install.replace("/build", str(roots[0] / "build"))
    command = command.replace("python -m pip", f"{shlex.quote(sys.executable)} -m pip")
    command = command.replace("--python /venv/bin/python install", f"install --target {packages}")
    subprocess.run(["bash", "-c", command], check=True, capture_output=True)
    return roots[1]


def state(root: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of change of every file of the image but the packages."""
    files = [file for part in (root / "app", root / "venv") for file in part.rglob("*") if not file.is_symlink()]
    return {str(file): (file.stat().st_size, file.stat().st_mtime_ns) for file in files}


def running(root: Path) -> AbstractContextManager[tuple[subprocess.Popen[str], str]]:
    """Run the image's command in `root`, at 127.0.0.1 and a free port; give the process and the line that it prints."""
    command = json.loads(values("ENTRYPOINT")[0])
    assert command[0] == "python"
    command = ["127.0.0.1" if word == "0.0.0.0" else word for word in command[1:]]
    declared = dict(pair.split("=", 1) for each in values("ENV") for pair in each.split())
    environment = declared | {"PATH": os.defpath, "HOME": "/nonexistent", "NINEFOLD_TOKEN": "t" * 48}
    environment |= {"PYTHONPATH": f"{root}{declared['PYTHONPATH']}{os.pathsep}{root / 'venv'}"}
    environment |= {"TMPDIR": str(root.parent), "OMP_NUM_THREADS": "1"}
    folder = Path(f"{root}{values('WORKDIR')[0]}")
    # Without -S Python would add the packages of the whole environment.
    return started("-S", *command, "--port", "0", cwd=folder, env=environment)


def test_the_image_answers_from_what_it_holds_alone_and_writes_nothing(bundle: Any, wheels: Any, tmp_path: Any) -> None:
    root = build(tmp_path / "image", bundle.place, wheels)
    for place in sorted((root / "app").rglob("*"), reverse=True):
        if not place.is_symlink():
            place.chmod(0o555 if place.is_dir() else 0o444)
    before, check = state(root), healthcheck()
    with running(root) as (process, line):
        address, options = line.split()[-1], dict[str, Any](trust_env=False, timeout=30)
        assert httpx.get(f"{address}/ready", **options).json()["version"] == bundle.version  # a balancer sends no token
        options |= {"headers": {"Authorization": f"Bearer {'t' * 48}"}}
        sent = {"rows": [bundle.described["example"]]}
        (given,) = httpx.post(f"{address}/predict", json=sent, **options).json()["predictions"]
        wanted = bundle.decide(bundle.complete([bundle.described["example"]])).iloc[0]
        assert given["action"] == wanted["action"]
        assert given["probability"] == pytest.approx(wanted["probability"], abs=1e-9)
        asked = [sys.executable, *check[1:-1], check[-1].replace("http://127.0.0.1:8000", address)]
        assert subprocess.run(asked, check=False, capture_output=True).returncode == 0
        process.terminate()
        assert process.wait(30) == 0
        assert subprocess.run(asked, check=False, capture_output=True).returncode != 0
    assert state(root) == before
    assert list((root / "data").rglob("*.sqlite"))  # the log of predictions, on the volume


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    decode = pytest.importorskip("cfnlint.decode.cfn_yaml")
    return json.loads(json.dumps(decode.load(str(TEMPLATE))))["Resources"]


@pytest.fixture(scope="module")
def made(resources: dict[str, Any]) -> dict[str, Any]:
    """Return the properties of every resource of the template, by its name."""
    return {name: each.get("Properties", {}) for name, each in resources.items()}


def test_the_template_passes_cfn_lint_without_a_remark() -> None:
    api = pytest.importorskip("cfnlint.api")
    chosen = api.ManualArgs(regions=["eu-west-1", "us-east-1"], include_checks=["I"])
    assert [str(each) for each in api.lint(TEMPLATE.read_text(encoding="utf-8"), config=chosen)] == []


def test_what_is_made_is_closed_but_for_the_way_in_and_every_alarm_is_sent(resources: Any, made: Any) -> None:
    later = {name for name, each in resources.items() if each.get("Condition") == "Serving"}
    assert later == {"TaskDefinition", "Service", "ScalableTarget", "ScalingByCpu", "NoTraffic"}  # after the first step
    container = made["TaskDefinition"]["ContainerDefinitions"][0]
    assert (container["ReadonlyRootFilesystem"], container["User"]) == (True, values("USER")[-1])
    assert container["LogConfiguration"]["Options"]["awslogs-group"] == {"Ref": "LogGroup"}
    assert made["ModelBucket"]["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert made["Repository"]["ImageTagMutability"] == "IMMUTABLE"
    group = made["TargetGroup"]
    assert (group["HealthCheckPath"], group["Port"], group["TargetType"]) == ("/ready", 8000, "ip")
    (rule,) = made["ServiceSecurityGroup"]["SecurityGroupIngress"]
    assert (rule["SourceSecurityGroupId"], "CidrIp" in rule) == ({"Ref": "LoadBalancerSecurityGroup"}, False)
    plain = resources["RedirectListener"]  # with a certificate plain HTTP only leads to HTTPS
    assert (plain["Condition"], plain["Properties"]["DefaultActions"][0]["Type"]) == ("Encrypted", "redirect")
    alarms = [made[name] for name, each in resources.items() if each["Type"] == "AWS::CloudWatch::Alarm"]
    assert len({alarm["MetricName"] for alarm in alarms}) == 5
    assert all(alarm["AlarmActions"] == [{"Ref": "AlarmTopic"}] for alarm in alarms)


def test_the_bucket_is_private_and_roles_may_do_only_what_starting_a_task_takes(resources: Any, made: Any) -> None:
    bucket, (denied,) = made["ModelBucket"], made["ModelBucketPolicy"]["PolicyDocument"]["Statement"]
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}  # what was overwritten is kept
    assert list(bucket["PublicAccessBlockConfiguration"].values()) == [True] * 4
    assert (denied["Effect"], denied["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})
    roles = {name for name, each in resources.items() if each["Type"] == "AWS::IAM::Role"}
    assert roles == {"ExecutionRole", "TaskRole"}
    assert not {"Policies", "ManagedPolicyArns"} & set(made["TaskRole"])
    assert "ManagedPolicyArns" not in made["ExecutionRole"]
    statements = made["ExecutionRole"]["Policies"][0]["PolicyDocument"]["Statement"]
    assert [each["Action"] for each in statements if each["Resource"] == "*"] == ["ecr:GetAuthorizationToken"]
    assert "*" not in json.dumps([each["Action"] for each in statements])


def test_the_template_runs_the_image_as_it_was_built_and_takes_back_what_fails(resources: Any, made: Any) -> None:
    container = made["TaskDefinition"]["ContainerDefinitions"][0]
    assert container["HealthCheck"]["Command"] == ["CMD", *healthcheck()]
    assert {each["ContainerPath"] for each in container["MountPoints"]} == set(json.loads(values("VOLUME")[0]))
    assert [str(each["ContainerPort"]) for each in container["PortMappings"]] == values("EXPOSE")
    assert container["Secrets"] == [{"Name": "NINEFOLD_TOKEN", "ValueFrom": {"Ref": "Token"}}]
    (hosts,) = container["Environment"]
    assert hosts == {"Name": middleware.HOSTS, "Value": {"Fn::Sub": "${LoadBalancer.DNSName},${HostNames}"}}
    rolled = made["Service"]["DeploymentConfiguration"]
    assert rolled["DeploymentCircuitBreaker"] == {"Enable": True, "Rollback": True}
    assert (rolled["MinimumHealthyPercent"], rolled["MaximumPercent"]) == (100, 200)
    kept = [name for name, each in resources.items() if each.get("DeletionPolicy") == "Retain"]
    assert kept == ["ModelBucket", "Repository"]


@pytest.fixture(scope="module")
def release() -> dict[Any, Any]:
    return yaml.safe_load(RELEASE.read_text(encoding="utf-8"))


def test_promotions_and_rollbacks_release_and_other_tags_do_not(release: dict[Any, Any]) -> None:
    on = release[True]  # YAML's reading of `on`
    assert (set(on), set(on["push"])) == ({"push", "workflow_dispatch"}, {"tags"})
    steps = release["jobs"]["release"]["steps"]
    assert steps[0]["with"]["ref"] == f"refs/tags/{release['jobs']['release']['env']['TAG']}"
    tags = {"returns#production#1": True, "v1.2.3": True, "returns@v1.2.3": False, "vans#staging#1": False}
    for tag, releases in {**tags, "returns#production!#2": False, "v1.2.3!": False, "main": False}.items():
        matching = [each for each in on["push"]["tags"] if fnmatchcase(tag, each.removeprefix("!"))]
        assert (bool(matching) and not matching[-1].startswith("!")) == releases, tag


def test_a_release_has_the_least_rights_and_no_lasting_key(release: dict[Any, Any]) -> None:
    job = release["jobs"]["release"]
    assert release["permissions"] == {}
    assert job["permissions"] == {"contents": "read", "id-token": "write"}
    assert "AWS_RELEASE_ROLE" in job["if"]
    assert job["environment"] == "production"
    used = [step["uses"] for step in job["steps"] if "uses" in step]
    assert [each for each in used if not re.search(r"@(v\d+\.\d+\.\d+|[0-9a-f]{40})$", each)] == []
    text = RELEASE.read_text(encoding="utf-8")
    assert not re.search(r"secrets\.|aws-access-key|aws-secret|set -x|ACTIONS_STEP_DEBUG|\benv\s*\|", text)


def test_the_commands_of_a_release_are_shell_that_takes_no_text_from_outside(release: dict[Any, Any]) -> None:
    commands = [step["run"] for step in release["jobs"]["release"]["steps"] if "run" in step]
    for command in commands:
        done = subprocess.run(["bash", "-n"], input=command, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "${{" not in command  # the runner would paste it in before the shell reads it
    pushed = next(line for command in commands for line in command.splitlines() if line.startswith("image="))
    given = {"repository": "1.dkr/x", "TAG": "a@v1$(id)/b", "GITHUB_RUN_ID": "7", "GITHUB_RUN_ATTEMPT": "1"}
    command = ["bash", "-c", f'{pushed}; echo "$image"']
    said = subprocess.run(command, env=given, text=True, stdout=-1, check=True).stdout
    assert re.fullmatch(r"1\.dkr/x:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\n", said)
