"""Searching the latents of a trained run for what scores best, or for what a person picks."""
