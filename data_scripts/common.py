"""What the scripts of this folder share: their options, and how they end (exit code 2 and one line for bad
input)."""

import argparse
import sys
from collections.abc import Callable

from csam_lite.common.errors import InputError


def options(description: str, out: str, download: bool = True) -> argparse.ArgumentParser:
    """A parser with --out and, for a set that is downloaded, --archive, --url and --md5."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", default=out, metavar="DIR", help=f"the folder to make (default {out})")
    if download:
        parser.add_argument(
            "--archive",
            metavar="FILE",
            help="use this archive on disk instead of a download; its md5 is checked too",
        )
        parser.add_argument("--url", help="download from here (default: the published address)")
        parser.add_argument("--md5", help="the md5 of the archive (default: the published one)")
    return parser


def run(work: Callable[..., object], **arguments: object) -> int:
    """Call `work`; return the exit code: 0, 2 for bad input (one line on stderr), 130 where the user stopped
    it."""
    try:
        work(**arguments)
        return 0
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; run the same command again, a download resumes", file=sys.stderr)
        return 130
