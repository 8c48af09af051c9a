"""``ngscale probe``: what each sub-layer of a checkpoint writes against the stream it adds to.

``load`` a directory -> a decoder, ``structure`` where its stream is written, ``windows`` which
tokens, ``stream`` and ``norms`` hooks, norms and the closure check, ``advice`` what to do about it,
``run`` all of them, ``summary`` what a person reads.
"""
