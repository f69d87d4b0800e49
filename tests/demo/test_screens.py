"""What is drawn while the agent works."""

from io import StringIO

from rich.console import Console

from budgetware import task_budget
from budgetware.demo.activity import Activity
from budgetware.demo.journal import Row
from budgetware.demo.screens import LAST_ROWS, LiveScreen, PlainScreen, open_screen

LONG = "a/very/long/path/of/folders/" * 3 + "file.txt"


def row(number: int, document: str = "a.txt", decision: str = "admitted") -> Row:
    return Row(
        number=number,
        caller="fake-1",
        name="summarise",
        document=document,
        decision=decision,
        reserved=300,
        charged=0 if decision == "rejected" else 280,
        usd=None,
        ms=1_234,
        settled=decision == "admitted",
    )


def console(*, is_terminal: bool) -> Console:
    return Console(file=StringIO(), width=80, force_terminal=is_terminal, color_system=None)


def drawn(screen: LiveScreen) -> list[str]:
    paper = console(is_terminal=False)
    with paper.capture() as capture:
        paper.print(screen.draw())
    return capture.get().splitlines()


async def test_live_screen_shows_calls_running_and_ended_and_every_balance() -> None:
    activity, screen = Activity(), LiveScreen({"tokens": 900})
    async with task_budget("demo", tokens=6_000, usd="0.02", seconds=60) as budget:
        screen.watch(activity, lambda: budget)
        screen.show(row(1))
        with activity.call("summarise", "b.txt"):
            words = [line.split() for line in drawn(screen)]
            assert ["1", "summarise", "a.txt", "admitted", "300", "280", "1,234"] in words
            assert ["summarise", "b.txt", "0", "0.0"] in words
            assert ["tokens", "6,000", "900", "0", "0", "6,000"] in words


def test_live_screen_is_drawn_before_there_is_a_budget() -> None:
    assert any("running" in line for line in drawn(LiveScreen({})))


def test_live_screen_keeps_to_the_last_calls_and_to_80_columns() -> None:
    screen = LiveScreen({})
    for number in range(100):
        screen.show(row(number, document=LONG))
    lines = drawn(screen)
    assert sum("summarise" in line for line in lines) == LAST_ROWS
    assert max(map(len, lines)) <= 80
    assert sum("file.txt" in line for line in lines) == LAST_ROWS


def test_call_that_ended_is_running_no_more() -> None:
    activity = Activity()
    with activity.call("read_file", "a.txt"):
        pass
    assert activity.running() == []


def test_plain_screen_says_whether_tokens_were_held_or_only_asked_for() -> None:
    paper = console(is_terminal=False)
    with paper.capture() as capture:
        PlainScreen(paper).show(row(1))
        PlainScreen(paper).show(row(2, decision="rejected"))
    held, asked = capture.get().splitlines()
    assert held.endswith("held 300, charged 280")
    assert asked.endswith("asked 300, charged 0")


def test_screen_is_live_on_a_terminal_only() -> None:
    with open_screen(console(is_terminal=True), {}) as live:
        pass
    with open_screen(console(is_terminal=False), {}) as plain:
        pass
    assert (type(live), type(plain)) == (LiveScreen, PlainScreen)
