"""Runs handed to others: one file, the Hub, a citation. What comes back is read as a stranger's."""
