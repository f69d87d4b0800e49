"""Whether a call may run, whose turn it is, and what a refusal does. The one room that waits.

`decisions` look closely, `waiters` are the queue, `changes` reach it from outside, `parking`
sleeps, `refusals` say no. Not here: what is held and settled (`holds`).
"""
