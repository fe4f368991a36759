"""Sessions of MongoDB end when the server has not heard of them for half an hour. No batch depends on one that long."""

from tests.faults.conftest import LongRun
from whimbrel.domain.states import ENDED

SESSION = 60.0  # seconds, as long_run has set it


def test_a_run_outlives_the_session_limit(long_run: LongRun) -> None:
    """Each document is held for 70 seconds, in which its slot's session is not used; two after one another."""
    rig, run = long_run.rig, long_run.run
    found = rig.until(run, *ENDED, seconds=240)
    assert found.run.working_since is None
    assert found.seconds > 2 * SESSION
    rig.reckon(found, 4, crashed=False)
