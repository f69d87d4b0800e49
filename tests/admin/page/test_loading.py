"""How the page loads: complete in itself, wherever it is mounted, and only its own code runs."""

from __future__ import annotations

from importlib.resources import files
from urllib.parse import urlsplit

import httpx
from playwright.sync_api import Browser, expect
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp

from budgetware.admin import page
from tests.admin.page.stage import Stage, Visit, stage, visiting

PATHS = {"/", "/api/sys/overview", "/api/sys/events", "/events", "/usage"}

ATTEMPTS = (
    "const script = document.createElement('script'); script.text = CODE; append(script)",
    "const script = document.createElement('script'); script.append(CODE); append(script)",
    "const link = document.createElement('a'); link.setAttribute('onclick', CODE); link.click()",
    "append(document.createElement('p')).innerHTML = `<img src=x onerror='${CODE}'>`",
    "setTimeout(CODE)",
)


def below(application: ASGIApp) -> ASGIApp:
    return Starlette(routes=[Mount("/ops/budgets", application)])


def test_page_asks_only_its_own_server(visit: Visit, here: Stage) -> None:
    visit.open(here)
    expect(visit.page.locator("#today-calls")).to_have_text("0")
    assert visit.hosts == {urlsplit(here.url).netloc}
    assert {urlsplit(url).path for url in visit.requested} == PATHS
    assert visit.complaints == []


def test_page_works_below_a_prefix(visit: Visit) -> None:
    with stage(wrap=below, path="/ops/budgets/") as mounted:
        visit.open(mounted)
        expect(visit.page.locator("#today-calls")).to_have_text("0")
        assert {urlsplit(url).path for url in visit.requested} == {
            f"/ops/budgets{path}" for path in PATHS
        }


def test_page_comes_with_the_policy_of_its_own_hashes(here: Stage) -> None:
    response = httpx.get(here.url)
    assert response.text == page.html()
    assert response.headers["Content-Security-Policy"] == page.policy()
    assert "unsafe" not in page.policy()


def test_foreign_script_does_not_run(browser: Browser, here: Stage) -> None:
    with visiting(browser) as visit:
        shown = visit.open(here)
        for attempt in ATTEMPTS:
            shown.evaluate(
                f"""() => {{
                    const CODE = "window.ran = 1";
                    const append = (node) => document.body.appendChild(node);
                    try {{ {attempt} }} catch {{}}
                }}"""
            )
        assert shown.evaluate("window.ran") is None
        assert any("TrustedScript" in said for said in visit.complaints)
        visit.complaints.clear()


def test_page_asks_nothing_of_markup_in_the_document(here: Stage) -> None:
    text = httpx.get(here.url).text
    assert " on" not in {piece[:3] for piece in text.partition("<script>")[0].split('"')}
    assert "innerHTML" not in text
    assert "eval(" not in text


def test_no_script_is_left_out() -> None:
    with_code = {path.name for path in files(page).iterdir() if path.name.endswith(".js")}
    assert with_code == {f"{name}.js" for name in page.SCRIPTS}
