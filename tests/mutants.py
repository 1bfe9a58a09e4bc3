"""Mistakes made on purpose: right answers of tests/answers, changed in the small ways in which students err.

    python tests/mutants.py              # for each exercise: how many mutants there are, and how many its check rejects
    python tests/mutants.py n02 n04      # of these notebooks
    python tests/mutants.py n02.by_hand  # of this exercise

Each right answer is parsed, and one place is changed at a time: an operator, an axis, an order, a constant, a sign, a
dropped term or call, a detach, an off by one, a change in place, a mean for a maximum, the first or the last item only.
A check must reject every mutant. A mutant that is still a right answer is listed in `EQUIVALENT` of the answers' file,
with the reason why: {exercise: {pattern: reason}}. A pattern is a piece of the mutant's text, which is the changed
statement with the changed place in «guillemets». Where many answers are right, `STILL_RIGHT` has a function that says
whether an answer does what the text of the exercise asks, and that shares no code with the check.
"""

import argparse
import ast
import contextlib
import importlib
import io
import math
import random
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType

import torch

from csam_lite.course import checks

ANSWERS = Path(__file__).parent / "answers"
SECONDS = 20  # of computing; a mutant that takes longer has become an endless loop

OPERATORS = {
    ast.Add: [ast.Sub], ast.Sub: [ast.Add], ast.Mult: [ast.Div, ast.Add], ast.Div: [ast.Mult, ast.FloorDiv],
    ast.FloorDiv: [ast.Div], ast.Mod: [ast.FloorDiv], ast.MatMult: [ast.Mult], ast.Pow: [ast.Mult],
    ast.BitAnd: [ast.BitOr], ast.BitOr: [ast.BitAnd], ast.Lt: [ast.LtE, ast.Gt], ast.LtE: [ast.Lt, ast.GtE],
    ast.Gt: [ast.GtE, ast.Lt], ast.GtE: [ast.Gt, ast.LtE], ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq],
    ast.Is: [ast.IsNot], ast.IsNot: [ast.Is], ast.In: [ast.NotIn], ast.NotIn: [ast.In], ast.And: [ast.Or], ast.Or: [ast.And],
}
ORDERED = (ast.Sub, ast.Div, ast.FloorDiv, ast.Mod, ast.MatMult, ast.Pow)
IN_PLACE = {ast.Mult: "mul_", ast.Add: "add_", ast.Sub: "sub_"}
NAMES = {  # what is taken for what
    "amax": ["mean", "amin", "sum"], "max": ["mean", "min", "sum"], "mean": ["amax", "max", "sum", "median"],
    "sum": ["mean", "amax", "max"], "min": ["max"], "all": ["any"], "any": ["all"], "argmax": ["argmin"],
    "argmin": ["argmax"], "sigmoid": ["tanh", "relu"], "randn": ["rand"], "randn_like": ["rand_like"],
    "rsample": ["sample"], "sqrt": ["square", "exp"], "floor": ["ceil"], "ceil": ["floor"], "zeros_like": ["ones_like"],
    "zeros": ["ones"], "ones": ["zeros"], "stack": ["cat"], "log": ["exp", "log10"], "abs": ["square"], "std": ["var"],
    "masked_fill": ["masked_fill_"], "maximum": ["minimum"], "minimum": ["maximum"], "nanmean": ["mean", "nansum"],
    "argwhere": ["nonzero"], "quantile": ["max"], "cumsum": ["cumprod"], "median": ["mean"], "norm": ["sum"],
}
REDUCTIONS = {"all", "any", "sum", "max", "min"}  # built in: of a loop, a student may keep the last or the first item only


@dataclass
class Mutant:
    """One changed right answer; `text` says what was changed."""

    exercise: str
    answer: str
    text: str
    changed: str = field(repr=False)  # the answer, with all that it calls in its file
    code: CodeType = field(repr=False)  # of the file with the changed answer

    def verdict(self, module: str) -> tuple[bool | None, str, object]:
        """What the check says of it (True, False or None), what it prints, and the answer itself."""
        said = io.StringIO()
        names = {"__name__": f"answers.{module}"}
        torch.manual_seed(0)
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()), _limit():
            try:
                exec(self.code, names)
                answer = names["RIGHT"][self.exercise][self.answer]
            except Exception as error:  # the answer cannot even be made
                return False, f"your code raised {type(error).__name__}", None
            return getattr(getattr(checks, module), self.exercise)(answer), said.getvalue(), answer


