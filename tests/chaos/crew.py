"""Workers that are started, asked, killed and stopped, and what each of them has said.

Not here: what they do (`worker`), and whether it was right (`reading`).
"""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from threading import Condition, Thread
from types import TracebackType

from tests.chaos.orders import Orders

ROOT = Path(__file__).absolute().parent.parent.parent
PATIENCE_SECONDS = 45.0
"""For what takes a moment, on a machine that has much else to do."""


def until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Look again and again, for so long at most."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"in vain for {what}"
        time.sleep(0.005)


def pass_time(seconds: float) -> None:
    """Let a random, short time pass, or one that a lease lasts."""
    deadline = time.monotonic() + seconds
    until(lambda: time.monotonic() >= deadline, "time to pass")


def is_writable(address: str) -> bool:
    """Whether nobody holds the write lock of the file for long; always, for a server."""
    if not address.startswith("sqlite:///"):
        return True
    file = sqlite3.connect(address.removeprefix("sqlite:///"), timeout=1, isolation_level=None)
    try:
        file.execute("BEGIN IMMEDIATE")
        file.execute("ROLLBACK")
    except sqlite3.OperationalError:
        return False
    finally:
        file.close()
    return True


@dataclass
class Call:
    """One call, as far as its worker could say.

    Attributes:
        used: what it was going to settle to.
        began_ns, ended_ns: on a clock that all processes share; 0: not said.
    """

    number: str
    held: int
    used: int
    began_ns: int
    ended_ns: int = 0
    is_acknowledged: bool = False


@dataclass(frozen=True)
class Refusal:
    number: str
    error: str
    seconds: float
    retry_after: str


@dataclass
class Said:
    """What one worker has said so far."""

    calls: dict[str, Call] = field(default_factory=dict[str, Call])
    acknowledged: list[str] = field(default_factory=list[str])
    refusals: list[Refusal] = field(default_factory=list[Refusal])
    words: Counter[str] = field(default_factory=Counter[str])
    last: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    flushed: int = 0

    def hear(self, line: str) -> None:
        word, *rest = line.split()
        if word == "+":
            number, held, used, began = rest
            self.calls[number] = Call(number, int(held), int(used), int(began))
        elif word == "-":
            self.calls[rest[0]].ended_ns = int(rest[1])
        elif word == "=":
            self.calls[rest[0]].is_acknowledged = True
            self.acknowledged.append(rest[0])
        elif word == "settled":
            self.calls[rest[0]].used = int(rest[1])
            self.calls[rest[0]].is_acknowledged = True
        elif word == "!":
            self.refusals.append(Refusal(rest[0], rest[1], float(rest[2]), rest[3]))
        elif word == "flushed":
            self.flushed = int(rest[0])
        self.last[word] = rest
        self.words[word] += 1


