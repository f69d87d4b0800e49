"""Who is let in: keys, hosts, the machine itself; and who may see and change what."""

from __future__ import annotations

from typing import Any

import pytest

from budgetware import QuotaService, Rate, admin
from budgetware.errors import ConfigurationError
from tests.admin.desk import KEYS, SECRETS, asking, bearer

RESOURCE = {"name": "new", "limit": {"type": "capacity", "value": 5}}


async def test_a_missing_key_is_told_what_is_needed(app: Any) -> None:
    async with asking(app, None) as client:
        answer = await client.get("/api/sys/resources")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "given",
    [
        "Bearer wrong",
        f"Basic {SECRETS['ops']}",
        f"bearer{SECRETS['ops']}",
        f"Bearer {SECRETS['ops']}x",
        f"Bearer {SECRETS['ops'][:-1]}",
        "Bearer",
        "",
    ],
)
async def test_a_wrong_key_is_refused_and_not_repeated(app: Any, given: str) -> None:
    async with asking(app, None) as client:
        answer = await client.get("/usage", headers={"Authorization": given})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert SECRETS["ops"][:10] not in answer.text


async def test_two_keys_at_once_are_none(app: Any) -> None:
    headers = [("Authorization", f"Bearer {SECRETS[name]}") for name in ("ops", "eyes")]
    async with asking(app, None) as client:
        assert (await client.get("/usage", headers=headers)).status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/sys/resources", RESOURCE),
        ("PUT", "/api/sys/resources/pages", {"unit": "leaf"}),
        ("DELETE", "/api/sys/resources/pages", None),
        ("PUT", "/api/sys/principals/bob/quotas", {"quotas": {}}),
        ("POST", "/api/sys/tasks/x/terminate", {"reason": "so"}),
        ("POST", "/api/sys/tasks/x/top_up", {"amounts": {"tokens": 1}, "request_id": "1"}),
    ],
)
async def test_a_key_to_read_changes_nothing(
    app: Any, service: QuotaService, method: str, path: str, body: Any
) -> None:
    async with asking(app, "eyes") as client:
        answer = await client.request(method, path, json=body)
    assert answer.status_code == 403
    assert [view.name for view in service.resources()] == ["pages", "tokens"]
    assert service.resource("pages").revision == 1


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/usage", 200),
        ("/usage?principal=alice", 200),
        ("/usage?principal=bob", 403),
        ("/usage?principal=nobody", 403),
        ("/api/sys/principals/team", 200),
        ("/api/sys/principals/alice/usage", 200),
        ("/api/sys/principals/bob/usage", 403),
        ("/api/sys/principals/bob/quotas", 403),
        ("/api/sys/principals/nobody", 403),
        ("/api/sys/events?principal=alice", 200),
        ("/api/sys/events?principal=bob", 403),
        ("/events?principal=bob", 403),
        ("/api/sys/resources", 403),
        ("/api/sys/resources/pages", 403),
    ],
)
async def test_a_key_of_a_principal_sees_its_own_tree(app: Any, path: str, status: int) -> None:
    async with asking(app, "team-eyes") as client:
        assert (await client.get(path)).status_code == status


async def test_lists_show_the_tree_of_the_key(app: Any) -> None:
    async with asking(app, "team-eyes") as client:
        found = (await client.get("/api/sys/principals")).json()["principals"]
        overview = (await client.get("/api/sys/overview")).json()
    assert [each["name"] for each in found] == ["alice", "team"]
    assert [each["name"] for each in overview["principals"]] == ["alice", "team"]
    assert overview["resources"] == []


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("alice", {"quotas": {"tokens": {"type": "rate", "value": 5, "period": "day"}}}, 200),
        ("carol", {"quotas": {}, "parent": "alice"}, 403),
        ("carol", {"quotas": {}, "parent": "team"}, 403),
        ("team", {"quotas": {}}, 403),
        ("team", {"exempt": False}, 403),
        ("carol", {"quotas": {}}, 403),
        ("carol", {"quotas": {}, "parent": "bob"}, 403),
        ("bob", {"quotas": {}}, 403),
        ("alice", {"exempt": True}, 403),
        ("alice", {"exempt": False}, 200),
    ],
)
async def test_a_key_of_a_principal_writes_in_its_own_tree(
    app: Any, name: str, body: Any, status: int
) -> None:
    async with asking(app, "team-ops") as client:
        answer = await client.put(f"/api/sys/principals/{name}/quotas", json=body)
    assert answer.status_code == status


