"""`budgetware top` in a real terminal, and without one."""

from __future__ import annotations

import json
import signal
import termios
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from budgetware import Capacity, Resource, connect, task_budget
from tests.cli.command_line import (
    PRICES,
    define,
    document_of,
    environment,
    program,
    run,
    run_program,
    use,
)
from tests.cli.served import serving
from tests.cli.terminal import Terminal, terminal

UP, DOWN, PAGE_DOWN, END = "\x1b[A", "\x1b[B", "\x1b[6~", "\x1b[F"
LEFT_THE_SCREEN = b"\x1b[?1049l"


@contextmanager
def top(
    *arguments: object, columns: int = 80, lines: int = 24, **given: str
) -> Generator[Terminal]:
    env = environment(**given)
    for name in ("COLUMNS", "LINES"):
        env.pop(name, None)  # the terminal's own size counts
    command = program("top", "--interval", "0.1", *arguments)
    with terminal(command, env, columns=columns, lines=lines) as shown:
        yield shown


def test_without_a_terminal_it_prints_once(ledger: str) -> None:
    found = run_program("top", "--ledger", ledger)
    assert (found.returncode, found.stderr) == (0, "")
    assert "\x1b" not in found.stdout
    for text in ("browsers", "org-tokens", "  model", "team", "  alice", "refused: ops 2"):
        assert text in found.stdout


def test_once_as_json_is_the_overview(ledger: str) -> None:
    document = document_of(run("top", "--once", "--json", "--ledger", ledger))
    assert document["ledger"] == ledger
    assert [row["name"] for row in document["resources"]] == ["browsers", "model", "org-tokens"]
    assert {"tasks", "principals", "activity", "at"} <= set(document)


def test_shared_tasks_of_other_processes_are_shown(ledger: str) -> None:
    with connect(ledger=ledger), task_budget("crawl", tokens=1_000, shared=True):
        result = run("top", "--once", "--ledger", ledger)
    assert "crawl (shared)" in result.stdout


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_every_line_fits(ledger: str, columns: int) -> None:
    lines = run("top", "--once", "--ledger", ledger, COLUMNS=str(columns)).stdout.splitlines()
    tables = [line for line in lines if line.startswith(("browsers", "alice", "ops", "resource"))]
    assert tables != []
    assert [line for line in tables if len(line) > columns] == []


def test_sections_are_switched_and_q_quits(ledger: str) -> None:
    with top("--ledger", ledger) as shown:
        shown.see("browsers", "4 at once", "by waiting")
        shown.press("3")
        shown.see("principal", "alice", "by calls", without="browsers")
        shown.press("4")
        shown.see("think", "by calls")
        shown.press("\t")
        shown.see("no tasks")
        shown.press("\x1b[Z")
        shown.see("think")
        shown.press("q")
        assert shown.end() == 0
    assert LEFT_THE_SCREEN in shown.sent


def test_rows_are_sorted_and_turned_round(ledger: str) -> None:
    with top("--ledger", ledger) as shown:
        shown.see("browsers")
        shown.press("s", "s")
        shown.see("by resource", "org-tokens")
        assert shown.text.index("browsers") < shown.text.index("org-tokens")
        shown.press("r")
        shown.see("by resource reversed")
        assert shown.text.index("browsers") > shown.text.index("org-tokens")


def test_what_changes_is_shown_and_a_pause_holds_it(ledger: str) -> None:
    with top("--ledger", ledger) as shown, connect(ledger=ledger) as service:
        shown.see("browsers")
        service.define(Resource("arrived", Capacity(5)))
        shown.see("arrived")
        shown.press("p")
        shown.see("PAUSED")
        service.define(Resource("later", Capacity(5)))
        shown.press("s")
        shown.see("by used", "PAUSED", without="later")
        shown.press("p")
        shown.see("later")