@contextlib.contextmanager
def _limit() -> Iterator[None]:
    def stop(*_):
        raise TimeoutError
    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def exercises(module: str) -> dict[str, dict[str, ast.expr]]:
    """{exercise: {answer: its expression}} of the right answers in the file of this notebook."""
    return {exercise: dict(_items(answers)) for exercise, answers in _right(_parse(module))}


def mutants(module: str, exercise: str, enough: float = math.inf) -> Iterator[Mutant]:
    """All mutants of one right answer to this exercise after the other, no two of one answer alike, until there are
    `enough` of them."""
    made = 0
    for name in exercises(module)[exercise]:
        if made >= enough:
            return
        tree = _parse(module)
        expression = dict(_items(dict(_right(tree))[exercise]))[name]
        roots = _roots(tree, expression)
        seen = {"\n".join(map(ast.unparse, roots))}
        for place in list(_places(tree, expression)):
            old = place.node
            for new in _changes(old, place):
                ast.fix_missing_locations(ast.copy_location(new, old))
                place.put(_marked(new))
                text = _line(expression if place.statement is None else place.statement)
                place.put(new)
                ast.fix_missing_locations(tree)
                if isinstance(old, ast.stmt):
                    text = f"«{_line(new)}» for {_line(old)}"
                if expression is old:  # the whole answer was changed
                    text, changed = f"«{ast.unparse(new)}»", ast.unparse(new)
                else:
                    changed = "\n".join(map(ast.unparse, roots))
                if changed not in seen:
                    seen.add(changed)
                    made += 1
                    yield Mutant(exercise, name, text, changed, compile(tree, f"{module}, mutated", "exec"))
                place.put(old)


def _line(node: ast.AST) -> str:
    return "" if isinstance(node, ast.Pass) else " ".join(ast.unparse(node).split())


def _marked(node: ast.AST) -> ast.AST:
    """The node as it is shown in the text of a mutant."""
    if isinstance(node, ast.comprehension):
        return _changed(node, iter=_marked(node.iter))
    if isinstance(node, ast.stmt):
        return ast.Expr(ast.Name(f"«{ast.unparse(node)}»"))
    return ast.Name(f"«{ast.unparse(node)}»")


def _parse(module: str) -> ast.Module:
    return ast.parse((ANSWERS / f"{module}.py").read_text(encoding="utf-8"))


def _right(tree: ast.Module) -> Iterator[tuple[str, ast.Dict]]:
    """{exercise: its right answers} of RIGHT = {...}, and of RIGHT["exercise"] = {...} as --new-exercise writes it."""
    for statement in tree.body:
        if isinstance(statement, ast.Assign):
            target = statement.targets[0]
            if getattr(target, "id", "") == "RIGHT":
                yield from _items(statement.value)
            elif isinstance(target, ast.Subscript) and getattr(target.value, "id", "") == "RIGHT":
                yield target.slice.value, statement.value


def _items(node: ast.Dict) -> Iterator[tuple[str, ast.expr]]:
    for key, value in zip(node.keys, node.values):
        yield key.value, value


def _roots(tree: ast.Module, expression: ast.expr) -> list[ast.AST]:
    """The expression, and all functions, classes and values of the file that it uses, directly or not."""
    defined = {}
    for statement in tree.body:
        if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
            defined[statement.name] = statement
        elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            defined[statement.targets[0].id] = statement
    roots, queue = [], [expression]
    while queue:
        root = queue.pop(0)
        if root not in roots:
            roots.append(root)
            queue += [defined[node.id] for node in ast.walk(root) if isinstance(node, ast.Name) and node.id in defined]
    return roots


@dataclass
class Place:
    """A place in an answer that may be changed: `holder` has the node in the field `name`, at `number` if that is a list."""

    holder: ast.AST
    name: str
    number: int | None
    scope: list[str]  # the names that the reader has at this place
    statement: ast.stmt | None  # that it stands in, None in a lambda

    @property
    def node(self) -> ast.AST:
        value = getattr(self.holder, self.name)
        return value if self.number is None else value[self.number]

    def put(self, new: ast.AST) -> None:
        if self.number is None:
            setattr(self.holder, self.name, new)
        else:
            getattr(self.holder, self.name)[self.number] = new


