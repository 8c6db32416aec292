"""The one exception for what a user can mend."""

from __future__ import annotations


class InputError(ValueError):
    """Wrong use: a bad flag, file, row or name.

    The message is one line that says what is wrong, where (file, row, index, flag) and what to do.
    Command lines print it without a traceback and exit with 2.
    """
