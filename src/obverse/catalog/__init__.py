"""Data at rest: tables of rows that stream through, and named suites."""
