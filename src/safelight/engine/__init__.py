"""The engine: runs the phases of a method, and sees nothing else of it."""
