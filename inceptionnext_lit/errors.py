"""The exceptions for what a person can mend."""


class UserError(Exception):
    """A mistake in what was asked for: a path, a key, a file, a size.

    The message is one clear sentence, or a few: what is wrong, where, and what to do about it.
    The command line prints it without a traceback and exits with :attr:`code`.
    """

    code = 1


class UsageError(UserError):
    """A command line that cannot be understood."""

    code = 2


class SharedError(UserError):
    """An error that all processes of a run raise together, and of which one speaks for all."""
