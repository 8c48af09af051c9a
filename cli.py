"""Checkout shim: ``python cli.py ...`` runs ngscale without installing it. Not packaged."""

from ngscale.cli import main

if __name__ == "__main__":
    main()
