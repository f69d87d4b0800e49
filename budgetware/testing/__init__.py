"""For tests of programs that use budgetware: clocks to move by hand, and hours that take no time.

A deadline or a limit without an event loop: move the clock yourself.

    clock = VirtualClock()
    with connect(clock=clock), task_budget("report", calls=10, seconds=60) as budget:
        clock.advance("2m")
        ...

Anything that sleeps, waits or times out: run it in virtual time, with the loop's time as the
service's. The loop jumps to its next timer whenever it has nothing else to do.

    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def test_agent_gives_up_after_a_minute(backend):
        async def agent():
            async with connect(clock=LoopClock()), task_budget(seconds=60):
                await anyio.sleep(3600)

        with pytest.raises(BudgetTerminated):
            run_virtual(agent, backend=backend)  # takes a millisecond

Where anyio's pytest plugin runs the tests, give its fixture the same loops:

    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(request):
        return virtual_backend(request.param)

Not here: real time, for what talks to sockets, processes and threads of its own (`run_virtual`
says what it promises about those).
"""

from .clocks import LoopClock, VirtualClock
from .virtual_time import run_virtual, virtual_backend

__all__ = ["LoopClock", "VirtualClock", "run_virtual", "virtual_backend"]
