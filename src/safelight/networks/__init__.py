"""Networks: one file an architecture. They expose `forward`, and know nothing of training."""
