"""A small decoder with n-gram embedding tables, its experts and its checkpoints."""
