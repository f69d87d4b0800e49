"""Top-ups and terminations from the page: with a write key alone, and each counted once."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, Route, expect

from budgetware import BudgetTerminated, Capacity, Resource
from budgetware.admin import Key
from tests.admin.page.agents import agent, search
from tests.admin.page.stage import READ, WRITE, Stage, Visit, stage

TOP_UP = "**/top_up"


def open_top_up(page: Page) -> None:
    page.get_by_role("button", name="Top up research").click()


def give(page: Page, dim: str, amount: str) -> None:
    page.locator("#amounts .field").filter(has_text=dim).locator("input").fill(amount)


def send(page: Page) -> None:
    page.locator("dialog[open] button[type=submit]").click()


def test_top_up_raises_the_limits(visit: Visit) -> None:
    with stage(keys=[WRITE]) as here, agent(here, tokens=1_000, usd="0.25", calls=5) as running:
        page = visit.open(here, WRITE)
        open_top_up(page)
        give(page, "tokens", "2,500")
        give(page, "usd", "0.5")
        send(page)
        expect(page.locator("#result")).to_have_text(
            "Topped up research: tokens +2500, usd +$0.50."
        )
        expect(page.locator(".task")).to_contain_text("/ 3.5k")
        assert running.budget.snapshot()["tokens"].limit == 3_500
        assert str(running.budget.snapshot()["usd"].limit) == "0.750000"
        assert running.budget.snapshot()["calls"].limit == 5


def test_top_up_whose_answer_is_lost_counts_once(visit: Visit, here: Stage) -> None:
    with agent(here, calls=5) as running:
        page = visit.open(here)

        def lose(route: Route) -> None:
            route.fetch()
            route.abort()

        page.route(TOP_UP, lose)
        open_top_up(page)
        give(page, "calls", "10")
        send(page)
        expect(page.locator("#top-up .error")).to_contain_text("It may have counted")
        expect(page.locator("#amounts input")).not_to_be_editable()
        page.unroute(TOP_UP)
        send(page)
        expect(page.locator("#result")).to_have_text("Topped up research: calls +10.")
        assert running.budget.snapshot()["calls"].limit == 15


def test_two_dialogs_are_two_top_ups(visit: Visit, here: Stage) -> None:
    with agent(here, calls=5) as running:
        page = visit.open(here)
        for limit in (15, 25):
            open_top_up(page)
            give(page, "calls", "10")
            send(page)
            expect(page.locator(".task")).to_contain_text(f"/ {limit}")
        assert running.budget.snapshot()["calls"].limit == 25


@pytest.mark.parametrize(
    ("amount", "said"),
    [("", "Give an amount"), ("-3", "-3 is no whole number"), ("1.5", "no whole number")],
)
def test_amount_that_is_none_is_not_sent(visit: Visit, here: Stage, amount: str, said: str) -> None:
    with agent(here, calls=5) as running:
        page = visit.open(here)
        open_top_up(page)
        give(page, "calls", amount)
        send(page)
        expect(page.locator("#top-up .error")).to_contain_text(said)
        assert not any(url.endswith("top_up") for url in visit.requested)
        assert running.budget.snapshot()["calls"].limit == 5


def test_what_the_server_refuses_is_said(visit: Visit, here: Stage) -> None:
    with agent(here, calls=5) as running:
        page = visit.open(here)
        open_top_up(page)
        running.ends()
        give(page, "calls", "10")
        send(page)
        expect(page.locator("#top-up .error")).to_have_text(re.compile("no task|ended"))
        page.keyboard.press("Escape")
        expect(page.locator("#top-up")).to_be_hidden()


def test_termination_ends_the_task(visit: Visit) -> None:
    with stage(keys=[WRITE]) as here, agent(here, calls=5) as running:
        page = visit.open(here, WRITE)
        page.get_by_role("button", name="Terminate research").click()
        page.get_by_label("Reason").fill("<b>too slow</b>")
        send(page)
        expect(page.locator("#result")).to_have_text("Terminated research.")
        with pytest.raises(BudgetTerminated, match="<b>too slow</b>"):
            running.done.result(20)
        expect(page.locator(".task")).to_have_count(0)


def test_cancelled_dialog_changes_nothing(visit: Visit, here: Stage) -> None:
    with agent(here, calls=5) as running:
        page = visit.open(here)
        page.get_by_role("button", name="Terminate research").click()
        page.locator("dialog[open] .cancel").click()
        expect(page.locator("#terminate")).to_be_hidden()
        assert running.does(search) is None


def test_read_key_sees_no_buttons(visit: Visit) -> None:
    with stage(keys=[READ, WRITE]) as here, agent(here, calls=5):
        page = visit.open(here, READ)
        expect(page.locator(".task")).to_contain_text("research")
        expect(page.locator(".task").get_by_role("button", name="Top up")).to_have_count(0)
        expect(page.locator(".task").get_by_role("button", name="Terminate")).to_have_count(0)


def test_key_of_one_principal_is_told_that_it_sees_no_resources(visit: Visit) -> None:
    alice = Key("alice", "a" * 40, principal="alice")
    with stage(keys=[alice]) as here:
        here.service.define(Resource("pages", Capacity(100), "reject"))
        page = visit.open(here, alice)
        expect(page.locator("#no-resources")).to_have_text("This key sees no resources.")
        expect(page.locator("#resources .entry")).to_have_count(0)


def test_key_is_asked_for_and_kept_in_the_tab_only(visit: Visit) -> None:
    with stage(keys=[READ]) as here:
        page = visit.page
        page.goto(here.url)
        page.locator("#key input").fill("x" * 40)
        page.keyboard.press("Enter")
        expect(page.locator("#key .error")).to_have_text("The server does not know this key.")
        expect(page.locator(".empty").locator("visible=true")).to_have_count(0)
        page.locator("#key input").fill(READ.secret)
        page.keyboard.press("Enter")
        expect(page.locator("#status")).to_have_text("Live")
        page.reload()
        expect(page.locator("#status")).to_have_text("Live")
        stored = page.evaluate("[localStorage.length, document.cookie, sessionStorage.length]")
        assert stored == [0, "", 1]
        assert not any(READ.secret in url for url in visit.requested)
        page.get_by_role("button", name="Forget key").click()
        expect(page.locator("#key")).to_be_visible()
        assert page.evaluate("sessionStorage.length") == 0
