"""Run every trial of `pytest -m stress` and write its table, tests/STRESS.md: python tests/stress.py [MORE PYTEST OPTIONS]"""

import os
import platform
import sys
import time
from datetime import date
from pathlib import Path

import pytest
from conftest import SEED

HERE = Path(__file__).resolve().parent
HEAD = """# Stress: what was tried, and what was found

Written by `python tests/stress.py`, which runs `pytest -m stress`; plain `pytest` runs a sample of each trial. *Found* counts the
failures of the first review (tracebacks, hangs, other exit codes, files left behind, results that differ), before any was fixed;
*left* those of this run. The seed of the random trials is printed by each and set by `CSAM_LITE_TEST_SEED`; any seed should pass.
Failures left are counted in tests that fail.
`python tests/test_review_rows.py` names the tests of each row of the reviews.

"""


class Table:
    """Collects the outcome of each trial, which conftest.py adds to the reports."""

    def __init__(self):
        self.rows = {}  # trial: [count, found, left]

    def pytest_runtest_logreport(self, report):
        trial = dict(report.user_properties).get("stress")
        if trial and (report.when == "call" or report.outcome != "passed"):
            row = self.rows.setdefault(trial["trial"], [0, trial["found"], 0])
            row[0] += trial.get("count", 1) * (report.outcome != "skipped")
            row[2] += report.outcome == "failed"


def main():
    os.environ["CSAM_LITE_TEST_SEED"] = str(SEED)
    table, start = Table(), time.monotonic()
    code = pytest.main(["-m", "stress", "-q", "-p", "no:cacheprovider", str(HERE), *sys.argv[1:]], plugins=[table])
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    lines = ["| trial | count | failures found | failures left |", "|---|---:|---:|---:|"]
    lines += [f"| {trial} | {count} | {found} | {left} |" for trial, (count, found, left) in sorted(table.rows.items())]
    total = [sum(values) for values in zip(*table.rows.values())]
    lines.append(f"| together | {total[0]} | {total[1]} | {total[2]} |")
    lines.append(f"\n{date.today()}, {machine}, seed {SEED}, {(time.monotonic() - start) / 60:.0f} minutes.")
    (HERE / "STRESS.md").write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
