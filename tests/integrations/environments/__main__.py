"""Make each environment and run its tests; see the package."""

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
TESTS = HERE.parent
ROOT = HERE.parents[2]
APART = re.compile(
    r"(test_|_)?(claude_agent_sdk|crewai|dspy|google_adk|litellm|llama_index|strands)\w*\.py"
)
"""Files that the type checkers leave out elsewhere."""
FOLDERS = (
    "integrations/budgetware_integrations",
    "tests/integrations",
    "tests/integrations/subjects",
    "examples/integrations",
)


def call(*command: str | Path) -> int:
    print("+", *command, flush=True)
    return subprocess.run([str(part) for part in command], cwd=ROOT, check=False).returncode


def uv() -> list[str]:
    found = shutil.which("uv")
    return [found] if found else [sys.executable, "-m", "uv"]


def made(name: str, folder: Path) -> Path:
    """Make an environment, or bring it up to date; return its Python."""
    python = folder / "bin" / "python"
    if not python.exists() and call(*uv(), "venv", "--quiet", folder):
        sys.exit(f"{name}: no environment")
    requirements = HERE / f"{name}.txt"
    install = ("pip", "install", "--quiet", "--no-config", "--python", python)
    if call(*uv(), *install, "--editable", ROOT, "--requirements", requirements):
        sys.exit(f"{name}: not installed")
    return python


def is_in(name: str, path: Path) -> bool:
    """Whether the frameworks of a file are in this environment."""
    in_adk = "claude_agent_sdk" in path.name or "google_adk" in path.name
    return in_adk == (name == "adk")


def checked(name: str, python: Path) -> int:
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).glob("*.py"))]
    apart = [path for path in paths if APART.fullmatch(path.name) and is_in(name, path)]
    cache = python.parents[1] / "mypy"  # of its own: others may run mypy meanwhile
    options = ("--python-executable", python, "--cache-dir", cache)
    return call(sys.executable, "-m", "mypy", *options, *apart)


def tested(name: str) -> list[str]:
    """What every framework must pass, and the tests of those that are here or differ here."""
    older = "test_google_genai.py" if name == "adk" else "test_openai.py"
    apart = [path for path in sorted(TESTS.glob("test_*.py")) if APART.fullmatch(path.name)]
    own = [path.name for path in apart if is_in(name, path)]
    return [
        f"tests/integrations/{f}" for f in ("test_contract.py", "test_examples.py", older, *own)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.integrations.environments")
    parser.add_argument("--into", type=Path, default=ROOT / ".venv" / "frameworks")
    parser.add_argument("names", nargs="*", default=sorted(p.stem for p in HERE.glob("*.txt")))
    ours, theirs = sys.argv[1:], list[str]()
    if "--" in ours:
        at = ours.index("--")
        ours, theirs = ours[:at], ours[at + 1 :]
    given = parser.parse_args(ours)
    failed = 0
    for name in given.names:
        print(f"== {name}", flush=True)
        python = made(name, given.into / name)
        failed |= checked(name, python)
        failed |= call(python, "-m", "pytest", "-q", *tested(name), *theirs)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
