"""The pytest plugin, which pytest finds by itself where Whimbrel is installed."""

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def whimbrel_mongodb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real MongoDB that lives as long as the test run: WHIMBREL_TEST_MONGODB_URI, or an embedded one."""
    configured = os.environ.get("WHIMBREL_TEST_MONGODB_URI")
    if configured:
        yield configured
        return
    from whimbrel.bootstrap import database  # noqa: PLC0415  test runs that do not use it should not import it
    from whimbrel.settings import Settings  # noqa: PLC0415

    home = tmp_path_factory.mktemp("whimbrel")
    with database(Settings(mongodb_uri=None, whimbrel_home=home)) as uri:
        yield uri
