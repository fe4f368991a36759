"""Spans of batches: one a batch, all of a run in one trace, sent by OpenTelemetry's own SDK, and nothing of it where nobody asks for them."""

# ruff: noqa: F811  fixtures are imported by their names

import hashlib
import importlib.util
import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pymongo.database import Database

from tests.integration.in_process_commands import Commands, commands  # noqa: F401
from tests.integration.in_process_system import start, system, until
from tests.servers.receiver import receiving
from tests.waiting import until as eventually
from whimbrel import Migration
from whimbrel.bootstrap import check_tracing, tracing
from whimbrel.domain.runs.run import Run
from whimbrel.engine.running import slot
from whimbrel.errors import SettingsInvalid
from whimbrel.mongo.store import MongoStore
from whimbrel.tracing.spans import OpenTelemetryTracing
from whimbrel.tracing.wanted import check, wanted

FILE = """
from whimbrel import Migration
marking = Migration(name="marking", collection="things", update={"$set": {"m": 1}})
"""
INC = Migration(name="inc", collection="things", update={"$inc": {"n": 1}})


def trace_of(run_id: str) -> bytes:
    return hashlib.sha256(run_id.encode()).digest()[:16]


def test_workers_send_a_span_for_each_batch_and_the_parent_one_for_the_run(
    commands: Commands, database: Database[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "file.py").write_text(FILE)
    database["things"].insert_many({"_id": n} for n in range(30))
    with receiving() as collector:
        commands.set(
            MONGODB_DB_NAME=database.name, WHIMBREL_MIGRATIONS="file.py", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url.partition("/hook")[0],
            OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test",
        )  # fmt: skip
        run = json.loads(commands("run", "marking", "--workers", "2", "--batch-size", "10", "--json").out)["migrationId"]  # fmt: skip
        requests = [ExportTraceServiceRequest.FromString(each.body) for each in collector.requests if each.path == "/v1/traces"]  # fmt: skip
    resources = [resource for request in requests for resource in request.resource_spans]
    about = {each.key: each.value.string_value for each in resources[0].resource.attributes}
    assert (about["service.name"], about["deployment.environment.name"]) == ("whimbrel", "test")
    spans = [span for resource in resources for scope in resource.scope_spans for span in scope.spans]
    assert {span.trace_id for span in spans} == {trace_of(run)}
    (root,) = [span for span in spans if not span.parent_span_id]
    assert (root.name, root.span_id) == ("migration marking", hashlib.sha256(run.encode()).digest()[16:24])
    batches = [span for span in spans if span.parent_span_id]
    assert {(span.name, span.parent_span_id) for span in batches} == {("batch", root.span_id)}
    found = {}
    for span in batches:
        values = {each.key: each.value for each in span.attributes}
        assert (values["whimbrel.run"].string_value, values["whimbrel.outcome"].string_value) == (
            run,
            "settled",
        )
        assert span.end_time_unix_nano > span.start_time_unix_nano >= root.start_time_unix_nano
        found[values["whimbrel.batch"].string_value] = values["whimbrel.changed"].int_value
    assert sum(found.values()) == 30
    assert len(found) == len(batches) >= 3


class Collected:
    """Spans of a run in this process."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracing = OpenTelemetryTracing("test", self.exporter)

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        self.tracing.close()
        return self.exporter.get_finished_spans()


def worked(store: MongoStore, collected: Collected) -> Run:
    store.client[store.database]["things"].insert_many({"n": n} for n in range(5))
    with system(store, [INC], slots=1) as state:
        state.tracing = collected.tracing
        return until(store, start(store, INC)).run


def test_a_batch_that_breaks_says_so_without_secrets(
    store: MongoStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise RuntimeError("broken: mongodb://user:secret@host/")

    collected = Collected()
    monkeypatch.setattr(slot, "_execute", breaks)
    store.client[store.database]["things"].insert_one({})
    with system(store, [INC], slots=1) as state:
        state.tracing = collected.tracing
        start(store, INC)
        eventually(
            lambda: collected.tracing._provider.force_flush() and collected.exporter.get_finished_spans()
        )
    span = collected.spans[0]
    assert span.attributes is not None
    assert span.attributes["whimbrel.outcome"] == "broken"
    assert span.status.description is not None
    assert span.status.description.startswith("RuntimeError: broken")
    assert "secret" not in span.status.description


def test_a_sampler_decides_for_a_whole_run(store: MongoStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    collected = Collected()
    run = worked(store, collected)
    collected.tracing.run_ended(run)
    assert collected.spans == ()


def test_a_collector_that_hangs_does_not_keep_a_process(store: MongoStore) -> None:
    go_on = threading.Event()

    class Hanging(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: ARG002
            go_on.wait(60)
            return SpanExportResult.SUCCESS

        def shutdown(self) -> None:
            """Has nothing to end."""

    collected = Collected()
    collected.tracing = OpenTelemetryTracing("test", Hanging())
    worked(store, collected)
    collected.tracing.close()  # returns, although the collector does not
    assert not go_on.is_set()
    go_on.set()


@pytest.mark.parametrize(
    ("environment", "asked"),
    [
        ({}, False), ({"OTEL_SERVICE_NAME": "a"}, False), ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a:4318/v1/traces"}, True), ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:4318"}, False),
    ],
)  # fmt: skip
def test_spans_are_made_where_the_environment_asks_for_them(environment: dict[str, str], asked: bool) -> None:
    assert wanted(environment) is asked


@pytest.mark.parametrize(
    "environment",
    [{"OTEL_TRACES_EXPORTER": "zipkin"}, {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}],
)  # fmt: skip
def test_what_cannot_be_is_refused(environment: dict[str, str]) -> None:
    ((name, value),) = environment.items()
    with pytest.raises(SettingsInvalid, match=f"{name}={value}"):
        check(environment)
    check(
        {
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        }
    )


def test_it_is_refused_before_anything_is_done_and_a_missing_extra_is_told(
    commands: Commands, database: Database[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file.py").write_text(FILE)
    database["things"].insert_one({})
    commands.set(MONGODB_DB_NAME=database.name, WHIMBREL_MIGRATIONS="file.py", OTEL_TRACES_EXPORTER="zipkin")
    assert "OTEL_TRACES_EXPORTER=zipkin" in commands("run", "marking", code=64).err
    assert database.list_collection_names() == ["things"]
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *_: None if "opentelemetry" in name else found(name)
    )
    assert "pip install 'whimbrel[otel]'" in check_tracing()
    assert tracing("a") is None


def test_without_being_asked_nothing_of_it_is_imported() -> None:
    code = (
        "import os, sys\n"
        "for name in [name for name in os.environ if name.startswith('OTEL_')]: del os.environ[name]\n"
        "import whimbrel.workers.worker_process, whimbrel.workers.parent_process\n"
        "from whimbrel.bootstrap import check_tracing, tracing\n"
        "assert tracing('a') is None and check_tracing() == ''\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry', 'whimbrel.tracing.spans'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
