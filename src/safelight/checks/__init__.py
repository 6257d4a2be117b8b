"""Checks before training: one file each; a file here is all it takes to add one. bench/ is what they work on.

A check is a module with its `Code`s, a budget `SECONDS`, whether it is `FAST` enough to run at the start of
every training, and `check(subject)`, which yields what it finds. It sees a method through its protocol,
networks through forward, and the data through what the stream hands out: so it works on a person's own.
"""
