"""Training objectives over the same directions that score."""
