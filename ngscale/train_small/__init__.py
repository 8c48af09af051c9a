"""``ngscale train-small``: does the design beat a parameter-equivalent MoE, and a placebo?

``config`` the arms and constants, ``data`` the batches, ``plan`` what fits in the time,
``optimiser`` and ``loop`` one run, ``cells`` finished runs on disk, ``run`` all of them,
``comparison`` the statistics, ``summary`` what a person reads.
"""
