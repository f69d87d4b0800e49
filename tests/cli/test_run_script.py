"""`budgetware run script.py` as a shell sees it: a Python program that does not know of it."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import anyio
import pytest
from sniffio import current_async_library

from budgetware import connect
from budgetware.cli.scripts.threads import carry_context
from tests.cli.command_line import environment, program, run_program
from tests.cli.command_line import run as run_here
from tests.integrations.provider import Provider, serve

CALL = """
from budgetware import reserve
def call():
    with reserve(calls=1, tokens=10):
        return 1
async def call_async():
    async with reserve(calls=1, tokens=10):
        return 1
"""
FACTS = """
import os, sys
print(__name__, __file__ == os.path.abspath(sys.argv[0]), sys.argv[1:], sys.path[0], __spec__)
print(sys.stdin.read())
print(sys.modules["__main__"].__dict__ is globals())
"""
ENDINGS = {
    "a context that inherits nothing": """
import contextvars
def loop():
    while True:
        try:
            call()
        except Exception:
            pass
contextvars.Context().run(loop)
""",
    "a task in a context that inherits nothing": """
import contextvars
from budgetware import task_budget
def loop():
    while True:
        with task_budget("inner", calls=1_000):
            call()
contextvars.Context().run(loop)
""",
    "a bare thread": """
import _thread, threading
done = threading.Event()
def loop():
    try:
        while True:
            call()
    except BaseException:
        done.set()
_thread.start_new_thread(loop, ())
done.wait()
""",
    "a loop of asyncio that swallows exceptions": """
import asyncio
async def main():
    while True:
        try:
            await call_async()
        except Exception:
            pass
asyncio.run(main())
""",
    "gathered calls whose exceptions are results": """
import asyncio
async def main():
    while True:
        await asyncio.gather(*[call_async() for _ in range(3)], return_exceptions=True)
loop = asyncio.new_event_loop()
try:
    loop.run_until_complete(main())
finally:
    loop.close()
""",
    "a task that awaits something else": """
import asyncio
async def main():
    asyncio.create_task(spend())
    await asyncio.Event().wait()
async def spend():
    while True:
        await call_async()
asyncio.run(main())
""",
    "a loop of trio that swallows exceptions": """
import trio
async def main():
    while True:
        try:
            await call_async()
        except Exception:
            pass
trio.run(main)
""",
    "a pool of threads": """
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(2)
while True:
    for future in [pool.submit(call) for _ in range(2)]:
        try:
            future.result()
        except Exception:
            pass
""",
    "an executor of an event loop": """
import asyncio
async def main():
    loop = asyncio.get_running_loop()
    while True:
        try:
            await loop.run_in_executor(None, call)
        except Exception:
            pass
asyncio.run(main())
""",
    "a thread after the main one": """
import threading
def spend():
    while True:
        try:
            call()
        except Exception:
            pass
threading.Thread(target=spend).start()
""",
    "a main thread that sleeps": """
import threading, time
def spend():
    while True:
        call()
threading.Thread(target=spend, daemon=True).start()
try:
    time.sleep(60)
finally:
    print("cleaned up")
""",
    "an async loop that swallows all": """
import asyncio
async def main():
    while True:
        try:
            await call_async()
        except BaseException:
            pass
asyncio.run(main())
""",
    "a loop that swallows all": """
print("written before")
while True:
    try:
        call()
    except BaseException:
        pass
""",
}
FAILURES = {
    "an error": "def f():\n    raise ValueError('no')\nf()",
    "a syntax error": "print(1)\nx = = 2",
    "an exit with a message": "import sys; sys.exit('over')",
    "an exit code": "import sys; print('out'); sys.exit(7)",
    "an excepthook": "import sys; sys.excepthook = lambda *a: print('hooked', a[0]); 1 / 0",
}
ENDS = {
    "an atexit handler": """
import atexit
def late():
    try:
        call()
    except Exception as error:
        print(type(error).__name__, error)