def _places(tree: ast.Module, expression: ast.expr) -> Iterator[Place]:
    for root in _roots(tree, expression):
        if root is expression:
            for parent in ast.walk(tree):
                if isinstance(parent, ast.Dict) and any(value is root for value in parent.values):
                    number = next(number for number, value in enumerate(parent.values) if value is root)
                    yield Place(parent, "values", number, [], None)
        yield from _inside(root, [], root if isinstance(root, ast.stmt) else None)


def _inside(node: ast.AST, scope: list[str], statement: ast.stmt | None) -> Iterator[Place]:
    if isinstance(node, (ast.FunctionDef, ast.Lambda)):
        scope = [*scope, *(argument.arg for argument in node.args.args if argument.arg != "self")]
    stores = ast.walk(node) if isinstance(node, ast.FunctionDef) else []
    if isinstance(node, (ast.GeneratorExp, ast.ListComp, ast.SetComp, ast.DictComp)):
        stores = [name for loop in node.generators for name in ast.walk(loop.target)]
    stored = [name.id for name in stores if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)]
    scope = list(dict.fromkeys([*scope, *stored]))
    for name, value in ast.iter_fields(node):
        if name in ("args", "decorator_list", "targets", "target") and not isinstance(node, ast.Call):
            continue
        for number, item in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(item, ast.AST):
                here = item if isinstance(item, ast.stmt) and not isinstance(item, ast.FunctionDef) else statement
                yield Place(node, name, number, scope, here if not isinstance(here, ast.ClassDef) else item)
                yield from _inside(item, scope, here)


def _changes(node: ast.AST, place: Place) -> Iterator[ast.AST]:
    """The nodes that may stand instead of this one."""
    for kind, change in CHANGES:
        if isinstance(node, kind) and not isinstance(getattr(node, "ctx", None), (ast.Store, ast.Del)):
            yield from change(node, place)


def _expression(text: str, **nodes: ast.AST) -> ast.expr:
    """The expression of a text, in which the names are replaced by nodes."""
    class Fill(ast.NodeTransformer):
        def visit_Name(self, name: ast.Name) -> ast.AST:
            return nodes.get(name.id, name)
    return Fill().visit(ast.parse(text, mode="eval").body)


def _changed(node: ast.AST, **fields: object) -> ast.AST:
    """A copy with other fields."""
    copy = type(node)(**{name: value for name, value in ast.iter_fields(node)})
    for name, value in fields.items():
        setattr(copy, name, value)
    return copy


def _binary(node: ast.BinOp, place: Place) -> Iterator[ast.AST]:
    yield from (_changed(node, op=other()) for other in OPERATORS.get(type(node.op), ()))
    yield node.left
    yield node.right
    if isinstance(node.op, ORDERED):
        yield _changed(node, left=node.right, right=node.left)
    if isinstance(node.op, ast.FloorDiv):
        yield _expression("-(-a // b)", a=node.left, b=node.right)
    if type(node.op) in IN_PLACE and isinstance(node.left, ast.Name):
        yield _expression(f"a.{IN_PLACE[type(node.op)]}(b)", a=node.left, b=node.right)


def _compare(node: ast.Compare, place: Place) -> Iterator[ast.AST]:
    for number, op in enumerate(node.ops):
        for other in OPERATORS.get(type(op), ()):
            yield _changed(node, ops=[*node.ops[:number], other(), *node.ops[number + 1:]])


def _logic(node: ast.BoolOp, place: Place) -> Iterator[ast.AST]:
    yield from (_changed(node, op=other()) for other in OPERATORS[type(node.op)])
    yield from node.values


def _constant(node: ast.Constant, place: Place) -> Iterator[ast.AST]:
    value = node.value
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int):
        yield from (ast.Constant(other) for other in dict.fromkeys((value + 1, value - 1, -value)) if other != value)
    elif isinstance(value, float):
        others = (1.25 * value, 0.8 * value, value + 1, -value, 0.0)
        yield from (ast.Constant(other) for other in dict.fromkeys(others) if other != value)


