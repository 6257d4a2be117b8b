"""What torture.py does to runs and data, kind by kind, and the promises that are checked after each."""
