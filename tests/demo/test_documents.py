"""Which files are read, and how much of each."""

import os
import sys
from pathlib import Path

import pytest

from budgetware.demo.documents import Document, find_documents, find_readme


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "b.txt").write_text("second")
    (tmp_path / "a.md").write_text("first")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.py").write_text("third")
    return tmp_path


def names(folder: Path) -> list[str]:
    return [document.name for document in find_documents(folder)]


def test_text_files_are_found_in_order_with_those_of_subfolders(folder: Path) -> None:
    assert names(folder) == ["a.md", "b.txt", "sub/c.py"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("picture.png", b"\x89PNG\r\n\x1a\n\x00\x00"),
        ("nul.txt", b"text with a \0 in it"),
        ("latin.txt", "Grüße".encode("latin-1")),
        ("empty.txt", b""),
        ("blank.txt", b" \n "),
        (".hidden.txt", b"hidden"),
    ],
)
def test_what_is_no_text_is_left_out(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    assert names(folder) == ["a.md", "b.txt", "sub/c.py"]


@pytest.mark.parametrize("name", [".git", "__pycache__", "node_modules"])
def test_folders_of_tools_are_left_out(folder: Path, name: str) -> None:
    (folder / name).mkdir()
    (folder / name / "x.txt").write_text("not ours")
    assert names(folder) == ["a.md", "b.txt", "sub/c.py"]


def test_links_are_not_followed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "secret.txt"
    outside.write_text("outside of the folder")
    (folder / "link.txt").symlink_to(outside)
    assert "link.txt" not in names(folder)


def test_text_cut_inside_a_character_is_still_text(folder: Path) -> None:
    (folder / "umlauts.txt").write_text("x" + "ü" * 1_000, encoding="utf-8")
    assert "umlauts.txt" in names(folder)


def test_pipes_are_left_out(folder: Path) -> None:
    os.mkfifo(folder / "pipe.txt")
    assert "pipe.txt" not in names(folder)


def test_excerpt_is_the_beginning(folder: Path) -> None:
    assert Document("a.md", folder / "a.md").excerpt(3) == "fir"


def test_installed_readme_is_read_below_its_headers(tmp_path: Path) -> None:
    path = tmp_path / "METADATA"
    path.write_text("Name: budgetware\nVersion: 1\n\n# budgetware\n")
    assert Document("README.md", path).excerpt(100) == "# budgetware\n"


def test_installed_package_finds_its_readme_in_its_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    package, info = tmp_path / "budgetware", tmp_path / "budgetware-9.dist-info"
    package.mkdir()
    info.mkdir()
    (info / "METADATA").write_text("Name: budgetware\nVersion: 9\n\n# budgetware\n")
    (info / "RECORD").write_text("budgetware-9.dist-info/METADATA,,\n")
    assert find_readme(package) == info / "METADATA"


def test_package_that_is_not_installed_has_no_readme(tmp_path: Path) -> None:
    assert find_readme(tmp_path / "no-such-distribution") is None


def test_name_that_could_steer_a_terminal_is_not_shown(folder: Path) -> None:
    (folder / "z\x1b[2J.txt").write_text("hm")
    assert "z?[2J.txt" in names(folder)


def test_without_a_folder_the_package_reads_itself() -> None:
    found = [document.name for document in find_documents(None)]
    assert "demo/documents.py" in found


@pytest.mark.parametrize(
    ("name", "expected"),
    [("sub/c.py", "sub:c.py"), ("ein Brief (2).txt", "ein:Brief::2:.txt"), ("ü.txt", ":.txt")],
)
def test_budget_name_keeps_to_the_grammar(name: str, expected: str) -> None:
    assert Document(name, Path(name)).budget_name == expected


def test_long_budget_name_is_cut() -> None:
    assert len(Document("d/" * 200 + "x.txt", Path()).budget_name) == 128
