"""Decides by OpenTelemetry's variables whether spans are sent, without importing OpenTelemetry."""

import importlib.util
from collections.abc import Mapping

from whimbrel.errors import SettingsInvalid

EXPORTERS, ENDPOINT, PROTOCOL = (
    "OTEL_TRACES_EXPORTER",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
)
OF_TRACES = {ENDPOINT: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", PROTOCOL: "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"}
NEEDED = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter")
MISSING = "Spans are not sent, as OpenTelemetry is not installed: pip install 'whimbrel[otel]'. Set OTEL_TRACES_EXPORTER=none where none are wanted."


def wanted(environment: Mapping[str, str]) -> bool:
    """Whether the environment asks for spans: it names an exporter, or a collector."""
    exporter = environment.get(EXPORTERS, "").strip().lower()
    disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if disabled or exporter == "none":
        return False
    return bool(exporter or environment.get(ENDPOINT) or environment.get(OF_TRACES[ENDPOINT]))


def installed() -> bool:
    """Whether the extra is installed."""
    try:
        return all(importlib.util.find_spec(name) is not None for name in NEEDED)
    except ModuleNotFoundError:
        return False


def check(environment: Mapping[str, str]) -> None:
    """Raises SettingsInvalid for what Whimbrel cannot do."""
    exporter = environment.get(EXPORTERS, "").strip().lower()
    if exporter not in ("", "otlp"):
        raise SettingsInvalid(f"{EXPORTERS}={exporter}: Whimbrel knows otlp and none.")
    for name in (OF_TRACES[PROTOCOL], PROTOCOL):
        protocol = environment.get(name, "").strip().lower()
        if protocol not in ("", "http/protobuf"):
            raise SettingsInvalid(
                f"{name}={protocol}: Whimbrel sends by http/protobuf alone, which collectors take at port 4318."
            )
        if protocol:
            return
