"""A collection in which few large documents fill nearly all pages: MongoDB's random cursor meets them again and again, and gives up."""

from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from tests.conftest import SHORT
from tests.servers.replicas import ReplicaSet
from whimbrel import Migration
from whimbrel.domain.runs.run import Run
from whimbrel.engine.operating.start import Defaults, start_run
from whimbrel.mongo.random_sample import with_smaller_samples
from whimbrel.mongo.store import MongoStore, connected

LARGE, SMALL = 300, 9000
THINGS = Migration(name="things", collection="things", update={"$set": {"m": 1}})


@pytest.fixture(scope="module")
def skewed() -> Iterator[MongoStore]:
    with ReplicaSet(1) as replicas:
        with MongoClient[Any](replicas.uri) as client:
            things = client["skewed"]["things"]
            things.insert_many([{"_id": f"large-{i}", "text": "x" * 60_000} for i in range(LARGE)])
            things.insert_many([{"_id": i} for i in range(SMALL)])
            client.admin.command("fsync")
        member = replicas.primary()
        member.kill()  # read from disk, the documents are on its pages
        replicas.restart(member)
        with connected(replicas.uri, "skewed", SHORT) as store:
            yield store


@pytest.fixture(scope="module")
def things(skewed: MongoStore) -> Collection[dict[str, Any]]:
    return skewed.client["skewed"]["things"]


@pytest.fixture(scope="module")
def run(skewed: MongoStore) -> Run:
    """Preflight draws samples as well."""
    skewed.prepare()
    return start_run(skewed, THINGS.definition, who="test", defaults=Defaults())


def test_mongodb_itself_gives_up(things: Collection[dict[str, Any]]) -> None:
    draw = {"$sample": {"size": 450}}
    with pytest.raises(OperationFailure, match="non-duplicate document") as refused:
        [list(things.aggregate([draw])) for _ in range(20)]
    assert refused.value.code == 28799


def test_a_run_is_started_and_documents_are_drawn(skewed: MongoStore, run: Run) -> None:
    rehearsal = skewed.rehearsal(run)
    for choice in ("random", "largest"):
        assert 1 <= len(rehearsal.sample(choice, {}, 100)) <= 100
    documents = skewed.session().documents(run)
    survey = documents.survey(5000)
    assert 0.0 <= survey.share({"text": {"$exists": False}}) <= 1.0
    keys = survey.spread({}, 30)
    assert 1 <= len(keys) <= 30
    number, size, exact = documents.weigh({}, ["text"], -1.0)
    assert (number, exact) == (LARGE + SMALL, False)
    assert size > 0


def test_other_errors_and_samples_of_one_are_raised() -> None:
    tried = []

    def refuses(code: int) -> Any:
        def aggregate(stages: Any) -> None:
            tried.append(stages[0]["$sample"]["size"] if "$sample" in stages[0] else None)
            raise OperationFailure("refused", code)

        return aggregate

    with pytest.raises(OperationFailure):
        with_smaller_samples(refuses(28799), [{"$sample": {"size": 40}}, {"$limit": 1}])
    assert tried == [40, 20, 10, 5, 2, 1]
    with pytest.raises(OperationFailure):
        with_smaller_samples(refuses(2), [{"$sample": {"size": 40}}])
    with pytest.raises(OperationFailure):
        with_smaller_samples(refuses(28799), [{"$match": {}}])
    assert tried[6:] == [40, None]
