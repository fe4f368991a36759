"""What somebody meant by a name that a route does not know."""

import pytest

from whimbrel.api.suggestions import closest_name, unknown

START = ["migration", "batchSize", "filters", "priority", "dryRun", "maxDocsPerSecond", "exclusive", "undo"]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("name", "migration"),
        ("Migration", "migration"),
        ("migraton", "migration"),
        ("migration_name", "migration"),
        ("batch_size", "batchSize"),
        ("batchsize", "batchSize"),
        ("size", "batchSize"),
        ("filter", "filters"),
        ("query", "filters"),
        ("dry_run", "dryRun"),
        ("dry-run", "dryRun"),
        ("prio", "priority"),
        ("rate", "maxDocsPerSecond"),
        ("exclusiv", "exclusive"),
        ("colour", ""),
        ("", ""),
        ("x" * 10_000, ""),
    ],
)
def test_near_misses(given: str, name: str) -> None:
    assert closest_name(given, START) == name


def test_a_word_means_only_what_the_route_knows() -> None:
    assert closest_name("name", ["count", "limit"]) == ""
    assert closest_name("timezone", ["zone", "cron"]) == "zone"
    assert closest_name("limti", ["limit", "cursor"]) == "limit"
    assert closest_name("page", ["limit", "cursor"]) == "cursor"
    assert unknown("name", START) == "Unknown here: did you mean 'migration'?"
    assert unknown("colour", START) == "Unknown here"
