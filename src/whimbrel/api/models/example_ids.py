"""Identifiers that stand in the examples of the API's reference."""

RUN = "20261124-k3f9x2"
