"""smolagents: each run of an agent is a task with limits of its own, within those around it.

It prints:

    Rivers flow to the sea.
    refused: budget 'guide' has 0 of 3 calls left
    4 of 10 calls
"""

from smolagents import AgentGenerationError, ChatMessage, CodeAgent, MessageRole, OpenAIModel
from smolagents.monitoring import LogLevel

from budgetware import errors, task_budget
from budgetware_integrations.smolagents import budget


def main() -> None:
    model = budget(OpenAIModel("gpt-5-nano", max_completion_tokens=500))
    agent = budget(
        CodeAgent(tools=[], model=model, name="guide", verbosity_level=LogLevel.OFF),
        limits={"calls": 3},
    )

    with task_budget("trip", tokens=50_000, calls=10) as trip:
        question = ChatMessage(MessageRole.USER, "Where do rivers flow?")
        print(model.generate([question]).content)

        try:  # the model writes no code here, so the agent asks it until its limit
            print(agent.run("How long is the Danube?"))
        except AgentGenerationError as error:
            print(f"refused: {str(errors.budget_error(error)).partition(',')[0]}")
    print(f"{trip.spent('calls')} of 10 calls")


if __name__ == "__main__":
    main()
