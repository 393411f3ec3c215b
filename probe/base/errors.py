"""The exceptions a user is meant to read."""


class ProbeError(ValueError):
    """The request cannot be met: what was asked, why not, what would work."""


class Unreachable(ProbeError):
    """Published weights are neither on this machine nor within reach."""


def reason(error: BaseException) -> str:
    """What a library's error says, in one line; its name when it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
