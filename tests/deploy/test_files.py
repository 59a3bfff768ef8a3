"""The files of the deployment: right by their own checkers, and of one mind with each other."""

import json
import re
import subprocess
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject

from tests.deploy.dockerfile import Dockerfile
from tests.parts.need import beside_python, installed
from tests.parts.program import ROOT
from tests.parts.prometheus import shipped
from worker.bootstrap import LEAVE_S, RESIGN_S
from worker.consumer import LAST_S
from worker.executor import HAND_BACK_S
from worker.pump import CLOSE_S
from worker.settings import Settings, variable
from worker.tracing import FLUSH_S

DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "systemd" / "router-worker@.service"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
WORKERS: dict[str, Any] = {
    name: service for name, service in COMPOSE["services"].items() if "build" in service
}
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
OBJECTS: dict[str, Any] = {
    one["kind"]: one for path in MANIFESTS for one in yaml.safe_load_all(path.read_text())
}
IMAGE = Dockerfile()
#: Longest time that a worker takes behind the drain, in seconds: where Redis is away, and the
#: collector of traces hangs.
AFTER_DRAIN_S = HAND_BACK_S + LAST_S + RESIGN_S + CLOSE_S + LEAVE_S + FLUSH_S
#: Variables that no setting of ours has, by who reads them.
OTHERS = {"PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"}


def unit() -> RawConfigParser:
    parser = RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT.read_text())
    return parser


def pod() -> Any:
    return OBJECTS["Deployment"]["spec"]["template"]["spec"]


def seconds(text: str) -> float:
    """Read a time as Compose and systemd write it, in seconds."""
    return float(text.removesuffix("s"))


