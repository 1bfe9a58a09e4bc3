"""Command line: python -m csam_lite COMMAND. Each command calls one function; --help lists them."""

import argparse
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields, replace
from pathlib import Path

from csam_lite import __version__
from csam_lite.common.errors import InputError

Arguments = argparse.Namespace


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code: 0, or 2 with one line on standard error that says what was wrong.

    130 is the exit code of a command that was interrupted, 141 of one whose reader closed the pipe.
    """
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments) or 0
    except InputError as error:
        return _end(str(error))
    except KeyboardInterrupt:
        print("stopped; a training goes on with --resume", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at its end
        return 141
    except Exception as error:
        if _memory_is_full(error):
            return _end("the memory is full; try a smaller --batch-size, --pixels or --base-channels, or close what else uses it")
        return _end(f"unexpected: {_first_line(error)}; please report it with {_write_traceback(arguments)}")


def _end(line: str) -> int:
    if os.environ.get("RANK", "0") == "0":  # of several processes, one speaks
        print(f"error: {line}", file=sys.stderr)
    return 2


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or ['no message'])[0]}"


def _memory_is_full(error: Exception) -> bool:
    """On a GPU torch raises an OutOfMemoryError, on a CPU a bare RuntimeError."""
    return (isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
            or isinstance(error, RuntimeError) and "can't allocate memory" in str(error))


def _write_traceback(arguments: Arguments) -> Path:
    """Write where an unforeseen error happened, beside the run if there is one; return the file."""
    out = Path(getattr(arguments, "out", None) or getattr(arguments, "folder", None) or "")
    folder = out if out.name and out.is_dir() and os.access(out, os.W_OK) else Path(tempfile.gettempdir())
    path = folder / f"csam_lite-error-{os.getpid()}.txt"
    version = f"csam_lite {__version__}, Python {sys.version}\n{' '.join(sys.argv)}\n\n"
    path.write_text(version + traceback.format_exc(), encoding="utf-8")
    return path


def run_demo(arguments: Arguments) -> None:
    from csam_lite.course.demo import demo

    demo(arguments.out, volumes=arguments.volumes, seed=arguments.seed)


def run_train(arguments: Arguments) -> None:
    from csam_lite.training.config import Config
    from csam_lite.training.run import load_description
    from csam_lite.training.trainer import train

    typed = {option.name: getattr(arguments, option.name) for option in fields(Config) if hasattr(arguments, option.name)}
    if "data" not in typed and not arguments.resume:
        raise InputError("--data: is missing; give the folder with the scans")
    config = replace(load_description(typed["out"])[0], **typed) if arguments.resume else Config(**typed)
    train(config, resume=arguments.resume)
    if os.environ.get("RANK", "0") == "0":
        print(f"{typed['out']}: trained; next: python -m csam_lite evaluate {typed['out']}")


def run_evaluate(arguments: Arguments) -> None:
    from csam_lite.common.tables import markdown, write_csv
    from csam_lite.inference.evaluate import evaluate
    from csam_lite.metrics.overlap import mean_dice, summarise
    from csam_lite.training.run import load_run

    run = load_run(arguments.folder, arguments.weights)
    rows = evaluate(run, arguments.data, arguments.part, arguments.one_zone, arguments.masks)
    path = Path(arguments.csv or run.folder / f"{arguments.part}.csv")
    write_csv(path, rows, decimals=4)
    print(markdown(rows) if arguments.subjects else markdown(summarise(rows)))
    print(f"\nMean Dice over {', '.join(run.facts.labels.values())}: {mean_dice(rows):.3f}. Every subject: {path}")


def run_predict(arguments: Arguments) -> None:
    from csam_lite.inference.predict import predict
    from csam_lite.training.run import load_run

    run = load_run(arguments.folder, arguments.weights)
    predict(run, arguments.image, arguments.mask, arguments.uncertainty, arguments.draws, arguments.channels)
    print(f"{arguments.mask}: written on the grid of {arguments.image}")
    if arguments.uncertainty:
        print(f"{arguments.uncertainty}: standard deviation of the class probabilities over {arguments.draws} draws")


def run_explore(arguments: Arguments) -> None:
    from csam_lite.explorer.widget import explore
    from csam_lite.inference.predict import read_for
    from csam_lite.training.run import load_run

    run = load_run(arguments.folder, arguments.weights)
    scan = read_for(run, arguments.scan, arguments.label, arguments.channels)
    explore(run, scan, draws=arguments.draws, save=arguments.out)
    print(f"{arguments.out}: open it in a browser; it needs no network and no Python")


def run_compare(arguments: Arguments) -> None:
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


def run_coverage(arguments: Arguments) -> None:
    from csam_lite.common.tables import markdown, write_csv
    from csam_lite.metrics.coverage import coverage_table

    rows = coverage_table(arguments.repeats, arguments.seed)
    print(markdown(rows))
    if arguments.csv:
        write_csv(arguments.csv, rows, decimals=3)


def run_gates(arguments: Arguments) -> None:
    from csam_lite.common.tables import markdown, write_csv
    from csam_lite.inference.gate_spread import gate_spread
    from csam_lite.training.run import load_run

    rows = gate_spread(load_run(arguments.folder, arguments.weights), arguments.data, arguments.volumes, arguments.worth)
    print(markdown(rows))
    if arguments.csv:
        write_csv(arguments.csv, rows)


def run_ambiguity(arguments: Arguments) -> None:
    from csam_lite.common.tables import markdown
    from csam_lite.experiments.ambiguity import ambiguity

    print(markdown(ambiguity(arguments.volumes, not arguments.control, arguments.seed, arguments.end)))


def run_tables(arguments: Arguments) -> None:
    from csam_lite.experiments.tables import write_tables

    print(f"{write_tables(arguments.out)}: written from the stored results")


def run_bench(arguments: Arguments) -> None:
    import torch

    from csam_lite.common.figures import save_figure
    from csam_lite.common.memory import keep_freed_memory
    from csam_lite.common.tables import markdown
    from csam_lite.experiments.benchmark import bench, growth, slopes
    from csam_lite.experiments.figures import plot_growth

    if not arguments.fresh_memory:
        keep_freed_memory()
    gpu = torch.cuda.is_available()
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name() if gpu else f'{torch.get_num_threads()} CPU threads'}\n")
    print(markdown(bench(arguments.slices, arguments.pixels, arguments.base_channels, arguments.levels,
                         arguments.volumes, arguments.repeats, arguments.compile)))
    if arguments.growth:
        rows = growth(repeats=arguments.repeats)
        slope_of = slopes(rows)
        save_figure(plot_growth(rows, slope_of), arguments.growth)
        told = ", ".join(f"{axis} {slope:.2f}" for axis, slope in slope_of.items())
        print(f"\n{markdown(rows)}\n\nSlopes: {told}. Picture: {arguments.growth}")


def run_check(arguments: Arguments) -> None:
    from csam_lite.common.tables import markdown
    from csam_lite.data.survey import survey

    description, problems = survey(arguments.folder, arguments.one_zone)
    print(markdown(description))
    if problems:
        print(f"\n{markdown(problems)}\n")
        raise InputError(f"{arguments.folder}: {len(problems)} problem(s), listed above; correct them or take the cases out")
    print("\nNo problems found.")


def run_phantom(arguments: Arguments) -> None:
    from csam_lite.data.phantom import write_phantoms

    write_phantoms(arguments.folder, count=arguments.volumes, seed=arguments.seed, ambiguous=not arguments.control)
    print(f"{arguments.folder}: {arguments.volumes} phantoms in the Decathlon layout")


def run_course(arguments: Arguments) -> None:
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
    from csam_lite.course.execute import run_course

    run_course(arguments.data, arguments.out, arguments.names, arguments.full, arguments.learner, arguments.write,
               arguments.timeout)


def run_lab_release(arguments: Arguments) -> None:
    from csam_lite.course.lab.release import release

    _need_course()
    release(arguments.names, arguments.out)
    print(f"{arguments.out}: student and instructor editions, and a syllabus")


def run_lab_grade(arguments: Arguments) -> None:
    from csam_lite.course.lab.grade import grade_folder

    _need_course()
    grades = grade_folder(arguments.folder, arguments.csv, arguments.seconds, arguments.megabytes, arguments.jobs)
    students = "1 student" if len(grades) == 1 else f"{len(grades)} students"
    remarks = [f"{grade.student}: {remark}" for grade in grades for remark in grade.remarks]
    print("\n".join([*remarks, f"{arguments.csv}: {students}; a page of feedback for each is beside it"]))


def _need_course() -> None:
    """Raise InputError where the packages of the course are not installed."""
    try:
        import nbconvert  # noqa: F401
        import papermill  # noqa: F401
    except ImportError as error:
        raise InputError(f"course: needs {error.name}; install csam-lite[course]") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("csam_lite", description="Cross-slice attention for anisotropic volumes.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(run: Callable[[Arguments], None] | None, name: str, about: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=about, description=about)
        added.set_defaults(run=run)
        return added

    for add_commands in (_demo_and_course, _data, _training, _inference, _experiments):
        add_commands(command)
    return parser


def _demo_and_course(command: Callable) -> None:
    demo = command(run_demo, "demo", "make phantoms, train a small CSAM U-Net on them, leave scores, masks and pictures")
    demo.add_argument("--out", default="demo", help="folder for everything (default: demo)")
    demo.add_argument("--volumes", type=int, default=32, help="number of phantoms, a quarter is held out (default: 32)")
    demo.add_argument("--seed", type=int, default=0, help="of phantoms and training (default: 0)")

    course = command(run_course, "course", "execute the notebooks of the course in a clean folder, with a page of each")
    course.add_argument("names", metavar="NN", nargs="*", help="numbers of notebooks, such as 02 04 (default: all)")
    course.add_argument("--data", default="phantom",
                        help="phantom, msd (downloads MSD Task05), or a folder of labelled scans (default: phantom)")
    course.add_argument("--out", default="course_run",
                        help="folder for pages, executed notebooks and their data (default: course_run)")
    course.add_argument("--full", action="store_true", help="as in a long reading: QUICK = False")
    course.add_argument("--learner", action="store_true", help="as a learner first sees them: without the solutions")
    course.add_argument("--write", action="store_true", help="save the outputs in the notebooks themselves")
    course.add_argument("--timeout", type=float, default=0, metavar="S",
                        help="seconds a notebook may take (default: 300; 7200 with --full)")
    course.add_argument("--copy", metavar="DIR", help="only write the notebooks there, without outputs, to work in")
    course.add_argument("--stamp", metavar="OWNER/REPO@TAG",
                        help="only write this address into badges, setup cells and pyproject.toml (for a fork)")

    lab = command(None, "lab", "hand out exercises of the course, and grade what comes back")
    lab_commands = lab.add_subparsers(required=True, metavar="COMMAND")
    released = lab_commands.add_parser("release", help="write student and instructor notebooks, and a syllabus")
    released.set_defaults(run=run_lab_release)
    released.add_argument("names", metavar="NN", nargs="*", help="numbers of notebooks, such as 02 04 (default: all)")
    released.add_argument("--out", required=True, metavar="DIR", help="new folder for the editions")
    graded = lab_commands.add_parser("grade", help="grade a folder of hand-ins into one table")
    graded.set_defaults(run=run_lab_grade)
    graded.add_argument("folder", metavar="FOLDER", help="of FOLDER/STUDENT/NAME.ipynb or FOLDER/STUDENT.ipynb")
    graded.add_argument("--csv", required=True, metavar="GRADES", help="table to write: one row for each student")
    graded.add_argument("--seconds", type=float, default=20, help="limit of each exercise (default: 20)")
    graded.add_argument("--megabytes", type=int, default=2000, help="memory of each hand-in (default: 2000)")
    graded.add_argument("--jobs", type=int, default=0, help="hand-ins at a time (default: one for each processor)")


def _data(command: Callable) -> None:
    from csam_lite.data.labels import ONE_ZONE

    check = command(run_check, "check", "list every problem of a data set in one table")
    check.add_argument("folder", metavar="DIR", help="folder of the scans")
    check.add_argument("--one-zone", choices=ONE_ZONE, default="error",
                       help="as in train: what is no problem then (default: error)")

    phantom = command(run_phantom, "phantom", "write synthetic prostate volumes (T2 + ADC) in the Decathlon layout")
    phantom.add_argument("folder", metavar="DIR", help="folder to write")
    phantom.add_argument("--volumes", type=int, default=32, help="how many (default: 32)")
    phantom.add_argument("--seed", type=int, default=0, help="the same seed gives the same bytes (default: 0)")
    phantom.add_argument("--control", action="store_true",
                         help="phantoms whose single slices are unambiguous at base and apex")


def _training(command: Callable) -> None:
    from csam_lite.training.config import Config

    train = command(run_train, "train", "train a network on a folder of scans")
    for option in fields(Config):
        kind = dict(action=argparse.BooleanOptionalAction) if option.type is bool else dict(type=option.type)
        default = "" if option.default is MISSING else f" (default: {option.default})"
        # SUPPRESS: what is not typed is left to Config, or to the run that is resumed
        train.add_argument(f"--{option.name.replace('_', '-')}", help=option.metadata["help"] + default,
                           required=option.name == "out", default=argparse.SUPPRESS, **kind)
    train.add_argument("--resume", action="store_true", help="go on with the run in --out, with its options")


def _inference(command: Callable) -> None:
    from csam_lite.data.labels import ONE_ZONE
    from csam_lite.training.run import PRETRAINED

    evaluate = command(run_evaluate, "evaluate", "measure a trained network: Dice, HD95, ASSD, volumes, by subject")
    evaluate.add_argument("folder", metavar="RUN", help="folder of the run")
    evaluate.add_argument("--data", help="folder of the scans, if not where they were in training")
    evaluate.add_argument("--part", choices=("test", "val", "train", "all"), default="test",
                          help="which part of the run's split (default: test)")
    evaluate.add_argument("--one-zone", choices=ONE_ZONE, help="as in train; the run's own choice if not given")
    evaluate.add_argument("--csv", help="file for the table of all subjects; PART.csv in RUN if not given")
    evaluate.add_argument("--masks", metavar="DIR", help="also write the masks there")
    evaluate.add_argument("--subjects", action="store_true", help="print every subject")

    predict = command(run_predict, "predict", "segment one scan; the mask has the scan's own grid and affine")
    predict.add_argument("image", metavar="IN", help="NIfTI scan")
    predict.add_argument("mask", metavar="OUT", help="NIfTI mask to write")
    predict.add_argument("--run", dest="folder", metavar="RUN", default=PRETRAINED,
                         help="folder of the run (default: the network that ships, for T2 prostate scans, "
                         "trained on phantoms)")
    predict.add_argument("--uncertainty", metavar="MAP", help="also write a map of how much repeated draws disagree")
    predict.add_argument("--draws", type=int, default=20, help="number of draws for the map (default: 20)")

    explore = command(run_explore, "explore",
                      "write a page to look at a scan, its mask and the gates of a trained network; it opens offline")
    explore.add_argument("folder", metavar="RUN", help="folder of the run")
    explore.add_argument("scan", metavar="SCAN", help="NIfTI scan")
    explore.add_argument("--label", metavar="MASK", help="NIfTI mask of the reference")
    explore.add_argument("--out", default="attention.html", metavar="PAGE",
                         help="page to write (default: attention.html)")
    explore.add_argument("--draws", type=int, default=20,
                         help="of a drawn slice gate, for the uncertainty; 0: none (default: 20)")
    for added in (predict, explore):
        added.add_argument("--channels", default="", metavar="NAMES",
                           help="of the scan, joined by +, for example T2+ADC, of which the network takes those "
                           "it was trained on; all if not given")

    gates = command(run_gates, "gates", "measure how much every gate at every scale differs between volumes")
    gates.add_argument("folder", metavar="RUN", help="folder of the run")
    gates.add_argument("--data", help="folder of the scans, if not where they were in training")
    gates.add_argument("--volumes", type=int, default=20, help="how many of its cases (default: 20)")
    gates.add_argument("--worth", action="store_true",
                       help="also the Dice that is lost where a gate is replaced by its mean over the volumes")
    gates.add_argument("--csv", help="also write the table there")
    for added in (evaluate, predict, explore, gates):
        added.add_argument("--weights", choices=("best", "last"), default="best",
                           help="which weights of the run (default: best)")


def _experiments(command: Callable) -> None:
    from csam_lite.experiments.plan import PLANS

    comparison = command(run_compare, "compare",
                         "train several networks under one budget and compare them patient by patient")
    comparison.add_argument("plan", metavar="CONFIG",
                            help="TOML file as csam_lite/experiments/plan.py describes, or a shipped plan: "
                            + ", ".join(sorted(path.stem for path in PLANS.glob("*.toml"))))
    comparison.add_argument("--data", help="folder of the scans, in place of the plan's")
    comparison.add_argument("--out", help="folder for runs, tables and pictures, in place of the plan's")
    way = comparison.add_mutually_exclusive_group()
    way.add_argument("--hours", type=float,
                     help="as many epochs, the same for all, as fit by steps timed here, in place of the plan's")
    way.add_argument("--part", metavar="K/N",
                     help="do the K-th of N parts of the runs only, for example one of a cluster's array job")
    way.add_argument("--collect", nargs="+", metavar="FOLDER",
                     help="join the runs that parts left in these folders, and write the tables")

    coverage = command(run_coverage, "coverage",
                       "measure by simulation how often the 95 % intervals of compare hold the truth")
    coverage.add_argument("--repeats", type=int, default=2000,
                          help="simulated experiments for each setting (default: 2000)")
    coverage.add_argument("--seed", type=int, default=0, help="of the simulation (default: 0)")
    coverage.add_argument("--csv", help="also write the table there")

    tables = command(run_tables, "tables", "write the page of all results from the results that ship")
    tables.add_argument("--out", default="results.md", metavar="FILE", help="file to write (default: results.md)")

    bench = command(run_bench, "bench", "time CSAM and a training step against the plain network and the published formula")
    sizes = (("slices", 20, "S"), ("pixels", 128, "H and W"), ("base-channels", 16, "C of the finest level"),
             ("levels", 6, "scales of the U-Net"), ("volumes", 1, "B"), ("repeats", 7, "timed turns"))
    for name, default, about in sizes:
        bench.add_argument(f"--{name}", type=int, default=default, help=f"{about} (default: {default})")
    bench.add_argument("--fresh-memory", action="store_true",
                       help="let tensors get fresh pages each time, which training does not (common/memory.py)")
    bench.add_argument("--compile", action="store_true", help="also time the module under torch.compile (starts slowly)")
    bench.add_argument("--growth", metavar="PICTURE",
                       help="also time how the cost grows with slices, pixels, channels, volumes; draw it there")

    ambiguity = command(run_ambiguity, "ambiguity",
                        "measure how well a single slice of a phantom tells gland from look-alike")
    ambiguity.add_argument("--volumes", type=int, default=300, help="how many phantoms (default: 300)")
    ambiguity.add_argument("--seed", type=int, default=1000, help="of the phantoms and the trainings (default: 1000)")
    ambiguity.add_argument("--control", action="store_true",
                           help="the control phantom, whose single slices are unambiguous")
    ambiguity.add_argument("--end", choices=("apex", "base"), default="apex", help="of the gland (default: apex)")