async def test_a_principal_does_not_lift_its_own_quotas(app: Any, service: QuotaService) -> None:
    quotas = {"tokens": Rate(1_000, "day")}
    service.define_principal("team", quotas=quotas)
    async with asking(app, "team-ops") as client:
        answer = await client.put("/api/sys/principals/team/quotas", json={"quotas": {}})
    view = service.principal("team")
    assert answer.status_code == 403
    assert view is not None
    assert view.quotas == quotas


async def test_a_key_of_a_principal_adds_none(app: Any, service: QuotaService) -> None:
    async with asking(app, "team-ops") as client:
        for number in range(3):
            body: Any = {"quotas": {}, "parent": "team"}
            answer = await client.put(f"/api/sys/principals/new{number}/quotas", json=body)
            assert answer.status_code == 403
    assert [view.name for view in service.principals()] == ["alice", "bob", "team"]


async def test_a_key_is_not_told_which_others_there_are(app: Any) -> None:
    async with asking(app, "team-ops") as client:
        said = {
            (await client.put(f"/api/sys/principals/{name}/quotas", json={"quotas": {}})).text
            for name in ("bob", "nobody")
        }
    assert len(said) == 1


async def test_the_overview_says_what_the_key_may_do(app: Any) -> None:
    for key, access in (("ops", "write"), ("eyes", "read")):
        async with asking(app, key) as client:
            answer = await client.get("/api/sys/overview")
            assert answer.headers["Budgetware-Access"] == access


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"exempt": None}, 403),
        ({"exempt": True}, 403),
        ({"exempt": False}, 200),
        ({"quotas": {}}, 200),
    ],
)
async def test_a_key_of_a_principal_lifts_no_refusal_of_an_exemption(
    app: Any, service: QuotaService, body: Any, status: int
) -> None:
    service.define_principal("team", exempt=True)
    service.define_principal("alice", exempt=False)
    async with asking(app, "team-ops") as client:
        answer = await client.put("/api/sys/principals/alice/quotas", json=body)
    view = service.principal("alice")
    assert answer.status_code == status
    assert view is not None
    assert not view.exempt


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8470", 200),
        ("127.0.0.1", 200),
        ("[::1]:80", 200),
        ("LOCALHOST", 200),
        ("budget.example.org", 400),
        ("localhost.example.org", 400),
        ("localhost:80:80", 400),
        ("local host", 400),
        ("", 400),
    ],
)
async def test_only_hosts_that_are_served_are_answered(app: Any, host: str, status: int) -> None:
    async with asking(app) as client:
        answer = await client.get("/healthz", headers={"Host": host})
    assert answer.status_code == status


async def test_two_hosts_are_none(app: Any) -> None:
    async with asking(app) as client:
        answer = await client.get("/healthz", headers=[("Host", "localhost"), ("Host", "x.org")])
    assert answer.status_code == 400


@pytest.mark.parametrize("allowed", ["budget.example.org", "*"])
async def test_a_host_can_be_allowed(service: QuotaService, allowed: str) -> None:
    app = admin.app(service, keys=KEYS, allow_hosts=[allowed])
    async with asking(app) as client:
        answer = await client.get("/healthz", headers={"Host": "budget.example.org:443"})
    assert answer.status_code == 200


@pytest.mark.parametrize("host", ["http://budget.example.org", "a b", "", 5])
def test_a_host_that_is_none_is_told_at_once(service: QuotaService, host: Any) -> None:
    with pytest.raises(ConfigurationError, match="is no host"):
        admin.app(service, keys=KEYS, allow_hosts=[host])