def checked(*command: str, cwd: Path = ROOT) -> str:
    """Run a checker that must be content; return what it said."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_hadolint_has_nothing_against_the_dockerfile() -> None:
    assert not checked(beside_python("hadolint"), "deploy/Dockerfile")


def test_the_compose_file_is_what_its_specification_says() -> None:
    schema = ["--builtin-schema", "vendor.compose-spec"]
    checked(beside_python("check-jsonschema"), *schema, "deploy/compose.yaml")


def test_the_manifests_are_what_kubernetes_takes() -> None:
    said = checked(
        beside_python("kubernetes-validate"), "--strict", "deploy/kubernetes/worker.yaml"
    )
    assert "WARN" not in said, "it knows of each kind"


def test_the_autoscaling_is_what_keda_takes() -> None:
    """Its models leave out what they do not know."""
    scaled = OBJECTS["ScaledObject"]
    read = ScaledObject.model_validate(scaled)
    assert read.model_dump(by_alias=True, exclude_unset=True, mode="json") == scaled


def test_systemd_takes_the_unit_and_finds_it_well_shut_in(tmp_path: Path) -> None:
    analyze = installed("systemd-analyze", "systemd")
    copy = tmp_path / UNIT.name
    # It looks whether the program is there.
    copy.write_text(UNIT.read_text().replace("/opt/router-worker/bin/router-worker", "/bin/true"))
    assert not checked(analyze, "verify", "--man=no", str(copy))
    checked(analyze, "security", "--offline=true", "--threshold=20", str(copy))


def starts() -> dict[str, list[str]]:
    """What each way of deployment starts, without the folder of the program."""
    procfile = (ROOT / "Procfile").read_text().removeprefix("worker: exec ").split()
    program, *arguments = unit()["Service"]["ExecStart"].split()
    container = pod()["containers"][0]
    image = {"entrypoint": IMAGE.array("ENTRYPOINT"), "command": IMAGE.array("CMD")}
    return {
        "Dockerfile": [*image["entrypoint"], *image["command"]],
        "Procfile": procfile,
        "systemd": [Path(program).name, *arguments],
        "Kubernetes": [*container.get("command", image["entrypoint"]), *container["args"]],
        **{
            f"Compose, {name}": [
                *service.get("entrypoint", image["entrypoint"]),
                *service.get("command", image["command"]),
            ]
            for name, service in WORKERS.items()
        },
    }


@pytest.mark.parametrize("where", starts())
def test_all_start_the_same_command(where: str) -> None:
    assert starts()[where] == ["router-worker", "run"]


def environments() -> dict[str, dict[str, str]]:
    """The variables that each way sets."""
    assignments = [one for _, text in unit().items("Service") for one in text.split() if "=" in one]
    names = dict(re.findall(r"^([A-Z_]+)=(.*)$", "\n".join(assignments), re.MULTILINE))
    told = {one["name"]: "" for one in pod()["containers"][0].get("env", ())}
    return {
        "Dockerfile": IMAGE.environment,
        "systemd": names,
        "Kubernetes": OBJECTS["ConfigMap"]["data"] | told,
        **{f"Compose, {name}": service["environment"] for name, service in WORKERS.items()},
    }


@pytest.mark.parametrize("where", environments())
def test_every_setting_is_one_that_the_worker_knows(where: str) -> None:
    known = {variable(field) for field in Settings.model_fields} | OTHERS
    names = {name.removesuffix("_FILE") for name in environments()[where]}
    assert names
    assert names <= known


def graces() -> dict[str, tuple[float, float]]:
    """How long each way waits behind SIGTERM, and for how long the worker lets tasks end."""
    usual = float(Settings.model_fields["drain_s"].default)
    configured = float(OBJECTS["ConfigMap"]["data"]["ROUTER_WORKER_DRAIN_S"])
    return {
        "systemd": (seconds(unit()["Service"]["TimeoutStopSec"]), usual),
        "Kubernetes": (float(pod()["terminationGracePeriodSeconds"]), configured),
        **{
            f"Compose, {name}": (seconds(service["stop_grace_period"]), usual)
            for name, service in WORKERS.items()
        },
    }


@pytest.mark.parametrize("where", graces())
def test_nobody_is_killed_while_he_hands_his_tasks_back(where: str) -> None:
    grace_s, drain_s = graces()[where]
    assert grace_s > drain_s + AFTER_DRAIN_S


def test_the_container_has_no_root_and_writes_nothing() -> None:
    assert IMAGE.last("USER") == "10001:10001"
    container = pod()["containers"][0]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert pod()["securityContext"]["runAsUser"] == 10001
    assert pod()["securityContext"]["runAsNonRoot"]
    for service in WORKERS.values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]


def test_pods_are_probed_where_the_worker_answers() -> None:
    container = pod()["containers"][0]
    paths = {name: container[name]["httpGet"] for name in container if name.endswith("Probe")}
    assert paths == {
        "startupProbe": {"path": "/healthz", "port": "metrics"},
        "livenessProbe": {"path": "/healthz", "port": "metrics"},
        "readinessProbe": {"path": "/readyz", "port": "metrics"},
    }
    (port,) = container["ports"]
    assert str(port["containerPort"]) == IMAGE.environment["PORT"] == IMAGE.last("EXPOSE")


def test_one_pod_at_a_time_may_be_disrupted_and_all_are_scaled() -> None:
    labels = OBJECTS["Deployment"]["spec"]["selector"]["matchLabels"]
    assert OBJECTS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert OBJECTS["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1
    scaled = OBJECTS["ScaledObject"]["spec"]
    assert scaled["scaleTargetRef"]["name"] == OBJECTS["Deployment"]["metadata"]["name"]
    assert scaled["minReplicaCount"] == OBJECTS["Deployment"]["spec"]["replicas"]
    # An average over the pods would ask for as many of them as there are seconds.
    assert {trigger["metricType"] for trigger in scaled["triggers"]} == {"Value"}


def test_prometheus_scrapes_the_workers_of_the_compose_file() -> None:
    (job,) = shipped("prometheus.yml")["scrape_configs"]
    (targets,) = job["static_configs"]
    port = IMAGE.environment["PORT"]
    assert targets["targets"] == [f"{name}:{port}" for name in WORKERS]
    assert job["job_name"] == "router-worker"


def test_prometheus_finds_the_pods_by_their_label_and_the_name_of_their_port() -> None:
    (job,) = shipped("kubernetes.yml")["scrape_configs"]
    asked = {"".join(one["source_labels"]): one for one in job["relabel_configs"]}
    label = asked["__meta_kubernetes_pod_label_app_kubernetes_io_name"]
    port = asked["__meta_kubernetes_pod_container_port_name"]
    assert label["action"] == port["action"] == "keep"
    labels = OBJECTS["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/name"] == label["regex"]
    assert [one["name"] for one in pod()["containers"][0]["ports"]] == [port["regex"]]
    assert job["job_name"] == "router-worker"


def test_what_the_manifest_has_in_files_is_mounted() -> None:
    mounts = {one["mountPath"]: one["name"] for one in pod()["containers"][0]["volumeMounts"]}
    volumes = {one["name"]: one["secret"] for one in pod()["volumes"]}
    data = OBJECTS["ConfigMap"]["data"]
    folders = [str(Path(path).parent) for name, path in data.items() if name.endswith("_FILE")]
    assert folders
    for folder in (*folders, data["ROUTER_WORKER_CREDENTIALS_DIR"]):
        assert "items" not in volumes[mounts[folder]], "each entry of the secret is a file"


def test_grafana_finds_prometheus_and_the_dashboard() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    assert (
        source["jsonData"]["timeInterval"] == shipped("prometheus.yml")["global"]["scrape_interval"]
    )
    assert "prometheus" in COMPOSE["services"]
    (provider,) = yaml.safe_load((provisioning / "dashboards/router-worker.yaml").read_text())[
        "providers"
    ]
    mounts = dict(one.split(":")[1::-1] for one in COMPOSE["services"]["grafana"]["volumes"])
    assert (DEPLOY / mounts[provider["options"]["path"]] / "router-worker.json").is_file()
    assert DEPLOY / mounts["/etc/grafana/provisioning"] == DEPLOY / "./grafana/provisioning"


def test_what_the_compose_file_mounts_is_there() -> None:
    mounts = [
        volume.split(":")[0]
        for service in COMPOSE["services"].values()
        for volume in service.get("volumes", ())
        if volume.startswith(".")
    ]
    assert len(mounts) == 4
    assert all((DEPLOY / mount).exists() for mount in mounts)


def test_json_and_yaml_of_the_deployment_can_be_read() -> None:
    """Those that no checker has looked at."""
    for path in DEPLOY.rglob("*"):
        if path.suffix in {".yml", ".yaml"}:
            assert list(yaml.safe_load_all(path.read_text())), path
        elif path.suffix == ".json":
            assert json.loads(path.read_text()), path
