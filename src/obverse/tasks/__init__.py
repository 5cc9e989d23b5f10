"""Examples, labels, templates and directions: pure Python, no torch, no files."""
