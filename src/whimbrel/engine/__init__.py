"""The use cases: start, plan, execute, settle, sweep. Ports are passed in; no driver is known here."""
