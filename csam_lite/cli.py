"""Command line: python -m csam_lite COMMAND. Each command calls one function; --help lists them."""

from __future__ import annotations

import argparse
import errno
import os
import platform
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import MISSING, fields, replace
from pathlib import Path

from csam_lite import __version__
from csam_lite.common.errors import InputError, first_line, missing

MEMORY_IS_FULL = (
    "the memory is full; try a smaller --batch-size, --pixels or --base-channels, or close what else uses it"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code.

    0     done
    2     not done; one line on standard error says why. For an error that nobody foresaw it names a file
          with all that is needed to report it.
    130   stopped by Ctrl-C
    141   what read the standard output has closed the pipe
    """
    _prepare_streams()
    arguments = argparse.Namespace()
    try:
        _parser().parse_args(argv, arguments)
        arguments.run(arguments)
        sys.stdout.flush()
        return 0
    except InputError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        print("stopped; a training goes on with --resume", file=sys.stderr)
        return 130
    except BrokenPipeError:
        _drop_output()
        return 141
    except Exception as error:
        if _memory_is_full(error):
            return _fail(MEMORY_IS_FULL)
        if isinstance(error, OSError) and error.errno == errno.ENOSPC and not error.filename:
            _drop_output()
            return _fail(
                f"standard output cannot be written ({error.strerror}); write it into a file with space"
            )
        if isinstance(error, OSError) and error.filename and error.strerror:
            return _fail(f"{str(error.filename)[:200]}: {error.strerror}; check the name and its permissions")
        what = f"{type(error).__name__}: {first_line(error)}"
        return _fail(f"unexpected: {what}; please report it with {_report(arguments)}")


def _fail(message: str) -> int:
    """Say why a command is not done; the exit code."""
    if os.environ.get("RANK", "0") == "0":  # of several processes, one speaks
        with suppress(OSError):  # standard error may be a pipe that was closed
            print(f"error: {message}", file=sys.stderr, flush=True)
    return 2


def _memory_is_full(error: Exception) -> bool:
    """On a GPU torch raises an OutOfMemoryError, on a CPU a bare RuntimeError."""
    kinds = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return kinds or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))


def _report(arguments: argparse.Namespace) -> Path:
    """Write the traceback of the present error into a new file, beside the results if they have a folder."""
    text = f"csam_lite {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
    text += f"command: {sys.argv}\n\n{traceback.format_exc()}"
    out = Path(str(getattr(arguments, "out", "")))
    folder = out if out.name and out.is_dir() and os.access(out, os.W_OK) else Path(tempfile.gettempdir())
    path = folder / f"csam_lite-error-{os.getpid()}.txt"
    path.write_text(text, encoding="utf-8", errors="backslashreplace")
    return path


def _prepare_streams() -> None:
    """Where a shell has closed standard output or error (2>&-), write into nothing; a letter that the
    terminal's encoding lacks is written as its number.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Drop what still waits for standard output, because Python would complain once more when it ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _whole(flag: str, least: int, most: int) -> Callable[[str], int]:
    """The type of a whole number for argparse. Raises InputError for a number beyond its bounds."""

    def whole_number(text: str) -> int:
        if not least <= (number := int(text)) <= most:
            raise InputError(f"{flag} {number}: must lie between {least} and {most}")
        return number

    return whole_number


def run_demo(arguments: argparse.Namespace) -> None:
    from csam_lite.course.demo import demo

    demo(arguments.out, volumes=arguments.volumes, seed=arguments.seed)


def run_train(arguments: argparse.Namespace) -> None:
    from csam_lite.training.config import Config
    from csam_lite.training.run import load_description
    from csam_lite.training.trainer import train
    from csam_lite.training.transfer import config_of

    names = [option.name for option in fields(Config)]
    typed = {name: getattr(arguments, name) for name in names if hasattr(arguments, name)}
    if "data" not in typed and not arguments.resume:
        raise InputError("--data: is missing; give the folder with the scans")
    config = replace(load_description(typed["out"])[0], **typed) if arguments.resume else config_of(**typed)
    train(config, resume=arguments.resume)
    if os.environ.get("RANK", "0") == "0":
        print(f"{typed['out']}: trained; next: python -m csam_lite evaluate {typed['out']}")


def run_evaluate(arguments: argparse.Namespace) -> None:
    from csam_lite.common.tables import check_csv_name, markdown, write_csv
    from csam_lite.inference.evaluate import evaluate
    from csam_lite.metrics.overlap import mean_dice, summarise
    from csam_lite.training.run import load_run

    check_csv_name(arguments.csv)
    run = load_run(arguments.folder, arguments.weights)
    rows = evaluate(run, arguments.data, arguments.part, arguments.one_zone, arguments.masks,
                    empty=arguments.empty)
    path = Path(arguments.csv or run.folder / f"{arguments.part}.csv")
    print(markdown(rows) if arguments.subjects else markdown(summarise(rows)))
    write_csv(path, rows, decimals=4)  # after the work is on the screen, because this may fail
    classes = ", ".join(run.facts.labels.values())
    print(f"\nMean Dice over {classes}: {mean_dice(rows):.3f}. Every subject: {path}")


def run_predict(arguments: argparse.Namespace) -> None:
    from csam_lite.inference.predict import predict
    from csam_lite.training.run import load_run

    run = load_run(arguments.folder, arguments.weights)
    predict(run, arguments.image, arguments.mask, arguments.uncertainty, arguments.draws, arguments.channels)
    print(f"{arguments.mask}: written on the grid of {arguments.image}")
    if arguments.uncertainty:
        what = "standard deviation of the class probabilities"
        print(f"{arguments.uncertainty}: {what} over {arguments.draws} draws")


def run_explore(arguments: argparse.Namespace) -> None:
    from csam_lite.explorer.saved_page import check_name
    from csam_lite.explorer.widget import explore
    from csam_lite.inference.predict import read_for
    from csam_lite.training.run import load_run

    run = load_run(arguments.folder, arguments.weights)
    scan = read_for(run, arguments.scan, arguments.label, arguments.channels)
    check_name(arguments.out)
    other = read_for(run, arguments.other, None, arguments.channels) if arguments.other else None
    explorer = explore(run, scan, draws=arguments.draws, other=other)
    explorer.save(arguments.out, arguments.live, arguments.runtime)
    print(f"{arguments.out}: open it in a browser; it needs no internet and no Python")


def run_export(arguments: argparse.Namespace) -> None:
    from csam_lite.inference.export import export
    from csam_lite.training.run import load_run

    path, description = export(load_run(arguments.folder, arguments.weights), arguments.out)
    print(f"{path}: the network, for onnxruntime; {description} says what it reads and answers")


def run_page(arguments: argparse.Namespace) -> None:
    from csam_lite.explorer.drop_page import write_drop_page
    from csam_lite.training.run import load_run

    is_file = str(arguments.folder).endswith(".onnx")
    network = arguments.folder if is_file else load_run(arguments.folder, arguments.weights)
    write_drop_page(network, arguments.out, arguments.runtime)
    print(f"{arguments.out}: open it in a browser and drop a scan on it; it needs no internet and no Python")


def run_tour(arguments: argparse.Namespace) -> None:
    from csam_lite.explorer.tour import write_tour

    write_tour(arguments.out, arguments.runtime)
    print(f"{arguments.out}: open it in a browser; it needs no internet and no Python")


def run_compare(arguments: argparse.Namespace) -> None:
    from csam_lite.common.tables import markdown
    from csam_lite.experiments.compare import compare, over_all_classes
    from csam_lite.experiments.parts import collect, compare_part

    if arguments.part:
        folders = compare_part(arguments.plan, arguments.part, arguments.data, arguments.out)
        print(f"{len(folders)} runs are done; next: --collect joins the folders of all parts")
        return
    if arguments.collect:
        scores, differences = collect(arguments.plan, arguments.collect, arguments.data, arguments.out)
    else:
        scores, differences = compare(arguments.plan, arguments.data, arguments.out, arguments.hours)
    print(f"\n{markdown(scores)}")
    if differences:
        print(f"\n{markdown(over_all_classes(differences))}")


def run_coverage(arguments: argparse.Namespace) -> None:
    from csam_lite.common.tables import check_csv_name, markdown, write_csv
    from csam_lite.metrics.coverage import coverage_table

    check_csv_name(arguments.csv)
    rows = coverage_table(arguments.repeats, arguments.seed)
    print(markdown(rows))
    if arguments.csv:
        write_csv(arguments.csv, rows, decimals=3)


def run_gates(arguments: argparse.Namespace) -> None:
    from csam_lite.common.tables import check_csv_name, markdown, write_csv
    from csam_lite.inference.gate_spread import gate_spread
    from csam_lite.training.run import load_run

    check_csv_name(arguments.csv)
    run = load_run(arguments.folder, arguments.weights)
    rows = gate_spread(run, arguments.data, arguments.volumes, arguments.worth)
    print(markdown(rows))
    if arguments.csv:
        write_csv(arguments.csv, rows)


def run_ambiguity(arguments: argparse.Namespace) -> None:
    from csam_lite.common.tables import markdown
    from csam_lite.experiments.ambiguity import ambiguity

    print(markdown(ambiguity(arguments.volumes, not arguments.control, arguments.seed, arguments.end)))


def run_tables(arguments: argparse.Namespace) -> None:
    from csam_lite.experiments.tables import write_tables

    if Path(arguments.out).suffix.lower() != ".md" and not Path(arguments.out).is_dir():
        raise InputError(f"--out {arguments.out}: is a page in Markdown; let the name end in .md")
    print(f"{write_tables(arguments.out)}: written from the stored results")


def run_bench(arguments: argparse.Namespace) -> None:
    import torch

    from csam_lite.common.figures import save_figure
    from csam_lite.common.memory import keep_freed_memory
    from csam_lite.common.tables import markdown
    from csam_lite.experiments.benchmark import bench, growth, slopes
    from csam_lite.experiments.figures import plot_time_growth

    if arguments.growth and not str(arguments.growth).lower().endswith((".png", ".pdf", ".svg")):
        raise InputError(f"--growth {arguments.growth}: is a picture; let the name end in .png, .pdf or .svg")
    if not arguments.fresh_memory:
        keep_freed_memory()
    threads = f"{torch.get_num_threads()} CPU threads"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else threads
    print(f"torch {torch.__version__}, {device}\n")
    sizes = (arguments.slices, arguments.pixels, arguments.base_channels, arguments.levels, arguments.volumes)
    print(markdown(bench(*sizes, arguments.repeats, arguments.compile)))
    if arguments.growth:
        rows = growth(repeats=arguments.repeats)
        slope_of_axis = slopes(rows)
        save_figure(plot_time_growth(rows, slope_of_axis), arguments.growth)
        text = ", ".join(f"{axis} {slope:.2f}" for axis, slope in slope_of_axis.items())
        print(f"\n{markdown(rows)}\n\nSlopes: {text}. Picture: {arguments.growth}")


def run_check(arguments: argparse.Namespace) -> None:
    from csam_lite.common.tables import markdown
    from csam_lite.data.survey import survey

    cases, problems = survey(arguments.folder, arguments.one_zone, empty=arguments.empty)
    print(markdown(cases))
    if problems:
        print(f"\n{markdown(problems)}\n")
        count = f"{len(problems)} problem(s), listed above"
        raise InputError(f"{arguments.folder}: {count}; correct them or take the cases out")
    print("\nNo problems found.")


def run_phantom(arguments: argparse.Namespace) -> None:
    from csam_lite.data.phantom import write_phantoms

    write_phantoms(
        arguments.folder, count=arguments.volumes, seed=arguments.seed, ambiguous=not arguments.control
    )
    print(f"{arguments.folder}: {arguments.volumes} phantoms in the Decathlon layout")


def run_course(arguments: argparse.Namespace) -> None:
    from csam_lite.course.notebooks import PACKAGE, copy_notebooks
    from csam_lite.course.stamp import stamp

    if arguments.stamp:
        changed = stamp(arguments.stamp, PACKAGE.parent)
        print(f"{arguments.stamp}: {len(changed)} files changed; the outputs of the notebooks stay valid")
        return
    if arguments.copy:
        copied = copy_notebooks(Path(arguments.copy))
        print(f"{arguments.copy}: {len(copied)} notebooks; open them with: jupyter lab {arguments.copy}")
        return
    _need_course()
    if arguments.new_exercise:
        from csam_lite.course.new_exercise import new_exercise

        changed = new_exercise(arguments.new_exercise, PACKAGE.parent, arguments.name)
        print("\n".join([f"{path}: changed" for path in changed]))
        write = f"python -m csam_lite course --write {arguments.new_exercise}"
        print(f"next, as CONTRIBUTING.md says: ruff check --fix csam_lite; {write}")
        return
    from csam_lite.course.execute import run_course

    run_course(
        arguments.data, arguments.out, arguments.names, arguments.full, arguments.learner, arguments.write,
        arguments.timeout, arguments.seed,
    )  # fmt: skip


def run_site(arguments: argparse.Namespace) -> None:
    _need_course("site")
    try:
        import zensical  # noqa: F401
    except ImportError as error:
        raise missing("site", "zensical", "site") from error
    from csam_lite.course.site.build import build_site

    out = build_site(arguments.out, arguments.notebooks)
    print(f"{out}: the site; see it with: python -m http.server --directory {out}")


def run_lab_release(arguments: argparse.Namespace) -> None:
    from csam_lite.course.lab.release import release

    _need_course("lab")
    release(arguments.names, arguments.out, nbgrader=arguments.nbgrader)
    print(f"{arguments.out}: student and instructor editions, and a syllabus"
          + ("; a course for nbgrader" if arguments.nbgrader else ""))


def run_lab_grade(arguments: argparse.Namespace) -> None:
    from csam_lite.common.tables import check_csv_name
    from csam_lite.course.lab.grade import grade_folder

    check_csv_name(arguments.csv)
    _need_course("lab")
    limits = (arguments.seconds, arguments.megabytes, arguments.jobs)
    grades = grade_folder(arguments.folder, arguments.csv, *limits, arguments.seed)
    students = "1 student" if len(grades) == 1 else f"{len(grades)} students"
    remarks = [f"{grade.student}: {remark}" for grade in grades for remark in grade.remarks]
    print("\n".join([*remarks, f"{arguments.csv}: {students}; a page of feedback for each is beside it"]))


def _need_course(what: str = "course") -> None:
    """Raise InputError where the packages of the course are not installed."""
    try:
        import nbconvert  # noqa: F401
        import papermill  # noqa: F401
    except ImportError as error:
        raise missing(what, error.name or "nbconvert", "course") from error


def _parser() -> argparse.ArgumentParser:
    """The commands, room by room."""
    parser = argparse.ArgumentParser(
        "csam_lite", description="Cross-slice attention for anisotropic volumes."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(run: Callable | None, name: str, purpose: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=purpose.replace("%", "%%"), description=purpose)
        added.set_defaults(run=run)
        return added

    rooms = (_add_first_steps, _add_training, _add_use_of_a_run, _add_experiments, _add_data, _add_course)
    for add_room in rooms:
        add_room(command)
    return parser


Command = Callable[[Callable, str, str], argparse.ArgumentParser]  # what it runs, its name, its purpose
SEED = (0, 2**63 - 1)


def _add_first_steps(command: Command) -> None:
    demo = command(
        run_demo, "demo", "make phantoms, train a small CSAM U-Net on them, leave scores, masks and pictures"
    )
    demo.add_argument("--out", default="demo", help="folder for everything (default: demo)")
    _add_whole(demo, "--volumes", 32, 1, 100_000, "number of phantoms, a quarter is held out")
    _add_whole(demo, "--seed", 0, *SEED, "of phantoms and training")


def _add_training(command: Command) -> None:
    from csam_lite.training.config import Config

    train = command(run_train, "train", "train a network on a folder of scans")
    for option in fields(Config):
        if option.type is bool:
            kind = dict(action=argparse.BooleanOptionalAction)
        else:
            kind = dict(type=option.type)
        default = "" if option.default in (MISSING, "") else f" (default: {option.default})"
        flags = [f"--{option.name.replace('_', '-')}", option.metadata["short"]]
        train.add_argument(
            *filter(None, flags),
            help=option.metadata["help"] + default,
            required=option.name == "out",
            default=argparse.SUPPRESS,  # what is not typed is left to Config, or to the run that is resumed
            **kind,
        )
    train.add_argument("--resume", action="store_true", help="go on with the run in --out, with its options")


def _add_use_of_a_run(command: Command) -> None:
    from csam_lite.data.labels import EMPTY, ONE_ZONE
    from csam_lite.training.run import PRETRAINED

    evaluate = command(
        run_evaluate, "evaluate", "measure a trained network: Dice, HD95, ASSD, volumes, by subject"
    )
    predict = command(run_predict, "predict", "segment one scan; the mask has the scan's own grid and affine")
    explore = command(
        run_explore,
        "explore",
        "write a page with a scan, its mask and the gates of a trained network, in which gates can be "
        "changed; it opens offline",
    )
    gates = command(run_gates, "gates", "measure how much every gate at every scale differs between volumes")
    export = command(
        run_export,
        "export",
        "write a trained network as ONNX, with every gate replaceable, and its description",
    )

    page = command(
        run_page,
        "page",
        "write a page with a trained network inside: drop a scan on it, see its mask, change gates; it opens "
        "offline",
    )

    tour = command(
        run_tour,
        "tour",
        "write the guided tour for visitors: six steps on a phantom, in a page that opens offline",
    )
    tour.add_argument("out", metavar="OUT.html", help="page to write")

    for added in (evaluate, explore, gates, export):
        added.add_argument("folder", metavar="RUN", help="folder of the run")
    for added in (evaluate, gates):
        added.add_argument("--data", help="folder of the scans, if not where they were in training")
    for added in (evaluate, predict, explore, gates, export, page):
        added.add_argument(
            "--weights",
            choices=("best", "last"),
            default="best",
            help="which weights of the run (default: best)",
        )
    for added in (predict, explore):
        added.add_argument(
            "--channels",
            default="",
            metavar="NAMES",
            help="of the scan, joined by +, for example T2+ADC, of which the network takes those it was "
            "trained on; all if not given",
        )

    parts = ("test", "val", "train", "all")
    evaluate.add_argument("--part", choices=parts, default="test", help="of the run's split (default: test)")
    for flag, choices in (("--one-zone", ONE_ZONE), ("--empty", EMPTY)):
        evaluate.add_argument(flag, choices=choices, help="as in train; the run's own choice if not given")
    evaluate.add_argument("--csv", help="file for the table of all subjects; PART.csv in RUN if not given")
    evaluate.add_argument("--masks", metavar="DIR", help="also write the masks there")
    evaluate.add_argument("--subjects", action="store_true", help="print every subject")

    predict.add_argument("image", metavar="IN", help="NIfTI scan")
    predict.add_argument("mask", metavar="OUT", help="NIfTI mask to write")
    for added in (predict, page):
        added.add_argument(
            "--run",
            dest="folder",
            metavar="RUN",
            default=PRETRAINED,
            help="folder of the run (default: the network that ships, for T2 prostate scans, made from "
            "phantoms)",
        )
    predict.add_argument(
        "--uncertainty", metavar="MAP", help="also write a map of how much repeated draws disagree"
    )
    _add_whole(predict, "--draws", 20, 1, 100_000, "number of draws for the map")

    explore.add_argument("scan", metavar="SCAN", help="NIfTI scan")
    explore.add_argument("--label", metavar="MASK", help="NIfTI mask of the reference")
    explore.add_argument(
        "--other", metavar="SCAN2", help="NIfTI scan whose gates a reader can put in place of those of SCAN"
    )
    explore.add_argument(
        "--out", default="attention.html", metavar="PAGE", help="page to write (default: attention.html)"
    )
    _add_whole(explore, "--draws", 20, 0, 100_000, "of a drawn slice gate, for the uncertainty; 0: none")
    explore.add_argument(
        "--no-live",
        dest="live",
        action="store_false",
        help="leave the network out: a small page, in which no gate can be changed",
    )

    _add_whole(gates, "--volumes", 20, 2, 100_000, "how many of its cases")
    gates.add_argument(
        "--worth",
        action="store_true",
        help="also the Dice that is lost where a gate is replaced by its mean over the volumes",
    )
    gates.add_argument("--csv", help="also write the table there")

    export.add_argument("out", metavar="OUT.onnx", help="file to write; OUT.json beside it describes it")

    page.add_argument(
        "out", metavar="OUT.html", help="page to write; --run may also name an exported OUT.onnx"
    )
    for added in (explore, page, tour):
        added.add_argument(
            "--runtime",
            metavar="FILE",
            help="package of onnxruntime-web, as `npm pack` brings it, if it cannot be downloaded",
        )


def _add_experiments(command: Command) -> None:
    from csam_lite.experiments.plan import PLANS

    compare = command(
        run_compare, "compare", "train several networks under one budget and compare them patient by patient"
    )
    shipped = ", ".join(sorted(path.stem for path in PLANS.glob("*.toml")))
    compare.add_argument(
        "plan",
        metavar="CONFIG",
        help=f"TOML file as experiments/plan.py describes, or a shipped plan: {shipped}",
    )
    compare.add_argument("--data", help="folder of the scans, in place of the plan's")
    compare.add_argument("--out", help="folder for runs, tables and pictures, in place of the plan's")
    way = compare.add_mutually_exclusive_group()
    way.add_argument(
        "--hours",
        type=float,
        help="as many epochs, the same for all, as fit by steps timed here, in place of the plan's",
    )
    way.add_argument(
        "--part",
        metavar="K/N",
        help="do the K-th of N parts of the runs only, for example one of a cluster's array job",
    )
    way.add_argument(
        "--collect",
        nargs="+",
        metavar="FOLDER",
        help="join the runs that parts left in these folders, and write the tables",
    )

    coverage = command(
        run_coverage,
        "coverage",
        "measure by simulation how often the 95 % intervals of compare hold the truth",
    )
    _add_whole(coverage, "--repeats", 2000, 1, 10**9, "simulated experiments for each setting")
    _add_whole(coverage, "--seed", 0, *SEED, "of the simulation")
    coverage.add_argument("--csv", help="also write the table there")

    tables = command(run_tables, "tables", "write the page of all results from the results that ship")
    tables.add_argument(
        "--out", default="results.md", metavar="FILE", help="file to write (default: results.md)"
    )

    bench = command(
        run_bench,
        "bench",
        "time CSAM and a training step against the plain network and the published formula",
    )
    _add_whole(bench, "--slices", 20, 1, 10_000, "S")
    _add_whole(bench, "--pixels", 128, 1, 10**7, "H and W")
    _add_whole(bench, "--base-channels", 16, 1, 10_000, "C of the finest level")
    _add_whole(bench, "--levels", 6, 1, 12, "scales of the U-Net")
    _add_whole(bench, "--volumes", 1, 1, 10_000, "B")
    _add_whole(bench, "--repeats", 7, 1, 10**6, "timed turns")
    bench.add_argument(
        "--fresh-memory",
        action="store_true",
        help="let tensors get fresh pages each time, which training does not (see memory.py)",
    )
    bench.add_argument("--compile", action="store_true", help="also time the module under torch.compile")
    bench.add_argument(
        "--growth",
        metavar="PICTURE",
        help="also time how the cost grows with slices, pixels, channels, volumes; draw it there",
    )

    ambiguity = command(
        run_ambiguity, "ambiguity", "measure how well a single slice of a phantom tells gland from look-alike"
    )
    _add_whole(ambiguity, "--volumes", 300, 1, 100_000, "how many phantoms")
    _add_whole(ambiguity, "--seed", 1000, *SEED, "of the phantoms and the trainings")
    ambiguity.add_argument(
        "--control", action="store_true", help="the control phantom, whose single slices are unambiguous"
    )
    ambiguity.add_argument(
        "--end", choices=("apex", "base"), default="apex", help="of the gland (default: apex)"
    )


def _add_data(command: Command) -> None:
    from csam_lite.data.labels import EMPTY, ONE_ZONE

    check = command(run_check, "check", "list every problem of a data set in one table")
    check.add_argument("folder", metavar="DIR", help="folder of the scans")
    for flag, choices in (("--one-zone", ONE_ZONE), ("--empty", EMPTY)):
        purpose = "as in train: what is no problem then (default: error)"
        check.add_argument(flag, choices=choices, default="error", help=purpose)

    phantom = command(
        run_phantom, "phantom", "write synthetic prostate volumes (T2 + ADC) in the Decathlon layout"
    )
    phantom.add_argument("folder", metavar="DIR", help="folder to write")
    _add_whole(phantom, "--volumes", 32, 1, 100_000, "how many")
    _add_whole(phantom, "--seed", 0, *SEED, "the same seed gives the same bytes")
    phantom.add_argument(
        "--control", action="store_true", help="phantoms whose single slices are unambiguous at base and apex"
    )


def _add_course(command: Command) -> None:
    numbers = "numbers of notebooks, such as 02 04 (default: all)"
    course = command(
        run_course, "course", "execute the notebooks of the course in a clean folder, with a page of each"
    )
    course.add_argument("names", metavar="NN", nargs="*", help=numbers)
    course.add_argument(
        "--data",
        default="phantom",
        help="phantom, msd (downloads MSD Task05), or a folder of labelled scans (default: phantom)",
    )
    course.add_argument(
        "--out",
        default="course_run",
        help="folder for pages, executed notebooks and their data (default: course_run)",
    )
    course.add_argument("--full", action="store_true", help="as in a long reading: QUICK = False")
    course.add_argument(
        "--learner", action="store_true", help="as a learner first sees them: without the solutions"
    )
    course.add_argument("--write", action="store_true", help="save the outputs in the notebooks themselves")
    course.add_argument(
        "--timeout",
        type=float,
        default=0,
        metavar="S",
        help="seconds a notebook may take (default: 300; 7200 with --full)",
    )
    _add_whole(course, "--seed", 0, 0, 10**6, "SEED in the notebooks")
    course.add_argument(
        "--copy", metavar="DIR", help="only write the notebooks there, without outputs, to work in"
    )
    course.add_argument(
        "--stamp",
        metavar="OWNER/REPO@TAG",
        help="only write this address into badges, setup cells and pyproject.toml (for a fork)",
    )
    course.add_argument(
        "--new-exercise",
        metavar="NN",
        help="only write the cells, the check and the answers of a new exercise into this notebook",
    )
    course.add_argument("--name", default="", help="of the function in the new exercise")

    site = command(
        run_site,
        "site",
        "build the public site: pages of the notebooks, the reference, the results, the explorer",
    )
    site.add_argument("out", metavar="OUT", help="folder of the site: new, empty, or an earlier site")
    site.add_argument(
        "--notebooks",
        metavar="DIR",
        help="folder of executed notebooks, such as course_run (default: the stored notebooks)",
    )

    lab = command(None, "lab", "hand out exercises of the course, and grade what comes back")
    lab_commands = lab.add_subparsers(required=True, metavar="COMMAND")
    release = lab_commands.add_parser(
        "release", help="write student and instructor notebooks, and a syllabus"
    )
    release.set_defaults(run=run_lab_release)
    release.add_argument("names", metavar="NN", nargs="*", help=numbers)
    release.add_argument("--out", required=True, metavar="DIR", help="new folder for the editions")
    release.add_argument(
        "--nbgrader", action="store_true", help="also write sources for nbgrader (install it on its own)"
    )
    grade = lab_commands.add_parser("grade", help="grade a folder of hand-ins into one table")
    grade.set_defaults(run=run_lab_grade)
    grade.add_argument(
        "folder", metavar="FOLDER", help="of FOLDER/STUDENT/NAME.ipynb or FOLDER/STUDENT.ipynb"
    )
    grade.add_argument(
        "--csv", required=True, metavar="GRADES", help="table to write: one row for each student"
    )
    grade.add_argument("--seconds", type=float, default=20, help="limit of each exercise (default: 20)")
    _add_whole(grade, "--megabytes", 2000, 1, 10**9, "memory of each hand-in")
    jobs = "hand-ins at a time (default: one for each processor)"
    grade.add_argument("--jobs", type=_whole("--jobs", 0, 1024), default=0, help=jobs)
    seed = "of the random inputs of the checks (default: a random one, recorded beside the feedback)"
    grade.add_argument("--seed", type=_whole("--seed", 0, 10**6), help=seed)


def _add_whole(
    parser: argparse.ArgumentParser, flag: str, default: int, least: int, most: int, purpose: str
) -> None:
    """An option that takes a whole number."""
    kind = _whole(flag, least, most)
    parser.add_argument(flag, type=kind, default=default, help=f"{purpose} (default: {default})")
