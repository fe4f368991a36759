"""The API's doors alone: what they refuse needs no MongoDB, and what they let through is answered 503, for nothing is behind them."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.integration.api.conftest import TOKENS
from whimbrel.api.app import create_app
from whimbrel.api.authorization import read_tokens
from whimbrel.api.deployment import System
from whimbrel.settings import Settings
from whimbrel.workers.worker_pool import WorkerPool

LET_IN = 503  # `not_ready`: a route was reached
ALL = ",".join(f"{scope}:{token}" for scope, token in TOKENS.items())
Doors = Callable[..., TestClient]


def by(scope: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS[scope]}"}


@pytest.fixture(scope="session")
def doors() -> Doors:
    """Gives a client of an application that is never started: for the same settings the same one, as it takes long to make."""

    @cache
    def make(tokens: str = "", **given: Any) -> TestClient:
        settings = {"api_rate": "100000/minute", **given}
        system = System(Settings(**settings), WorkerPool(workers=1, slots=1, source=None), workers=False)
        app = create_app(system, read_tokens(tokens))
        return TestClient(app, base_url="http://localhost:3000", raise_server_exceptions=False)

    return make
