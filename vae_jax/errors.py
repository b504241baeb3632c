"""The exception for what a user can correct."""


class UserError(Exception):
    """Something the user can correct: one line that says what is wrong and what to do.

    `main` prints it without a traceback and exits non-zero; from Python it is an ordinary
    exception.
    """


class SaveError(UserError):
    """A checkpoint could not be written. Threads of the writer may wait on for minutes."""
