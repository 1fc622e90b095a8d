"""`python -P -m bridge` is the command `linegate`."""

from bridge.cli import main

main()
