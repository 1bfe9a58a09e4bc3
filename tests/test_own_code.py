"""The reader's code at work: kept, run instead of the library's, and never in the way; and the table of exercises."""

import json
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from answers import n02, n03, n04

from csam_lite import CSAM, SliceAttention, UNet, course, override_gates, record_gates
from csam_lite.core.masks import centred_slots
from csam_lite.course import answers as library
from csam_lite.course import checks, own_code, progress

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
FORMULAS = {"semantic": n02.RIGHT["semantic_attention"], "positional": n03.RIGHT["positional_attention"],
            "slice": n04.RIGHT["slice_gate"]}
CHECKS = {"semantic": checks.n02.semantic_attention, "positional": checks.n03.positional_attention, "slice": checks.n04.slice_gate}


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """A data folder of this test, and a process that has kept no answer yet."""
    monkeypatch.setenv("CSAM_LITE_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(own_code, "_answers", {})
    return tmp_path / "data"


@pytest.fixture
def notebook(disk, monkeypatch):
    """The process of a notebook, as the checks see it."""
    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    return disk


def first(gate):
    return next(iter(FORMULAS[gate].values()))


def both(options=(), num_slices=6, channels=4):
    """The library's CSAM, and one with the same weights that runs the formulas of a reader."""
    torch.manual_seed(1)
    ours = CSAM(num_slices, channels, fast=False, **dict(options))
    mine = CSAM(num_slices, channels, **dict(options))
    mine.load_state_dict(ours.state_dict())
    return ours, own_code.run_formula(mine, **{gate: first(gate) for gate in FORMULAS})


def same(result, expected):
    assert torch.allclose(result, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("slices", [6, 4, 1])
def test_a_csam_of_the_readers_formulas_is_the_librarys(slices):
    ours, mine = both()
    x = torch.randn(3, slices, 4, 8, 7)
    gradients = []
    for csam in (ours, mine):
        leaf = x.clone().requires_grad_()
        y = csam(leaf)
        gradients.append([y, *torch.autograd.grad(y.square().sum(), [leaf, *csam.parameters()])])
    for expected, result in zip(*gradients):
        same(result, expected)
    assert type(mine.slice) is not type(ours.slice)


def test_padding_and_missing_slices_change_nothing():
    ours, mine = both()
    x = torch.randn(3, 6, 4, 8, 8)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 0, 0], [1, 0, 1, 1, 0, 0]]).bool()
    x[~mask] = torch.nan
    same(mine(x, mask), ours(x, mask))
    with pytest.raises(ValueError, match="deeper than"):
        mine(torch.randn(1, 7, 4, 8, 8))


def test_the_gates_are_read_and_replaced_as_always():
    ours, mine = both()
    x = torch.randn(2, 5, 4, 8, 8)
    x[:, :, 1] = 0  # a channel of zeros says nothing of its gate
    records = []
    for csam in (ours, mine):
        with torch.no_grad(), record_gates(csam) as record:
            csam(x)
        records.append(record[""])
    for gate in FORMULAS:
        expected, result = (record[gate].values for record in records)
        keep = [0, 2, 3] if gate == "semantic" else slice(None)
        np.testing.assert_allclose(result[:, keep], expected[:, keep], atol=1e-5)
    for ours_, mine_ in zip(ours.attentions, mine.attentions):
        same(mine_.gate_of(x.abs() + 1), ours_.gate_of(x.abs() + 1))
    flat = {("", "slice"): lambda A: A.mean(1, keepdim=True), ("", "positional"): 0.3}
    with torch.no_grad(), override_gates(ours, flat), override_gates(mine, flat):
        same(mine(x), ours(x))
    same(mine(x), ours(x))


