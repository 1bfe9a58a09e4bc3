"""The page of results is what the command writes from the stored results, and README.md states no other result."""

import re
from pathlib import Path

from csam_lite.cli import main
from csam_lite.common.tables import read_csv
from csam_lite.experiments.compare import RESULTS
from csam_lite.experiments.tables import with_interval

ROOT = Path(__file__).resolve().parents[1]


def test_the_page_is_what_the_command_writes(tmp_path):
    assert main(["tables", "--out", str(tmp_path / "new.md")]) == 0
    kept = (RESULTS.parent / "README.md").read_text(encoding="utf-8")
    assert (tmp_path / "new.md").read_text(encoding="utf-8") == kept, (
        "run: python -m csam_lite tables --out csam_lite/experiments/README.md")


def test_every_stored_table_is_on_the_page():
    kept = (RESULTS.parent / "README.md").read_text(encoding="utf-8")
    for path in (RESULTS / "scores").glob("*.csv"):
        for line in path.read_text(encoding="utf-8").splitlines()[1:]:
            assert all(figure in kept for figure in re.findall(r"\d+\.\d+", line)), (path.name, line)


def test_every_result_in_the_readme_is_a_stored_one():
    """Dice values and differences, the figures with three decimals, stand on the page of results."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    kept = (RESULTS.parent / "README.md").read_text(encoding="utf-8")
    figures = re.findall(r"[+-]?\d\.\d{3}\b", readme)
    assert figures and not [figure for figure in figures if figure not in kept]


def test_a_difference_is_printed_with_its_interval():
    row = read_csv(RESULTS / "acdc.csv")[0]
    assert with_interval(row) == f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
    assert with_interval(row | {"metric": "hd95_mm", "difference": 3.94, "low": 1.26, "high": 7.15}) == "+3.9 [+1.3, +7.2]"
