"""What the contract of adapters is tried on: one file per framework, each with a `SUBJECT`.

Files whose framework is not installed are left out. Names of the files are those of the modules.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol


class Agent(Protocol):
    """A client or an agent of the framework, at the local provider."""

    async def ask(self, model: str, prompt: str) -> Any:
        """Do one model call, not streamed; return the framework's own answer."""
        ...

    def text(self, answer: Any) -> str:
        """The text of such an answer."""
        ...


class Streams(Agent, Protocol):
    def stream(self, model: str, prompt: str) -> AsyncGenerator[str]:
        """Do one model call, streamed: the words, empty ones left out.

        Closing the generator early closes the stream in the framework's own way.
        """
        ...


class Loops(Agent, Protocol):
    async def loop(self, model: str) -> Any:
        """Run an agent whose model asks for the tool `search` (a string) for ever.

        The framework's own limits of turns are lifted beyond 60.
        """
        ...


Open = Callable[[str, bool], AbstractAsyncContextManager[Any]]


@dataclass(frozen=True)
class Subject:
    """One adapter, as the contract uses it.

    Args:
        name: of the module in `budgetware_integrations`.
        distribution: on PyPI, whose version is shown.
        open: an agent at a URL, budgeted (with the adapter) or bare. No retries unless the
            framework has them by default.
        backends: the event loops the framework runs on.
        retries: whether the framework tries a 500 again; the agent allows at least one retry.
        streams, loops: whether the agent does that.
        refuses: `raises`, where a refused model call raises; else it is told as a soft error.
        holds_usage: whether usage of a broken or early left stream may be known (0 < spent < held).
        reports: whether the framework lets the adapter see that usage was not reported at all.
        cancels: whether cancelling the caller's task reaches the request (not in sync frameworks).
        cuts_streams: whether a cancelled scope of anyio around a stream reaches the request.
    """

    name: str
    distribution: str
    open: Open
    backends: tuple[str, ...] = ("asyncio",)
    retries: bool = False
    streams: bool = False
    loops: bool = False
    refuses: str = "raises"
    reports: bool = True
    cancels: bool = True
    cuts_streams: bool = True

    @property
    def version(self) -> str:
        return version(self.distribution)


def subjects() -> list[Subject]:
    """Those whose framework is installed, by name."""
    found: list[Subject] = []
    for path in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        module = f"{__name__}.{path.stem}"
        try:
            version(distribution_of(path))
        except PackageNotFoundError:
            continue
        found.append(import_module(module).SUBJECT)
    return found


def distribution_of(path: Path) -> str:
    """Read the distribution off the first line of a subject: `\"\"\"… (distribution).\"\"\"`."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.rpartition("(")[2].partition(")")[0]
