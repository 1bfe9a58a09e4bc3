"""The record of an experiment, experiment.json: its data, code, machine, date and costs, because a table
without them cannot be repeated."""

import json
from pathlib import Path

from csam_lite.common.errors import InputError, first_line
from csam_lite.experiments.held_out import write_json
from csam_lite.experiments.plan import affordable_epochs, costs
from csam_lite.training.run import code_version

Record = dict[str, object]


def keep_record(plan: dict, digest: str, path: Path, timed: bool = True, progress: bool = True) -> Record:
    """The record in `path`, which is written at the first start of an experiment and read again later.

    digest: of the plan's data, see `data_digest`. timed: whether a training step of each network is timed on
    this machine. Raises InputError where the experiment was started on other data.
    """
    record = read_record(path) if path.exists() else {}
    if record.get("data", digest) != digest:
        raise InputError(f"{path.parent}: was started on other data (md5 {record['data']}); "
                         "choose another out for the experiment")
    if not record:
        record = {"csam_lite": code_version(), "data": digest, "costs": {}} | _machine()
    untimed = set(plan["networks"]) - set(record["costs"])  # at the first start, or when a network was added
    if timed and untimed:
        record["costs"] = costs(plan, progress)
    if plan["hours"] and "epochs" not in record:
        record["epochs"] = affordable_epochs(plan, record["costs"])
    write_json(path, record)
    return record


def read_record(path: Path) -> Record:
    """The record in a file. Raises InputError where it holds none, or a damaged one."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        texts = ("csam_lite", "data", "torch", "machine", "date")
        if not all(isinstance(record[name], str) for name in texts):
            raise ValueError("an entry is no text")
        if type(record.get("epochs", 1)) is not int:
            raise ValueError("epochs are no whole number")
        if not all(type(ms) in (int, float) for cost in record["costs"].values() for ms in cost.values()):
            raise ValueError("costs are no numbers")
        return record
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: is damaged ({first_line(error)}); copy it again, or delete it: the steps "
                         "are then timed anew") from error


def join_records(folders: list[Path]) -> Record:
    """One record from those that the parts of an experiment left in `folders`. Raises InputError for other
    data, or none."""
    records = []
    for folder in folders:
        paths = sorted(folder.glob("experiment*.json"))
        if not paths:
            raise InputError(
                f"{folder}: holds no experiment.json; give folders that `compare --part` has written"
            )
        records += [read_record(path) for path in paths]
        if records[-1]["data"] != records[0]["data"]:
            raise InputError(f"{folder}: is from other data (md5 {records[-1]['data']}) than {folders[0]} "
                             f"({records[0]['data']}); run its part again on the same data")
    joined = {name: "; ".join(sorted({value for record in records for value in record[name].split("; ")}))
              for name in ("csam_lite", "data", "torch", "machine", "date")}
    return joined | {"costs": next((record["costs"] for record in records if record["costs"]), {})}


def headline(record: Record) -> str:
    """The record in one line: code, data, torch, machine, date and, where the hours decided them, epochs."""
    return ", ".join(f"{name} {value}" for name, value in record.items() if isinstance(value, (str, int)))


def _machine() -> Record:
    import platform
    from datetime import date

    import torch

    device = (torch.cuda.get_device_name() if torch.cuda.is_available()
              else f"{torch.get_num_threads()} CPU threads, {platform.machine()}")
    return {"torch": torch.__version__, "machine": device, "date": date.today().isoformat()}
