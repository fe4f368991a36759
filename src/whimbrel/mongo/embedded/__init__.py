"""Runs a real mongod as a child process, with a data folder in the project, shared by the processes that use it.

    with embedded(Path(".whimbrel")) as uri: ...

The first user starts it, the last one stops it. The kernel knows the users, not a counter:
each holds a shared `flock` on `<home>/users`, which a `kill -9` releases as well. Starting, joining,
leaving and stopping all happen under the exclusive lock `<home>/start`. Other users of the machine are kept out by the
modes of the home's files and by the secret in them, which is part of the URI.
"""

from whimbrel.mongo.embedded.binary import find_mongod
from whimbrel.mongo.embedded.users import embedded, ensure_running, exists, leave_all, left_running

__all__ = ["embedded", "ensure_running", "exists", "find_mongod", "leave_all", "left_running"]
