"""Comparing runs: what differs in what they were, and what came of it. Facts in, facts out; no torch."""
