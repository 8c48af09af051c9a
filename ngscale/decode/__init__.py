"""Decoding: generation with a state, drafts by n-gram tables and others, and rejecting them early.

``generate.py`` is the loop, ``drafters.py`` what guesses tokens ahead, ``sampling.py`` how guesses
are verified without changing what comes out, ``ngram_cache.py`` what is embedded once for both,
``rejection.py`` what drops guesses before they are verified.
"""
