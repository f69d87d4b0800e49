"""What adapters require is what their extras install, and each is tested in some environment."""

import ast
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from budgetware_integrations._requirements import MissingFramework, require

ROOT = Path(__file__).parents[2]
MODULES = ROOT / "integrations" / "budgetware_integrations"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]


def requirements() -> list[tuple[str, list[str], str]]:
    """Module, arguments of its `require`, extra."""
    found: list[tuple[str, list[str], str]] = []
    for path in sorted(MODULES.glob("[a-z]*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "require":
                given = [ast.literal_eval(each) for each in node.args]
                extra = {each.arg: ast.literal_eval(each.value) for each in node.keywords}
                found.append((path.stem, given, extra.get("extra", given[0])))
    return found


def numbers(text: str) -> list[str]:
    parts = text.split(".")
    while parts[-1] == "0" and len(parts) > 1:
        parts.pop()
    return parts


@pytest.mark.parametrize(("module", "given", "extra"), requirements(), ids=str)
def test_an_extra_installs_what_a_module_requires(
    module: str, given: list[str], extra: str
) -> None:
    name, lowest, below = given
    spec = next(spec for spec in EXTRAS[extra] if spec.startswith(f"{name}>="))
    low, _, high = spec.removeprefix(f"{name}>=").partition(",<")
    assert numbers(low) == numbers(lowest)
    assert not high or numbers(high) == numbers(below)


@pytest.mark.parametrize(("module", "given", "extra"), requirements(), ids=str)
def test_every_framework_is_in_an_environment(module: str, given: list[str], extra: str) -> None:
    files = (ROOT / "tests/integrations/environments").glob("*.txt")
    groups = PROJECT["dependency-groups"]
    installed = "".join(f.read_text(encoding="utf-8") for f in files) + str(groups)
    assert extra in installed


def test_a_framework_that_is_not_there_says_what_to_install() -> None:
    with pytest.raises(MissingFramework, match=r"pip install 'budgetware\[no-such-thing\]'"):
        require("no-such-thing", "1", "2")
    assert issubclass(MissingFramework, ImportError)


def test_a_framework_that_is_too_old_says_so() -> None:
    with pytest.raises(MissingFramework, match="too old, 9999 or later"):
        require("pytest", "9999", "10000")


def test_a_framework_that_is_newer_than_known_warns() -> None:
    with pytest.warns(UserWarning, match=f"pytest {version('pytest')} is newer than"):
        require("pytest", "0.1", "1")
