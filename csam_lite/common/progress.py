"""Progress of long work: bars where a person watches, few lines where a file or another program reads."""

import sys
from collections.abc import Iterable

from tqdm import tqdm as terminal_bar

LINE_SECONDS = 60  # in a file, a bar writes its first line after a minute, and then at most one a minute


def progress_bar(iterable: Iterable | None = None, **options) -> terminal_bar:
    """tqdm's bar of `iterable`, or of `total` steps, with tqdm's options.

    In a terminal it is tqdm's own bar, in a notebook its widget. Elsewhere (a log file, a pipe, CI) a bar
    rewritten a thousand times would become a thousand lines, so that only work of more than a minute writes,
    one line a minute.
    """
    if not watched():
        return _Lines(iterable, **options)
    from tqdm.auto import tqdm

    return tqdm(iterable, **options)


def watched() -> bool:
    """Whether a person watches standard error: in a terminal, or in a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def note(line: str) -> None:
    """Write a line of progress where no bar is shown."""
    if not watched():
        print(line, file=sys.stderr, flush=True)


class _Lines(terminal_bar):
    """tqdm's counting, with lines in place of a bar."""

    def __init__(self, iterable=None, **options) -> None:
        super().__init__(
            iterable,
            **options | {"mininterval": LINE_SECONDS, "maxinterval": LINE_SECONDS, "delay": LINE_SECONDS},
        )

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        if self.n > self.initial and self._time() - self.start_t >= LINE_SECONDS:
            print(msg or str(self), file=sys.stderr, flush=True)

    def refresh(self, *arguments, **options) -> None:
        """Only time brings a new line."""

    def close(self) -> None:
        self.disable = True  # no last line: the work says itself what it did
        super().close()
