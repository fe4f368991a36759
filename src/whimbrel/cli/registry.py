"""Lists the program's commands: where each is, and its summary, so that listing imports none."""

from typing import NamedTuple


class Command(NamedTuple):
    """A command in `whimbrel.cli.commands`, in the module of its name. `summary`: the beginning of its help, word for word.

    `examples`: lines of at most 80 columns, as they are copied.
    """

    function: str
    summary: str
    examples: tuple[str, ...]


COMMANDS: dict[str, Command] = {
    "demo": Command(
        "demo",
        "Show Whimbrel at work: seed sample documents, migrate them, verify every one, clean up.",
        ("demo", "demo --documents 1000000 --keep"),
    ),
    "new": Command(
        "new",
        "Write a commented migration file to begin with, and a test of it.",
        ("new split-name", "new split-name --directory migrations"),
    ),
    "migrations": Command(
        "migrations",
        "Show the migrations that are loaded, and those that are broken.",
        ("migrations --migrations split_name.py", "migrations --json"),
    ),
    "plan": Command(
        "plan",
        "Show what a run would do, on a sample of its documents. Nothing is written.",
        (
            "plan some-model",
            "plan split-name --migrations split_name.py --sample 200",
            "plan split-name --migrations split_name.py --json > plan.json",
        ),
    ),
    "run": Command(
        "run",
        "Run a migration, and show how far it is.",
        (
            "run some-model",
            "run split-name --migrations split_name.py --limit 100",
            "run split-name --migrations split_name.py --rate 2000 --max-memory 1G",
            'run split-name --window "22:00-06:00 Europe/Berlin"',
            "run split-name --migrations split_name.py --follow",
            'run split-name --filter \'{"country": "NL"}\' --json > run.json',
        ),
    ),
    "status": Command(
        "status",
        "Show the runs, newest first, or one run in detail.",
        ("status", "status --watch", "status 20261231-abc234", "status --json --limit 1"),
    ),
    "pause": Command(
        "pause",
        "Stop a run within a chunk. `whimbrel resume` goes on where it stopped.",
        ("pause", "pause 20261231-abc234"),
    ),
    "resume": Command(
        "resume",
        "Go on with a run that was paused, failed, or lost its processes.",
        (
            "resume",
            "resume 20261231-abc234",
            "resume 20261231-abc234 --detach",
            "resume --max-failure-rate 10%",
        ),
    ),
    "set": Command(
        "set_",
        "Change how a run goes on that has not ended: its rate, batch size, priority, windows, how nice it is, its failure budget; or end its following.",
        (
            "set 20261231-abc234 --rate 500",
            "set 20261231-abc234 --no-rate --priority 8",
            'set 20261231-abc234 --window "Mon-Fri 22:00-06:00 UTC share=0.1"',
            "set --max-failure-rate 10%",
            "set 20261231-abc234 --no-follow",
        ),
    ),
    "approve": Command(
        "approve",
        "Let a run in stages go on: after a stage that waits for it, or that its gate has refused.",
        ("approve", "approve 20261231-abc234"),
    ),
    "cancel": Command(
        "cancel",
        "Stop a run for good, within a chunk. What it has changed stays changed.",
        ("cancel", "cancel 20261231-abc234"),
    ),
    "failures": Command(
        "failures",
        "Show the failures of a run by cause, or by document.",
        (
            "failures",
            "failures 20261231-abc234 --documents --limit 10",
            'failures --accept 1f3a5c7e --note "known, see the wiki"',
            "failures 20261231-abc234 --export failures.jsonl",
        ),
    ),
    "retry": Command(
        "retry",
        "Try the dead failures of a run again.",
        ("retry", "retry 20261231-abc234 --group 1f3a5c7e"),
    ),
    "rollback": Command(
        "roll_back",
        "Put the documents that a run changed back as they were, but for those that were changed since.",
        ("rollback", "rollback 20261231-abc234 --yes --rate 2000"),
    ),
    "cleanup": Command(
        "clean_up",
        "Remove the before-images and marks of a run from the documents. It cannot be rolled back afterwards.",
        ("cleanup", "cleanup 20261231-abc234", "cleanup 20261231-abc234 --yes"),
    ),
    "verify": Command(
        "verify",
        "Verify a run that has ended: look at every document, write to none.",
        ("verify", "verify 20261231-abc234 --all --rate 20000", "verify 20261231-abc234 --json"),
    ),
    "ensure": Command(
        "ensure",
        "Tell whether a migration is complete and verified, for deploy pipelines; or make it so.",
        (
            "ensure split-name",
            "ensure split-name --finish --migrations migrations/",
            "ensure split-name@2 --json",
        ),
    ),
    "prune": Command(
        "prune",
        "Remove runs that ended long ago from the ledger, with their failures and their audit. No document is touched.",
        ("prune", "prune --dry-run", "prune --days 30 --seconds 600 --yes"),
    ),
    "uri": Command(
        "uri",
        "Print the address of the MongoDB that Whimbrel works with, password included.",
        ("uri", "uri --create", "uri --json"),
    ),
    "mongo": Command(
        "mongo",
        "Open the MongoDB that Whimbrel works with in mongosh, or start another program with its address in MONGODB_URI.",
        (
            "mongo",
            "mongo --create -- python load.py",
            """mongo -- sh -c 'echo "uri: $MONGODB_URI" |\n\nmongoimport --config /dev/stdin --collection people people.json'""",
        ),
    ),
    "serve": Command(
        "serve",
        "Serve the REST API and the dashboard, until Ctrl-C or SIGTERM.",
        ("serve", "serve --no-workers --migrations split_name.py"),
    ),
    "worker": Command(
        "worker",
        "Serve all runs, until Ctrl-C or SIGTERM.",
        ("worker", "worker --workers 8 --migrations split_name.py", "worker --queues priority"),
    ),
    "health": Command(
        "health",
        "Show the signals of the database's health, and what they ask of runs; or change one.",
        (
            "health",
            "health --watch",
            "health member-lag --slow 5 --stop 20",
            'health disk-used --ignore 2h --note "a backup is being written"',
        ),
    ),
    "freeze": Command(
        "freeze",
        "Let everything that writes or reads much wait, for the whole cluster: from now on, or in a time to come.",
        (
            'freeze --note "the primary is being moved"',
            'freeze --from 2026-12-20T00:00Z --until 14d --note "peak season"',
            "freeze --file freezes.json",
            "freeze --list",
        ),
    ),
    "unfreeze": Command(
        "unfreeze",
        "Lift the freezes that are in force, or those that are named: runs go on by themselves.",
        ("unfreeze", "unfreeze 1f3a5c7e"),
    ),
    "webhooks": Command(
        "webhooks",
        "Show the deliveries of webhooks, newest first, send a failed one again, or send a test.",
        (
            "webhooks",
            "webhooks --test",
            "webhooks --state failed --json",
            "webhooks --resend 20261124-k3f9x2:3:0a1b2c3d",
        ),
    ),
    "workers": Command(
        "workers",
        "Show the worker processes that are alive, on all hosts, and what they work on.",
        ("workers", "workers --json"),
    ),
}