def _sequence(node: ast.Tuple | ast.List, place: Place) -> Iterator[ast.AST]:
    items = node.elts
    if any(isinstance(item, ast.Slice) for item in items):
        return
    axes = isinstance(node, ast.Tuple) and all(isinstance(getattr(item, "value", None), int) for item in items)
    for number in range(len(items)):
        if len(items) > 1:
            yield _changed(node, elts=[*items[:number], *items[number + 1:]])
        if number and not axes:
            yield _changed(node, elts=[*items[:number - 1], items[number], items[number - 1], *items[number + 1:]])
    if axes:
        for axis in set(range(5)) - {item.value for item in items}:
            yield _changed(node, elts=[*items, ast.Constant(axis)])


def _subscript(node: ast.Subscript, place: Place) -> Iterator[ast.AST]:
    yield node.value
    index = node.slice
    if isinstance(index, ast.Tuple):  # a new axis in another place
        for number in range(1, len(index.elts)):
            items = [*index.elts]
            items[number - 1:number + 1] = items[number], items[number - 1]
            yield _changed(node, slice=ast.Tuple(items, ast.Load()))
    if isinstance(index, ast.Slice):
        for bound in ("lower", "upper"):
            if (value := getattr(index, bound)) is not None:
                yield from (_changed(node, slice=_changed(index, **{bound: _expression(f"a {sign} 1", a=value)})) for sign in "+-")


def _call(node: ast.Call, place: Place) -> Iterator[ast.AST]:
    attribute = isinstance(node.func, ast.Attribute)
    library = attribute and isinstance(node.func.value, ast.Name) and node.func.value.id in ("np", "torch", "functional")
    name = node.func.attr if attribute else getattr(node.func, "id", "")
    if attribute and not library:
        yield node.func.value
    elif node.args and not isinstance(node.args[0], (ast.GeneratorExp, ast.Starred)):
        yield node.args[0]
    for other in NAMES.get(name, ()):
        yield _changed(node, func=_changed(node.func, **{"attr" if attribute else "id": other}))
    if name in ("amax", "max", "mean", "sum") and attribute and not library:
        yield _changed(node, func=_changed(node.func, value=_expression("a.abs()", a=node.func.value)))
    if name in REDUCTIONS and not attribute and len(node.args) == 1 and isinstance(node.args[0], (ast.GeneratorExp, ast.ListComp)):
        for number in ("0", "-1"):
            yield _expression(f"list(a)[{number}]", a=node.args[0])
    if len(node.args) > 1:
        yield _changed(node, args=[node.args[1], node.args[0], *node.args[2:]])
        for number in range(1, len(node.args)):
            yield _changed(node, args=[*node.args[:number], *node.args[number + 1:]])
    for number in range(len(node.keywords)):
        yield _changed(node, keywords=[*node.keywords[:number], *node.keywords[number + 1:]])


def _name(node: ast.Name, place: Place) -> Iterator[ast.AST]:
    if node.id in place.scope:
        yield from (ast.Name(other, ast.Load()) for other in place.scope if other != node.id)
        yield from (_expression(text, a=node) for text in ("a[:1]", "a[-1:]"))
        only_its_size = getattr(place.holder, "attr", "") == "shape" or getattr(getattr(place.holder, "func", 0), "id", "") == "len"
        if not only_its_size:
            yield _expression("a.detach()", a=node)


def _loop(node: ast.comprehension | ast.For, place: Place) -> Iterator[ast.AST]:
    yield from (_changed(node, iter=_expression(f"list(a)[{part}]", a=node.iter)) for part in (":1", "1:", "-1:", ":-1"))
    for number in range(len(getattr(node, "ifs", ()))):
        yield _changed(node, ifs=[*node.ifs[:number], *node.ifs[number + 1:]])


def _statement(node: ast.stmt, place: Place) -> Iterator[ast.AST]:
    if not isinstance(getattr(node, "value", None), ast.Constant) or not isinstance(node, ast.Expr):  # no docstring
        yield ast.Pass()


