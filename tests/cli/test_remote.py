"""Every command against a real server, which shows what is in the memory of its process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from budgetware import Capacity, QuotaService, Rate, Reject, Throttle, connect, task_budget
from tests.cli.command_line import PRICES, define, document_of, run, use, words
from tests.cli.served import ALICE, READER, WRITER, serving


@pytest.fixture
def service() -> Iterator[QuotaService]:
    with connect(prices=PRICES) as service:
        define(service)
        use("alice", 1_500, refused=2)
        yield service


@pytest.fixture
def url(service: QuotaService) -> Iterator[str]:
    with serving(service) as url:
        yield url


def ask(url: str, *arguments: object, key: str = WRITER) -> Result:
    return run(*arguments, "--url", url, BUDGETWARE_KEY=key)


def test_quotas_are_shown(url: str) -> None:
    assert "tokens 1.0M in all 1.5k 0 998.5k" in words(ask(url, "quota", "show", "alice"))


def test_a_paused_resource_says_for_how_long(url: str, service: QuotaService) -> None:
    assert "paused" not in words(ask(url, "resource", "show", "model"))
    service.pause("model", "1h")
    assert "paused for 1h00m" in words(ask(url, "resource", "show", "model"))


def test_quotas_are_set_and_the_others_stay(url: str, service: QuotaService) -> None:
    result = ask(
        url, "quota", "set", "alice", "usd=2.50/day", "calls", "9/hour", "max", "10",
        "cpu=50%", "--enforcement", "throttle",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    view = service.principal("alice")
    assert view is not None
    assert view.parent == "team"
    assert view.quotas == {
        "tokens": Capacity(1_000_000),
        "memory": Capacity(256 * 2**20),
        "usd": Rate(Decimal("2.50"), "day"),
        "calls": Rate(9, "hour", 10),
        "cpu_micros": Rate(500_000, "second"),
    }
    assert view.definition.quotas["calls"].policy == Throttle()


def test_quotas_are_removed_and_exemptions_set(url: str, service: QuotaService) -> None:
    result = ask(url, "quota", "set", "alice", "--remove", "memory", "--exempt")
    assert result.exit_code == 0, result.stderr
    view = service.principal("alice")
    assert view is not None
    assert (sorted(view.quotas), view.exempt) == (["tokens"], True)


def test_a_new_principal_is_made(url: str, service: QuotaService) -> None:
    assert ask(url, "quota", "set", "bob", "tokens=5", "--parent", "team").exit_code == 0
    view = service.principal("bob")
    assert view is not None
    assert view.parent == "team"


def test_resources_are_listed_shown_defined_changed_and_deleted(
    url: str, service: QuotaService
) -> None:
    assert "browsers 4 at once" in words(ask(url, "resource", "list"))
    made = ask(
        url, "resource", "define", "pages", "--limit", "90/30s", "--max", "100", "--dim", "usd",
        "--max-wait", "30s", "--enforcement", "reject", "--unit", "page", "--units", "pages",
    )  # fmt: skip
    assert made.exit_code == 0, made.stderr
    definition = service.resource("pages").definition
    assert definition.limit == Rate(Decimal(90), 30.0, Decimal(100))
    assert (definition.dim, definition.policy, definition.units) == ("usd", Reject(), "pages")
    changed = ask(
        url, "resource", "update", "pages", "--limit", "$2.50/day", "--no-max-wait",
        "--expected-revision", 1,
    )  # fmt: skip
    assert changed.exit_code == 0, changed.stderr
    assert service.resource("pages").limit == Rate(Decimal("2.50"), "day")
    assert service.resource("pages").definition.max_wait is None
    shown = document_of(ask(url, "resource", "show", "pages", "--json"))
    assert (shown["revision"], shown["limit"]["value"]) == (2, "2.500000")
    assert ask(url, "resource", "delete", "pages", "--yes").exit_code == 0
    assert "pages" not in ask(url, "resource", "list").stdout


def test_wrong_revision_is_refused(url: str) -> None:
    for command in (("update", "browsers", "--limit", "5 slots"), ("delete", "browsers", "--yes")):
        result = ask(url, "resource", *command, "--expected-revision", 7)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "revision" in result.stderr


@pytest.mark.parametrize(
    "command", [("resource", "show", "nothing"), ("quota", "show", "nobody")], ids=" ".join
)
def test_unknown_names_are_refused(url: str, command: tuple[str, ...]) -> None:
    result = ask(url, *command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "unknown" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_what_is_there_already_is_refused(url: str) -> None:
    result = ask(url, "resource", "define", "browsers", "--limit", "5")
    assert result.exit_code == 1
    assert "already" in result.stderr


def test_usage_is_that_of_the_server(url: str) -> None:
    document = document_of(ask(url, "usage", "--json"))
    assert document["usage"]["charged"]["tokens"] == 1_500
    assert "alice 2 2 $0.0015 1.5k" in words(ask(url, "usage", "--by", "principal"))
    assert "gpt" in words(ask(url, "usage", "--by", "model", "--by", "day"))
    hours = document_of(ask(url, "usage", "--by", "hour", "--since", "3h", "--json"))
    assert len(hours["hourly"]) in (3, 4)


def test_a_key_of_a_principal_sees_it_alone(url: str) -> None:
    document = document_of(ask(url, "usage", "--json", key=ALICE))
    assert document["api_key_name"] == "alice"
    assert ask(url, "quota", "show", "ops", key=ALICE).exit_code == 1


def test_top_shows_tasks_of_that_process(url: str) -> None:
    with task_budget("crawl", tokens=100, principal="alice"), task_budget("page", calls=5):
        result = ask(url, "top", "--once")
        document = document_of(ask(url, "top", "--once", "--json"))
    assert result.exit_code == 0
    assert "  page" in result.stdout
    assert "crawl" in result.stdout
    assert "refused: alice 2" in result.stdout
    assert [task["name"] for task in document["tasks"]] == ["crawl", "page"]


@pytest.mark.parametrize("key", ["", "x" * 40])
@pytest.mark.parametrize(
    "command", [("usage",), ("quota", "show", "alice"), ("top", "--once")], ids=" ".join
)
def test_without_a_key_it_says_where_to_give_one(
    url: str, command: tuple[str, ...], key: str
) -> None:
    result = ask(url, *command, key=key)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "BUDGETWARE_KEY" in result.stderr
    assert key == "" or key not in result.stderr


def test_a_key_that_may_only_read_changes_nothing(url: str, service: QuotaService) -> None:
    for command in (
        ("quota", "set", "alice", "tokens=5"),
        ("resource", "delete", "browsers", "--yes"),
    ):
        result = ask(url, *command, key=READER)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "refuses that to this key" in result.stderr
        assert READER not in result.stderr
    assert service.resource("browsers").revision == 1


def test_key_comes_from_a_file(url: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{READER}\n")
    arguments = ("usage", "--url", url, "--key-file", str(tmp_path / "key"))
    assert run(*arguments).exit_code == 0


def test_server_without_keys_needs_none(service: QuotaService) -> None:
    with serving(service, has_keys=False) as url:
        assert run("resource", "list", "--url", url).exit_code == 0


def test_window_that_ends_before_it_begins_is_misuse(url: str) -> None:
    assert ask(url, "usage", "--since", "1990-01-01", "--by", "hour").exit_code == 2


class Stranger(BaseHTTPRequestHandler):
    """A server that is not budgetware's."""

    status = 200
    body = b"<html>hello</html>"

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Location", "http://elsewhere.invalid/")
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *_args: Any) -> None:
        """Say nothing."""


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b"<html>", "check --url"),
        (200, b"[]", "check --url"),
        (200, b'{"since": 5}', "check --url"),
        (301, b"", "is elsewhere now"),
        (404, b"", "answered 404, and not as budgetware does"),
        (404, b'{"error": "no"}', "not as budgetware does"),
        (500, b"\xff", "answered 500"),
        (503, b'{"error": {"type": "LedgerUnavailable", "message": "away\x1b"}}', "answered 503"),
        (
            503,
            b'{"error": {"type": "LedgerUnavailable", "message": "away\\u001b[0m"}}',
            "away\\x1b",
        ),
    ],
)
@pytest.mark.parametrize(
    "command", [("usage",), ("resource", "list"), ("top", "--once")], ids=" ".join
)
def test_a_strange_server_is_told_in_one_line(
    status: int, body: bytes, said: str, command: tuple[str, ...]
) -> None:
    handler = type("Handler", (Stranger,), {"status": status, "body": body})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            result = run(*command, "--url", f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()
    assert (result.exit_code, result.stdout) == (2 if status == 301 else 1, "")
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.rstrip("\n").isprintable()
