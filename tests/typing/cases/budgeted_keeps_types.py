"""`@budgeted` keeps the exact type of whatever it decorates, bare or with arguments."""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, assert_type

from budgetware import Usage, budgeted


@budgeted
async def bare(query: str, *, top: int = 3) -> list[str]:
    return [query] * top


@budgeted(calls=1)
async def search(query: str, *, top: int = 3) -> list[str]:
    return [query] * top


def estimated(prompt: str) -> int:
    return len(prompt) // 4


@budgeted(
    tokens=estimated,
    settle=lambda reply: reply.total_tokens,
    kind="llm",
    model="gpt-4o-mini",
)
async def think(prompt: str) -> Usage:
    return Usage(input_tokens=len(prompt))


@budgeted(tokens=10, settle=len)
async def stream(count: int) -> AsyncIterator[str]:
    for index in range(count):
        yield str(index)


@budgeted(bytes=100)
def read(path: str) -> bytes:
    return path.encode()


@budgeted
def lines(text: str) -> Iterator[str]:
    yield from text.splitlines()


class Tools:
    @budgeted(calls=1)
    async def ask(self, question: str) -> str:
        return question

    @budgeted
    def size(self, text: str) -> int:
        return len(text)

    @staticmethod
    @budgeted(calls=1)
    async def fetch(url: str) -> bytes:
        return url.encode()

    @classmethod
    @budgeted(calls=1)
    def named(cls, name: str) -> "Tools":
        return cls()

    @budgeted(calls=1)
    async def tail(self, count: int) -> AsyncIterator[int]:
        for index in range(count):
            yield index


async def results() -> None:
    assert_type(await bare("q"), list[str])
    assert_type(await search("q", top=1), list[str])
    assert_type(await think("q"), Usage)
    assert_type(stream(3), AsyncIterator[str])
    assert_type(read("p"), bytes)
    assert_type(lines("t"), Iterator[str])


async def methods(tools: Tools) -> None:
    assert_type(await tools.ask("q"), str)
    assert_type(tools.size("t"), int)
    assert_type(await tools.fetch("u"), bytes)
    assert_type(await Tools.fetch("u"), bytes)
    assert_type(Tools.named("n"), Tools)
    assert_type(tools.tail(2), AsyncIterator[int])


def signatures() -> None:
    as_coroutine: Callable[[str], Coroutine[Any, Any, list[str]]] = search
    as_function: Callable[[str], bytes] = read
    as_method: Callable[[Tools, str], int] = Tools.size
    assert as_coroutine is not None
    assert as_function is not None
    assert as_method is not None


async def misuse(tools: Tools) -> None:
    await bare(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await search("q", top="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await search("q", limit=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    read()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    stream("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tools.size(b"t")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await Tools.fetch(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
