"""Every @njit function: untyped, pure loops over arrays. Plain twins: tests/reference.py."""
