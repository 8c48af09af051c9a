"""Every error a user can cause, each with its exit code (docs/cli.md lists the codes)."""

from typing import ClassVar


class NgscaleError(Exception):
    """One line that names the file, the key and the value, and the way out."""

    exit_code: ClassVar[int] = 1


class UsageError(NgscaleError):
    """An option or a combination of options that cannot be carried out."""

    exit_code = 2


class InputError(NgscaleError):
    """An input file that is missing, unreadable or not what it should be."""

    exit_code = 3


class SpecError(InputError):
    """A design that contradicts itself, or whose arithmetic would overflow."""


class UnsafeInputError(NgscaleError):
    """Input that would run code or escape its directory."""

    exit_code = 4


class NetworkError(NgscaleError):
    """Something had to be fetched and could not be."""

    exit_code = 5


class ResourceError(NgscaleError):
    """Out of memory, disk or time."""

    exit_code = 6


class DiskFullError(ResourceError):
    """No room for a file; what was there before is as it was."""


class GateError(NgscaleError):
    """A gate that was asked for (``--fail-on``, ``ids --check``) says no."""

    exit_code = 7


class MissingExtraError(NgscaleError):
    """An optional dependency is not installed; the message gives the pip command."""

    exit_code = 8

    def __init__(self, package: str, extra: str) -> None:
        """Name the missing ``package`` and the ``extra`` of ngscale that brings it."""
        super().__init__(f"{package} is not installed; run: pip install 'ngscale[{extra}]'")


class NoResultError(NgscaleError):
    """The run finished, but there is no valid result (closure failed, loss not finite, ...)."""

    exit_code = 9
