"""Several forward passes at once, layer by layer: all are in layer l before any enters l + 1."""

import threading
from collections.abc import Callable, Sequence

from torch import nn


class _Cancelled(BaseException):
    """Unwinds a pass that is waiting when another one has failed."""


class _Turn:
    """A pass in a thread of its own, which runs only between ``resume`` and its next pause."""

    def __init__(self, job: Callable[[], None]) -> None:
        self._job = job
        self._error: BaseException | None = None
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._cancelled = False
        self.finished = False
        self.thread = threading.Thread(target=self._main, name="window", daemon=True)
        self.thread.start()

    def resume(self) -> None:
        """Let it run to its next pause, or to its end; what it raises is raised here."""
        self._go.release()
        self._stopped.acquire()
        if self._error is not None:
            raise self._error

    def cancel(self) -> None:
        """End it where it waits."""
        self._cancelled = True
        self._go.release()
        self.thread.join()

    def pause(self) -> None:
        """Called in the thread: hand over."""
        self._stopped.release()
        self._wait()

    def _wait(self) -> None:
        self._go.acquire()
        if self._cancelled:
            raise _Cancelled

    def _main(self) -> None:
        try:
            self._wait()
            self._job()
        except _Cancelled:
            pass
        except BaseException as error:
            self._error = error
        self.finished = True
        self._stopped.release()


def layer_by_layer(
    layers: Sequence[nn.Module], jobs: Sequence[Callable[[], None]], turn: Callable[[int], None]
) -> None:
    """Run ``jobs``, each a forward pass through ``layers``, one at a time, handing over at every
    layer's entry. ``turn`` is told which one runs next.
    """
    running = dict(enumerate(map(_Turn, jobs)))
    by_thread = {pass_.thread: pass_ for pass_ in running.values()}

    def pause(layer: nn.Module, args: object) -> None:
        by_thread[threading.current_thread()].pause()

    hooks = [layer.register_forward_pre_hook(pause, prepend=True) for layer in layers]
    try:
        while running:
            for index, pass_ in list(running.items()):
                turn(index)
                pass_.resume()
                if pass_.finished:
                    del running[index]
    finally:
        for hook in hooks:
            hook.remove()
        for pass_ in running.values():
            pass_.cancel()
