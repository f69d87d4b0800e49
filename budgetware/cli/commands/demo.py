"""`budgetware demo`: an agent does real work with a real model, and stops by its budget."""

import importlib.util
import os
from contextlib import AbstractContextManager, nullcontext
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from budgetware.demo.documents import Document, find_documents
from budgetware.demo.endpoint import Endpoint, base_url
from budgetware.demo.local_model import local_model
from budgetware.demo.plan import DEMO_PRICES, Plan, Prices


class Policy(StrEnum):
    """What happens when there is not enough."""

    REJECT = "reject"
    TERMINATE = "terminate"


MISUSED = 2
DEFAULT_USD = "0.02"
MAX_PARALLEL = 32
MAX_USD = 1_000_000
MAX_COUNT = 10**9
MAX_SECONDS = 7 * 24 * 3600


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


def demo(
    folder: Annotated[
        Path | None,
        typer.Argument(
            exists=True, file_okay=False, help="Text files to read; default: budgetware's own."
        ),
    ] = None,
    *,
    tokens: Annotated[
        int, typer.Option(min=1, max=MAX_COUNT, help="Limit of tokens, prompts and replies.")
    ] = 6000,
    calls: Annotated[
        int, typer.Option(min=1, max=MAX_COUNT, help="Limit of calls, tools and models.")
    ] = 60,
    usd: Annotated[str | None, typer.Option(help="Limit in dollars; default 0.02 locally.")] = None,
    seconds: Annotated[
        float, typer.Option(min=0.001, max=MAX_SECONDS, help="Limit of wall clock.")
    ] = 120,
    policy: Annotated[
        Policy, typer.Option(help="At a limit: refuse the call, or end the task.")
    ] = Policy.REJECT,
    model: Annotated[
        str | None, typer.Option(metavar="URL", help="An OpenAI-compatible endpoint instead.")
    ] = None,
    model_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its model; default: the first it lists.")
    ] = None,
    price: Annotated[
        str | None, typer.Option(metavar="IN/OUT", help="Its dollars per million tokens.")
    ] = None,
    parallel: Annotated[
        int, typer.Option(min=1, max=MAX_PARALLEL, help="Files worked on at once.")
    ] = 3,
    trio: Annotated[bool, typer.Option("--trio", help="Run on trio, not asyncio.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Let an agent describe text files with a real model until its budget says no.

    Without --model it is SmolLM2-135M in this process, at an invented price.

    With --model, OPENAI_API_KEY is sent to that endpoint as the key.

    Ctrl-C ends the run as its budget would, with an answer and a receipt.
    """
    _require_packages(trio=trio)
    from budgetware.demo.command import run

    plan = Plan(
        tokens=tokens,
        calls=calls,
        usd=_dollars(usd if usd or model else DEFAULT_USD),
        seconds=seconds,
        policy=policy.value,
        parallel=parallel,
        prices=_prices(price, is_local=model is None),
    )
    source = _source(model, model_name, parallel)
    backend = "trio" if trio else "asyncio"
    raise typer.Exit(run(source, _documents(folder), plan, backend=backend, as_json=json))


def _require_packages(*, trio: bool) -> None:
    wanted = {"httpx": '"budgetware[demo]"'} | ({"trio": "trio"} if trio else {})
    for name, package in wanted.items():
        if importlib.util.find_spec(name) is None:
            typer.echo(f"budgetware: this needs: pip install {package}", err=True)
            raise typer.Exit(MISUSED)


def _source(url: str | None, name: str | None, parallel: int) -> AbstractContextManager[Endpoint]:
    if url is None:
        if name is not None:
            raise typer.BadParameter("--model-name goes with --model")
        return local_model(parallel=parallel)
    try:
        address = base_url(url)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return nullcontext(Endpoint(address, name or "", os.environ.get("OPENAI_API_KEY")))


def _documents(folder: Path | None) -> list[Document]:

    documents = find_documents(folder)
    if not documents:
        raise typer.BadParameter(f"there are no text files in {folder}")
    return documents


def _prices(text: str | None, *, is_local: bool) -> Prices | None:
    if text is None:
        return DEMO_PRICES if is_local else None
    match [_dollars(part) for part in text.split("/")]:
        case [Decimal() as given, Decimal() as written]:
            return Prices(given, written)
        case _:
            raise typer.BadParameter(f"{text!r} is no price; try 0.15/0.60")


def _dollars(text: str | None) -> Decimal | None:
    if text is None:
        return None
    try:
        amount = Decimal(text.strip().removeprefix("$"))
    except InvalidOperation:
        raise typer.BadParameter(f"{text!r} is no amount of dollars; try 0.25") from None
    if not amount.is_finite() or amount <= 0 or amount > MAX_USD:
        raise typer.BadParameter(f"{text!r}: give dollars above 0, at most {MAX_USD:,}")
    return amount
