"""How good predictions are, and how sure one can be of that: plain numpy, no models, no files."""
