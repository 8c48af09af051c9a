"""``ngscale train-small``: does the design beat a parameter-equivalent MoE, and a placebo?

``config`` the arms and constants, ``plan`` what fits in the time, ``run`` all runs, ``cells``
those on disk, ``comparison`` the statistics, ``summary`` what a person reads. One run: ``loop``,
``trainer``; its batches ``data``, ``seen``; its updates ``optimiser``, ``row_adam``, ``row_slots``,
``row_table``; its ranks ``distributed``; what is kept of it ``checkpoint``, ``state``,
``run_log``; what is asked before, ``memory``.
"""
