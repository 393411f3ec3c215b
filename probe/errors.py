"""The exceptions a user is meant to read."""


class ProbeError(ValueError):
    """The request cannot be met: what was asked, why not, what would work."""


class Unreachable(ProbeError):
    """Published weights are neither on this machine nor within reach."""
