"""What a child gets and gives: arguments, input, output, folder, environment, errors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread

from budgetware import budgeted, process, task_budget
from budgetware.errors import BlockingInEventLoop, ConfigurationError, InvalidAmount
from tests.process.programs import children, open_fds, python, until


async def test_it_gives_output_errors_and_status_apart() -> None:
    result = await process.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (result.stdout, result.stderr, result.returncode) == (b"out\n", b"err\n", 3)
    assert (result.limit, result.is_truncated) == (None, False)


async def test_a_signal_is_a_negative_status() -> None:
    result = await process.run(["sh", "-c", "kill -TERM $$"])
    assert (result.returncode, result.limit) == (-15, None)


async def test_a_megabyte_goes_in_and_comes_out_unchanged() -> None:
    data = os.urandom(1 << 20)
    result = await process.run(["cat"], input=data)
    assert result.stdout == data


async def test_input_that_nobody_reads_is_left() -> None:
    result = await process.run(["true"], input=b"x" * (1 << 20))
    assert result.returncode == 0


async def test_a_text_is_read_as_utf_8() -> None:
    assert (await process.run(["cat"], input="grün\n")).stdout == "grün\n".encode()


async def test_without_input_there_is_nothing_to_read() -> None:
    assert (await process.run(["cat"])).stdout == b""


async def test_output_may_be_any_bytes() -> None:
    result = await process.run(python("import os; os.write(1, bytes(range(256)))"))
    assert result.stdout == bytes(range(256))


async def test_exactly_what_may_be_written_is_not_cut() -> None:
    result = await process.run(["printf", "12345678"], output_bytes=8)
    assert (result.stdout, result.is_truncated, result.limit) == (b"12345678", False, None)


async def test_folder_and_environment_are_those_given(tmp_path: Path) -> None:
    result = await process.run(
        ["/bin/sh", "-c", 'pwd; echo "$A ${HOME-none}"'], cwd=tmp_path, env={"A": "1"}
    )
    assert result.stdout.decode() == f"{tmp_path}\n1 none\n"


async def test_by_default_they_are_those_of_this_process_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await process.run(["true"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BUDGETWARE_SEEN", "now")
    result = await process.run(["sh", "-c", "pwd; echo $BUDGETWARE_SEEN"])
    assert result.stdout.decode() == f"{tmp_path}\nnow\n"


async def test_the_program_is_looked_for_in_the_path_of_its_environment(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\necho found\n")
    tool.chmod(0o755)
    result = await process.run(["tool"], env={"PATH": f"/nowhere:{tmp_path}"})
    assert result.stdout == b"found\n"


async def test_arguments_are_not_read_by_a_shell() -> None:
    assert (await process.run(["printf", "%s", "$HOME; *"])).stdout == b"$HOME; *"


async def test_signals_are_as_in_any_program() -> None:
    program = (
        "import signal as s; print([s.getsignal(n) is s.SIG_DFL for n in (s.SIGCHLD, s.SIGTERM)],"
        "s.pthread_sigmask(s.SIG_BLOCK, []))"
    )
    assert (await process.run(python(program))).stdout == b"[True, True] set()\n"
    pipe = await process.run(["sh", "-c", "yes | head -n 1; echo $?"])
    assert pipe.stdout == b"y\n0\n"


async def test_it_gets_three_open_files_and_no_more() -> None:
    result = await process.run(["ls", "/proc/self/fd"])
    assert result.stdout == b"0\n1\n2\n3\n"  # 3 is the folder that it lists


# Errors.


async def test_an_unknown_program_is_an_os_error_and_costs_nothing() -> None:
    async with task_budget(cpu_micros=10**7, calls=5, memory=10**9) as budget:
        with pytest.raises(FileNotFoundError) as caught:
            await process.run(["no-such-program"], cpu_seconds=1, memory="1MiB", calls=1)
        snapshot = budget.snapshot()
    assert caught.value.filename == "no-such-program"
    assert snapshot["cpu_micros"].spent == snapshot["calls"].spent == 0
    assert snapshot["memory"].reserved == snapshot["cpu_micros"].reserved == 0


async def test_a_file_that_is_no_program_is_refused_by_the_system(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program")
    with pytest.raises(PermissionError):
        await process.run([str(tmp_path / "text")])


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        await process.run(["true"], cwd=tmp_path / "gone")
    assert caught.value.filename == str(tmp_path / "gone")


async def test_check_raises_what_subprocess_raises() -> None:
    async with task_budget(cpu_micros=10**7) as budget:
        with pytest.raises(subprocess.CalledProcessError) as caught:
            await process.run(["sh", "-c", "echo no; exit 4"], check=True)
        spent: Any = budget.spent("cpu_micros")
    assert (caught.value.returncode, caught.value.output) == (4, b"no\n")
    assert spent > 0


async def test_check_raises_at_a_limit_and_names_it() -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        await process.run(["sleep", "100"], wall_seconds=0.05, check=True)
    assert caught.value.__notes__ == ["it came to its limit of wall"]


BAD_NUMBERS: list[dict[str, Any]] = [
    {"cpu_seconds": 0},
    {"cpu_seconds": -1},
    {"cpu_seconds": float("nan")},
    {"cpu_seconds": True},
    {"wall_seconds": "soon"},
    {"memory": 0},
    {"memory": -1},
    {"memory": 1.5},
    {"memory": "much"},
    {"output_bytes": -1},
    {"output_bytes": True},
    {"max_wait": -1},
    {"cpu_micros": 5},
    {"calls": -1},
    {"tokenz": 1},
]


@pytest.mark.parametrize("options", BAD_NUMBERS, ids=str)
async def test_a_bad_number_is_refused_before_anything_happens(options: Any) -> None:
    async with task_budget(cpu_micros=10**7) as budget:
        with pytest.raises(InvalidAmount):
            await process.run(["true"], **options)
        assert budget.spent("cpu_micros") == 0


BAD_ARGUMENTS: list[tuple[Any, dict[str, Any]]] = [
    ("ls -l", {}),
    (b"ls", {}),
    (Path("ls"), {}),
    ([], {}),
    ([""], {}),
    (["a\0b"], {}),
    ([1], {}),
    (5, {}),
    (["true"], {"env": {"A=B": "1"}}),
    (["true"], {"env": {"A": "\0"}}),
    (["true"], {"env": {"A": 1}}),
    (["true"], {"env": 5}),
    (["true"], {"input": 5}),
    (["true"], {"name": "with a space"}),
]


@pytest.mark.parametrize(("command", "options"), BAD_ARGUMENTS, ids=str)
async def test_what_cannot_be_run_is_refused_at_once(command: Any, options: Any) -> None:
    with pytest.raises(ConfigurationError):
        await process.run(command, **options)


def test_elsewhere_it_can_be_imported_and_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("budgetware.process.orders.os.name", "nt")
    with pytest.raises(ConfigurationError, match="no limits on children"):
        process.run_sync(["true"])


# Many, and what is left behind.


async def test_twenty_run_at_once() -> None:
    results: dict[int, bytes] = {}

    async def one(number: int) -> None:
        results[number] = (await process.run(["sh", "-c", f"sleep 0.1; echo {number}"])).stdout

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(one, number)
    assert results == {number: b"%d\n" % number for number in range(20)}


async def test_fifty_runs_leave_no_open_file_and_no_process() -> None:
    await process.run(["true"])
    fds, processes = open_fds(), children()
    for number in range(50):
        if number % 5 == 4:
            with pytest.raises(FileNotFoundError):
                await process.run(["no-such-program"])
        await process.run(["sh", "-c", "sleep 100 & echo x"], input=b"y")
    await until(lambda: open_fds() <= fds)
    assert (open_fds(), children()) == (fds, processes)


# Without an event loop.


def test_a_thread_may_block_for_a_child() -> None:
    with task_budget(cpu_micros=10**7) as budget:
        result = process.run_sync(["cat"], input=b"x" * 200_000)
        assert budget.spent("cpu_micros") == result.cpu_micros > 0
    assert result.stdout == b"x" * 200_000


def test_a_thread_gets_the_same_errors() -> None:
    with pytest.raises(FileNotFoundError):
        process.run_sync(["no-such-program"])
    with pytest.raises(subprocess.CalledProcessError):
        process.run_sync(["false"], check=True)


async def test_an_event_loop_is_not_blocked() -> None:
    with pytest.raises(BlockingInEventLoop, match=r"process\.run"):
        process.run_sync(["true"])


async def test_a_worker_thread_may_block() -> None:
    result = await to_thread.run_sync(lambda: process.run_sync(["echo", "x"]))
    assert result.stdout == b"x\n"


async def test_a_decorated_tool_may_run_one() -> None:
    @budgeted(calls=1)
    async def tool() -> bytes:
        return (await process.run(["echo", "x"])).stdout

    async with task_budget(calls=1, cpu_micros=10**7) as budget:
        assert await tool() == b"x\n"
    assert budget.spent("calls") == 1


def test_the_warden_is_of_this_process_and_is_replaced_when_it_has_gone() -> None:
    program = """
import os, signal
from budgetware import process
from budgetware.process import appointing
process.run_sync(["true"])
first = appointing._wardens[0].process
os.kill(first.pid, signal.SIGKILL)
first.wait()
print(process.run_sync(["echo", "again"]).stdout)
if not os.fork():
    print(process.run_sync(["echo", "forked"]).stdout, flush=True)
    os._exit(0)
os.wait()
os.setpriority(os.PRIO_PROCESS, 0, 5)
print(process.run_sync(["nice"]).stdout)
"""
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stderr, done.returncode) == ("", 0)
    assert sorted(done.stdout.split()) == sorted(["b'again\\n'", "b'forked\\n'", "b'5\\n'"])
