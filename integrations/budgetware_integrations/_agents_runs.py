"""Runs of the OpenAI Agents SDK, told of what holds before they start. Not here: what that is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agents import Agent
from agents.run import AgentRunner, get_default_agent_runner, set_default_agent_runner

Prepare = Callable[[Agent[Any], Any], Any]
"""Takes the agent that a run starts with and its configuration; returns what it is to run with."""


class PreparingRunner(AgentRunner):
    """Runs as the runner before it does, with the configuration that `prepare` makes."""

    def __init__(self, inner: AgentRunner, prepare: Prepare) -> None:
        self.inner = inner
        self.prepare = prepare

    async def run(self, starting_agent: Any, input: Any, **kwargs: Any) -> Any:
        given = kwargs.get("run_config")
        config = kwargs["run_config"] = self.prepare(starting_agent, given)
        try:
            return await self.inner.run(starting_agent, input, **kwargs)
        finally:
            if given is None and config is not None:  # the SDK closes what it has made itself
                await config.model_provider.aclose()

    def run_sync(self, starting_agent: Any, input: Any, **kwargs: Any) -> Any:
        kwargs["run_config"] = self.prepare(starting_agent, kwargs.get("run_config"))
        return self.inner.run_sync(starting_agent, input, **kwargs)

    def run_streamed(self, starting_agent: Any, input: Any, **kwargs: Any) -> Any:
        kwargs["run_config"] = self.prepare(starting_agent, kwargs.get("run_config"))
        return self.inner.run_streamed(starting_agent, input, **kwargs)


def prepare_runs(prepare: Prepare) -> None:
    """Have every run of this program prepared; once, whatever runner is the default."""
    runner = get_default_agent_runner()
    if not isinstance(runner, PreparingRunner):
        set_default_agent_runner(PreparingRunner(runner, prepare))
