from tests.train_small.conftest import one_thread

__all__ = ["one_thread"]
