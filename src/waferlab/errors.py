"""How a command ends early: by a fault that a person can mend, or by an interruption."""

from typing import Literal

#: What becomes of files that can't be read: ``refuse`` the whole for them, or ``skip`` them and name them.
Bad = Literal["refuse", "skip"]


class WaferlabError(Exception):
    """Something the person at the keyboard can mend; the message says what was wrong, where, and what to do.

    The command line prints it without a traceback and exits with code 1.
    """


class ConfigError(WaferlabError):
    """The composed configuration is wrong; exits with code 2."""


class DivergedError(WaferlabError):
    """A training's loss is no longer finite."""


class OpenElsewhereError(WaferlabError):
    """Another process of this machine writes to this run."""


class Interrupted(BaseException):
    """Ctrl-C or ``kill``: not an ``Exception``, so that no handler for failures swallows it.

    Attributes:
        signal_number: the signal received (2 for Ctrl-C, 15 for ``kill``).
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"interrupted by signal {signal_number}")
        self.signal_number = signal_number
