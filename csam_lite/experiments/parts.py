"""One experiment on several machines: each does a part of the runs, with no lock on a shared disk, and one
joins the parts.

    python -m csam_lite compare PLAN --data DIR --out part2 --part 2/8    # task 2 of 8 of an array job
    python -m csam_lite compare PLAN --out joined --collect part1 part2 ...

A part that was interrupted goes on when its command is started again. All parts may write to one folder,
because each run belongs to one part only. What no part has done is named; `compare PLAN --out joined` then
does it.
"""

import filecmp
import re
import shutil
from pathlib import Path

from csam_lite.common.errors import InputError
from csam_lite.common.files import make_folder
from csam_lite.experiments.compare import Tables, check_failures, do_run, write_tables
from csam_lite.experiments.held_out import is_done, write_json
from csam_lite.experiments.plan import configs, data_digest, read_plan
from csam_lite.experiments.record import join_records, keep_record
from csam_lite.training.config import Config


def compare_part(path: str | Path, part: str, data: str | None = None, out: str | None = None,
                 progress: bool = True) -> list[Path]:
    """Do, or finish, one part of the runs of a plan, for example part "2/8"; return the folders of these
    runs.

    The first part also times a training step of each network. Raises InputError as `compare` does, for a part
    that does not exist, and for a plan whose epochs depend on the machine (`hours`).
    """
    number, count = parse_part(part)
    plan = read_plan(path, data, out)
    if plan["hours"]:
        raise InputError(f"{path}: gives hours, and each machine would fit other epochs into them; "
                         "put epochs under [options] instead")
    mine = [config for _, _, config in configs(plan)][number - 1::count]
    digest, folder = data_digest(plan["data"]), make_folder(plan["out"])
    keep_record(
        plan, digest, folder / f"experiment-{number}of{count}.json", timed=number == 1, progress=progress
    )
    failed = {}
    for done, config in enumerate(mine, 1):
        if not is_done(config):
            name = Path(config.out).name
            if progress:
                print(f"[{done}/{len(mine)} of part {part}] {name}", flush=True)
            if reason := do_run(config, progress):
                failed[name] = reason
    check_failures(failed, len(mine))
    return [Path(config.out) for config in mine]


def parse_part(text: str) -> tuple[int, int]:
    """(2, 8) of "2/8". Raises InputError where this is no part."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    number, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= count:
        raise InputError(
            f"--part {text}: must be a number and the number of parts, such as 2/8; parts are numbered from 1"
        )
    return number, count


def collect(
    path: str | Path, folders: list[str | Path], data: str | None = None, out: str | None = None
) -> Tables:
    """Copy the finished runs of all parts in `folders` into the plan's `out` and write the tables there, as
    `compare` does.

    The scans are not needed. Raises InputError where runs are missing (those found are kept in `out`), where
    a run has other options than the plan, where a run was done twice with different scores, and where the
    parts saw different data.
    """
    plan = read_plan(path, data or "", out)
    if plan["hours"]:
        raise InputError(
            f"{path}: gives hours, which several machines cannot share; put epochs under [options] instead"
        )
    target, sources = Path(plan["out"]), [Path(folder) for folder in folders]
    own = [target] if list(target.glob("experiment*.json")) else []
    record = join_records([*own, *sources])
    planned = [config for _, _, config in configs(plan)]
    for config in planned:
        _take(config, [folder / Path(config.out).name for folder in sources])
    write_json(target / "experiment.json", record)
    missing = [Path(config.out).name for config in planned if not is_done(config)]
    if missing:
        raise InputError(
            f"{target}: {len(missing)} of {len(planned)} runs are missing or unfinished: "
            f"{', '.join(missing)}; collect them too, or do them here with `compare`, without --collect"
        )
    return write_tables(plan, record)


def _take(config: Config, candidates: list[Path]) -> None:
    """Copy the first finished one of `candidates` to config.out, whole or not at all, without what only a
    longer training needs."""
    target = Path(config.out)
    for folder in candidates:
        if folder.resolve() == target.resolve() or not is_done(config, folder):
            continue
        if is_done(config):
            if not filecmp.cmp(folder / "held_out.csv", target / "held_out.csv", shallow=False):
                raise InputError(
                    f"{folder}: was also done elsewhere, with other scores ({target}); leave one of them out"
                )
            continue
        if target.exists():
            raise InputError(
                f"{target}: holds an unfinished run, and {folder} a finished one; delete the unfinished run"
            )
        copy = target.with_name(f".part-{target.name}")
        shutil.rmtree(copy, ignore_errors=True)
        try:
            shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("resume.pt"))
            copy.rename(target)
        except OSError as error:
            shutil.rmtree(copy, ignore_errors=True)
            why = error.strerror or "a copy failed"
            raise InputError(
                f"{target}: cannot be written ({why}); free some space, or choose another --out"
            ) from error
