"""What a person has seen before they start something: growth that no application explains is refused."""

import pytest

from whimbrel.engine.operating.expectations import NotAsSeen, Seen, check_seen

SEEN = Seen(1000, "shop.people", "db1:27017")


def check(
    documents: int, *, exact: bool = True, collection: str = "shop.people", host: str = "db1:27017"
) -> None:
    check_seen(SEEN, documents=documents, exact=exact, collection=collection, host=host)


@pytest.mark.parametrize(("documents", "exact"), [(1000, True), (0, True), (1100, True), (2000, False)])
def test_about_as_many_are_started(documents: int, exact: bool) -> None:
    check(documents, exact=exact)


@pytest.mark.parametrize(("documents", "exact"), [(1101, True), (1_000_000, True), (2001, False)])
def test_many_more_are_not(documents: int, exact: bool) -> None:
    with pytest.raises(NotAsSeen, match="not 1,000: nothing was started"):
        check(documents, exact=exact)


def test_a_few_more_are_no_difference() -> None:
    few = Seen(3, "shop.people", "db1:27017")
    check_seen(few, documents=103, exact=True, collection="shop.people", host="db1:27017")


@pytest.mark.parametrize("changed", [{"collection": "shop.orders"}, {"host": "db2:27017"}])
def test_another_place_is_not_the_same(changed: dict[str, str]) -> None:
    with pytest.raises(NotAsSeen, match=next(iter(changed.values()))):
        check(1000, **changed)  # type: ignore[arg-type]


def test_who_has_seen_nothing_is_not_asked() -> None:
    check_seen(None, documents=10**9, exact=True, collection="a.b", host="c")
