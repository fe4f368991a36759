"""Wakes those who wait for the next change, in the event loop of one process."""

import asyncio


class ChangeSignal:
    """Each change wakes all who wait then, and nobody who comes later."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def send(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def wait(self, seconds: float) -> bool:
        """Waits for a change; returns whether one came in time."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True
