"""safelight: train image generators, and watch them develop."""

__version__ = "0.1.0"
