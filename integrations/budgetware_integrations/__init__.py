"""Adapters of agent frameworks, one module each, built on budgetware's public names alone.

Importing this package imports no framework: take the module named after yours.
"""
