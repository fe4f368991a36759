"""Models of the slots that work on a run."""

from typing import Literal

from pydantic import Field

from whimbrel.api.models.envelope import Answer, Model
from whimbrel.api.models.example_ids import RUN

AT = "2026-11-24T12:00:00.000Z"


class SlotOf(Model):
    """A batch in hand, and the slot that works on it."""

    batch_id: str = Field(description="the batch", examples=[f"{RUN}.7"])
    phase: str = Field(description="pending, processing, failed, sweep or follow", examples=["pending"])
    worker: str | None = Field(description="the worker process", examples=["host:4711:1f3a"])
    since: str | None = Field(description="when it claimed the batch: RFC 3339", examples=[AT])
    total_items: int = Field(description="documents planned, an estimate", examples=[5000])
    processed_items: int = Field(description="documents evaluated, as far as that is noted", examples=[1600])
    changed: int = Field(description="documents changed", examples=[1598])
    unchanged: int = Field(description="documents that were right already", examples=[0])
    skipped: int = Field(description="documents that the function skipped", examples=[0])
    failed: int = Field(description="documents that failed in it", examples=[2])
    total_chunks: int = Field(description="parts in which it is worked off", examples=[5])
    completed_chunks: int = Field(description="those that are known to be done", examples=[1])
    retry: bool = Field(description="whether its documents have failed before", examples=[False])
    takeovers: int = Field(description="workers that were lost with it", examples=[0])
    settings_seen: bool = Field(
        description="whether the slot works by the run's newest settings; it looks between two chunks, and its process tells within two seconds",
        examples=[True],
    )
    stop_seen: bool = Field(
        description="whether it was told to stop: it gives the batch back after its chunk", examples=[False]
    )


class SettingsSeen(Model):
    """How many slots know the newest settings."""

    changes: int = Field(description="how often somebody has changed settings of the run", examples=[2])
    changed_at: str | None = Field(description="when that was last: RFC 3339; null: never", examples=[AT])
    seen: int = Field(description="slots that work by the newest settings", examples=[3])
    of: int = Field(
        description="slots that work on the run; others read the settings with their next batch", examples=[4]
    )


class StopSeen(Model):
    """What became of a pause or a cancellation that was asked for."""

    asked: Literal["pause", "cancel"] | None = Field(
        description="null: neither is under way", examples=["pause"]
    )
    seen: int = Field(description="slots that know, and stop after their chunk", examples=[1])
    left: int = Field(description="slots that still have a batch in hand", examples=[2])


class SlotsAnswer(Answer):
    """The slots that work on a run now."""

    migration_id: str = Field(description="id of the run", examples=[RUN])
    status: str = Field(description="its state", examples=["running"])
    working: int = Field(description="slots that have a batch of it in hand", examples=[4])
    available: int = Field(
        description="slots of all live workers that may work on it: they have its code", examples=[8]
    )
    settings: SettingsSeen = Field(description="whether they know the newest settings")
    stop: StopSeen = Field(description="whether they know that they shall stop")
    slots: list[SlotOf] = Field(description="in the order of their batches; the first 1,000")
    more: bool = Field(description="whether there are more slots than these", examples=[False])
