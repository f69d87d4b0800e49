"""What is done with a module once it is imported, by a program that imports it or does not."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from budgetware.errors import ConfigurationError
from budgetware.imports import when_imported


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    package = tmp_path / "late_package"
    package.mkdir()
    (package / "__init__.py").write_text("value = 1\n")
    (package / "part.py").write_text("from late_package import value\nvalue += 1\n")
    finders = list(sys.meta_path)
    yield
    assert sys.meta_path == finders
    for name in [name for name in sys.modules if name.startswith("late_package")]:
        del sys.modules[name]


def test_it_is_called_once_when_the_module_is_there() -> None:
    seen: list[ModuleType] = []
    when_imported("late_package", seen.append)
    assert seen == []
    module = importlib.import_module("late_package")
    importlib.reload(module)
    assert seen == [module]
    assert module.value == 1


def test_one_that_is_there_is_seen_at_once() -> None:
    module = importlib.import_module("late_package")
    seen: list[ModuleType] = []
    when_imported("late_package", seen.append)
    assert seen == [module]


def test_a_part_of_a_package() -> None:
    seen: list[int] = []
    when_imported("late_package.part", lambda module: seen.append(module.value))
    importlib.import_module("late_package")
    assert seen == []
    importlib.import_module("late_package.part")
    assert seen == [2]


def test_the_module_is_as_if_nobody_had_looked() -> None:
    plain = importlib.import_module("late_package.part")
    loader, spec = plain.__loader__, plain.__spec__
    del sys.modules["late_package.part"]
    when_imported("late_package.part", lambda _module: None)
    module = importlib.import_module("late_package.part")
    assert type(module.__loader__) is type(loader)
    assert module.__spec__ is not None
    assert module.__spec__.loader is module.__loader__
    assert module.__spec__ == spec
    assert inspect.getsource(module).startswith("from late_package")


def test_looking_whether_it_is_installed_changes_nothing() -> None:
    seen: list[ModuleType] = []
    when_imported("late_package", seen.append)
    spec = importlib.util.find_spec("late_package")
    assert spec is not None
    assert spec.loader is not None
    assert inspect.isclass(type(spec.loader))
    assert seen == []
    importlib.import_module("late_package")
    assert len(seen) == 1


def test_what_it_raises_ends_the_import() -> None:
    def refuse(_module: ModuleType) -> None:
        raise ConfigurationError("too old")

    when_imported("late_package", refuse)
    with pytest.raises(ConfigurationError, match="too old"):
        importlib.import_module("late_package")
    assert "late_package" not in sys.modules


def test_taken_back_it_is_not_called() -> None:
    seen: list[str] = []
    take_back = when_imported("late_package", lambda _module: seen.append("taken back"))
    when_imported("late_package", lambda _module: seen.append("left"))
    take_back()
    take_back()
    importlib.import_module("late_package")
    assert seen == ["left"]


def test_a_module_that_is_not_there() -> None:
    take_back = when_imported("late_nothing", lambda _module: None)
    with pytest.raises(ModuleNotFoundError, match="late_nothing"):
        importlib.import_module("late_nothing")
    take_back()
