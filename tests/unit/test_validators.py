"""What a collection's validator does to a change, by what each version of MongoDB may say of it."""

from typing import Any

import pytest
from pymongo import MongoClient

from whimbrel.mongo.rehearsal import MongoRehearsal


@pytest.mark.parametrize(
    ("options", "refuses"),
    [
        ({}, True),
        ({"validationAction": "error"}, True),
        ({"validationAction": "errorAndLog"}, True),  # from 8.1 on
        ({"validationAction": "warn"}, False),
    ],
)
def test_whether_a_validator_refuses(options: dict[str, Any], refuses: bool) -> None:
    with MongoClient[Any]("mongodb://127.0.0.1:1/", connect=False) as client:
        it = MongoRehearsal(client, "shop", "things", seconds=1, slice_=10)
        it.__dict__["_options"] = {
            "validator": {"n": {"$type": "int"}},
            **options,
        }  # as the server would tell them
        found = it.validator()
    assert found is not None
    assert found.refuses is refuses
