"""Options that several commands have. Not here: those that say where to look (`places`)."""

from enum import StrEnum
from typing import Annotated

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


class Ending(StrEnum):
    """What happens when a task has not enough."""

    REJECT = "reject"
    TERMINATE = "terminate"


class Enforcement(StrEnum):
    """What happens to a call when there is not enough."""

    THROTTLE = "throttle"
    REJECT = "reject"
    TERMINATE = "terminate"
