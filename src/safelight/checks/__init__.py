"""Checks before training. Each file here is a check, and is discovered; bench/ is what they work with.

A check is a module with its `Code`s, a budget `SECONDS`, whether it is `FAST` enough to run at the start of
every training, and `check(subject)`, which yields findings. It sees a method through its protocol, networks
through forward, and data through the stream: so it works on user-defined families too.
"""
