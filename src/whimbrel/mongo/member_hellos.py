"""Asks each member of a replica set for `hello`, all at once, for users who may not ask the primary about the others."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import pymongo
from pymongo import MongoClient
from pymongo.errors import PyMongoError

ANSWER_SECONDS = 1.0  # that each member has
AT_ONCE = 8  # members that are asked at a time

Answer = Mapping[str, Any] | None


class MemberHellos:
    """Keeps a connection to each member. `connect`: returns a client of a host, for so many seconds."""

    def __init__(self, connect: Callable[[str, float], MongoClient[Any]]) -> None:
        self._connect = connect
        self._clients: dict[str, MongoClient[Any]] = {}
        self._asked: dict[str, Future[Answer]] = {}
        self._answered: dict[str, float] = {}  # by host: when it answered last, or was asked first
        self._threads: ThreadPoolExecutor | None = None

    def ask(self, hosts: Sequence[str]) -> tuple[dict[str, Answer], dict[str, float]]:
        """Returns the answers, None where there was none in time, and for how many seconds each of these hosts has not answered."""
        now = time.monotonic()
        self._forget(set(hosts))
        if self._threads is None:
            self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="whimbrel-hello")
        for host in hosts:
            self._answered.setdefault(host, now)
            if host not in self._asked:  # one that hangs is not asked twice
                self._asked[host] = self._threads.submit(self._hello, host)
        wait(self._asked.values(), ANSWER_SECONDS)
        answers: dict[str, Answer] = {}
        for host in hosts:
            done = self._asked[host].done()
            answers[host] = self._asked.pop(host).result() if done else None
            if answers[host] is not None:
                self._answered[host] = now
        return answers, {host: now - self._answered[host] for host in hosts}

    def close(self) -> None:
        self._forget(set())
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _hello(self, host: str) -> Answer:
        try:
            if host not in self._clients:
                self._clients[host] = self._connect(host, ANSWER_SECONDS)
            with pymongo.timeout(ANSWER_SECONDS):
                found: Answer = self._clients[host].admin.command("hello")
        except PyMongoError:
            return None
        return found

    def _forget(self, hosts: set[str]) -> None:
        for host in self._answered.keys() - hosts:
            del self._answered[host]
            self._asked.pop(host, None)
            client = self._clients.pop(host, None)
            if client is not None:
                client.close()
