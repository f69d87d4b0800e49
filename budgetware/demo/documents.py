"""The files an agent reads: text files of a folder, or of the installed package itself.

Only finds and reads. Hidden files, links and files that are not UTF-8 text are left out.
"""

import codecs
import importlib.metadata
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

MAX_FILES = 1_000
MAX_READ_BYTES = 64 * 1024
SNIFF_BYTES = 1_024
SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules", "venv", "site-packages"})


@dataclass(frozen=True, slots=True)
class Document:
    """One text file, with the name it is shown by."""

    name: str
    path: Path

    def excerpt(self, chars: int) -> str:
        """Read the first `chars` characters. Blocks on the disk."""
        with self.path.open("rb") as file:
            raw = file.read(MAX_READ_BYTES)
        text = codecs.getincrementaldecoder("utf-8")("replace").decode(raw)
        if self.path.name == "METADATA":  # an installed README stands below a block of headers
            text = text.partition("\n\n")[2]
        return text[:chars]

    @property
    def budget_name(self) -> str:
        """The name as a task budget may bear it."""
        return re.sub(r"[^A-Za-z0-9._:@-]", ":", self.name)[-128:]


def find_documents(folder: Path | None) -> list[Document]:
    """List the text files of `folder`, or of the installed package where it is None, in order."""
    found = _own_documents() if folder is None else _text_files(folder)
    return list(islice(found, MAX_FILES))


def find_readme(package: Path) -> Path | None:
    """Find the README: beside the package in a source tree, else in the installed metadata."""
    beside = package.parent / "README.md"
    if (package.parent / "pyproject.toml").is_file() and beside.is_file():
        return beside
    try:
        files = importlib.metadata.files(package.name) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    metadata = (Path(str(file.locate())) for file in files if file.name == "METADATA")
    return next((path for path in metadata if path.is_file()), None)


def _own_documents() -> Iterator[Document]:
    package = Path(__file__).resolve().parents[1]
    readme = find_readme(package)
    if readme is not None:
        yield Document("README.md", readme)
    yield from _text_files(package, suffix=".py")


def _text_files(folder: Path, *, suffix: str = "") -> Iterator[Document]:
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if _is_wanted(name))
        for name in sorted(files):
            path = Path(root, name)
            if _is_wanted(name) and name.endswith(suffix) and _is_text(path):
                yield Document(_shown(path.relative_to(folder)), path)


def _shown(path: Path) -> str:
    """A file may be named anything: what could steer a terminal is not shown."""
    return "".join(c if c.isprintable() else "?" for c in path.as_posix())


def _is_wanted(name: str) -> bool:
    return not name.startswith(".") and name not in SKIPPED_FOLDERS


def _is_text(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            head = file.read(SNIFF_BYTES)
        codecs.getincrementaldecoder("utf-8")("strict").decode(head)
    except (OSError, UnicodeDecodeError):
        return False
    return b"\0" not in head and bool(head.strip())
