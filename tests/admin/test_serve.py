"""`budgetware serve` as a user runs it: what it prints, whom it serves, how it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from budgetware import Capacity, Resource, admin, connect, principal, reserve_nowait
from budgetware.admin.serving import is_local, listen, url_of
from tests.admin.desk import DEADLINE_SECONDS, SECRETS, listening, raw, served

SECRET = SECRETS["ops"]
MANIFEST = """
[resources.pages]
limit = { type = "capacity", value = 10 }
"""


def command(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("BUDGETWARE_")}
    return subprocess.Popen(
        [sys.executable, "-m", "budgetware", "serve", *arguments],
        cwd=folder,
        env={**clean, "PYTHONPATH": str(root), "COLUMNS": "200", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def failed(folder: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    process = command(folder, *arguments, **environment)
    _, said = process.communicate(timeout=DEADLINE_SECONDS)
    return process.returncode, said


class Running:
    """A command that serves."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self.line = process.stdout.readline()
        self.url = self.line.rpartition(" ")[2].strip().removesuffix("/")

    def stop(self, number: signal.Signals) -> tuple[int, float, str]:
        """Its exit code, the seconds it took, and what it said."""
        began = time.monotonic()
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=DEADLINE_SECONDS)
        return self.process.returncode, time.monotonic() - began, said


@contextmanager
def running(folder: Path, *arguments: str, **environment: str) -> Generator[Running]:
    process = command(folder, "--port", "0", *arguments, **environment)
    try:
        found = Running(process)
        with httpx.Client(base_url=found.url, transport=httpx.HTTPTransport(retries=3)) as client:
            assert client.get("/healthz", timeout=DEADLINE_SECONDS).status_code == 200
        yield found
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/b.db"


@pytest.fixture
def keys(tmp_path: Path) -> str:
    path = tmp_path / "keys.toml"
    path.write_text(f'[keys.ops]\nsecret = "{SECRET}"\naccess = "write"\n', encoding="utf-8")
    path.chmod(0o600)
    return str(path)


def test_it_serves_a_ledger_and_its_page(tmp_path: Path, ledger: str) -> None:
    with connect(ledger=ledger) as service:
        service.define(Resource("pages", Capacity(10), "reject"))
        reserve_nowait("pages", 3).commit()
    with running(tmp_path, "--ledger", ledger) as found:
        page = httpx.get(f"{found.url}/")
        shown = httpx.get(f"{found.url}/api/sys/resources/pages").json()
    assert found.line.startswith("budgetware: serving http://127.0.0.1:")
    assert page.headers["Content-Type"].startswith("text/html")
    assert shown["balance"]["spent"] == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_streams_open(
    tmp_path: Path, ledger: str, number: signal.Signals
) -> None:
    with running(tmp_path, "--ledger", ledger) as found, ExitStack() as stack:
        readers = [stack.enter_context(listening(found.url)) for _ in range(3)]
        request = b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"
        stalled = stack.enter_context(raw(found.url, request))
        assert stalled.recv(8) == b"HTTP/1.1"
        code, took, said = found.stop(number)
        ends = [pytest.raises(EOFError) for _ in readers]
        for reader, end in zip(readers, ends, strict=True):
            with end:
                while True:
                    reader.next()
    assert (code, said) == (0, "")
    assert took < 5  # two seconds where nothing else runs


def test_a_signal_ends_it_while_a_body_does_not_come(tmp_path: Path, ledger: str) -> None:
    request = (
        b"POST /api/sys/resources HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n"
        b"Content-Type: application/json\r\nExpect: 100-continue\r\n\r\n"
    )
    with running(tmp_path, "--ledger", ledger) as found, raw(found.url, request) as opened:
        assert opened.recv(1 << 16).startswith(b"HTTP/1.1 100 ")  # it waits for the body
        code, took, said = found.stop(signal.SIGTERM)
        assert opened.recv(1 << 16).startswith(b"HTTP/1.1 503 ")
    assert (code, said) == (0, "")
    assert took < 5


def test_what_it_has_leased_goes_back_when_it_ends(tmp_path: Path, ledger: str) -> None:
    with running(tmp_path, "--ledger", ledger) as found:
        body = {"name": "pages", "limit": {"type": "capacity", "value": 10}}
        assert httpx.post(f"{found.url}/api/sys/resources", json=body).status_code == 201
        found.stop(signal.SIGTERM)
    with connect(ledger=ledger) as service:
        assert service.resource("pages").balance.remaining == 10


def test_the_manifest_here_is_found(tmp_path: Path) -> None:
    (tmp_path / "budgetware.toml").write_text(MANIFEST, encoding="utf-8")
    with running(tmp_path) as found:
        assert httpx.get(f"{found.url}/api/sys/resources").json()["resources"][0]["name"] == "pages"


def test_memory_alone_is_told_to_be_empty(tmp_path: Path) -> None:
    with running(tmp_path) as found:
        code, _, said = found.stop(signal.SIGTERM)
    assert code == 0
    assert "memory:// is the memory of this process alone" in said


def test_keys_are_needed_where_they_are_given(tmp_path: Path, ledger: str, keys: str) -> None:
    with running(tmp_path, "--ledger", ledger, BUDGETWARE_ADMIN_KEYS=keys) as found:
        without = httpx.get(f"{found.url}/usage")
        headers = {"Authorization": f"Bearer {SECRET}"}
        with_one = httpx.get(f"{found.url}/usage", headers=headers)
        _, _, said = found.stop(signal.SIGTERM)
    assert (without.status_code, with_one.status_code) == (401, 200)
    assert SECRET not in said


