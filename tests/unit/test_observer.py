"""What is seen from a thread of its own: whoever waits for it hears of its troubles."""

from collections.abc import Callable

import pytest

from whimbrel.cli.observer import Observer
from whimbrel.errors import Systemic, Transient


def looks(*errors: Exception) -> Callable[[], int]:
    """The first look is answered, and later ones raise these, the last of them again and again."""
    left = [None, *errors]

    def look() -> int:
        error = left.pop(0) if len(left) > 1 else left[0]
        if error is not None:
            raise error
        return 1

    return look


@pytest.mark.parametrize("error", [Systemic("not allowed"), ZeroDivisionError("nobody expected it")])
def test_what_will_not_pass_is_raised_and_not_taken_for_silence(error: Exception) -> None:
    with Observer(looks(error), pause=0.01) as seen:
        seen.wait(60)
        with pytest.raises(type(error), match=str(error)):
            seen.check()


def test_what_passes_is_waited_for() -> None:
    with Observer(looks(Transient("away")), pause=0.01) as seen:
        seen.wait(60)
        seen.check()
        assert seen.latest == 1
