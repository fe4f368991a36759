"""Adapters for the user's own checks of health: services over HTTP, and queries of Prometheus.

Not here: what a check may be (`domain.health.own_checks`), and when it is asked (`engine.operating.checks_apart`).
"""
