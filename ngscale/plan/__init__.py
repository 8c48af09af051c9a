"""``ngscale plan``: from one config.json to one reviewed answer, by way of the other verbs.

``run`` goes through the stages, each of which is a file here (``audit_stage``, ``sizes_stage``,
``candidates_stage``, ``proxies_stage``, ``schedule_stage``, ``train_stage``); ``stages`` keeps a
stage's record on disk, ``ledger`` what became of each; ``choices`` the designs, ``verdicts`` what
was found of them, ``grades`` how sure that is, ``decision`` what follows; ``estimates`` answers
``--dry-run``, ``summary`` makes the report.
"""
