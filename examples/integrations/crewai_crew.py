"""CrewAI: a crew pays for the turns of its agents, and is refused what it cannot pay.

It prints:

    Rivers flow to the sea.
    1 of 10 calls
    refused: budget 'second' has 100 of 100 tokens left
"""

from crewai import LLM, Agent, Crew, Task

from budgetware import BudgetExceeded, task_budget
from budgetware_integrations.crewai import budget


def crew_for(question: str) -> Crew:
    guide = Agent(
        role="Guide",
        goal="Answer visitors",
        backstory="You know all rivers.",
        llm=LLM(model="openai/gpt-5-nano", max_tokens=500),
    )
    task = Task(description=question, expected_output="one sentence", agent=guide)
    return budget(Crew(agents=[guide], tasks=[task]))


def main() -> None:
    with task_budget("first", tokens=5_000, calls=10) as first:
        print(crew_for("Where do rivers flow?").kickoff())
    print(f"{first.spent('calls')} of 10 calls")

    try:
        with task_budget("second", tokens=100):
            crew_for("And the sea?").kickoff()
    except BudgetExceeded as refusal:
        print(f"refused: {str(refusal).partition(',')[0]}")


if __name__ == "__main__":
    main()