async def test_the_address_of_the_connection_is_a_host(app: Any) -> None:
    async with asking(app, url="http://192.0.2.7:8470") as client:
        assert (await client.get("/healthz")).status_code == 200
        other = await client.get("/healthz", headers={"Host": "192.0.2.8"})
    assert other.status_code == 400


async def test_without_keys_this_machine_may_do_everything(open_app: Any) -> None:
    async with asking(open_app, None) as client:
        assert (await client.post("/api/sys/resources", json=RESOURCE)).status_code == 201


@pytest.mark.parametrize("client_at", ["192.0.2.1", "10.0.0.1", "fe80::1", "::ffff:10.0.0.1"])
async def test_without_keys_nobody_else_is_served(open_app: Any, client_at: str) -> None:
    async with asking(open_app, None, client=(client_at, 5000)) as client:
        assert (await client.get("/usage")).status_code == 401
        assert (await client.get("/healthz")).status_code == 200


@pytest.mark.parametrize("name", ["Forwarded", "X-Forwarded-For", "X-Real-IP"])
async def test_without_keys_nobody_behind_a_proxy_is_served(open_app: Any, name: str) -> None:
    async with asking(open_app, None) as client:
        assert (await client.get("/usage", headers={name: "127.0.0.1"})).status_code == 401


@pytest.mark.parametrize("path", ["/healthz", "/openapi.json", "/nowhere", "/usage"])
async def test_every_answer_has_the_headers_that_browsers_obey(app: Any, path: str) -> None:
    async with asking(app) as client:
        headers = (await client.get(path)).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "default-src 'none'" in headers["Content-Security-Policy"]


async def test_the_page_runs_its_own_code_alone(app: Any) -> None:
    async with asking(app, None) as client:
        answer = await client.get("/")
    policy = answer.headers["Content-Security-Policy"]
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe-inline" not in policy


async def test_the_page_is_shown_whatever_follows_its_path(app: Any) -> None:
    async with asking(app, None) as client:
        answer = await client.get("/?x=1&x=2")
    assert (answer.status_code, answer.headers["Content-Type"][:9]) == (200, "text/html")


async def test_the_page_can_be_left_out(service: QuotaService) -> None:
    async with asking(admin.app(service, keys=KEYS, page=False)) as client:
        assert (await client.get("/")).status_code == 404


@pytest.mark.parametrize("method", ["PATCH", "POST", "OPTIONS", "TRACE", "DELETE"])
async def test_other_methods_are_refused_with_those_that_are_taken(app: Any, method: str) -> None:
    async with asking(app) as client:
        answer = await client.request(method, "/usage")
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "GET, HEAD"


async def test_no_get_changes_anything(app: Any, service: QuotaService) -> None:
    before = service.resource("pages").to_dict()
    async with asking(app) as client:
        for path in ("/api/sys/tasks/x/terminate", "/api/sys/tasks/x/top_up"):
            assert (await client.get(path)).status_code == 405
        await client.request("GET", "/api/sys/resources/pages", json={"unit": "leaf"})
    assert service.resource("pages").to_dict() == before


async def test_the_principal_of_a_new_key_need_not_have_called_yet(service: QuotaService) -> None:
    key = admin.Key("fresh", "f" * 32, principal="fresh")
    async with asking(admin.app(service, keys=[key]), None) as client:
        client.headers["Authorization"] = f"Bearer {'f' * 32}"
        report = await client.get("/usage")
        usage = await client.get("/api/sys/principals/fresh/usage")
    assert (report.status_code, report.json()["api_key_name"]) == (200, "fresh")
    assert usage.status_code == 404


async def test_a_quota_that_a_key_may_set_is_in_force(app: Any, service: QuotaService) -> None:
    quotas = {"tokens": {"type": "rate", "value": 7, "period": "hour"}}
    async with asking(app, None) as client:
        answer = await client.put(
            "/api/sys/principals/alice/quotas", json={"quotas": quotas}, headers=bearer("team-ops")
        )
    view = service.principal("alice")
    assert answer.status_code == 200
    assert view is not None
    assert view.quotas == {"tokens": Rate(7, "hour")}
