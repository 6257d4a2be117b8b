"""What checks work on: the subject, what is watched of it from outside, and what is found."""
