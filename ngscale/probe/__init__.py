"""``ngscale probe``: what each sub-layer of a checkpoint writes against the stream it adds to.

``load`` a directory -> a decoder, ``structure`` where its stream is written, ``windows`` which
tokens, ``stream`` and ``norms`` hooks, norms and the closure check, ``embedding_parts`` words and
tables, ``advice`` what to do about it, ``amplify`` the check of that, ``run`` all of them,
``summary`` the record, ``sentence`` its answer, ``norms_report`` what a person reads; ``arms`` the
designs that would decide it (``--emit-arms``).

With ``--series`` the kept checkpoints of a training run: ``series``, ``series_report``.

With ``--tables`` the model is not run: ``table_files`` where the rows are, ``traffic`` how often a
text reads them, ``autopsy`` what they look like, ``table_run`` all of it, ``table_report``.
"""
