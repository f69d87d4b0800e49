"""Environments for frameworks that cannot be installed beside the others.

    uv run python -m tests.integrations.environments [--into FOLDER] [NAME ...] [-- PYTEST OPTIONS]

makes each of them (by uv, in a folder that is kept), checks the types of its adapters, and runs
the tests of all frameworks that are in it. Each `NAME.txt` beside this file is one.
"""
