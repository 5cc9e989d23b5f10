"""Training: objectives ask pairs, the model gives token log-probabilities, one loop steps."""
