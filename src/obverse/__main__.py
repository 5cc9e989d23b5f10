"""`python -m obverse`."""

from obverse.cli.main import main

main()
