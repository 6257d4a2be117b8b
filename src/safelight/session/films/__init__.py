"""Pictures of a run at any of its steps, and films of them."""
