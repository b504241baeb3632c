"""The one exception for everything a user can mend."""


class UserError(Exception):
    """Something the user can mend: one line that says what is wrong and what to do.

    `main` prints it without a traceback and exits non-zero; from Python it is an ordinary exception.
    """
