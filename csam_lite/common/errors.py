"""The one error a user of CSAM Lite should ever have to read."""


class InputError(Exception):
    """Something given from outside (a file, a folder, an option) cannot be used.

    The message is one line: what is wrong, where, and what to do about it. The command line prints it and
    exits with code 2. A character that cannot be printed, which may come from a damaged file, is escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def missing(what: str, package: str, extra: str, otherwise: str = "") -> InputError:
    """The error of `what`, a command or a file, that needs `package`, which an extra of csam-lite brings.

    The line holds in a clone, where people install with -e, and without one. otherwise: what helps, too.
    """
    return InputError(f'{what}: needs {package}; in the clone, run: pip install -e ".[{extra}]" '
                      f"(without a clone: csam-lite[{extra}]){otherwise and ', or ' + otherwise}")


def printable(text: str) -> str:
    """The text, in which letters that cannot be printed, such as some of a damaged file name, are escaped."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its kind where it has no message."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