def _returned(node: ast.Return, place: Place) -> Iterator[ast.AST]:
    if node.value is not None:
        yield from (_changed(node, value=_expression(text, a=node.value)) for text in ("a.detach()", "-a", "a.round()"))


def _condition(node: ast.If | ast.IfExp, place: Place) -> Iterator[ast.AST]:
    yield _changed(node, test=ast.UnaryOp(ast.Not(), node.test))
    if isinstance(node, ast.IfExp):
        yield node.body
        yield node.orelse


def _function(node: ast.FunctionDef, place: Place) -> Iterator[ast.AST]:
    with_ = ast.parse("with torch.no_grad():\n    pass").body[0]
    yield _changed(node, body=[_changed(with_, body=node.body)])


CHANGES = [
    (ast.BinOp, _binary), (ast.Compare, _compare), (ast.BoolOp, _logic), (ast.Constant, _constant),
    ((ast.Tuple, ast.List), _sequence), (ast.Subscript, _subscript), (ast.Call, _call), (ast.Name, _name),
    ((ast.comprehension, ast.For), _loop), ((ast.Assign, ast.AugAssign, ast.Expr), _statement),
    (ast.Return, _returned), ((ast.If, ast.IfExp), _condition), (ast.FunctionDef, _function),
    (ast.UnaryOp, lambda node, place: iter([node.operand])),
    (ast.Lambda, lambda node, place: iter([_changed(node, body=_expression("a.detach()", a=node.body))])),
    (ast.AugAssign, lambda node, place: iter([ast.Assign([node.target], node.value)])),
    (ast.AugAssign, lambda node, place: (_changed(node, op=other()) for other in OPERATORS.get(type(node.op), ()))),
]


@dataclass
class Score:
    """How the check of one exercise did; `passed` are the mutants that it should have rejected."""

    made: int = 0
    equivalent: int = 0
    by_error: int = 0
    passed: list[Mutant] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)  # patterns of equivalents that no mutant needed

    @property
    def share(self) -> float:
        """Of the mutants that are no right answers, the share that the check rejects."""
        return 1 - len(self.passed) / max(self.made - self.equivalent, 1)


def score(module: str, exercise: str, enough: float = math.inf, seed: int | None = None) -> Score:
    """Try the check of an exercise on the mutants of its right answers (see `mutants`), with a seed in an order drawn at
    random, until `enough` of them were wrong."""
    file = importlib.import_module(f"answers.{module}")
    patterns = getattr(file, "EQUIVALENT", {}).get(exercise, {})
    still_right = getattr(file, "STILL_RIGHT", {}).get(exercise, lambda answer: False)
    result, used = Score(), set()
    tried = list(mutants(module, exercise, 2 * enough))
    if seed is not None:
        random.Random(seed).shuffle(tried)
    for mutant in tried:
        if result.made - result.equivalent >= enough:
            break
        result.made += 1
        verdict, said, answer = mutant.verdict(module)
        result.by_error += "your code raised" in said
        if verdict is True:
            fitting = {pattern for pattern in patterns if pattern in mutant.text}
            used |= fitting
            if fitting or still_right(answer):
                result.equivalent += 1
            else:
                result.passed.append(mutant)
    result.unused = [pattern for pattern in patterns if pattern not in used]
    return result


def main() -> int:
    """Print the scores of the notebooks or exercises named on the command line; 1 if a mutant passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="notebooks (n02) or exercises (n02.by_hand); all if there are none")
    names = parser.parse_args().names
    failed = False
    print(f"{'exercise':28} {'mutants':>8} {'equivalent':>11} {'by error':>9} {'passed':>7} {'score':>7}")
    for module in checks.__all__:
        for exercise in exercises(module):
            if not names or module in names or f"{module}.{exercise}" in names:
                result = score(module, exercise)
                print(f"{module}.{exercise:24} {result.made:8} {result.equivalent:11} {result.by_error:9} "
                      f"{len(result.passed):7} {result.share:7.1%}", flush=True)
                for mutant in result.passed:
                    print(f"    passes, of {mutant.answer!r}:  {mutant.text}")
                for pattern in result.unused:
                    print(f"    listed as equivalent, but no such mutant passes:  {pattern}")
                failed |= bool(result.passed or result.unused)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
