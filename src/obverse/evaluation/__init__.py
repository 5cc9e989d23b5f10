"""Procedures that measure: models on suites, and results under other wordings."""
