"""Where balances live that several processes share, and the leases they hand out.

`protocol` is what a ledger must do, `rules` how it decides; `memory`, `sqlite` and `redis` are
ledgers. `leases` is the holder's side and `courier` the thread that goes between the two. Not
here: who waits for a lease (`admission`).
"""
