"""Models of the failure budget of a run in requests."""

from typing import Annotated, Any, Literal

from pydantic import Field

from whimbrel.api.models.envelope import Model, WholeNumber
from whimbrel.domain.runs.budget_texts import MOST, OFF

Off = Literal["off"]
Failures = Annotated[int, Field(strict=True, ge=0, le=MOST), WholeNumber] | Off
Share = Annotated[float, Field(strict=True, ge=0, le=1)] | Off
FailuresOfOne = Annotated[int, Field(strict=True, ge=1, le=MOST), WholeNumber] | Off

NAMES = ("max_failures", "max_failure_rate", "max_new_cause")
MAX_FAILURES = "failed documents that the run may have before it pauses, or `off`"
MAX_FAILURE_RATE = "share of the documents that may fail before the run pauses, such as 0.05, or `off`; judged from 1,000 documents on"
MAX_NEW_CAUSE = "failures of one cause that nobody has seen before, at which the run pauses, or `off`"


class Budgeted(Model):
    """A request with a failure budget. What is left out, or null, is as by default."""

    max_failures: Failures | None = Field(default=None, description=MAX_FAILURES, examples=[1000])
    max_failure_rate: Share | None = Field(default=None, description=MAX_FAILURE_RATE, examples=[0.05])
    max_new_cause: FailuresOfOne | None = Field(default=None, description=MAX_NEW_CAUSE, examples=[20])

    @property
    def budget(self) -> dict[str, float | None]:
        """The limits that were given; None for those that are off."""
        return budget_of(self)


def budget_of(body: Model) -> dict[str, float | None]:
    """Returns the limits of a failure budget that were given; None for those that are off."""
    given: dict[str, Any] = {
        name: getattr(body, name, None) for name in NAMES if name in body.model_fields_set
    }
    return {name: None if value == OFF else value for name, value in given.items() if value is not None}