atexit.register(late)
call()
""",
    "calls that are open": """
import threading
from budgetware import reserve
held, inside = reserve(calls=1, tokens=10).wait(), threading.Event()
def hold():
    with reserve(calls=1, tokens=10):
        inside.set()
        threading.Event().wait()
threading.Thread(target=hold, daemon=True).start()
inside.wait()
""",
    "a process that it forks off": """
import os, sys
child = os.fork()
if not child:
    try:
        call()
    except Exception as error:
        print(type(error).__name__, error, flush=True)
    sys.exit()
os.waitpid(child, 0)
call()
""",
    "a termination by the system": """
import os, signal
call()
os.kill(os.getpid(), signal.SIGTERM)
while True:
    try:
        signal.pause()
    except BaseException:
        pass
""",
}
SEVERAL = """
import os, sys, time
from budgetware.cli.runs import RunOrder
from budgetware.cli.scripts.program import program_of
from budgetware.cli.scripts.running import run_program, text_of
import asyncio, trio, budgetware_integrations._instrumentation
children = {}
for path in sys.argv[1:]:
    pid = os.fork()
    if pid:
        children[pid] = path
        continue
    for number, kind in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{path}.{kind}", os.O_CREAT | os.O_WRONLY), number)
    order = RunOrder([path], limits={"calls": 5})
    receipt = run_program(program_of([path]), order, grace_seconds=0.6, as_json=True)
    sys.stdout.flush()
    print(text_of(receipt, as_json=True), file=sys.stderr)
    sys.exit(receipt.code)
while children:
    pid, status = os.wait()
    print(os.waitstatus_to_exitcode(status), children.pop(pid))
"""
OPENAI = """
import openai
client = openai.OpenAI(max_retries=0)
for _ in range(8):
    try:
        answer = client.chat.completions.create(
            model="echo", messages=[{"role": "user", "content": "hello"}], max_tokens=50
        )
        print(answer.choices[0].message.content)
    except Exception as error:
        print(type(error).__name__)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    with serve() as running:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{running.url}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        yield running


def script(code: str, name: str = "script.py") -> str:
    Path(name).write_text(code, encoding="utf-8")
    return name


def run(*arguments: object, **given: Any) -> subprocess.CompletedProcess[str]:
    return run_program("run", *arguments, **given)


def python(*arguments: str, input: str = "") -> subprocess.CompletedProcess[str]:
    """Run the same without budgetware."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, input=input, capture_output=True, text=True, check=False)


def run_several(folder: Path, programs: Mapping[str, str]) -> dict[str, Any]:
    """Run programs of five calls each, without the command line, which takes its time."""
    paths = {title: folder / f"{number}.py" for number, title in enumerate(programs)}
    for title, code in programs.items():
        paths[title].write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SEVERAL, *map(str, paths.values())],
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    codes = {path: int(code) for code, path in (line.split() for line in done.stdout.splitlines())}
    return {
        title: subprocess.CompletedProcess(
            [path],
            codes[str(path)],
            path.with_suffix(".py.out").read_text(encoding="utf-8"),
            path.with_suffix(".py.err").read_text(encoding="utf-8"),
        )
        for title, path in paths.items()
    }


def receipt_of(found: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(found.stderr.splitlines()[-1])


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What became of each program, all run at once."""
    paying = {title: CALL + code for title, code in {**ENDINGS, **ENDS}.items()}
    return run_several(tmp_path_factory.mktemp("outcomes"), {**paying, **FAILURES})


# What the program sees.


def test_it_is_run_as_python_would() -> None:
    Path("sub").mkdir()
    path = script(FACTS, "sub/facts.py")
    arguments = ["--json", "-b", "x", "--", "y"]
    found = run("--calls", "5", path, *arguments, input="line\n")
    plain = python(path, *arguments, input="line\n")
    assert (found.returncode, found.stdout) == (0, plain.stdout)
    assert found.stderr.startswith("budgetware: facts.py: exit 0; calls 0 of 5, ")
    assert len(found.stderr.splitlines()) == 1


