"""Every program in `examples/integrations/` prints what its docstring says it prints.

They are run as users run them, with the local provider in place of the real ones. Those whose
framework is not installed in this environment are left out.
"""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent

import pytest

from tests.integrations.provider import serve

ROOT = Path(__file__).parents[2]
MODULES = ROOT / "integrations" / "budgetware_integrations"
ADAPTED = re.compile(r"budgetware_integrations(?:\.| import )(\w+)")
REQUIRED = re.compile(r'^require\(\s*"([\w-]+)", "(\d+)', re.MULTILINE)


def needed_by(path: Path) -> set[tuple[str, str]]:
    """The distributions that the adapters of a program require, and their lowest major versions."""
    modules = set(ADAPTED.findall(path.read_text(encoding="utf-8")))
    sources = [(MODULES / f"{module}.py").read_text(encoding="utf-8") for module in modules]
    return {found for source in sources for found in REQUIRED.findall(source)}


def is_here(needed: tuple[str, str]) -> bool:
    distribution, lowest = needed
    try:
        return int(version(distribution).partition(".")[0]) >= int(lowest)
    except PackageNotFoundError:
        return False


ALL = sorted((ROOT / "examples" / "integrations").glob("*.py"))
PROGRAMS = [path for path in ALL if all(map(is_here, needed_by(path)))]


def promised(path: Path) -> str:
    """The indented lines after `It prints:` in its docstring."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")), clean=False) or ""
    after = dedent(docstring).split("It prints:\n\n", 1)[1]
    return dedent(after.split("\n\n", 1)[0]).rstrip() + "\n"


def run(path: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in an empty folder, beside a provider of its own."""
    environment = {name: value for name, value in os.environ.items() if name[:4] != "OTEL"}
    environment.pop("BUDGETWARE_MANIFEST", None)
    with serve() as provider, TemporaryDirectory() as folder:
        environment |= {
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "integrations")]),
            "OPENAI_BASE_URL": f"{provider.url}/v1",
            "OPENAI_API_BASE": f"{provider.url}/v1",
            "ANTHROPIC_BASE_URL": provider.url,
            "GOOGLE_GEMINI_BASE_URL": provider.url,
            "OPENAI_API_KEY": "k",
            "ANTHROPIC_API_KEY": "k",
            "GEMINI_API_KEY": "k",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "CREWAI_DISABLE_TELEMETRY": "true",
            "OPENAI_AGENTS_DISABLE_TRACING": "1",
        }
        command = [sys.executable, str(path)]
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )


@pytest.fixture(scope="module")
def runs() -> Iterator[dict[Path, Future[subprocess.CompletedProcess[str]]]]:
    """All of them at once, as many as there are processors: most of it is importing."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {path: pool.submit(run, path) for path in PROGRAMS}


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
@pytest.mark.timeout(180)
def test_program_prints_what_it_says(
    path: Path, runs: dict[Path, Future[subprocess.CompletedProcess[str]]]
) -> None:
    done = runs[path].result()
    assert done.returncode == 0, done.stderr
    assert done.stdout == promised(path), done.stderr


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_program_is_short(path: Path) -> None:
    assert 15 <= len(path.read_text(encoding="utf-8").splitlines()) <= 60