class Life:
    """One process, and what it says."""

    def __init__(self, orders: Orders, folder: Path) -> None:
        self.orders = orders
        self.said = Said()
        self.ended_ns = 0
        self.was_killed = False
        self._heard = Condition()
        self._errors = folder / f"{orders.name}.err"
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "tests.chaos.worker", orders.text()],
                cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            )  # fmt: skip
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith(b"\n"):  # else it was killed in the middle of it
                with self._heard:
                    self.said.hear(line.decode())
                    self._heard.notify_all()
        with self._heard:
            self.said.words["over"] += 1
            self._heard.notify_all()

    def wait_for(self, *words: str, count: int = 1) -> str:
        """Wait until it has said one of them so often."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            with self._heard:
                for word in words:
                    if self.said.words[word] >= count:
                        return word
                assert not self.said.words["over"], (
                    f"{self.orders.name} died: {self.said.last} {self.complaints()}"
                )
                left = deadline - time.monotonic()
                assert left > 0, f"{self.orders.name} never said {words}: {self.said.last}"
                self._heard.wait(min(left, 0.5))

    def tell(self, command: str) -> None:
        """Ask it for something, without waiting."""
        assert self.process.stdin is not None
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()

    def do(self, command: str) -> None:
        """Ask it for something, and wait until that is done."""
        count = self.said.words["."] + 1
        self.tell(command)
        self.wait_for(".", count=count)

    def draw(self, held: int, used: int | None = None) -> str:
        """Have it make a call: `"granted"`, or the name of the error."""
        refused = len(self.said.refusals)
        self.do(f"draw {held} {held if used is None else used}")
        if len(self.said.refusals) > refused:
            return self.said.refusals[-1].error
        return "granted"

    def balance(self) -> tuple[int, int, int, int]:
        """What its service shows: spent, reserved, granted to others, remaining."""
        self.do("balance")
        spent, reserved, granted, remaining = map(int, self.said.last["balance"])
        return spent, reserved, granted, remaining

    def kill(self) -> None:
        self.was_killed = self.process.poll() is None
        self.process.kill()
        self.process.wait()
        self.ended_ns = time.monotonic_ns()
        self._reader.join()

    def stop(self) -> None:
        """Pause it, but not in the middle of a write to a file: others could not write then."""
        self.process.send_signal(signal.SIGSTOP)
        while not is_writable(self.orders.ledger):
            self.go_on()
            pass_time(0.01)
            self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def leave(self) -> None:
        """Have it close its service."""
        self.tell("quit")
        try:
            code = self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.orders.name} hangs: {self.complaints()}") from None
        self._reader.join()
        self.ended_ns = time.monotonic_ns()
        assert code == 0, (self.said.last, self.complaints())

    def complaints(self) -> str:
        """What it wrote to its standard error; where the library failed, there is a traceback."""
        return self._errors.read_text()[-3_000:]

    def is_alive(self) -> bool:
        return self.process.poll() is None


class Crew:
    """All lives of a scenario; whoever is left at its end is killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lives: list[Life] = []
        self.kills = self.pauses = 0

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        for life in self.lives:
            life.kill()
            assert life.process.stdin is not None
            assert life.process.stdout is not None
            life.process.stdout.close()
            try:
                life.process.stdin.close()
            except BrokenPipeError:
                pass
        if kind is None:
            for life in self.lives:
                assert "Traceback" not in life.complaints(), life.complaints()

    def hire(self, orders: Orders, *, is_ready: bool = True) -> Life:
        """Start a worker, by a name of its own."""
        number = len(self.lives)
        named = replace(orders, name=f"{orders.name}{number}", seed=orders.seed * 1_000 + number)
        life = Life(named, self.folder)
        self.lives.append(life)
        if is_ready:
            life.wait_for("ready")
        return life

    def hire_all(self, orders: Orders, count: int) -> list[Life]:
        lives = [self.hire(orders, is_ready=False) for _ in range(count)]
        for life in lives:
            life.wait_for("ready", "ended")
        return lives

    def alive(self) -> list[Life]:
        return [life for life in self.lives if life.is_alive()]

    def kill_and_replace(self, victim: Life) -> None:
        victim.kill()
        self.kills += victim.was_killed
        self.hire(replace(victim.orders, name=victim.orders.name[0]), is_ready=False)

    def harass(self, random: Random, kills: int, *, are_settling: bool = True) -> None:
        """Kill so many at random instants; each time another one takes the place.

        Args:
            are_settling: most have settled a call before; slots may be with the dead for a while.
        """
        for _ in range(kills):
            victim = random.choice(self.alive())
            if random.random() < 0.8:  # the others may die while they begin
                victim.wait_for("=" if are_settling else "ready", "done")
            pass_time(random.uniform(0, 0.12))
            self.kill_and_replace(victim)

    def wait_all(self, *words: str) -> None:
        for life in self.alive():
            life.wait_for(*words)

    def leave_all(self) -> None:
        for life in self.alive():
            life.leave()

    def calls(self) -> Iterator[Call]:
        for life in self.lives:
            yield from list(life.said.calls.values())

    def refusals(self, lives: Sequence[Life] = ()) -> list[Refusal]:
        return [refusal for life in lives or self.lives for refusal in list(life.said.refusals)]
