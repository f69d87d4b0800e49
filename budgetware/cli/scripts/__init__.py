"""Python programs that know nothing of budgetware, run in this process under a task budget.

Not here: the command (`cli.commands.run`), and programs in processes of their own (`cli.runs`).
"""
