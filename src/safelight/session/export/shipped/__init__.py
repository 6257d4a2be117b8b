"""Files that are copied into exported folders, to be opened by other tools. Nothing here imports another."""
