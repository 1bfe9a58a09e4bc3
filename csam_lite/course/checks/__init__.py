"""Checks of the exercises. Each says which property failed, on what input, what was expected and what was
found.

There is one file for each notebook (`checks.n02` for 02_semantic_attention) and one function for each
exercise:

    checks.n02.statistics(my_statistics)

A check prints a line and returns True (all properties hold), False (the line names the first that fails) or
None (the answer returns nothing yet, so the reader must complete the cell). A check asks for values and never
for the way in which they were computed, so that functions, modules, loops and einsum are all accepted.

Random inputs are the same for every reader. A lab is graded with other inputs: the environment variable
CSAM_LITE_SEED chooses them, so that an answer which returns remembered values fails.

In a notebook the verdict is kept for the table of exercises (progress.py). An answer in a cell that begins
with `#@title Solution`, or whose name ends with `_solution`, is not the reader's: its line says so, and
nothing is kept.
"""

import copy
import functools
import importlib
import inspect
import os
import random
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Number
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from csam_lite.common.errors import InputError
from csam_lite.course.progress import in_solution_cell, remember

if TYPE_CHECKING:  # torch takes seconds to load, and the names of the checks are asked for without it
    import numpy as np
    import torch

__all__ = sorted(path.stem for path in Path(__file__).parent.glob("n[0-9][0-9].py"))

Answer = Callable[..., Any] | None  # what a reader writes; None or Ellipsis while it is not there
Property = Callable[[], None]  # returns if it holds, and raises Wrong if it does not
Verdict = bool | None  # what a check returns
_whose = ContextVar("whose", default="")  # "solution of " while a solution is checked
Item = TypeVar("Item")
CUT = "is there a no_grad(), a detach(), or a new tensor made from values?"


class Untouched(Exception):
    """The reader has not written anything yet."""


class Wrong(Exception):
    """A property does not hold: on what input, what was expected, what was found, and what often causes
    it."""


class Changed(Wrong):
    """An answer wrote into one of its inputs."""

    statement = "The inputs stay as they were"


class Check(Protocol):
    """A check of an exercise; `key` is its name, such as "n02.statistics"."""

    key: str
    __wrapped__: Callable[[Answer], Verdict]

    def __call__(self, answer: Answer) -> Verdict: ...


def exercise(check: Callable[[Answer], Verdict]) -> Check:
    """Decorate a check: it then has a `key`, and remembers its verdicts on a reader's answers."""
    key = f"{check.__module__.rpartition('.')[2]}.{check.__name__}"

    @functools.wraps(check)
    def checked(answer: Answer) -> Verdict:
        is_solution = getattr(answer, "__name__", "").endswith("_solution") or in_solution_cell()
        before = _whose.set("solution of " if is_solution else "")
        try:
            verdict = check(answer)
        finally:
            _whose.reset(before)
        if not is_solution:
            remember(key, verdict)
        return verdict
    checked.key = key
    return checked


def states(statement: str) -> Callable[[Property], Property]:
    """Decorate a property with its statement in words, which `verify` prints where the property fails."""

    def give(trial: Property) -> Property:
        trial.statement = statement
        return trial

    return give


def verify(name: str, *properties: Property) -> Verdict:
    """Try the properties of the exercise `name` in order, print the outcome and return it (see the top of
    this file).

    A property is a function without arguments. It raises Wrong where it does not hold, or Untouched. Any
    other error comes from the reader's code and is shown too.
    """
    name = _whose.get() + name
    for trial in properties:
        try:
            trial()
        except (Untouched, NotImplementedError):
            print(f"[..] {name}: nothing is returned yet; complete the cell, or add a missing `return`")
            return None
        except Wrong as wrong:
            about = wrong if isinstance(wrong, Changed) else trial
            print(f"[FAIL] {name}: {_statement(about)}\n       {wrong}")
            return False
        except Exception as error:  # whatever a reader's code can raise: the notebook must go on
            raised = f"your code raised {type(error).__name__}: {error}"
            print(f"[FAIL] {name}: {_statement(trial)}\n       {raised}")
            return False
    print(f"[OK] {name}: {len(properties)} properties hold")
    return True


def _statement(trial: Property | Changed) -> str:
    """What the property says. `python -OO` removes docstrings, so that there only `states` or the name can
    tell."""
    text = getattr(trial, "statement", None) or trial.__doc__ or trial.__name__.replace("_", " ")
    return text.strip().rstrip(".")


