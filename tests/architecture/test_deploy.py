"""The files of `deploy/` against the project: they cannot be run here, so what they name has to exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from c360_assets.cli import _parser
from c360_assets.settings import _C360, PROJECT, Settings, Snowflake

DEPLOY = PROJECT / "deploy"
OURS = {"home", "code", "web", "daemon", "worker", "consumer", "api", "dashboard", "generator"}


def read(name: str) -> Any:
    return yaml.safe_load((PROJECT / name).read_text())


@pytest.fixture(scope="module")
def compose() -> Any:
    return read("deploy/compose.yaml")


def test_every_process_of_the_platform_has_a_service(compose: Any) -> None:
    assert set(compose["services"]) == OURS | {"postgres", "s3", "kafka"}
    for name in OURS:
        service = compose["services"][name]
        assert service["image"] == "c360" and service["volumes"] == ["home:/var/lib/c360"], name
        assert service["build"]["dockerfile"] == "deploy/Dockerfile"


def test_the_commands_are_those_of_the_project(compose: Any) -> None:
    for name in sorted(OURS):
        command = [str(word) for word in compose["services"][name]["command"]]
        if command[0] == "sh":
            first, command = (text.split() for text in command[2].split(" && exec "))
            assert first == ["c360", "prepare"], name
        if command[0] == "c360":
            _parser().parse_args(command[1:])  # SystemExit else
        elif command[0] == "python":
            from generator.__main__ import _parser as of_generator

            assert command[1:3] == ["-m", "generator"]
            of_generator().parse_args(command[3:])
        else:
            assert command[0] in ("dagster", "dagster-webserver", "dagster-daemon")
    assert read("deploy/workspace.yaml") == {
        "load_from": [{"grpc_server": {"host": "code", "port": 4000, "location_name": "c360"}}]
    }
    code = compose["services"]["code"]["command"][2].split()
    (module,) = (entry["python_module"]["module_name"] for entry in read("workspace.yaml")["load_from"])
    assert code[code.index("-m") + 1] == module and code[code.index("-p") + 1] == "4000"


def test_a_run_whose_container_died_is_known_to_be_of_it(compose: Any) -> None:
    """A container that is made anew has another name, unless it is given one; of a host that is gone for good time tells."""
    for name in ("code", "worker"):
        assert compose["services"][name]["hostname"] == name
    assert read("deploy/dagster.yaml")["run_monitoring"]["max_runtime_seconds"] > 3600


def test_settings_are_known_and_their_values_are_taken(compose: Any, tmp_path: Path) -> None:
    for name in OURS:
        stated = {k: str(v) for k, v in compose["services"][name].get("environment", {}).items()}
        stated |= {"C360_HOME": str(tmp_path)}
        Settings.load(stated)  # SettingsError for one that is unknown
    image = (DEPLOY / "Dockerfile").read_text()
    named = set(re.findall(r"\b(C360_[A-Z_]+)=", image))
    assert named and named <= _C360.keys()


def test_names_in_comments_and_documents_are_settings() -> None:
    known = _C360.keys() | {f"SNOWFLAKE_{name.upper()}" for name in Snowflake.__dataclass_fields__}
    for path in (*DEPLOY.iterdir(), PROJECT / "docs" / "deploy.md"):
        for name in re.findall(r"\b(?:C360|SNOWFLAKE)_[A-Z_]*[A-Z]\b", path.read_text()):
            assert any(each.startswith(name) for each in known), (path.name, name)


def test_what_people_reach_is_published_on_this_machine_alone_and_has_a_health_check(compose: Any) -> None:
    for name, service in compose["services"].items():
        assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert "healthcheck" in service or name in ("home", "consumer", "generator"), name
    health = {n: str(compose["services"][n]["healthcheck"]["test"]) for n in ("api", "dashboard", "web", "s3")}
    app = (PROJECT / "serving" / "api" / "app.py").read_text()
    assert ":8000/health" in health["api"] and '@app.get("/health"' in app
    # A service waits for one that says that it is well.
    for name, service in compose["services"].items():
        for other, how in service.get("depends_on", {}).items():
            asked = how["condition"]
            assert asked == "service_completed_successfully" or "healthcheck" in compose["services"][other], (
                name,
                other,
            )


def test_the_image_is_made_of_what_is_locked_and_runs_as_nobody_special() -> None:
    image = (DEPLOY / "Dockerfile").read_text()
    assert "--require-hashes -r requirements-deploy.lock" in image
    assert re.search(r"^USER 10001$", image, re.M) and "--uid 10001" in image
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", image, re.M)
    kept = {line[1:] for line in (PROJECT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for path in (part for line in copied for part in line.split()):
        assert (PROJECT / path).exists() and path in kept, path
    lock = (PROJECT / "requirements-deploy.lock").read_text()
    assert "://" not in lock and "--hash=sha256:" in lock
    for package in ("dagster-postgres", "dagster-k8s", "psycopg", "confluent-kafka", "streamlit", "setuptools"):
        assert re.search(rf"^{package}==", lock, re.M), package


def test_dagster_is_configured_as_on_one_machine_but_for_its_storage() -> None:
    here, there = read("dagster.yaml"), read("deploy/dagster.yaml")
    storage = there.pop("storage")
    assert here == there
    assert set(storage["postgres"]["postgres_db"]) == {"hostname", "username", "password", "db_name", "port"}


def test_dagster_takes_its_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dagster_postgres", reason="the extra deploy is not installed")
    from dagster._core.instance.config import dagster_instance_config

    for name in ("HOST", "USER", "PASSWORD", "DB"):
        monkeypatch.setenv(f"DAGSTER_PG_{name}", "x")
    (tmp_path / "dagster.yaml").write_text((DEPLOY / "dagster.yaml").read_text())
    config, _ = dagster_instance_config(str(tmp_path))
    assert "postgres" in config["storage"]


def test_runs_on_kubernetes_are_pods_of_the_same_image_and_user() -> None:
    values = read("deploy/values.yaml")
    (code,) = values["dagster-user-deployments"]["deployments"]
    assert code["dagsterApiGrpcArgs"] == ["-m", "c360_assets.definitions"]
    assert code["podSecurityContext"]["runAsUser"] == 10001 and code["podSecurityContext"]["runAsNonRoot"]
    assert code["includeConfigInLaunchedRuns"]["enabled"]
    assert values["runLauncher"]["type"] == "K8sRunLauncher"
    here = read("dagster.yaml")
    assert values["additionalInstanceConfig"]["concurrency"]["pools"] == here["concurrency"]["pools"]
    runs = values["dagsterDaemon"]["runCoordinator"]["config"]["queuedRunCoordinator"]
    assert runs["maxConcurrentRuns"] == here["concurrency"]["runs"]["max_concurrent_runs"]
    for word in ("schedule", "sensor"):
        assert values["retention"][word]["purgeAfterDays"]
    dagster = re.search(r'"dagster==([\d.]+)"', (PROJECT / "pyproject.toml").read_text())
    assert dagster is not None and f"--version {dagster.group(1)} " in (DEPLOY / "values.yaml").read_text()


def test_the_workflow_runs_what_has_to_pass() -> None:
    flow = read(".github/workflows/tests.yml")
    assert {"run": ".ci/run"} in flow["jobs"]["tests"]["steps"]
    assert set(flow[True]) == {"push", "pull_request"}  # YAML 1.1 takes `on` for true
    pinned = re.search(r'requires-python = ">=([\d.]+),', (PROJECT / "pyproject.toml").read_text())
    assert pinned is not None and pinned.group(1) in flow["jobs"]["tests"]["strategy"]["matrix"]["python"]
