"""Keys and the file they come from; no secret is ever shown."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from budgetware.admin import Key, Keys, read_admin_keys
from budgetware.admin.keys import KEYS_VARIABLE, find_keys
from budgetware.errors import ConfigurationError

SECRET = "s3cret-" * 6
OTHER = "0ther-" * 6
FILE = f"""
[keys.ops]
secret = "{SECRET}"
access = "write"

[keys.alice]
secret = "{OTHER}"
principal = "alice"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return written(tmp_path / "keys.toml", FILE)


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return path


def test_a_file_of_keys_is_read(path: Path) -> None:
    keys = read_admin_keys(path)
    ops, alice = keys.caller(SECRET.encode()), keys.caller(OTHER.encode())
    assert ops is not None
    assert (ops.key, ops.can_write, ops.principal) == ("ops", True, None)
    assert alice is not None
    assert (alice.key, alice.can_write, alice.principal) == ("alice", False, "alice")
    assert keys.caller(b"another") is None


def test_the_environment_names_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEYS_VARIABLE, str(path))
    assert repr(find_keys(None)) == "<Keys ops alice>"


def test_what_is_given_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEYS_VARIABLE, "/nowhere")
    assert repr(find_keys([Key("own", SECRET)])) == "<Keys own>"


@pytest.mark.skipif(os.name != "posix", reason="modes of files are POSIX's")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o777])
def test_a_file_that_others_may_use_is_refused(path: Path, mode: int) -> None:
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        read_admin_keys(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "write tables"),
        ("keys = 5", "write tables"),
        ("[keys]", "0 keys"),
        ("[other]", "write tables"),
        ("[keys.a]", "has no secret"),
        ("[keys]\na = 5", "is no table"),
        (f'[keys.a]\nsecret = "{SECRET}"\nright = "all"', "other fields"),
        (f'[keys.a]\nsecret = "{SECRET}"\naccess = "all"', "access"),
        (f'[keys.a]\nsecret = "{SECRET}"\nprincipal = "a b"', "principal"),
        (f'[keys.a]\nsecret = "{SECRET}"\nprincipal = 5', "principal"),
        (f'[keys."a b"]\nsecret = "{SECRET}"', "name of a key"),
        ("[keys.a]\nsecret = 5", "its secret"),
        (f'[keys.a]\nsecret = "{SECRET[:31]}"', "31 characters"),
        (f'[keys.a]\nsecret = "{SECRET} "', "spaces"),
        (f'[keys.a]\nsecret = "{SECRET}ü"', "ASCII"),
        (f'[keys.a]\nsecret = "{SECRET}"\n[keys.b]\nsecret = "{SECRET}"', "the same"),
        (f'secret = "{SECRET}', "no TOML"),
    ],
)
def test_what_is_wrong_is_told_without_the_secret(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path / "keys.toml", text)
    with pytest.raises(ConfigurationError, match=said) as caught:
        read_admin_keys(path)
    assert "s3cret" not in repr(caught.value)
    assert "s3cret" not in repr(caught.value.__cause__)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        read_admin_keys(tmp_path / "keys.toml")


def test_bytes_that_are_no_text_are_told(tmp_path: Path) -> None:
    path = written(tmp_path / "keys.toml", "")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="no TOML in UTF-8"):
        read_admin_keys(path)


def test_no_secret_is_shown_or_kept(path: Path) -> None:
    keys = read_admin_keys(path)
    assert "s3cret" not in repr(Key("ops", SECRET))
    assert "s3cret" not in repr(keys)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(keys)


def test_keys_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="same name"):
        Keys([Key("a", SECRET), Key("a", OTHER)])


def test_there_is_a_most() -> None:
    with pytest.raises(ConfigurationError, match="1001 keys"):
        Keys(Key(f"k{n}", f"{n:040}") for n in range(1_001))
