"""The demo: an agent that does real work with a real model, and stops by its budget.

Written as a user of budgetware would write it, against the public names alone. Needs the extra
`demo`; nothing here is imported by the library.
"""
