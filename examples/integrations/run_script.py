"""A program that knows nothing of budgetware. Run it under a budget by the command line.

    budgetware run --calls 3 --tokens 20k run_script.py

Its client then pays as with `budgetware_integrations.openai`: the fourth call is not sent, which
ends the program, though it swallows exceptions, with a receipt on stderr and exit code 3.

Run by itself, without a budget. It prints:

    1. Rivers flow to the sea.
    2. Rivers flow to the sea.
    3. Rivers flow to the sea.
    4. Rivers flow to the sea.
    5. Rivers flow to the sea.
"""

import openai

client = openai.OpenAI()

for number in range(1, 6):
    try:
        answer = client.chat.completions.create(
            model="gpt-5-nano",
            messages=[{"role": "user", "content": f"Tell me about river {number}."}],
            max_completion_tokens=200,
        )
        print(f"{number}. {answer.choices[0].message.content}")
    except Exception as error:  # as so many agents do
        print(f"{number}. it did not work: {type(error).__name__}")
