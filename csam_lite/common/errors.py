"""The one error a user of CSAM Lite should ever have to read."""


class InputError(Exception):
    """Something given from outside (a file, a folder, an option) cannot be used.

    The message is one line: what is wrong, where, and what to do about it. The command line prints it and
    exits with code 2.
    """