@pytest.mark.parametrize("failure", FAILURES)
def test_what_goes_wrong_is_shown_and_ends_as_with_python(
    failure: str, outcomes: dict[str, Any]
) -> None:
    found = outcomes[failure]
    plain = python(*map(str, found.args))
    said, _, receipt = found.stderr.rstrip("\n").rpartition("\n")
    assert (found.returncode, found.stdout) == (plain.returncode, plain.stdout)
    assert said == plain.stderr.rstrip("\n")
    assert json.loads(receipt)["exit_code"] == plain.returncode


def test_a_module_is_run_as_python_would() -> None:
    Path("tool").mkdir()
    script("", "tool/__init__.py")
    script("import sys\nprint(__spec__.name, sys.argv, sys.path[0])", "tool/__main__.py")
    found = run("-b", "calls=5", "-m", "tool", "--usd", "-m")
    plain = python("-m", "tool", "--usd", "-m")
    assert (found.returncode, found.stdout) == (0, plain.stdout)
    assert found.stderr.startswith("budgetware: tool: exit 0;")


def test_a_folder_is_run_as_python_would() -> None:
    Path("tool").mkdir()
    script("VALUE = 5", "tool/beside.py")
    script(
        "import os, sys, beside\n"
        "print(__name__, __package__, __spec__.name, sys.argv, os.path.abspath(sys.path[0]))",
        "tool/__main__.py",
    )
    found, plain = run("--calls", "5", "tool", "--usd"), python("tool", "--usd")
    assert (found.returncode, found.stdout) == (0, plain.stdout)


def test_a_terminal_stays_one_and_nothing_is_held_back() -> None:
    path = script(
        "import sys\nprint([s.isatty() for s in (sys.stdin, sys.stdout, sys.stderr)])\n"
        "print(input('name? '))"
    )
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        program("run", "--calls", "5", path),
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment(),
    ) as child:  # fmt: skip
        os.close(theirs)
        shown = read_until(ours, "name? ")
        os.write(ours, b"alice\n")
        shown += read_until(ours, "in all")
        assert child.wait(20) == 0
    os.close(ours)
    assert shown.startswith("[True, True, True]")
    assert "alice\r\nalice\r\nbudgetware: script.py: exit 0;" in shown


def read_until(number: int, text: str) -> str:
    shown = ""
    deadline = time.monotonic() + 20
    while text not in shown:
        assert time.monotonic() < deadline
        shown += os.read(number, 4_096).decode()
    return shown


def test_interrupted_it_exits_with_130() -> None:
    path = script("import time\nprint('ready', flush=True)\ntime.sleep(60)")
    with subprocess.Popen(
        program("run", "--calls", "5", path),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), text=True,
    ) as child:  # fmt: skip
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGINT)
        _out, err = child.communicate(timeout=20)
    assert child.returncode == 130
    *_trace, last, receipt = err.splitlines()
    assert last == "KeyboardInterrupt"
    assert receipt.startswith("budgetware: script.py: exit 130;")


# What ends it.


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_its_budget_ends_does_end(ending: str, outcomes: dict[str, Any]) -> None:
    found = outcomes[ending]
    assert found.returncode == 3, found.stderr
    receipt = receipt_of(found)
    assert (receipt["exit_code"], receipt["stopped_by"]) == (3, "calls")
    assert receipt["task"]["dims"]["calls"]["spent"] == 5
    shown = re.sub(r"Exception ignored in: .*\n(.*\n)?Traceback", "", found.stderr)
    assert "Traceback" not in shown.partition("Task exception was never retrieved")[0]


def test_it_may_clean_up_and_what_it_wrote_is_there(outcomes: dict[str, Any]) -> None:
    assert outcomes["a main thread that sleeps"].stdout == "cleaned up\n"
    assert outcomes["a loop that swallows all"].stdout == "written before\n"


