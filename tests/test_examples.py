"""Every numbered program in `examples/` prints what its docstring says it prints."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import anyio
import pytest

ROOT = Path(__file__).parent.parent
PROGRAMS = sorted((ROOT / "examples").glob("[0-9][0-9]_*.py"))
APART = ", the seconds apart"
# It installs OpenTelemetry's providers, which a process can do once.
IN_PROCESS = [path for path in PROGRAMS if path.stem != "07_telemetry"]


def name_of(path: Path) -> str:
    return path.stem


def promised(docstring: str) -> str:
    """The indented lines after `It prints:`."""
    after = re.split(f"It prints({APART})?:\n\n", dedent(docstring), maxsplit=1)[-1]
    block = after.split("\n\n", 1)[0]
    return dedent(block).rstrip() + "\n"


def comparable(output: str, docstring: str) -> str:
    """The output, without the seconds where the docstring promises all but those."""
    return re.sub(r"\d+\.\d+ s\b", "# s", output) if APART in docstring else output


def run(path: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name[:4] != "OTEL"}
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    environment.pop("BUDGETWARE_MANIFEST", None)
    command = [sys.executable, str(path)]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=True
    )


@pytest.mark.parametrize("path", PROGRAMS, ids=name_of)
def test_program_prints_what_it_says_as_a_user_runs_it(path: Path, tmp_path: Path) -> None:
    docstring = runpy.run_path(str(path))["__doc__"]
    said, printed = promised(docstring), run(path, tmp_path).stdout
    assert comparable(printed, docstring) == comparable(said, docstring)


@pytest.mark.parametrize("path", IN_PROCESS, ids=name_of)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_program_prints_the_same_on_each_backend(
    path: Path, backend: str, capsys: pytest.CaptureFixture[str]
) -> None:
    program = runpy.run_path(str(path))
    docstring = program["__doc__"]
    anyio.run(program["main"], backend=backend)
    printed = capsys.readouterr().out
    assert comparable(printed, docstring) == comparable(promised(docstring), docstring)


@pytest.mark.parametrize("path", PROGRAMS, ids=name_of)
def test_program_is_short(path: Path) -> None:
    assert 20 <= len(path.read_text(encoding="utf-8").splitlines()) <= 60


def test_telemetry_program_writes_its_spans_to_standard_error(tmp_path: Path) -> None:
    spans = run(ROOT / "examples/07_telemetry.py", tmp_path).stderr
    assert spans.count('"name": "execute_tool read"') == 3
    assert spans.count('"error.type": "budgetware.rejected"') == 1
    assert spans.count('"name": "budgetware.task"') == 1


def test_crawler_tells_how_long_it_waited(tmp_path: Path) -> None:
    printed = run(ROOT / "examples/08_crawler.py", tmp_path).stdout
    waits = [float(seconds) for seconds in re.findall(r"(\d+\.\d+) s\n", printed)]
    assert (len(waits), min(waits) > 0.5) == (4, True)
