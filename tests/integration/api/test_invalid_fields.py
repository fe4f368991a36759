"""What the API says of fields that cannot be used: the field as the client has named it, and a sentence without the words of a library."""

from typing import Any

import pytest
from starlette.testclient import TestClient

START, FREEZE = ("POST", "/migrate"), ("POST", "/freeze")
CASES: list[tuple[tuple[str, str], dict[str, Any], list[tuple[str, str]]]] = [
    (START, {"maxFailures": -1}, [("body.maxFailures", "give 0 or more, or give 'off'")]),
    (START, {"maxFailures": "many"}, [("body.maxFailures", "give a whole number, or give 'off'")]),
    (START, {"maxNewCause": 0}, [("body.maxNewCause", "give 1 or more, or give 'off'")]),
    (START, {"stages": ["0"]}, [("body.stages.0", "it has not the form that is needed: give one such as 1000")]),
    (START, {"windows": ["25:00-26:00"]}, [("body.windows.0", "window '25:00-26:00'")]),
    (START, {"batchSize": "x", "maxFailures": -1}, [("body.batchSize", "give a whole number"), ("body.maxFailures", "give 0 or more, or give 'off'")]),
    (FREEZE, {"until": "2026-12-24T18:00"}, [("body.until", "it has not the form that is needed: give one such as 2")]),
]  # fmt: skip
LIBRARY = ("function-before", "constrained", "literal[", "Input should", "String should", "pattern", "Value error", "^", "regular expression")  # fmt: skip


@pytest.mark.parametrize(("route", "body", "expected"), CASES, ids=[str(case[1])[:40] for case in CASES])
def test_each_field_is_named_once_and_told_in_plain_words(
    refusing: TestClient, route: tuple[str, str], body: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    answer = refusing.request(*route, json=body)
    told = answer.json()
    assert (answer.status_code, told["code"]) == (422, "invalid"), told
    found = {each["field"]: each["message"] for each in told["details"]}
    assert len(found) == len(told["details"])
    assert found.keys() == {field for field, _ in expected}
    for field, message in expected:
        assert found[field].startswith(message)
    assert [word for word in LIBRARY if word in answer.text] == []


def test_of_very_many_fields_the_first_are_named(refusing: TestClient) -> None:
    told = refusing.post("/migrate", json={f"field{number}": 1 for number in range(50)}).json()
    assert len(told["details"]) == 20
    assert "; and 30 more" in told["error"]
