"""ngscale: plan the hashed n-gram embedding tables of a language model."""

__version__ = "0.1.0"