def calls_of(found: subprocess.CompletedProcess[str]) -> tuple[int, int]:
    row = receipt_of(found)["task"]["dims"]["calls"]
    return row["spent"], row["reserved"]


def test_calls_after_its_end_are_refused(outcomes: dict[str, Any]) -> None:
    found = outcomes["an atexit handler"]
    assert found.stdout.startswith("NoBudget the program has ended")
    assert (found.returncode, calls_of(found)) == (0, (1, 0))


def test_calls_that_are_open_at_its_end_are_charged(outcomes: dict[str, Any]) -> None:
    found = outcomes["calls that are open"]
    assert (found.returncode, calls_of(found)) == (0, (2, 0))


def test_what_it_forks_off_spends_nothing(outcomes: dict[str, Any]) -> None:
    found = outcomes["a process that it forks off"]
    assert found.stdout.startswith("NoBudget this process was forked off")
    assert (found.returncode, calls_of(found)) == (0, (1, 0))
    assert len(found.stderr.splitlines()) == 1


def test_terminated_it_gives_a_receipt_whatever_it_catches(outcomes: dict[str, Any]) -> None:
    found = outcomes["a termination by the system"]
    assert (found.returncode, calls_of(found)) == (143, (1, 0))
    assert receipt_of(found)["exit_code"] == 143


