"""Fuzzing: random texts for every parser, and random arguments for every tool.

`scripts/fuzz` runs it. No example may take 2 s, or end in anything but a value or a sentence.

- `targets`: the parsers and the tools, each with what it may be given and how it may refuse.
"""
