"""The stream of events over a real socket: order, resuming, slow clients, the end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from budgetware import QuotaService, principal, reserve_nowait
from budgetware.admin import event_stream, stream
from budgetware.admin.sight import Sight
from budgetware.admin.stream import Broadcast, Client, Gap
from budgetware.admin.worker import Worker
from tests.admin.desk import Events, bearer, listening, raw, served, until


def call(name: str | None = None, count: int = 1) -> None:
    for _ in range(count):
        if name is None:
            reserve_nowait(tokens=1).commit()
            continue
        with principal(name):
            reserve_nowait(tokens=1).commit()


@pytest.fixture
def url(open_app: Any) -> Iterator[str]:
    with served(open_app) as address:
        yield address


@pytest.fixture
def locked_url(app: Any) -> Iterator[str]:
    with served(app) as address:
        yield address


def broadcast_of(app: Any) -> Broadcast:
    """That of its only event loop."""
    (found,) = app.state.face.broadcasts
    assert isinstance(found, Broadcast)
    return found


def numbers(events: list[dict[str, str]]) -> list[int]:
    return [int(event["id"]) for event in events]


def test_events_come_as_they_happen(url: str, service: QuotaService) -> None:
    with listening(url) as events:
        began = time.monotonic()
        call("alice", 3)
        found = events.of("usage", 3)
        took = time.monotonic() - began
    assert numbers(found) == [number for number, _ in service.recorded()]
    assert {json.loads(event["data"])["principal"] for event in found} == {"alice"}
    assert took < 5  # a third of a second where nothing else runs


def test_a_client_without_a_past_begins_now(url: str) -> None:
    call(count=5)
    with listening(url) as events:
        call("alice")
        assert json.loads(events.of("usage", 1)[0]["data"])["principal"] == "alice"


def test_one_that_comes_again_misses_nothing(url: str, service: QuotaService) -> None:
    with listening(url) as events:
        call(count=3)
        last = numbers(events.of("usage", 3))[-1]
    call(count=1_700)
    with listening(url, after=last) as events:
        call(count=10)
        found = numbers(events.of("usage", 1_710))
    assert found == list(range(last + 1, last + 1_711))


def test_the_past_can_be_asked_for_by_a_parameter(url: str, service: QuotaService) -> None:
    call(count=5)
    with listening(url, params={"after": 0}) as events:
        assert numbers(events.of("usage", 5)) == [number for number, _ in service.recorded()]


def test_what_is_no_longer_kept_is_told(url: str, service: QuotaService) -> None:
    call(count=25_000)
    oldest = service.recorded(limit=1)[0][0]
    with listening(url, after=10) as events:
        gap = events.next()
        first = events.of("usage", 1)
    assert (gap["event"], json.loads(gap["data"])) == ("dropped", {"count": oldest - 11})
    assert numbers(first) == [oldest]


def test_a_number_that_is_yet_to_come_is_the_present(url: str) -> None:
    with listening(url, after=1_000_000) as events:
        call()
        assert len(events.of("usage", 1)) == 1


def test_clients_see_the_same(url: str) -> None:
    with ExitStack() as stack:
        readers = [stack.enter_context(listening(url)) for _ in range(20)]
        call(count=50)
        found = [numbers(reader.of("usage", 50)) for reader in readers]
    assert found == [found[0]] * 20


def test_the_pump_goes_on_when_the_client_that_runs_it_leaves(url: str) -> None:
    with ExitStack() as outer:
        with ExitStack() as inner:
            inner.enter_context(listening(url))
            inner.enter_context(listening(url))
            last = outer.enter_context(listening(url))
        call(count=5)
        assert len(last.of("usage", 5)) == 5


def test_without_clients_nothing_runs(open_app: Any) -> None:
    with served(open_app) as url:
        with listening(url) as events:
            call()
            events.of("usage", 1)
            assert broadcast_of(open_app).is_pumping
        until(lambda: not broadcast_of(open_app).is_pumping)


def test_a_principals_key_sees_its_own_tree(locked_url: str) -> None:
    with listening(locked_url, key="team-eyes") as events:
        call("bob", 3)
        call(None, 3)
        call("alice")
        call("team")
        found = events.of("usage", 2)
    assert [json.loads(event["data"])["principal"] for event in found] == ["alice", "team"]


def test_a_principal_can_be_asked_for(locked_url: str) -> None:
    with listening(locked_url, key="eyes", params={"principal": "bob"}) as events:
        call("alice")
        call("bob")
        found = events.of("usage", 1)
    assert json.loads(found[0]["data"])["principal"] == "bob"


@pytest.mark.parametrize("given", ["x", "-1", "1.5", "9" * 17, "1, 2"])
def test_an_id_that_is_none_is_refused(url: str, given: str) -> None:
    answer = httpx.get(f"{url}/events", headers={"Last-Event-ID": given})
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "Last-Event-ID")


def test_without_a_key_there_is_no_stream(locked_url: str) -> None:
    assert httpx.get(f"{locked_url}/events").status_code == 401


def test_head_tells_of_a_stream_without_one(url: str) -> None:
    answer = httpx.head(f"{url}/events")
    assert answer.headers["Content-Type"].startswith("text/event-stream")


def test_more_clients_than_there_may_be_are_503(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MOST_CLIENTS", 2)
    with listening(url), listening(url):
        answer = httpx.get(f"{url}/events")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")

    def is_free() -> bool:
        with httpx.stream("GET", f"{url}/events") as again:
            return again.status_code == 200

    until(is_free)


def test_one_key_takes_no_more_than_its_part(
    locked_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "MOST_OF_A_KEY", 2)

    def asked(key: str) -> tuple[int, str | None]:
        with httpx.stream("GET", f"{locked_url}/events", headers=bearer(key)) as answer:
            return answer.status_code, answer.headers.get("Retry-After")

    with listening(locked_url, key="eyes"), listening(locked_url, key="eyes"):
        refused = httpx.get(f"{locked_url}/events", headers=bearer("eyes"))
        assert (refused.status_code, refused.json()["error"]["type"]) == (503, "TooManyClients")
        assert refused.headers["Retry-After"] == "5"
        assert asked("ops") == (200, None)
    until(lambda: asked("eyes")[0] == 200)


def test_a_key_has_a_quarter_of_the_streams() -> None:
    assert (stream.MOST_OF_A_KEY, stream.MOST_CLIENTS) == (16, 64)


def test_without_keys_all_streams_are_this_machines(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "MOST_OF_A_KEY", 1)
    with listening(url), listening(url), listening(url) as events:
        call()
        assert len(events.of("usage", 1)) == 1


def test_streams_end_with_the_service(url: str, service: QuotaService) -> None:
    with listening(url) as first, listening(url) as second:
        service.close()
        for events in (first, second):
            with pytest.raises(EOFError):
                events.next()
    again = httpx.get(f"{url}/events")
    assert (again.status_code, again.json()["error"]["type"]) == (503, "ServiceClosed")


def test_one_that_is_silent_is_told_that_it_is_still_connected(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "BEAT_SECONDS", 0.05)
    with listening(url) as events:
        assert events.next() == {"": "still here"}


def test_a_client_that_reads_nothing_delays_nobody(open_app: Any) -> None:
    request = b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with served(open_app) as url, raw(url, request) as stalled, listening(url) as other:
        broadcast = broadcast_of(open_app)
        until(lambda: len(broadcast.clients) == 2)
        while not any(client.dropped for client in broadcast.clients):
            call(count=500)
            assert len(other.of("usage", 500)) == 500
        lost = sum(client.dropped for client in broadcast.clients)
        call(count=1)
        received = b""
        while b"event: dropped" not in received.rpartition(b"\n\n")[0]:
            received += stalled.recv(1 << 16)
        told = received.partition(b"event: dropped\ndata: ")[2].partition(b"\n")[0]
    assert json.loads(told)["count"] >= lost


def test_one_that_reads_nothing_for_long_is_let_go(
    open_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "STALL_SECONDS", 0.1)
    request = b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with served(open_app) as url, raw(url, request):
        until(lambda: open_app.state.face.broadcasts)
        broadcast = broadcast_of(open_app)
        until(lambda: broadcast.clients)

        def is_gone() -> bool:
            call(count=500)
            return broadcast.joined == 0

        until(is_gone)


def seeing(service: QuotaService, root: str | None = None) -> Sight:
    return Sight(root, service.runtime.principals)


def rows(first: int, last: int) -> list[stream.Row]:
    return [(number, None, b"%d." % number) for number in range(first, last + 1)]


async def test_what_does_not_fit_is_counted_in_its_place(service: QuotaService) -> None:
    client = Client(seeing(service), 0)
    client.put(rows(1, 900), 900)
    client.put(rows(901, 1_100), 1_100)
    client.put(rows(1_101, 1_150), 1_150)
    taken = await client.take(0)
    client.put(rows(1_151, 1_152), 1_152)
    assert taken.startswith(b"1.2.3.")
    assert taken.endswith(b'1000.event: dropped\ndata: {"count":150}\n\n')
    assert await client.take(0) == b"1151.1152."
    assert client.dropped == 150


async def test_a_client_is_given_nothing_twice(service: QuotaService) -> None:
    client = Client(seeing(service), 5)
    client.put(rows(1, 8), 8)
    client.put(rows(7, 9), 9)
    assert await client.take(0) == b"6.7.8.9."


async def test_how_many_of_its_own_were_skipped_is_not_known_of_a_principal(
    service: QuotaService,
) -> None:
    client = Client(seeing(service, "alice"), 0)
    client.skip(2_000)
    client.skip(0)
    assert await client.take(0) == b'event: dropped\ndata: {"count":null}\n\n'


def test_gaps_add_up() -> None:
    gap = Gap(2)
    gap.widen(3)
    assert gap.count == 5
    gap.widen(None)
    assert gap.count is None


async def joined(broadcast: Broadcast, sight: Sight) -> Client:
    """A client without a past, which the pump feeds."""
    client, _lost = broadcast.begin(sight, None)
    assert await broadcast.page(client) == []
    assert client in broadcast.clients
    return client


async def test_the_pump_leaves_out_what_it_cannot_follow(service: QuotaService) -> None:
    broadcast = Broadcast(service, Worker())
    client = await joined(broadcast, seeing(service))
    call(count=5_000)
    await broadcast.feed()
    text = await client.take(0)
    gap, _, rest = text.partition(b"\n\n")
    skipped = json.loads(gap.rpartition(b"data: ")[2])["count"]
    assert skipped + rest.count(b"event: usage") == 5_000
    assert rest.count(b"event: usage") == stream.PAGE


async def test_a_client_is_fed_when_it_has_had_the_past(service: QuotaService) -> None:
    broadcast = Broadcast(service, Worker())
    await joined(broadcast, seeing(service))
    call(count=700)
    await broadcast.feed()
    await broadcast.feed()
    client, _lost = broadcast.begin(seeing(service), 0)
    assert len(await broadcast.page(client)) == 500
    assert client not in broadcast.clients
    assert len(await broadcast.page(client)) == 200
    assert client in broadcast.clients
    call(count=1)
    await broadcast.feed()
    assert (await client.take(0)).count(b"event: usage") == 1


async def test_while_many_come_a_client_does_not_catch_up_for_ever(service: QuotaService) -> None:
    broadcast = Broadcast(service, Worker())
    await joined(broadcast, seeing(service))
    call(count=100)
    client, _lost = broadcast.begin(seeing(service), 0)
    had = rounds = 0
    while client not in broadcast.clients:
        call(count=550)
        await broadcast.feed()
        await broadcast.feed()
        had += len(await broadcast.page(client))
        rounds += 1
        assert rounds < 100
    taken = await client.take(0)
    assert taken.startswith(b"event: dropped")
    assert had + client.dropped == client.number


def test_events_have_no_line_that_ends_them_early(url: str) -> None:
    with listening(url) as events:
        reserve_nowait(tokens=1, kind="llm", model="a</script>").commit()
        data = events.of("usage", 1)[0]["data"]
    assert "<" not in data
    assert json.loads(data)["model"] == "a</script>"


def test_reading_needs_no_more_than_the_key_in_a_header(locked_url: str) -> None:
    with (
        httpx.Client(base_url=locked_url, headers=bearer("eyes")) as client,
        client.stream("GET", "/events") as response,
    ):
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert Events(response).next()["retry"] == "2000"
