"""Reading a manifest: from a file or a text to checked definitions, or to all that is wrong.

Nothing is declared before everything has been found right. Not here: what single tables may hold.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from ..errors import ManifestError
from ..kernel.dims import declare, show
from ..quotas import ON_LEDGER_ERROR
from .definition import Manifest, Template
from .lines import MAX_DEPTH, MAX_NUMBER, Path, find_lines
from .parents import check_parents, parents_first, texts_of
from .principals import PrincipalDraft, read_principal
from .problems import Problem, Problems, manifest_error, shown_file
from .resources import EXAMPLE, Draft, read_resource
from .section import Section
from .settings import check_keys, directory, ledger, read_dimensions, read_prices
from .templates import read_template
from .values import Real, duration, flag, one_of

MAX_BYTES: Final = 2**20
_PLACE: Final = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_TOO_LARGE: Final = Problem(None, "", f"is too large; a manifest has at most {MAX_BYTES} bytes")
_Result = tuple[Manifest | None, tuple[Problem, ...]]


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Read a manifest from a file.

    Raises:
        ManifestError: the file cannot be read, or something in it is wrong: its message lists
            everything, as does its attribute `problems`.
    """
    return _or_raise(check_manifest(path), os.fspath(path))


def parse_manifest(text: str, file: str | None = None) -> Manifest:
    """Read a manifest from a text; `file` is the name that errors give it.

    Raises:
        ManifestError: as `read_manifest`.
    """
    return _or_raise(check_text(text, file), file)


def check_manifest(path: str | os.PathLike[str]) -> _Result:
    """Return the manifest in a file, or None and everything that is wrong with it.

    Raises:
        ManifestError: the file cannot be read.
    """
    file = os.fspath(path)
    content = _content(file)
    if len(content) > MAX_BYTES:
        return None, (_TOO_LARGE,)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return None, (Problem(line, "", "is not UTF-8; save the file in that encoding"),)
    return check_text(text, file)


def check_text(text: str, file: str | None = None) -> _Result:
    """Return the manifest in a text, or None and everything that is wrong with it."""
    if len(text) > MAX_BYTES:
        return None, (_TOO_LARGE,)
    lines = find_lines(text.replace("\r\n", "\n"))
    problems = Problems(lines)
    if lines.too_deep is not None:
        message = f"is nested in more than {MAX_DEPTH} levels; a manifest needs 6"
        problems.put(Problem(lines.too_deep, "", message))
    elif lines.too_long is not None:
        message = f"a value has more than {MAX_NUMBER} digits; give a shorter one"
        problems.put(Problem(lines.too_long, "", message))
    if problems.count:
        return None, problems.listed()
    try:
        data: dict[str, Any] = tomllib.loads(text, parse_float=Real)
    except ValueError as error:
        return None, (_syntax_problem(str(error), text),)
    manifest = _Reading(Section(data, (), problems)).manifest(file)
    return manifest, problems.listed()


def _or_raise(result: _Result, file: str | None) -> Manifest:
    manifest, problems = result
    if manifest is None:
        raise manifest_error(problems, file)
    return manifest


def _content(file: str) -> bytes:
    """Read no more than it takes to see that a file is too large."""
    try:
        with open(file, "rb") as opened:  # noqa: PTH123 - a path with a null byte, too
            return opened.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or "that is no path"
        message = f"{shown_file(file)}: cannot be read: {why}; give the path of a manifest"
        raise ManifestError(message, file=file) from error


def _syntax_problem(message: str, text: str) -> Problem:
    place = _PLACE.search(message)
    if place is None:
        return Problem(None, "", f"is not TOML: {message[:200]}")
    line = int(place[1]) if place[1] else text.count("\n") + 1
    where = f"column {place[2]}" if place[2] else "the end of the file"
    return Problem(line, "", f"is not TOML: {message[: place.start()][:200]} at {where}")


class _Reading:
    """One manifest while it is read."""

    def __init__(self, root: Section) -> None:
        self.root = root
        self.dimensions = read_dimensions(root)
        self.resources: dict[str, Draft] = {}
        self.templates: dict[str, Template] = {}
        self.principals: dict[str, PrincipalDraft] = {}

    def manifest(self, file: str | None) -> Manifest | None:
        """Read it all; declare and build only what is right as a whole."""
        root = self.root
        check_keys(root)
        settings: dict[str, Any] = {
            "ledger": root.get("ledger", ledger),
            "strict": root.get("strict", flag),
            "prices": read_prices(root),
            "lease_seconds": root.get("lease_seconds", duration),
            "durability": root.get("durability", one_of("normal", "full", "none")),
            "record_usage": root.get("record_usage", flag),
            "usage_retention": root.get("usage_retention", duration),
            "on_ledger_error": root.get("on_ledger_error", one_of(*ON_LEDGER_ERROR)),
            "outbox": root.get("outbox", directory),
        }
        self._read_resources()
        own_dims = frozenset(self.dimensions)
        for section in root.tables("budgets", "[budgets.NAME] with tokens = 50_000"):
            self.templates[section.name] = read_template(section, own_dims)
        self._read_principals()
        if root.problems.count:
            return None
        for path, dim in self._dims():
            root.check(partial(declare, dim), *path)
        if root.problems.count:
            return None
        given = {key: value for key, value in settings.items() if value is not None}
        return self._build(file, given)

    def _read_resources(self) -> None:
        root = self.root
        for section in root.tables("resources", f"[resources.NAME] with limit = {EXAMPLE}"):
            found = read_resource(section)
            if found is not None:
                self.resources[section.name] = found
        parents = check_parents(root, "resources")
        dims = texts_of(root, "resources", "dim")
        for name, parent in parents.items():
            dim, above = dims.get(name), dims.get(parent)
            if dim is not None and above is not None and dim != above:
                message = (
                    f"{parent!r} counts {show(above)}, not {show(dim)}; give a resource a parent "
                    "that counts the same"
                )
                root.wrong(message, "resources", name, "parent")

    def _read_principals(self) -> None:
        root = self.root
        for section in root.tables("principals", "[principals.NAME]"):
            self.principals[section.name] = read_principal(section)
        check_parents(root, "principals")

    def _dims(self) -> Iterator[tuple[Path, str]]:
        """Everything that is limited somewhere, and where."""
        for index, dim in enumerate(self.dimensions):
            yield ("dimensions", index), dim
        for name, found in self.resources.items():
            if found.dim is not None:
                yield ("resources", name, "dim"), found.dim
        for name, template in self.templates.items():
            for dim in template.limits:
                if dim != "seconds":
                    yield ("budgets", name, dim), dim
        for name, principal in self.principals.items():
            for dim in principal.quotas:
                yield ("principals", name, "quotas", dim), dim

    def _build(self, file: str | None, settings: Mapping[str, Any]) -> Manifest:
        above = {name: found.resource.parent for name, found in self.resources.items()}
        resources = [self.resources[name].finished() for name in parents_first(above)]
        over = {name: found.parent for name, found in self.principals.items()}
        principals = [self.principals[name].finished() for name in parents_first(over)]
        return Manifest(
            file=file,
            dimensions=self.dimensions,
            resources=tuple(resources),
            budgets=MappingProxyType(self.templates),
            principals=tuple(principals),
            **settings,
        )
