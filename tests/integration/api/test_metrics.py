"""The metrics say what the ledger knows, with bounded series; dashboard, alerts and page name only what is there."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.api.conftest import Docs, seed, serving
from tests.integration.in_process_system import start
from tests.waiting import until
from whimbrel import Migration
from whimbrel.api import run_metrics
from whimbrel.domain.health.signal_states import SignalState
from whimbrel.domain.health.signals import Level
from whimbrel.domain.health.verdict import Reason, Verdict
from whimbrel.domain.runs.states import RunStatus
from whimbrel.domain.webhooks.deliveries import Delivery, Reply
from whimbrel.mongo.store import MongoStore
from whimbrel.settings import Settings

ROOT = Path(__file__).parents[3]
DASHBOARD = json.loads((ROOT / "deploy/grafana/whimbrel.json").read_text(encoding="utf-8"))
ALERTS = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text(encoding="utf-8"))["groups"][0][
    "rules"
]
PAGE = (ROOT / "docs/observability.md").read_text(encoding="utf-8")
SUFFIXES = ("_bucket", "_sum", "_count")

Samples = dict[str, list[tuple[dict[str, str], float]]]


def scraped(settings: Settings, database: Docs, store: MongoStore) -> Samples:
    """A run at work, one that has just failed, one that failed two hours ago; a database that is not well; deliveries of both kinds."""
    rows = database["whimbrel_runs"]
    with serving(settings, workers=0) as client:
        seed(database, 20)
        runs = []
        for _ in range(3):
            run_id = client.post("/migrate", json={}).json()["migrationId"]
            runs.append(run_id)
            until(lambda: store.ledger.runs.list()[0].status is RunStatus.RUNNING)
            if len(runs) < 3:
                store.ledger.runs.move(run_id, RunStatus.FAILED, who="test")
        until(lambda: store.ledger.batches.queued([runs[2]]))
        rows.update_one({"_id": runs[0]}, [{"$set": {"endedAt": {"$subtract": ["$$NOW", 7_200_000]}}}])
        rows.update_one({"_id": runs[2]}, {"$set": {"chunkTimes": {"0": 2, "3": 1, "8": 1, "seconds": 12.5}}})
        lag = SignalState(level=Level.SLOW, since=1.0, value=2.4, host="b")
        verdict = Verdict(
            share=0.25, level=Level.SLOW, since=1.0, reasons=(Reason("member-lag", Level.SLOW, 1.0, "lag"),), signals={"member-lag": lag}
        )  # fmt: skip
        store.ledger.health.keep(verdict, None, {"member-lag": 3.0})
        store.ledger.health.keep(verdict, None, {"member-lag": 1.5, "recovering": 2.0})
        for name in ("a", "b", "c"):
            store.ledger.webhooks.add(
                [Delivery(id=name, event=name, type="t", run="r", receiver=name, shown="s", body="")]
            )
        for name, status in (("a", 204), ("b", 500)):
            delivery = store.ledger.webhooks.claim(name)
            assert delivery is not None
            store.ledger.webhooks.settle(delivery, Reply(status, "" if status == 204 else "bad"))
        moving = [[1000 * second, 10 * second, 3000] for second in range(1, 61)]
        text = ""
        while (
            "whimbrel_run_eta_seconds{" not in text
        ):  # the coordinator may have stored samples of its own at this moment
            rows.update_one({"_id": runs[2]}, [
                {"$set": {"samples": moving, "counts.changed": 600, "estimated": 3000, "workingSince": {"$subtract": ["$$NOW", 60_000]}}}
            ])  # fmt: skip
            text = client.get("/metrics").text
    samples: Samples = {"": [({"run": run}, 0.0) for run in runs]}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return samples


def value(samples: Samples, name: str, **labels: str) -> float:
    (found,) = [value for sample, value in samples[name] if labels.items() <= sample.items()]
    return found


def test_metrics(settings: Settings, database: Docs, store: MongoStore) -> None:
    samples = scraped(settings, database, store)
    they_say_what_the_ledger_knows(samples)
    dashboard_and_alerts_name_only_what_is_there(samples)
    the_page_has_each_metric_with_its_labels(samples)


def they_say_what_the_ledger_knows(scraped: Samples) -> None:
    _, failed, running = (labels["run"] for labels, _ in scraped[""])
    assert value(scraped, "whimbrel_health_share") == 0.25
    assert value(scraped, "whimbrel_health_level") == 1
    assert 0 <= value(scraped, "whimbrel_health_verdict_age_seconds") < 60
    assert value(scraped, "whimbrel_signal_value", signal="member-lag", unit="s") == 2.4
    assert value(scraped, "whimbrel_signal_level", signal="member-lag") == 1
    assert value(scraped, "whimbrel_signal_threshold", signal="member-lag", level="slow") == 2
    assert value(scraped, "whimbrel_signal_threshold", signal="oplog-window", level="stop") == 2
    assert value(scraped, "whimbrel_throttled_seconds_total", signal="member-lag") == 4.5
    assert value(scraped, "whimbrel_throttled_seconds_total", signal="recovering") == 2
    assert value(scraped, "whimbrel_webhook_deliveries_total", outcome="delivered") == 1
    assert value(scraped, "whimbrel_webhook_deliveries_total", outcome="failed") == 0
    assert (value(scraped, "whimbrel_webhook_tries_total"), value(scraped, "whimbrel_webhook_pending")) == (
        2,
        2,
    )
    assert value(scraped, "whimbrel_run_status", run=running, status="running") == 1
    assert value(scraped, "whimbrel_run_status", run=failed, status="failed") == 1
    assert value(scraped, "whimbrel_run_queued_batches", run=running) >= 1
    assert {labels["run"] for labels, _ in scraped["whimbrel_run_processed"]} == {failed, running}
    assert value(scraped, "whimbrel_run_chunk_seconds_bucket", run=running, le="0.05") == 2
    assert value(scraped, "whimbrel_run_chunk_seconds_bucket", run=running, le="0.5") == 3
    assert value(scraped, "whimbrel_run_chunk_seconds_bucket", run=running, le="10.0") == 3
    assert value(scraped, "whimbrel_run_chunk_seconds_count", run=running) == 4
    assert value(scraped, "whimbrel_run_chunk_seconds_sum", run=running) == 12.5
    assert (value(scraped, "whimbrel_slots"), value(scraped, "whimbrel_slots_busy")) == (0, 0)


def labels_of(samples: Samples) -> dict[str, set[str]]:
    """The labels of each metric that was scraped."""
    return {name: {label for labels, _ in rows for label in labels} for name, rows in samples.items() if name}


def expressions() -> Iterator[tuple[str, str]]:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"].replace("$__rate_interval", "5m")
    for rule in ALERTS:
        yield rule["alert"], rule["expr"]


def selectors(expression: promql_parser.Expr) -> list[promql_parser.VectorSelector]:
    found = []

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.MatrixSelector):
            found.append(node.vector_selector)
        elif isinstance(node, promql_parser.VectorSelector):
            found.append(node)

    promql_parser.walk(expression, visit)
    return found


def grouped(expression: promql_parser.Expr) -> set[str]:
    """The labels by which it groups and joins."""
    found: set[str] = set()

    def visit(node: promql_parser.Expr) -> None:
        modifier = getattr(node, "modifier", None)
        for each in (modifier, getattr(modifier, "matching", None)):
            found.update(getattr(each, "labels", None) or ())

    promql_parser.walk(expression, visit)
    return found


def dashboard_and_alerts_name_only_what_is_there(scraped: Samples) -> None:
    known, used = labels_of(scraped), set()
    for title, text in expressions():
        expression = promql_parser.parse(text)
        found = selectors(expression)
        assert found, title
        labels: set[str] = set()
        for selector in found:
            assert selector.name in known, (title, selector.name)
            assert {matcher.name for matcher in selector.matchers.matchers} <= known[str(selector.name)], (
                title
            )
            labels |= known[str(selector.name)]
            used.add(str(selector.name))
        assert grouped(expression) <= labels, title
    families = {re.sub("_(bucket|sum|count)$", "", name) for name in known}
    assert {re.sub("_bucket$", "", name) for name in used} == families, "each metric is shown"


def test_legends_and_sentences_name_labels_of_their_expression() -> None:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert shown <= grouped(promql_parser.parse(target["expr"].replace("$__rate_interval", "5m")))
    for rule in ALERTS:
        said = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
        assert said <= grouped(promql_parser.parse(rule["expr"])), rule["alert"]
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["labels"]["severity"] in ("warning", "critical")


def test_the_dashboard_can_be_imported() -> None:
    """What Grafana needs: panels that have a place, do not overlap, and ask the chosen data source."""
    assert (DASHBOARD["title"], DASHBOARD["uid"]) == ("Whimbrel", "whimbrel")
    assert DASHBOARD["schemaVersion"] >= 36
    assert "id" not in DASHBOARD
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    (metric, label) = re.findall(r"label_values\((\w+), (\w+)\)", variables["run"]["definition"])[0]
    assert (metric, label) == ("whimbrel_run_processed", "run")
    panels: list[dict[str, Any]] = DASHBOARD["panels"]
    assert [panel["title"] for panel in panels if panel["type"] == "row"] == [
        "Health",
        "Runs",
        "Failures",
        "Workers and queues",
    ]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert panel["description"]
            assert [target["refId"] for target in panel["targets"]] == list("ABC"[: len(panel["targets"])])


def the_page_has_each_metric_with_its_labels(scraped: Samples) -> None:
    documented = {
        name: set(re.findall(r"`(\w+)`", labels))
        for name, labels in re.findall(r"^\| `(whimbrel_\w+)` \| (.*?) ?\| ", PAGE, re.MULTILINE)
    }
    known: dict[str, set[str]] = {}
    for name, labels in labels_of(scraped).items():
        family = next((name.removesuffix(end) for end in SUFFIXES if name.endswith(end)), name)
        known[family] = known.get(family, set()) | labels
    assert documented == {name: labels for name, labels in known.items() if not name.endswith("_created")}


def test_there_are_no_more_series_than_for_so_many_runs(
    store: MongoStore, database: Docs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_metrics, "SERIES", 2)
    database["things"].insert_one({})
    for _ in range(4):
        start(store, Migration(name="inc", collection="things", update={"$inc": {"n": 1}}))
    families = list(run_metrics.run_metrics(store.ledger))
    assert len({sample.labels["run"] for family in families for sample in family.samples}) == 2