def test_long_lists_are_scrolled(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/many.db"
    with connect(ledger=address) as service:
        for number in range(40):
            service.define(Resource(f"n{number:02}", Capacity(5)))
    with top("--ledger", address, lines=17) as shown:
        shown.see("n00", "n09", without="n10")
        shown.press(DOWN)
        shown.see("n01", "n10", without="n00")
        shown.press(PAGE_DOWN)
        shown.see("n11", "n20", without="n10")
        shown.press(END)
        shown.see("n30", "n39", without="n29")
        shown.press(PAGE_DOWN, DOWN, UP)
        shown.see("n29", "n38", without="n39")
        shown.press("g")
        shown.see("n00", without="n10")


def test_help_is_shown_and_any_key_closes_it(ledger: str) -> None:
    with top("--ledger", ledger) as shown:
        shown.see("browsers")
        shown.press("?")
        shown.see("reverse the order", without="4 at once")
        shown.press("x")
        shown.see("4 at once", without="reverse the order")


@pytest.mark.parametrize(("columns", "lines"), [(20, 8), (40, 10), (200, 50)])
def test_small_and_large_terminals_are_filled_and_not_overrun(
    ledger: str, columns: int, lines: int
) -> None:
    with top("--ledger", ledger, columns=columns, lines=lines) as shown:
        shown.see("budgetware top", "browsers", "q quit")
        assert shown.lines[0].startswith("budgetware top")
        assert shown.lines[-1].startswith("q quit")


def test_another_size_is_drawn_anew(ledger: str) -> None:
    with top("--ledger", ledger) as shown:
        shown.see("browsers", "? help")
        shown.resize(40, 12)
        shown.press("3")
        shown.see("alice", "principal", "q quit", without="? help")


@pytest.mark.parametrize(
    ("how", "code"), [("key", 0), (signal.SIGINT, 0), (signal.SIGTERM, 128 + 15)]
)
def test_terminal_is_as_it_was_however_it_ends(
    ledger: str, how: str | signal.Signals, code: int
) -> None:
    with top("--ledger", ledger) as shown:
        before = shown.modes
        shown.see("browsers")
        assert not shown.modes & termios.ICANON
        if isinstance(how, signal.Signals):
            shown.process.send_signal(how)
        else:
            shown.press("\x03")
        assert shown.end() == code
        assert shown.modes == before
    assert shown.sent.rstrip().endswith(LEFT_THE_SCREEN)
    assert b"\x1b[?25h" in shown.sent
    assert b"Traceback" not in shown.sent


def test_keys_that_mean_nothing_change_nothing(ledger: str) -> None:
    with top("--ledger", ledger) as shown:
        shown.see("browsers")
        shown.press("\x04", "x", "é", "\x1b[24~", "\x1b", "3")
        shown.see("alice")


def test_tasks_of_a_server_are_a_tree() -> None:
    with connect(prices=PRICES) as service, serving(service, has_keys=False) as url:
        define(service)
        with task_budget("crawl", tokens=9_000, principal="alice"), task_budget("page", calls=5):
            use("alice", 10)
            with top("--url", url, columns=100) as shown:
                shown.see("crawl", "  page", "tokens 10 of 9.0k")
                shown.press("4")
                shown.see("think", "alice")


def test_a_server_that_goes_away_is_told_and_the_rest_stays() -> None:
    with ExitStack() as stack, connect() as service:
        service.define(Resource("pages", Capacity(5)))
        with serving(service, has_keys=False) as url:
            shown = stack.enter_context(top("--url", url))
            shown.see("pages")
        shown.see("cannot reach http://127.0.0.1", "pages")


def test_dumb_terminals_get_it_once(ledger: str) -> None:
    with top("--ledger", ledger, TERM="dumb") as shown:
        assert shown.end() == 0
        assert LEFT_THE_SCREEN not in shown.sent
        assert b"browsers" in shown.sent


def test_json_of_a_live_screen_is_misuse(ledger: str) -> None:
    with top("--ledger", ledger, "--json") as shown:
        assert shown.end() == 2
        assert b"give --once" in shown.sent


def test_no_color_draws_without_colours(ledger: str) -> None:
    with top("--ledger", ledger, NO_COLOR="1") as shown:
        shown.see("browsers")
        shown.press("q")
        shown.end()
    assert b"\x1b[3" not in shown.sent
    assert b"\x1b[38" not in shown.sent


@pytest.mark.parametrize("interval", ["0", "-1", "nan", "x"])
def test_interval_is_checked(ledger: str, interval: str) -> None:
    assert run("top", "--once", "--ledger", ledger, "--interval", interval).exit_code == 2


def test_json_is_for_programs_and_one_document(ledger: str) -> None:
    found = run_program("top", "--once", "--json", "--ledger", ledger)
    assert json.loads(found.stdout)["ledger"] == ledger