def answer(function: Answer, *inputs: Any) -> Any:
    """Return function(*inputs). Raises Untouched where the function or its result is None or Ellipsis, and
    Changed where the function wrote into a tensor, an array or a list, because the notebook needs it later.

    torch.empty gives NaN here, because what lies in the memory by chance may be the right values.
    """
    if function is None or function is Ellipsis:
        raise Untouched
    before = [_kept(value) for value in inputs]
    with nan_where_empty():
        result = function(*inputs)
    if result is None or result is Ellipsis:
        raise Untouched
    for place, (kept, given) in enumerate(zip(before, inputs)):
        _unchanged(kept, given, _input_name(function, place))
    return result


def _kept(value: Any) -> Any:
    """A copy of a tensor, an array or a list; None for what an answer may change, such as a network."""
    import numpy as np
    import torch

    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    return copy.deepcopy(value) if isinstance(value, (np.ndarray, list)) else None


def _unchanged(before: Any, after: Any, name: str) -> None:
    """Raise Changed unless an input is what it was before; `name` is what the reader calls it."""
    import numpy as np

    advice = "do not change it in place (*=, +=, x[...] = ..., sort()); compute a new one"
    if isinstance(before, list) and repr(before) != repr(after):  # NaN is not equal to itself
        raise Changed(f"{name} looked at afterwards: expected {before!r:.80}, found {after!r:.80}; {advice}")
    if before is None or isinstance(before, list):
        return
    if tuple(before.shape) != tuple(after.shape):
        shapes = f"expected the shape {tuple(before.shape)}, found {tuple(after.shape)}"
        raise Changed(f"{name} looked at afterwards: {shapes}; {advice}")
    old, new = (np.asarray(x.detach().cpu() if hasattr(x, "detach") else x) for x in (before, after))
    moved = (old != new) & ~((old != old) & (new != new))  # NaN is not equal to itself
    if moved.any():
        at = tuple(int(i) for i in np.argwhere(moved)[0])
        values = f"at {at} expected {float(old[at]):.4g}, found {float(new[at]):.4g}"
        raise Changed(f"{name} looked at afterwards: {values}; {advice}")


def _input_name(function: Answer, place: int) -> str:
    """What the reader calls this input of the function."""
    try:
        return [*inspect.signature(function).parameters][place]
    except (TypeError, ValueError, IndexError):
        return f"input {place + 1}"


def seed_of(number: int) -> int:
    """The seed of one input of a check; `number` tells the inputs of a check apart.

    Raises InputError where CSAM_LITE_SEED is no whole number from 0 on.
    """
    chosen = os.environ.get("CSAM_LITE_SEED") or "0"
    if not chosen.isdecimal():
        raise InputError(f"CSAM_LITE_SEED={chosen}: give a whole number, 0 or above")
    return 1000 * int(chosen) + number


def torch_generator(number: int) -> "torch.Generator":
    """PyTorch's random numbers for one input of a check (see seed_of)."""
    import torch

    return torch.Generator().manual_seed(seed_of(number))


def numpy_generator(number: int) -> "np.random.Generator":
    """NumPy's random numbers for one input of a check (see seed_of)."""
    import numpy as np

    return np.random.default_rng(seed_of(number))


def shuffled(items: Iterable[Item], number: int) -> list[Item]:
    """The cases of a check in an order that the seed chooses, and in their own order without a seed."""
    order = list(items)
    if (seed := seed_of(number)) != number:
        random.Random(seed).shuffle(order)
    return order


@contextmanager
def nan_where_empty() -> Iterator[None]:
    """Let torch.empty and torch.empty_like fill their tensors with NaN, as PyTorch's deterministic mode
    does."""
    import torch

    before = torch.are_deterministic_algorithms_enabled()
    warned_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with warnings.catch_warnings():  # an operation without a deterministic form warns, and runs as always
            warnings.filterwarnings("ignore", message=".*deterministic")
            yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned_only)


def kind_of(result: Any) -> str:
    """What an answer is, in words: "a Tensor of the shape (2, 3)", "a tuple of 2", "a dict"."""
    name = "tuple" if isinstance(result, tuple) else type(result).__name__.removeprefix("nd")
    kind = f"an {name}" if name[0] in "aeiouAEIOU" else f"a {name}"
    if hasattr(result, "shape"):
        return f"{kind} of the shape {tuple(result.shape)}"
    return f"{kind} of {len(result)}" if isinstance(result, (tuple, list)) else kind


def parts(result: Any, names: Sequence[str]) -> list:
    """The parts of an answer that is a tuple or list with one part for each name, or a tensor or an array
    of them. Raises Wrong where it is not, and Untouched where a part is still None or Ellipsis."""
    stacked = getattr(result, "ndim", 0) > 1
    if not (stacked or isinstance(result, (tuple, list))) or len(result) != len(names):
        raise Wrong(f"expected {len(names)} parts, {', '.join(names)}; found {kind_of(result)}")
    return [answer(lambda part=part: part) for part in result]


