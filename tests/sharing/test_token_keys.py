"""Keys that sign tokens: given, or in a file that the environment names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from budgetware import QuotaToken, Resource, connect, reserve_nowait
from budgetware.errors import ConfigurationError
from budgetware.quotas import Capacity
from budgetware.runtime import default_runtime
from budgetware.token_keys import TokenKeys

KEY = bytes(range(32))
OTHER = bytes(range(100, 132))
VARIABLE = "BUDGETWARE_TOKEN_KEYS"
is_posix = pytest.mark.skipif(os.name != "posix", reason="files have no modes here")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the environment says that the keys are."""
    path = tmp_path / "keys"
    monkeypatch.setenv(VARIABLE, str(path))
    return path


def write(path: Path, content: str | bytes, mode: int = 0o600) -> None:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)


def keys_of_connect(**options: Any) -> TokenKeys | None:
    return connect(**options).runtime.token_keys


def complaint(**options: Any) -> str:
    with pytest.raises(ConfigurationError) as error:
        connect(**options)
    context = error.value.__context__
    shown = f"{error.value} {error.value!r} {context!r}"
    assert not any(secret in shown for secret in (KEY.hex(), repr(KEY), "hunter2"))
    return str(error.value)


# Given.


def test_given_keys_are_kept_and_not_shown() -> None:
    keys = keys_of_connect(token_keys={"k2": OTHER, "k1": KEY})
    assert keys is not None
    assert (keys.newest, repr(keys), str(keys)) == ("k2", "<TokenKeys k2 k1>", "<TokenKeys k2 k1>")
    assert not hasattr(keys, "__dict__")


def test_a_service_needs_none() -> None:
    assert keys_of_connect() is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "has 0 keys"),
        ({str(n): bytes([n]) * 32 for n in range(17)}, "has 17 keys: give 1 to 16"),
        ({"k1": KEY.hex()}, r"'k1'] is of type str: give random bytes, not a passphrase"),
        ({"k1": bytearray(KEY)}, r"'k1'] is of type bytearray"),
        ({"k1": None}, r"'k1'] is of type NoneType"),
        ({"k1": b"hunter2"}, r"'k1'] has 7 bytes: a key has at least 32; make a new one: python3"),
        ({"k1": KEY[:31]}, "has 31 bytes"),
        ({"k1": KEY, "k2": b""}, r"'k2'] has 0 bytes"),
        ({"k1": KEY, "k2": KEY}, "'k1' and 'k2' are the same key"),
        ({KEY: "k1"}, "the name of key 1 is not valid"),
        ({"k1": KEY, KEY.hex() * 3: b"k2"}, "the name of key 2 is not valid"),
        ({"": KEY}, "the name of key 1"),
        ({"with space": KEY}, "the name of key 1"),
        ({"k\n": KEY}, "the name of key 1"),
        (KEY, "token_keys is of type bytes: give keys by name"),
        (KEY.hex(), "token_keys is of type str"),
        ([("k1", KEY)], "token_keys is of type list"),
    ],
)
def test_keys_that_are_none_are_refused(given: Any, message: str) -> None:
    assert message in complaint(token_keys=given)


def test_what_was_given_may_change_afterwards() -> None:
    given = {"k1": KEY}
    keys = keys_of_connect(token_keys=given)
    given.clear()
    assert repr(keys) == "<TokenKeys k1>"


# A file.


def test_the_file_is_read(path: Path) -> None:
    write(path, f"# by openssl\n\n  # k3 = old\nk2 = {OTHER.hex()}\n\tk1={KEY.hex().upper()}  \r\n")
    keys = keys_of_connect()
    assert keys is not None
    assert repr(keys) == "<TokenKeys k2 k1>"
    assert keys.mac("k1", b"x") == TokenKeys({"other": KEY}).mac("other", b"x")


def test_given_keys_come_before_the_file(path: Path) -> None:
    assert repr(keys_of_connect(token_keys={"k1": KEY})) == "<TokenKeys k1>"


def test_an_empty_variable_names_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    assert keys_of_connect() is None


def test_the_default_service_reads_it_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, f"k1 = {KEY.hex()}")
    monkeypatch.setattr("budgetware.runtime._in_memory", None)
    reserve_nowait(tokens=1).commit()
    assert repr(default_runtime().token_keys) == "<TokenKeys k1>"
    monkeypatch.setattr("budgetware.runtime._in_memory", None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no key: write a line as in k1 ="),
        ("# nothing\n\n", "has no key"),
        (KEY.hex(), "line 1: write name = key"),
        (f"k1: {KEY.hex()}", "line 1: write name = key"),
        (f"\n#\nk 1 = {KEY.hex()}", "line 3: the name is not valid"),
        (f"= {KEY.hex()}", "line 1: the name is not valid"),
        ("k1 =", "line 1: the key is not in hex"),
        ("k1 = hunter2hunter2hunter2hunter2hunter2hunter2", "line 1: the key is not in hex"),
        (f"k1 = {KEY.hex()}0", "line 1: the key is not in hex"),
        (f'k1 = "{KEY.hex()}"', "line 1: the key is not in hex"),
        (f"k1 = {KEY.hex()} # new", "line 1: the key is not in hex"),
        (f"k1 = {KEY.hex()}\nk2 = {KEY.hex()[:62]}", "line 2: the key has 31 bytes"),
        (f"k1 = {KEY.hex()}\nk1 = {OTHER.hex()}", "line 2: a name is there twice"),
        (f"k1 = {KEY.hex()}\nk2 = {KEY.hex()}", "'k1' and 'k2' are the same key"),
        (b"k1 = \xff" + KEY, "is no text in UTF-8"),
        ("#" * (1 << 16) + "\n", "has more than 65536 bytes"),
    ],
)
def test_a_file_that_is_wrong_is_refused_by_its_line(
    path: Path, content: str | bytes, message: str
) -> None:
    write(path, content)
    said = complaint()
    assert message in said
    assert VARIABLE in said or "token_keys" in said


def test_a_file_that_is_missing_is_refused(path: Path) -> None:
    assert f"{path}: No such file" in complaint()


def test_a_folder_is_no_file(path: Path) -> None:
    path.mkdir()
    assert str(path) in complaint()


@is_posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o610, 0o777])
def test_a_file_that_others_may_use_is_refused(path: Path, mode: int) -> None:
    write(path, f"k1 = {KEY.hex()}", mode)
    assert f"(mode {mode:04o}): chmod 600 it" in complaint()


@is_posix
def test_a_file_that_nobody_may_change_is_fine(path: Path) -> None:
    write(path, f"k1 = {KEY.hex()}", 0o400)
    assert keys_of_connect() is not None


@is_posix
def test_a_pipe_is_no_file_and_holds_up_nobody(path: Path) -> None:
    os.mkfifo(path, 0o600)
    assert "is no file" in complaint()


def test_services_with_the_same_file_understand_each_other(path: Path) -> None:
    write(path, f"k1 = {KEY.hex()}")
    with connect() as one, connect() as another:
        for service in (one, another):
            service.define(Resource("api", Capacity(10)))
        text = QuotaToken("api", 10, service=one).export(expires_in=60)
        assert another.import_token(text).expected_use == 10
