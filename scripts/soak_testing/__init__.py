"""Soak tests: a steady load for minutes or hours, and the growth of the processes that bear it.

`scripts/soak` runs one of them:

- `mixed`: a server over stdio under a mix of tool calls.
- `calls`: a library program with one worker, which makes one call after another.

`trend` estimates the growth and says whether it is flat.
"""
