"""``ngscale audit``: what is wrong with a config's n-gram tables, with no corpus at all.

``facts`` measures tables and orders, ``findings`` judges them, ``fix`` searches the smallest
change that the same judgement passes, ``outcome`` writes it all down.
"""
