"""What the gate is for, in a small form of `python -m bench.health`: what an application suffers from a run that obeys it, and from one that does not."""

from argparse import Namespace

from bench.application import Application
from bench.health import APPLICATION_RATE, beside_run

from tests.servers.replicas import ReplicaSet

ROUNDS = 3  # at most: in one of them other work of this machine may have fallen to the run that obeys


def test_an_application_fares_better_beside_a_run_that_obeys_the_gate() -> None:
    options = Namespace(usual=6.0, settle=8, seconds=6, documents=200_000, migration="function")
    worst = []
    with ReplicaSet(3, election=10) as replicas, Application(replicas.uri, "bench", APPLICATION_RATE) as it:
        for _ in range(ROUNDS):
            without, obeying = (beside_run(replicas, it, options, health=health) for health in ("off", "on"))
            assert without.speed > 0
            worst.append((obeying.p(0.99), without.p(0.99)))
            if obeying.why and worst[-1][0] < worst[-1][1]:  # signals have told of it
                return
    raise AssertionError(f"milliseconds with the gate, and without: {worst}")