def as_tensor(result: Any) -> "torch.Tensor":
    """torch.as_tensor, also for arrays that are read-only or run backwards (`a[::-1]`)."""
    import numpy as np
    import torch

    return torch.as_tensor(result.copy() if isinstance(result, np.ndarray) else result)


def numbers(result: Any, on: str) -> "torch.Tensor":
    """The numbers of an answer as a tensor (float64), whether it is a tensor, an array, a number or a list.

    Raises Wrong where it is something else; `on` says for which input.
    """
    import torch

    if isinstance(result, (list, tuple, Iterator)):
        members = [numbers(member, on) for member in result]
        if len({member.shape for member in members}) != 1:
            raise Wrong(
                f"on {on}: expected numbers, found a {type(result).__name__} of unlike or no entries"
            )
        return torch.stack(members)
    try:
        return as_tensor(result).detach().cpu().double()
    except (TypeError, ValueError, RuntimeError):
        if isinstance(result, Number) and not isinstance(result, complex):  # a fraction
            return torch.tensor(float(result), dtype=torch.double)
        raise Wrong(f"on {on}: expected numbers, found {type(result).__name__}") from None


def plain_number(result: Any, on: str, expected: float) -> float:
    """float(result), where an array of one number is refused, because the notebook cannot print it so.
    Raises Wrong where it is no number, such as a text."""
    try:
        if isinstance(result, (str, bytes)) or tuple(getattr(result, "shape", ())):
            raise TypeError
        return float(result)
    except (TypeError, ValueError, RuntimeError):
        raise Wrong(f"on {on}: expected the number {expected:.4g}, found {kind_of(result)}") from None


def number(result: Any, on: str) -> float:
    """The number of an answer, which may be a tensor or an array of one number. Raises Wrong otherwise."""
    values = numbers(result, on)
    if values.numel() != 1:
        raise Wrong(f"on {on}: expected one number, found the shape {tuple(values.shape)}")
    return values.item()


def same_shape(result: Any, expected: Iterable[int], on: str) -> None:
    """Raise Wrong unless `result` is a tensor of the shape `expected`; `on` says for which input."""
    shape = tuple(getattr(result, "shape", ()))
    if shape != tuple(expected):
        kind = shape if hasattr(result, "shape") else kind_of(result)
        raise Wrong(f"on {on}: expected shape {tuple(expected)}, found {kind}")


def same_values(
    result: Any, expected: "torch.Tensor", on: str, hint: str = "", tolerance: float = 1e-4
) -> None:
    """Raise Wrong unless two tensors agree within `tolerance` times the largest expected value; `hint` names
    a usual cause."""
    import torch

    same_shape(result, expected.shape, on)
    values, expected = as_tensor(result).detach().double(), expected.detach().double()
    apart = (values - expected).abs()
    if not bool((apart <= tolerance * (float(expected.abs().max()) or 1.0)).all()):  # NaN fails too
        at = tuple(int(i) for i in torch.unravel_index(apart.nan_to_num(torch.inf).argmax(), apart.shape))
        raise Wrong(
            f"on {on}: at {at} expected {float(expected[at]):.4g}, found {float(values[at]):.4g}"
            + (f"; {hint}" if hint else "")
        )


def same_gradients(
    theirs: Callable,
    ours: Callable,
    *inputs: "torch.Tensor",
    names: Sequence[str],
    part: "torch.nn.Module | None" = None,
) -> None:
    """Raise Wrong unless the gradients of theirs(*inputs) and ours(*inputs) agree: in the inputs, which
    `names` names, and in the parameters of `part`. Each function returns a tensor or a tuple of tensors."""
    import torch

    gradients, named = [], [*(part.named_parameters() if part else ())]
    for function in (theirs, ours):
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        results = function(*leaves)
        results = results if isinstance(results, (tuple, list)) else [results]
        wanted = [*leaves, *(parameter for _, parameter in named)]
        losses = [result.square().sum() for result in results]
        for place, loss in enumerate(losses, 1):
            if not loss.requires_grad:
                which = f"part {place} of the output" if len(losses) > 1 else "the output"
                raise Wrong(f"{which} does not depend on {names[0]} for autograd; {CUT}")
        gradients.append(
            [torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True) for loss in losses]
        )
    for theirs_, ours_ in zip(*gradients):
        weights = (f"the parameter {name}" for name, _ in named)
        for name, result, expected in zip([*names, *weights], theirs_, ours_):
            if result is None and expected is not None:
                raise Wrong(f"no gradient reaches {name}; {CUT}")
            if expected is not None:
                same_values(
                    result,
                    expected,
                    f"the gradient in {name}",
                    "where the graph is cut, the values can agree while the gradients do not",
                    tolerance=1e-3,  # sums in another order, of terms that nearly cancel
                )


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
