"""The run of `budgetware demo`: progress on stderr, a receipt or JSON on stdout, an exit code."""

import json
from contextlib import AbstractContextManager
from typing import Any

import anyio
from rich.console import Console

from budgetware.errors import ConfigurationError, budget_error

from .documents import Document
from .endpoint import Endpoint
from .failures import ModelFailed
from .job import Result, Screen, name_model, run_job
from .local_model import LocalModelMissing
from .plan import Plan
from .screens import open_screen
from .tables import receipt

ENDED, FAILED, MISUSED = 0, 1, 2


def run(
    source: AbstractContextManager[Endpoint],
    documents: list[Document],
    plan: Plan,
    *,
    backend: str,
    as_json: bool,
) -> int:
    """Do the job and print what came of it; returns the exit code.

    0: the job ended as designed, also where its budget ended it. 1: the model failed, or the
    counts do not agree. 2: something is not installed or not configured.
    """
    progress = Console(stderr=True)
    try:
        result = _work(source, documents, plan, progress, backend)
    except Exception as error:
        return _explain(error, progress, as_json=as_json)
    except BaseExceptionGroup as group:
        # A second Ctrl-C, on trio.
        if group.subgroup(KeyboardInterrupt) is None:
            raise
        raise KeyboardInterrupt from None
    return _conclude(result, progress, as_json=as_json)


def to_json(result: Result) -> dict[str, Any]:
    """The whole run as one JSON document; money is text, as everywhere."""
    outcome, journal = result.outcome, result.journal
    decisions = [row.decision for row in journal.rows]
    return {
        "model": result.model,
        "events": [event.to_dict() for event in journal.events],
        "events_dropped": result.events_dropped,
        "totals": {
            "calls": len(journal.rows),
            "decisions": {name: decisions.count(name) for name in sorted(set(decisions))},
            "reserved_tokens": journal.reserved_tokens,
            "charged_tokens": journal.settled_tokens + journal.cut_tokens,
        },
        "snapshot": result.snapshot,
        "comparison": result.comparison.to_dict(),
        "server_tokens": result.comparison.server,
        "equal": result.comparison.equal,
        "notes": [{"file": note.document, "text": note.text} for note in outcome.notes],
        "unreadable": outcome.unreadable,
        "answer": outcome.answer,
        "ended_by": outcome.ended_by,
        "error": None if outcome.failure is None else str(outcome.failure),
        "wall_seconds": round(result.wall_seconds, 3),
    }


def _work(
    source: AbstractContextManager[Endpoint],
    documents: list[Document],
    plan: Plan,
    progress: Console,
    backend: str,
) -> Result:
    with source as endpoint, open_screen(progress, plan.keep) as screen:
        return anyio.run(_job, endpoint, documents, plan, screen, backend=backend)


async def _job(endpoint: Endpoint, documents: list[Document], plan: Plan, screen: Screen) -> Result:
    return await run_job(await name_model(endpoint), documents, plan, screen)


def _explain(error: Exception, progress: Console, *, as_json: bool) -> int:
    """Say what kept the job from being done; what is nobody's mistake but ours is raised."""
    found = budget_error(error) or error
    if not isinstance(found, LocalModelMissing | ModelFailed | ConfigurationError):
        raise error
    if as_json:
        print(json.dumps({"error": str(found)}))
    return _say(progress, found, FAILED if isinstance(found, ModelFailed) else MISUSED)


def _conclude(result: Result, progress: Console, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps(to_json(result), indent=2))
    else:
        Console().print(receipt(result))
    if result.outcome.failure is not None:
        return _say(progress, result.outcome.failure, FAILED)
    return ENDED if result.comparison.equal else FAILED


def _say(console: Console, error: Exception, code: int) -> int:
    console.print(f"budgetware demo: {error}", markup=False, highlight=False, soft_wrap=True)
    return code
