"""`python -m dad_edge` is the `dad-edge` command."""

from dad_edge.cli.main import main

main()