def test_all_addresses_are_served_with_keys(tmp_path: Path, ledger: str, keys: str) -> None:
    with running(tmp_path, "--ledger", ledger, "--host", "0.0.0.0", "--keys", keys) as found:
        port = found.url.rpartition(":")[2]
        other = httpx.get(f"http://127.0.0.2:{port}/healthz")
    assert other.status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_a_public_address_without_keys_is_refused(tmp_path: Path, host: str) -> None:
    code, said = failed(tmp_path, "--host", host)
    assert code == 2
    assert "there are no keys" in said


@pytest.mark.parametrize("host", ["[::1]", "::1", "127.1", "0x7f.1", "2130706433", "localhost"])
def test_this_machine_can_be_named_in_its_other_ways(host: str) -> None:
    assert is_local(host)
    with listen(host, 0) as taken:
        assert url_of(taken).rpartition(":")[0] in ("http://[::1]", "http://127.0.0.1")


@pytest.mark.parametrize("host", ["0", "128.1", "[::]", "[::1", "127.1 x", "127.1.example.org", ""])
def test_others_are_not_taken_for_this_machine(host: str) -> None:
    assert not is_local(host)


def test_an_address_in_brackets_is_served(tmp_path: Path) -> None:
    with running(tmp_path, "--host", "[::1]") as found:
        assert found.url.startswith("http://[::1]:")


def test_any_host_without_keys_is_refused(tmp_path: Path) -> None:
    code, said = failed(tmp_path, "--allow-host", "*")
    assert code == 2
    assert "DNS rebinding" in said


def test_any_host_is_served_with_keys(tmp_path: Path, keys: str) -> None:
    with running(tmp_path, "--allow-host", "*", "--keys", keys) as found:
        answer = httpx.get(f"{found.url}/healthz", headers={"Host": "budget.example.org"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        (["--ledger", "redis://127.0.0.1:1/0"], 1, "the ledger at redis://127.0.0.1:1/0"),
        (["--ledger", "sqlite:////nowhere/at/all/b.db"], 1, "/nowhere/at/all/b.db"),
        (["--ledger", "nothing://"], 1, "no address of a ledger"),
        (["--host", "192.0.2.1", "--keys", "KEYS"], 1, "cannot listen on '192.0.2.1'"),
        (["--manifest", "nowhere.toml"], 2, "nowhere.toml"),
        (["--keys", "nowhere.toml"], 2, "No such file"),
        (["--allow-host", "http://x"], 2, "is no host"),
        (["--port", "70000"], 2, "--port"),
    ],
)
def test_what_cannot_be_served_is_told(
    tmp_path: Path, keys: str, arguments: list[str], code: int, what: str
) -> None:
    given = [keys if argument == "KEYS" else argument for argument in arguments]
    found, said = failed(tmp_path, *given)
    assert found == code
    assert what in said
    assert "Traceback" not in said


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, said = failed(tmp_path, "--port", str(port))
    assert code == 1
    assert f"cannot listen on '127.0.0.1', port {port}" in said


def test_small_answers_are_sent_at_once() -> None:
    with listen("127.0.0.1", 0) as taken:
        assert taken.proto == socket.IPPROTO_TCP  # by it asyncio knows: else each takes 40 ms


def test_events_of_another_process_appear(tmp_path: Path, ledger: str) -> None:
    with (
        running(tmp_path, "--ledger", ledger) as found,
        connect(ledger=ledger) as service,
        listening(found.url) as events,
    ):
        service.define_principal("alice")
        with principal("alice"):
            for _ in range(3):
                reserve_nowait(tokens=7).commit()
        service.flush()
        came = events.of("usage", 3)
        usage = httpx.get(f"{found.url}/usage?principal=alice").json()
    assert len({event["id"] for event in came}) == 3
    assert usage["usage"]["charged"] == {"tokens": 21}


def test_what_is_changed_here_is_in_force_there(tmp_path: Path, ledger: str) -> None:
    quotas = {"quotas": {"tokens": {"type": "capacity", "value": 5}}}
    with (
        connect(ledger=ledger) as service,
        served(admin.app(service)) as url,
        running(tmp_path, "--ledger", ledger) as found,
    ):
        path = "/api/sys/principals/alice/quotas"
        put = httpx.put(f"{found.url}{path}", json=quotas)
        shown: Any = httpx.get(f"{url}{path}").json()
    assert put.status_code == 201
    assert shown["quotas"]["tokens"]["value"] == 5


def test_a_mounted_one_ends_with_its_server(tmp_path: Path) -> None:
    program = tmp_path / "host.py"
    program.write_text(
        """
import uvicorn
from budgetware import admin, connect
from budgetware.admin.serving import listen, url_of
from starlette.applications import Starlette
from starlette.routing import Mount

with connect() as service, listen("127.0.0.1", 0) as taken:
    app = Starlette(routes=[Mount("/budgets", app=admin.app(service))])
    print("serving", url_of(taken), flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[taken])
""",
        encoding="utf-8",
    )
    process = subprocess.Popen(
        [sys.executable, str(program)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        found = Running(process)
        with listening(f"{found.url}/budgets"):
            _code, took, said = found.stop(signal.SIGTERM)
    finally:
        process.kill()
        process.communicate()
    assert took < 5  # it would wait for ever
    assert "Traceback" not in said
