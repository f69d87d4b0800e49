"""`budgetware top`: what goes on now, on one screen that is kept up to date.

`state` is what is shown, changed by keys; `sections` are its rows; `drawing` is how it looks;
`keys` reads the keyboard; `screen` runs it all.
"""
