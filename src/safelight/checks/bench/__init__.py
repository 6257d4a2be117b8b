"""What checks work with: the subject, probes that watch it from outside, and findings."""