def test_a_formula_is_run_in_a_network_and_trains_it():
    torch.manual_seed(0)
    networks = [UNet(1, 3, 6, base_channels=4, levels=2) for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    own_code.run_formula(networks[1], **{gate: first(gate) for gate in FORMULAS})
    x, losses = torch.randn(2, 6, 1, 16, 16), []
    for network in networks:
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            loss = (network(x) - x).square().mean()
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert abs(losses[0] - losses[1]) < 1e-5
    for (name, ours), mine in zip(networks[0].state_dict().items(), networks[1].state_dict().values()):
        assert torch.allclose(ours, mine, atol=1e-5), name


def test_a_gate_that_draws_and_a_formula_of_none_stay_the_librarys():
    drawn = own_code.run_formula(CSAM(6, 4, uncertain=True), slice=first("slice"))
    assert type(drawn.slice) is SliceAttention
    untouched = own_code.run_formula(CSAM(6, 4), semantic=None)
    assert untouched.fast and type(untouched.slice) is SliceAttention


def test_yours_works_where_it_passed_and_ours_otherwise(disk, capsys, monkeypatch):
    def my_statistics(x):
        return x.amax((1, 3, 4)), x.mean((1, 3, 4))

    def ours(x):
        return "ours"

    monkeypatch.setitem(library._answers, "n02.statistics", ours)
    chosen = course.yours_or_ours(my_statistics, checks.n02.statistics)
    assert "Your my_statistics passed" in capsys.readouterr().out
    assert len(chosen(torch.randn(1, 2, 3, 4, 5))) == 2
    for wrong in (lambda x: None, lambda x: (x, x), None, ..., lambda x: 1 / 0):
        assert course.yours_or_ours(wrong, checks.n02.statistics) is ours
        said = capsys.readouterr().out
        assert said.count("\n") == 1 and "library's code works here" in said


@pytest.mark.parametrize("key", sorted(library._answers))
def test_the_librarys_answers_pass_the_checks(key, capsys):
    notebook, name = key.split(".")
    check = getattr(getattr(checks, notebook), name)
    assert check.key == key and check.__wrapped__(library.library_answer(check)) is True, capsys.readouterr().out


def test_each_answer_at_work_has_one_of_the_library():
    """The formulas of the gates have none, because the library's gates compute them."""
    text = "".join(path.read_text(encoding="utf-8") for path in NOTEBOOKS.glob("*.ipynb"))
    used = set(re.findall(r"yours_or_ours\(\w+, checks\.(n\d\d\.\w+)", text))
    assert len(used) > 25 and used - set(library._answers) == {check.key for check in CHECKS.values()}


def test_an_error_outside_of_the_check_blocks_nobody(disk, capsys, monkeypatch):
    def my_statistics(x):
        if x.shape[0] == 7:
            raise RuntimeError("seven volumes")
        return x.amax((1, 3, 4)), x.mean((1, 3, 4))

    monkeypatch.setitem(library._answers, "n02.statistics", lambda x: "ours")
    chosen = course.yours_or_ours(my_statistics, checks.n02.statistics)
    capsys.readouterr()
    assert chosen(torch.randn(7, 2, 3, 4, 5)) == "ours" and chosen(torch.randn(2, 2, 3, 4, 5)) == "ours"
    assert capsys.readouterr().out.count("seven volumes") == 1


def test_choosing_prints_nothing_of_the_check_and_draws_no_random_numbers(disk, capsys):
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    course.yours_or_ours(n04.draw_right, checks.n04.draw)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert "[OK]" not in capsys.readouterr().out


def test_answers_are_kept_for_later_notebooks(disk, capsys, monkeypatch):
    for gate, check in CHECKS.items():
        course.yours_or_ours(first(gate), check)
    monkeypatch.setattr(own_code, "_answers", {})  # the process of a later notebook
    assert set(course.my_formulas()) == set(FORMULAS)
    torch.manual_seed(1)
    capsys.readouterr()
    mine = course.my_csam()(6, 4)
    assert capsys.readouterr().out.count(" your ") == 3
    torch.manual_seed(1)
    ours, x = CSAM(6, 4), torch.randn(2, 6, 4, 8, 8)
    same(mine(x), ours(x))

    names = {}
    exec((disk / "my_csam.py").read_text(encoding="utf-8"), names)  # the file stands alone
    torch.manual_seed(1)
    same(names["MyCSAM"](6, 4)(x), ours(x))
    assert course.my_formulas()["semantic"].__name__ == first("semantic").__name__


def test_a_kept_answer_that_was_edited_or_damaged_is_the_librarys_work(disk, monkeypatch):
    course.yours_or_ours(first("semantic"), CHECKS["semantic"])
    monkeypatch.setattr(own_code, "_answers", {})
    path = disk / "answers" / "n02_semantic_attention.py"
    for text in ("# n02.semantic_attention: f\ndef f(x, mlp):\n    return x\n", "", "\0", "# a: f\n1 / 0", "def f(:"):
        path.write_text(text, encoding="utf-8")
        assert course.my_formulas() == {}


SCALE = 2.0


def helper(x):
    return SCALE / 2 * x


def uses_others(x):
    """Uses a function, a value, modules and a name of a module from its file."""
    np.zeros(1)
    return helper(x).amax((1, 3, 4)), (lambda y: helper(y).mean((1, 3, 4)))(x), centred_slots


def test_a_kept_source_has_all_that_the_answer_uses():
    names = {}
    exec(own_code.self_contained(uses_others), names)
    x = torch.randn(1, 2, 3, 4, 5)
    assert torch.equal(names["uses_others"](x)[1], uses_others(x)[1]) and names["SCALE"] == 2.0
    assert names["np"] is np and names["centred_slots"] is centred_slots


def test_a_source_that_cannot_be_found_keeps_the_answer_in_the_process(disk, capsys):
    names = {}
    exec("def my_statistics(x):\n    return x.amax((1, 3, 4)), x.mean((1, 3, 4))", names)
    course.yours_or_ours(names["my_statistics"], checks.n02.statistics)
    assert own_code._answers["n02.statistics"] is names["my_statistics"] and not (disk / "answers").exists()


def test_a_disk_that_cannot_be_written_stops_nothing(tmp_path, notebook, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CSAM_LITE_DATA", str(tmp_path / "file" / "data"))  # nobody, not even root, can write below a file
    assert checks.n02.statistics(n02.RIGHT["statistics"][next(iter(n02.RIGHT["statistics"]))]) is True
    course.yours_or_ours(first("semantic"), CHECKS["semantic"])
    assert "semantic" in course.my_formulas() and progress.verdicts() == {}
    course.my_csam()
    assert "kept in" not in capsys.readouterr().out
    assert "02.1" in repr(course.show_exercises("02"))


def test_the_table_says_what_is_solved_tried_and_open(notebook, capsys):
    right = next(iter(n02.RIGHT["statistics"].values()))
    checks.n02.statistics(lambda x: None)
    assert progress.verdicts() == {}
    checks.n02.statistics(lambda x: (x, x))
    checks.n02.semantic_attention(lambda x, mlp: x)
    assert progress.verdicts() == {"n02.statistics": "tried", "n02.semantic_attention": "tried"}
    checks.n02.statistics(right)
    checks.n02.statistics(lambda x: (x, x))  # solved is solved
    table = course.show_exercises("02")
    assert [row[2] for row in table.rows] == ["solved", "tried", "open", "open"]
    assert "<td" in table._repr_html_() and "the statistics" in repr(table)
    row = next(row for row in course.show_exercises().rows if row[0] == "02")
    assert row[2:] == ("1", "1", "2") and len(course.show_exercises().rows) == 10


def test_a_solution_says_so_and_counts_for_nothing(notebook, capsys):
    def statistics_solution(x):
        return x.amax((1, 3, 4)), x.mean((1, 3, 4))

    assert checks.n02.statistics(statistics_solution)
    assert capsys.readouterr().out.startswith("[OK] solution of statistics: ")
    assert progress.verdicts() == {}


def test_a_solution_is_known_by_its_cell_too(notebook, capsys):
    shell = sys.modules["IPython"].get_ipython()
    shell.user_ns = {"In": ["", "#@title Solution\ndef f(x): ..."]}
    assert checks.n02.statistics(lambda x: (x.amax((1, 3, 4)), x.mean((1, 3, 4))))
    assert "[OK] solution of" in capsys.readouterr().out and progress.verdicts() == {}
    shell.user_ns["In"].append("def mine(x): ...")
    assert checks.n02.statistics(lambda x: (x.amax((1, 3, 4)), x.mean((1, 3, 4))))
    assert progress.verdicts() == {"n02.statistics": "solved"}


def test_outside_of_a_notebook_nothing_is_kept(disk):
    checks.n02.statistics(lambda x: (x, x))
    assert not disk.exists()


@pytest.mark.parametrize("text", ["", "[]", "null", "\0", '{"n02.statistics": 3}', "{"])
def test_a_damaged_file_of_verdicts_is_begun_anew(text, notebook):
    notebook.mkdir()
    (notebook / "exercises.json").write_text(text, encoding="utf-8")
    assert progress.verdicts() == {}
    checks.n02.statistics(lambda x: (x, x))
    assert json.loads((notebook / "exercises.json").read_text(encoding="utf-8")) == {"n02.statistics": "tried"}
