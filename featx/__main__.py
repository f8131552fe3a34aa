"""``python -m featx`` is the `featx` command."""

from featx.cli import main

main()
