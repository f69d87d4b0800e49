"""Each limit ends a child, with all that descends from it, and what it used is known exactly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from budgetware import process
from budgetware.process import warden
from tests.process.programs import FLOOD, SLEEP, SPIN, is_alive, pid_in, python, until

HOLD = "x = bytearray(%d << 20); x[::4096] = b'x' * len(x[::4096])"
SLACK_MICROS = 100_000
"""How late a watch may be on a busy machine, beyond a tenth of the limit."""


async def test_a_cpu_hog_is_stopped_at_its_limit_and_not_before() -> None:
    result = await process.run(python(SPIN), cpu_seconds=0.4)
    assert (result.returncode, result.limit) == (-9, "cpu")
    assert 400_000 <= result.cpu_micros <= 440_000 + SLACK_MICROS


async def test_processes_share_one_limit_of_cpu() -> None:
    program = f"import os\nfor _ in range(2): os.fork()\n{SPIN}"
    result = await process.run(python(program), cpu_seconds=0.4)
    assert result.limit == "cpu"
    assert 400_000 <= result.cpu_micros <= 440_000 + SLACK_MICROS


async def test_cpu_of_threads_that_have_ended_counts() -> None:
    program = (
        "import threading, time\n"
        "def burn():\n"
        "    while time.thread_time() < 0.1: pass\n"
        "while True:\n"
        "    t = threading.Thread(target=burn); t.start(); t.join()"
    )
    result = await process.run(python(program), cpu_seconds=0.4)
    assert result.limit == "cpu"


async def test_cpu_of_processes_that_have_ended_counts() -> None:
    result = await process.run(["sh", "-c", "while :; do ls / >/dev/null; done"], cpu_seconds=0.3)
    assert result.limit == "cpu"
    assert 300_000 <= result.cpu_micros <= 330_000 + SLACK_MICROS


async def test_a_child_within_its_limits_is_left_alone() -> None:
    result = await process.run(
        ["sh", "-c", "echo x"], cpu_seconds=5, memory="200MiB", wall_seconds=30, output_bytes=2
    )
    assert (result.returncode, result.limit, result.stdout) == (0, None, b"x\n")


async def test_the_kernel_has_the_limits_too() -> None:
    result = await process.run(
        ["sh", "-c", "ulimit -t; ulimit -H -t; ulimit -v; ulimit -c"],
        cpu_seconds=2.5,
        memory="64MiB",
    )
    assert result.stdout.split() == [b"3", b"3", b"65536", b"0"]


async def test_a_memory_hog_fails_at_its_ceiling() -> None:
    result = await process.run(python(HOLD % 300), memory="128MiB")
    assert (result.returncode, result.limit) == (1, "memory")
    assert b"MemoryError" in result.stderr
    assert result.peak_memory_bytes <= 128 << 20


async def test_the_peak_is_the_childs_own_however_big_its_host_is() -> None:
    ballast = bytearray(100 << 20)
    ballast[::4096] = b"x" * len(ballast[::4096])
    small = await process.run(["true"])
    big = await process.run(python(HOLD % 64))
    del ballast
    assert small.peak_memory_bytes < 20 << 20
    assert 64 << 20 <= big.peak_memory_bytes < 90 << 20


async def test_processes_share_one_ceiling_of_memory() -> None:
    program = f"import os\nfor _ in range(2): os.fork()\n{HOLD % 60}\n{SLEEP}"
    result = await process.run(python(program), memory="128MiB")
    assert (result.returncode, result.limit) == (-9, "memory")
    assert result.peak_memory_bytes > 128 << 20


async def test_memory_that_processes_share_counts_once() -> None:
    program = f"{HOLD % 60}\nimport os, time\nfor _ in range(2): os.fork()\ntime.sleep(0.2)"
    result = await process.run(python(program), memory="128MiB")
    assert (result.returncode, result.limit) == (0, None)


async def test_a_flood_of_output_is_cut() -> None:
    result = await process.run(python(FLOOD), output_bytes=100_000)
    assert (len(result.stdout), result.limit, result.is_truncated) == (100_000, "output", True)
    assert result.returncode == -9


async def test_both_outputs_count_together() -> None:
    result = await process.run(
        ["sh", "-c", "printf 12345; printf 67890 >&2; exec sleep 100"], output_bytes=8
    )
    assert (len(result.stdout) + len(result.stderr), result.limit) == (8, "output")


async def test_a_sleeper_is_ended_when_its_time_is_over() -> None:
    result = await process.run(python(SLEEP), wall_seconds=0.2)
    assert (result.returncode, result.limit) == (-9, "wall")
    assert 200 <= result.duration_ms < 5_000


STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
how, path = sys.argv[1:]
if not os.fork():
    if how != "group":
        os.setsid()
    if how == "daemon" and os.fork():
        os._exit(0)
    with open(path, "w") as file:
        print(os.getpid(), file=file)
    time.sleep(1000)
time.sleep(0 if how == "left" else 1000)
"""


