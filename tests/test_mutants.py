"""No check accepts a small mistake in a right answer (mutants.py), and the maker of mistakes makes those that it should.

Here 20 mutants of each exercise are tried, other ones each time, and with -m mutants all of them (a quarter of an hour).
`python tests/mutants.py` prints the scores.
"""

import ast

import mutants
import pytest

from csam_lite.course import checks

EXERCISES = [(module, exercise) for module in checks.__all__ for exercise in mutants.exercises(module)]


@pytest.mark.mutants
@pytest.mark.parametrize("module, exercise", EXERCISES)
def test_a_check_rejects_every_mutant_that_is_wrong(module, exercise, request, seed):
    every = "mutants" in request.config.option.markexpr
    score = mutants.score(module, exercise) if every else mutants.score(module, exercise, 20, seed)
    assert not score.passed, "\n".join(mutant.text for mutant in score.passed)
    assert score.made - score.equivalent >= 20 and not (every and score.unused)


MISTAKES = {
    "x.amax((1, 3)) * y": ["x.amax((1, 3)) / y", "y", "x.mean((1, 3)) * y", "x.amax((0, 3)) * y", "x.amax((1, 2)) * y",
                           "x.amax((1, 3, 0)) * y", "x.amax((1,)) * y", "x.abs().amax((1, 3)) * y", "x[:1].amax((1, 3)) * y",
                           "x.detach().amax((1, 3)) * y", "(x.amax((1, 3)) * y).detach()"],
    "x * y": ["x.mul_(y)", "x", "y * y"],
    "a - b": ["b - a", "a + b", "a"],
    "all(f(v) for v in x)": ["any(f(v) for v in x)", "list(f(v) for v in x)[-1]", "list(f(v) for v in x)[0]",
                             "all(f(v) for v in list(x)[1:])", "all(f(v) for v in list(x)[:-1])"],
    "x[:n // 2]": ["x[:n / 2]", "x[:-(-n // 2)]", "x[:n // 2 + 1]", "x[:n // 2 - 1]", "x", "x[:n // 3]"],
    "not x > 0.5": ["x > 0.5", "not x >= 0.5", "not x < 0.5", "not x > 0.4", "not x > -0.5"],
}


@pytest.mark.parametrize("answer", MISTAKES)
def test_the_mistakes_of_students_are_made(answer, monkeypatch):
    names = "x, y, a, b, n"
    source = f"RIGHT = {{'exercise': {{'answer': lambda {names}: {answer}}}}}"
    monkeypatch.setattr(mutants, "_parse", lambda module: ast.parse(source))
    made = {mutant.changed.split(f"lambda {names}: ")[1].strip("()") for mutant in mutants.mutants("n00", "exercise")}
    assert {ast.unparse(ast.parse(mistake)).strip("()") for mistake in MISTAKES[answer]} <= made


def test_a_loop_that_forgets_what_came_before_is_made(monkeypatch):
    source = "def f(x):\n    total = 0\n    for v in x:\n        total += v\n    return total\nRIGHT = {'exercise': {'answer': f}}"
    monkeypatch.setattr(mutants, "_parse", lambda module: ast.parse(source))
    made = {mutant.text for mutant in mutants.mutants("n00", "exercise")}
    assert {"«total = v» for total += v", "«total -= v» for total += v", "«» for total += v"} <= made
    assert any("«list(x)[:1]»" in text or "list(x)[:1]" in text for text in made)


def test_an_endless_mutant_is_ended_and_rejected(monkeypatch):
    source = "def f(a, b):\n    while True:\n        pass\nRIGHT = {'dice': {'answer': f}}"
    monkeypatch.setattr(mutants, "SECONDS", 1)
    verdict, said, _ = mutants.Mutant("dice", "answer", "", source, compile(source, "n00", "exec")).verdict("n00")
    assert verdict is False and "TimeoutError" in said
