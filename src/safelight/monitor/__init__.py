"""Monitors that know the loss: verdicts on a run while it trains, from what it records anyway.

docs/health.md has the table: verdict, signal, threshold, remedy, and what was measured.
"""
