"""Exceptions for errors that a user can fix."""


class UserError(Exception):
    """An error in the user's input, such as a path, an option, a file or a size.

    The message says in one or two clear sentences what is wrong, where, and what to do about it.
    The command line prints it without a traceback and exits with :attr:`code`.
    """

    code = 1


class UsageError(UserError):
    """A command line that cannot be parsed."""

    code = 2


class SharedError(UserError):
    """An error that all ranks raise together; only the first one prints it."""
