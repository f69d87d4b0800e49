"""DSPy: threads pay from one budget, and what DSPy has in its cache costs nothing.

It prints:

    2 answers, 1 refused
    refused: budget 'research' has 0 of 2 calls left
    2 of 2 calls
"""

import logging

import dspy

from budgetware import BudgetExceeded, task_budget
from budgetware_integrations.dspy import budget

QUESTIONS = ("Where do rivers flow?", "And the sea?", "And the rain?")


def guide(question: str) -> str:
    return str(dspy.settings.lm(question)[0])


def main() -> None:
    logging.getLogger("dspy").setLevel(logging.CRITICAL)  # each refusal is an error there
    dspy.configure_cache(enable_disk_cache=False)
    dspy.configure(lm=budget(dspy.LM("openai/gpt-4.1-nano", max_tokens=500)))

    with task_budget("research", tokens=5_000, calls=2) as task:
        ask = dspy.Parallel(num_threads=1, disable_progress_bar=True)
        answers = ask([(guide, {"question": question}) for question in QUESTIONS])
        print(f"{len(answers) - answers.count(None)} answers, {answers.count(None)} refused")

        guide(question=QUESTIONS[0])  # from the cache, with nothing left
        try:
            guide(question="And the sky?")
        except BudgetExceeded as refusal:
            print(f"refused: {str(refusal).partition(',')[0]}")
    print(f"{task.spent('calls')} of 2 calls")


if __name__ == "__main__":
    main()