def test_refused_calls_are_its_own_business() -> None:
    path = script(
        CALL + "for _ in range(8):\n    try: call()\n    except Exception as e: last = e\n"
    )
    found = run("--policy", "reject", "--calls", "5", "--tokens", "1k", path)
    assert found.returncode == 0
    assert "exit 0; tokens 50 of 1.0k, calls 5 of 5, 3 refused, " in found.stderr


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "2>/dev/full"])
def test_the_exit_code_is_its_own_whatever_can_be_written(closed: str) -> None:
    command = program("run", script("import sys; sys.exit(7)"))
    line = f'exec "$@" {closed}'
    found = subprocess.run(
        ["sh", "-c", line, "sh", *command],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert found.returncode == 7
    assert "Traceback" not in found.stderr


def test_the_deadline_ends_it() -> None:
    path = script("import time\ntime.sleep(60)")
    found = run("--seconds", "0.3", "--grace", "200ms", "--json", path)
    assert (found.returncode, receipt_of(found)["stopped_by"]) == (3, "millis")


def test_without_a_limit_it_says_what_was_used() -> None:
    found = run("--json", "-", input=CALL + "import os\nif os.fork(): os.wait(); call(); call()")
    assert found.returncode == 0
    row = receipt_of(found)["task"]["dims"]["calls"]
    assert (row["spent"], row["limit"], row["remaining"]) == (2, None, None)
    assert receipt_of(found)["forked"] == 1


def test_a_ledger_has_its_task() -> None:
    path = script(CALL + "import os\ncall(); print(os.environ['BUDGETWARE_TASK'])")
    found = run("--ledger", "sqlite:///ledger.db", "--tokens", "1k", "--task", "agent", path)
    assert (found.returncode, found.stdout) == (0, "agent\n")
    assert "tokens 10 of 1.0k" in found.stderr
    with connect(ledger="sqlite:///ledger.db") as service:
        assert service.report().usage.calls == 1


# Model clients.


def test_the_example_is_ended(provider: Provider) -> None:
    path = Path(__file__).parents[2] / "examples" / "integrations" / "run_script.py"
    found = run("--calls", "3", "--tokens", "20k", path)
    assert found.returncode == 3
    assert found.stdout.splitlines()[-1] == "3. Rivers flow to the sea."
    assert (
        "budgetware: run_script.py: exit 3, ended by its budget: 0 of 3 calls left" in found.stderr
    )
    assert len(provider.calls) == 3
    assert f"tokens {provider.tokens} of 20" in found.stderr


def test_given_as_a_command_of_python_it_is_limited_too(provider: Provider) -> None:
    found = run("--usd", "1", "--", sys.executable, script(OPENAI))  # its model has no price
    assert (found.returncode, found.stdout) == (0, "UnknownPrice\n" * 8)
    assert provider.calls == []
    assert "usd $0.00 of $1.00" in found.stderr


# Asked for wrongly.


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--usd", "1", "missing.py"), "cannot start missing.py: No such file"),
        (("--usd", "1", "-m"), "-m: give the name of a module"),
        (("--usd", "1", "-m", "no_such_module"), "cannot run -m no_such_module"),
        (("--usd", "much", "script.py"), "--usd much: "),
        (("--usd", "0", "script.py"), "--usd 0: a limit is at least"),
        (("--calls", "", "script.py"), "--calls : give"),
        (("--tokens", "1k", "-b", "tokens=2k", "script.py"), "tokens has two limits"),
        (("--seconds", "1", "-b", "seconds=2", "script.py"), "seconds has two limits"),
        (("--grace", "soon", "script.py"), "is no duration"),
        (("--memory", "1GiB", "script.py"), "--memory limits processes"),
        (("--cpu", "1s", "script.py"), "-- python script.py"),
        (("-b", "cpu=1s", "script.py"), "-- python script.py"),
        (("--cpu", "1s", "--usd", "1", "script.py"), "give one kind of limit"),
        (("--usd", "1", "."), "cannot run .: it is a folder that has no __main__.py"),
        (("--usd", "1", "-b", "seconds=9", "--", "sh", "-c", "x"), "not be limited in usd: "),
        (("--calls", "2", "--cpu", "9", sys.executable, "script.py"), "not be limited in calls: "),
        (("--task", "unknown", "script.py"), "no limit is given, and no template"),
    ],
)
def test_misuse_exits_2_in_one_line(
    arguments: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("argv", "path"):
        monkeypatch.setattr(sys, name, list(getattr(sys, name)))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    script("open('ran', 'w')")
    found = run_here("run", *arguments)
    assert (found.exit_code, found.stdout) == (2, "")
    (line,) = found.stderr.splitlines()
    assert said in line
    assert not Path("ran").exists()


def test_options_of_other_programs_are_theirs() -> None:
    script("print('no')")
    found = run("--seconds", "5", "--policy", "terminate", "echo", "script.py", "-m")
    assert (found.returncode, found.stdout) == (0, "script.py -m\n")


# Threads.


@pytest.fixture
def _carrying() -> Iterator[None]:
    before = threading.Thread.start, ThreadPoolExecutor.submit
    undo = carry_context()
    carry_context()()  # twice is once
    yield
    undo()
    assert (threading.Thread.start, ThreadPoolExecutor.submit) == before


@pytest.mark.usefixtures("_carrying")
def test_a_thread_has_the_context_of_whoever_starts_it() -> None:
    variable = ContextVar("variable", default="outside")
    seen: list[str] = []

    class Own(threading.Thread):
        def run(self) -> None:
            seen.append(variable.get())

    variable.set("inside")
    for thread in (threading.Thread(target=lambda: seen.append(variable.get())), Own()):
        thread.start()
        thread.join()
        assert "run" not in vars(thread)
        with pytest.raises(RuntimeError, match="once"):
            thread.start()
        assert "run" not in vars(thread)
    with ThreadPoolExecutor(1) as pool:
        variable.set("later")
        seen.append(pool.submit(variable.get).result())
        variable.set("last")
        seen.append(pool.submit(variable.get).result())
    assert seen == ["inside", "inside", "later", "last"]


@pytest.mark.usefixtures("_carrying")
def test_a_thread_of_an_event_loop_may_run_one_of_its_own() -> None:
    seen: list[str] = []

    async def name_it() -> None:
        seen.append(current_async_library())

    async def start() -> None:
        thread = threading.Thread(target=anyio.run, args=(name_it,), kwargs={"backend": "trio"})
        thread.start()
        thread.join()

    anyio.run(start, backend="asyncio")
    assert seen == ["trio"]
