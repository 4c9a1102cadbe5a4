"""`python -m galley`: the same as the program `galley`."""

from galley.cli import main

main()
