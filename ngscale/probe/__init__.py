"""``ngscale probe``: what each sub-layer of a checkpoint writes against the stream it adds to.

``load`` a directory -> a decoder, ``structure`` where its stream is written, ``windows`` which
tokens, ``stream`` and ``norms`` hooks, norms and the closure check, ``embedding_parts`` words and
tables, ``advice`` what to do about it, ``run`` all of them, ``summary`` what a person reads.

With ``--tables`` the model is not run: ``table_files`` where the rows are, ``traffic`` how often a
text reads them, ``autopsy`` what they look like, ``table_run`` all of it, ``table_report``.
"""
