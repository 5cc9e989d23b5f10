"""Ask and decide: from renderings to queries, and from log-probabilities to a choice. Never imports a model."""
