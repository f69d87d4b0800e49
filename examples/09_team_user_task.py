"""A team, its users and their tasks: one reservation is charged to all of them, or to none.

`budgetware.toml`, beside this program, says who may use how much: a template of the task, quotas of
the team and of alice, and that `ops` is exempt, which is to be counted and not refused. What is
short refuses: here the team, while alice's own quota and her task have room.

It prints:

    alice: research 2,000, alice 2,000, team-search 2,000, model 2,000
    bob: research 7,000, bob 7,000, team-search 9,000, model 9,000
    alice: principal 'team-search' has 1000 of 10000 tokens left, 3000 requested
    ops: research 4,000, ops 4,000, team-search 13,000, model 13,000
    team-search: 13,000 of 10,000 spent, 3,000 over
"""

from pathlib import Path

import anyio

from budgetware import QuotaExceeded, QuotaService, QuotaToken, connect, reserve, task_budget

MANIFEST = Path(__file__).with_name("budgetware.toml")
TEAM = "team-search"


async def think(tokens: int) -> None:
    async with reserve(tokens=tokens) as reservation:
        reservation.commit()


async def research(user: str, tokens: int, service: QuotaService) -> None:
    async with task_budget("research", principal=user) as task:
        try:
            await think(tokens)
        except QuotaExceeded as error:
            print(f"{user}:", str(error).partition(":")[0])
            return
    payers = [view.snapshot() for view in service.principals() if view.name in (user, TEAM)]
    payers = [task.snapshot(), *payers, service.resource("model").snapshot()]
    print(f"{user}:", ", ".join(f"{payer.name} {payer['tokens'].spent:,}" for payer in payers))


async def main() -> None:
    async with connect(MANIFEST) as service:
        model = QuotaToken("model", expected_use=10_000)
        async with model:  # what reserves tokens inside draws on it
            await research("alice", 2_000, service)
            await research("bob", 7_000, service)
            await research("alice", 3_000, service)
            await research("ops", 4_000, service)
        model.close()
        team = service.principal(TEAM)
        assert team is not None
        balance = team.snapshot()["tokens"]
        print(f"{TEAM}: {balance.spent:,} of {balance.limit:,} spent, {balance.overrun:,} over")


if __name__ == "__main__":
    anyio.run(main)
