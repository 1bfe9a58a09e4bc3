"""The one error a user of CSAM Lite should ever have to read."""


class InputError(Exception):
    """Something given from outside (a file, a folder, an option) cannot be used.

    The message is one line: what is wrong, where, and what to do about it. The command line prints it and
    exits with code 2.
    """


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its kind where it has no message."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
