"""A process that changes runs and tells of it is killed again and again: every change is told, with its number."""

from pathlib import Path
from typing import Any

from pymongo.database import Database

from tests.servers.receiver import receiving
from tests.servers.serve import Serve, eventually
from whimbrel.samples.seeder import documents

KILLS = 6


def test_a_sender_that_is_killed_in_a_loop_tells_every_change(
    mongo_uri: str, database: Database[dict[str, Any]], tmp_path: Path
) -> None:
    database["somemodels"].insert_many(list(documents(50)))
    with receiving() as receiver:
        environment = {
            "MONGODB_URI": mongo_uri, "MONGODB_DB_NAME": database.name, "WHIMBREL_WEBHOOKS": receiver.url,
            "WHIMBREL_WEBHOOK_SECRET": "a secret of the tests", "WHIMBREL_WEBHOOK_ALLOW_PRIVATE": "true",
        }  # fmt: skip
        serve = Serve(environment, tmp_path, "--no-workers")
        try:
            serve.start()
            serve.wait()
            run = serve.client.post("/migrate", json={}).json()["migrationId"]
            for _ in range(KILLS):
                serve.client.post(f"/migrate/pause/{run}")
                serve.client.post(f"/migrate/resume/{run}")
                serve.process.kill()
                # What was claimed by the process that is gone is due again.
                database["whimbrel_deliveries"].update_many(
                    {"state": "pending"}, [{"$set": {"dueAt": "$$NOW"}}]
                )
                serve.start()
                serve.wait()
            last = eventually(lambda: _last_number(database, run))
            wanted = {f"{run}:{number}" for number in range(1, last + 1)}
            eventually(lambda: wanted <= set(receiver.ids))
            assert set(receiver.ids) >= wanted
            assert last >= 2 * KILLS
        finally:
            serve.close()


def _last_number(database: Database[dict[str, Any]], run: str) -> int:
    """The number of the run's last event, once it is at work and none waits to be taken."""
    row = database["whimbrel_runs"].find_one({"_id": run})
    assert row is not None
    return int(row["eventNumber"]) if row["status"] == "running" and "unsent" not in row else 0
