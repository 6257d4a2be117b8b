"""Text as features: what turns captions into the vectors that a generator is conditioned on."""
