"""For how long runs were held back, and by what."""

import pytest

from whimbrel.domain.health.signals import Level
from whimbrel.domain.health.throttled import throttled_seconds
from whimbrel.domain.health.verdict import Reason, Verdict

LAG = (Reason("member-lag", Level.SLOW, 1.0, "lag"), Reason("disk-used", Level.SLOW, 1.0, "disk"))


@pytest.mark.parametrize(
    ("share", "reasons", "age", "seconds"),
    [
        (1.0, (), 1.0, {}), (1.0, LAG, 1.0, {}), (0.5, LAG, 1.5, {"member-lag": 1.5}), (0.0, LAG, 1.0, {"member-lag": 1.0}),
        (0.5, (), 2.0, {"recovering": 2.0}), (1.0, (), 12.0, {"no-verdict": 7.0}), (0.5, LAG, 12.0, {"member-lag": 5.0, "no-verdict": 7.0}),
        (1.0, (), 86_400.0, {"no-verdict": 55.0}), (1.0, (), None, {}),
    ],
)  # fmt: skip
def test_throttled_seconds(
    share: float, reasons: tuple[Reason, ...], age: float | None, seconds: dict[str, float]
) -> None:
    assert throttled_seconds(Verdict(share=share, reasons=reasons, age=age)) == pytest.approx(seconds)
