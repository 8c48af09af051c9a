"""``python -m ngscale``."""

from ngscale.cli import main

main()
