"""The terms on which runs work, in requests and answers: windows, how nice they are, stages, following, and what holds them back."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from whimbrel.api.models.envelope import Model, WholeNumber
from whimbrel.domain.runs.stages import ASKED, LONGEST_HOLD
from whimbrel.domain.runs.stages import MOST as MOST_STAGES
from whimbrel.domain.runs.windows import LONGEST, MOST, read_window
from whimbrel.errors import SettingsInvalid

NIGHT = "22:00-06:00 Europe/Berlin"


def _read(text: str) -> str:
    try:
        return str(read_window(text))
    except SettingsInvalid as error:
        raise ValueError(str(error).rstrip(".")) from error


Window = Annotated[
    str,
    Field(
        max_length=LONGEST,
        description="`[DAYS] HH:MM-HH:MM [ZONE] [share=S]`: over midnight it belongs to its first day; S is the share of its speed that the run has outside, 0 where it is left out: it waits",
        examples=[NIGHT],
        json_schema_extra={"format": "run-window"},
    ),
    AfterValidator(_read),
]
Windows = Annotated[
    list[Window],
    Field(
        max_length=MOST,
        description="hours in which it works, by the server's clock; none: at any time",
        examples=[[NIGHT]],
    ),
]
Nice = Annotated[
    int,
    Field(
        strict=True,
        ge=0,
        le=100,
        description="N: it rests N times as long as it works, its share is at most 1/(1+N)",
    ),
    WholeNumber,
]

Follow = Annotated[
    bool,
    Field(
        strict=True,
        description="go on after the sweep with each document that is written and matches, until PATCH /migrate/settings/{migrationId} says `follow: false`; the run is started also where nothing matches yet",
    ),
]
StagesAsked = list[Annotated[str, Field(pattern=f"^({ASKED})$", max_length=20)]]
STAGES: Any = Field(
    default=None,
    min_length=2,
    max_length=MOST_STAGES,
    description="go in stages, spread over the key space: documents or percentages, each more than the one before, the last `100%`; null: all at once",
    examples=[["1000", "1%", "10%", "100%"]],
)
HoldSeconds = Annotated[int, Field(strict=True, ge=0, le=LONGEST_HOLD), WholeNumber]
HOLD: Any = Field(
    default=None, description="seconds to wait at the gate of each stage; null: none", examples=[600]
)
Approve = Annotated[
    bool, Field(strict=True, description="wait at the gate of each stage for POST /migrate/approve")
]


class HeldBy(Model):
    """One reason why a run has no more than a share of its speed."""

    signal: str = Field(
        description="a signal of the database's health, or `window`, `freeze`, `nice`, `urgent-run`, `recovery`, `sampler`, `ledger`; `run`: what `message` says",
        examples=["member-lag"],
    )
    level: Literal["slow", "stop"] = Field(description="what it asks for", examples=["slow"])
    share: float = Field(ge=0, le=1, description="what it leaves of the run's speed", examples=[0.25])
    since: str | None = Field(description="since when", examples=["2026-12-31T14:02:00.000Z"])
    until: str | None = Field(description="when it is over, where that is known", examples=[None])
    value: float | None = Field(description="of the signal", examples=[2.4])
    threshold: float | None = Field(description="of the signal, which the value has reached", examples=[2.0])
    host: str | None = Field(description="where the value was read", examples=["host2:27017"])
    said: str = Field(
        description="the same in one sentence", examples=["replication lag 2.4 s > 2 s on host2:27017"]
    )