@pytest.mark.parametrize("how", ["group", "session", "daemon"])
async def test_whatever_descends_from_a_child_ends_with_it(how: str, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    result = await process.run(python(STUBBORN, how, str(path)), wall_seconds=0.5)
    assert result.limit == "wall"
    assert not is_alive(await pid_in(path))


async def test_what_a_child_leaves_running_ends_with_it(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    command = (
        f"setsid sh -c 'echo $$ > {path}; exec sleep 1000' & while ! [ -s {path} ]; do :; done"
    )
    result = await process.run(["sh", "-c", command])
    assert (result.returncode, result.limit) == (0, None)
    assert not is_alive(await pid_in(path))


async def test_what_is_left_running_is_charged_too() -> None:
    program = (
        "import os, time\n"
        "r, w = os.pipe()\n"
        "if not os.fork():\n"
        "    while time.process_time() < 0.2: pass\n"
        "    os.write(w, b'x'); time.sleep(1000)\n"
        "os.read(r, 1)"
    )
    result = await process.run(python(program))
    assert result.cpu_micros >= 200_000


async def test_a_fork_bomb_is_ended() -> None:
    bomb = (
        "import os\nroot = os.getpid()\nfor _ in range(7): os.fork()\n"
        "os.getpid() == root or os.getpid() % 2 or os.setsid()\n" + SPIN
    )
    result = await process.run(python(bomb), cpu_seconds=1, wall_seconds=10)
    assert result.limit == "cpu"


# Exactness.


async def test_what_is_charged_is_what_the_child_counts_itself() -> None:
    program = (
        "import resource, sys, time\n"
        "while time.process_time() < 0.2: pass\n"
        "u = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print(round((u.ru_utime + u.ru_stime) * 1e6), u.ru_maxrss * 1024)"
    )
    result = await process.run(python(program))
    micros, peak = map(int, result.stdout.split())
    assert micros <= result.cpu_micros < micros + 20_000  # the end of the interpreter
    assert peak <= result.peak_memory_bytes < peak + (4 << 20)


EXACT = """
import json, os, resource, socket, sys
sys.path.insert(0, sys.argv[1])
from budgetware.process import warden

def used(who):
    found = resource.getrusage(who)
    return round(found.ru_utime * 1e6) + round(found.ru_stime * 1e6)

answers = []
for program in json.loads(sys.argv[2]):
    host, line = socket.socketpair()
    order = dict(args=[b"sh", b"-c", program.encode()], env=dict(os.environb), cwd=b"/",
                 cpu_micros=None, memory=None, wall_seconds=None)
    reader, writer = os.pipe()
    if not os.fork():
        watch = warden.Watch(order, line.fileno(), None)
        streams = [os.open(os.devnull, os.O_RDWR) for _ in range(3)]
        assert watch.start(streams, None) is None
        pid, status, usage = os.wait4(watch.root, 0)
        micros = round(usage.ru_utime * 1e6) + round(usage.ru_stime * 1e6)
        watch.status = status
        found = watch.report()
        shown = [found["cpu_micros"], micros, used(resource.RUSAGE_CHILDREN),
                 found["peak_memory_bytes"], usage.ru_maxrss * 1024]
        os.write(writer, json.dumps(shown).encode())
        os._exit(0)
    answers.append(json.loads(os.read(reader, 4096)))
    os.wait()
print(json.dumps(answers))
"""


def test_the_charge_is_that_of_wait4_to_the_microsecond() -> None:
    programs = ["exit 0", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done", "ls / ; ls /"]
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", EXACT, root, json.dumps(programs)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for charged, by_wait4, by_children, peak, peak_by_wait4 in json.loads(done.stdout):
        assert charged == by_children > 0
        # The kernel reads the two one after the other, while the last of the process may still run.
        assert 0 <= by_wait4 - charged < 2_000
        assert peak == peak_by_wait4 > 0


# The end of others.


HOST = """
import sys
from budgetware import process
from budgetware.process import warden
process.run_sync([sys.executable, "-c", sys.argv[1], "session", sys.argv[2]])
"""


async def test_children_end_when_their_host_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    command = [sys.executable, "-c", HOST, STUBBORN, str(path)]
    with subprocess.Popen(command) as host:  # noqa: ASYNC220 - not of what is tested
        pid = await pid_in(path)
        host.kill()
    await until(lambda: not is_alive(pid))


async def test_a_child_ends_when_its_watch_is_killed() -> None:
    program = "import os; print(os.getpid(), flush=True); os.kill(os.getppid(), 9); " + SLEEP
    with pytest.raises(ChildProcessError):
        await process.run(python(program))


# Where the kernel can do less.


def test_children_are_found_also_where_the_kernel_lists_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with subprocess.Popen(["sh", "-c", "sleep 100 & sleep 100 & wait"]) as child:
        try:
            while len(listed := warden.descendants(child.pid)) < 2:
                continue
            monkeypatch.setattr(warden, "HAS_CHILDREN", False)
            assert sorted(warden.descendants(child.pid)) == sorted(listed)
        finally:
            for pid in (*warden.descendants(child.pid), child.pid):
                os.kill(pid, signal.SIGKILL)
