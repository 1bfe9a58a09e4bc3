"""The reader's code at work: the answers that passed their checks do what the library would do otherwise.

    formula = course.yours_or_ours(my_attention, checks.n02.semantic_attention)  # None if it has not passed
    gate = course.run_formula(SemanticAttention(8), formula)  # a gate that runs it, with weights as usual
    MyCSAM = course.my_csam()                                 # the formulas of 02, 03 and 04 in a chain

What passed is kept as source code in `course_data/answers`, so that later notebooks find it, and `my_csam`
writes the three formulas into one file, `course_data/my_csam.py`. Where the disk cannot be written, an answer
lives as long as its notebook runs.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import linecache
import textwrap
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from csam_lite.common.errors import InputError
from csam_lite.common.files import whole_file
from csam_lite.core.attention import CSAM, Attention
from csam_lite.core.masks import centred_slots, into_slots, without_padding
from csam_lite.course import checks
from csam_lite.course.answers import library_answer
from csam_lite.course.checks import Check
from csam_lite.course.lessons import data_folder

Formula = Callable[[torch.Tensor, torch.nn.Module], torch.Tensor]
_answers: dict[str, Callable] = {}  # of this process, by check


def yours_or_ours(mine: Callable | None, check: Check, tensors: bool = False) -> Callable | None:
    """The reader's function `mine` if it passes the check, else the library's answer (answers.py); one
    printed line says which.

    The formulas of the three gates have no answer there: then it is None, and the library's gates run. A
    function that passed is kept for later notebooks. Where it raises an error outside of its check, the
    function that is returned goes on with the library's. With `tensors`, what the reader's function returns
    becomes a tensor (float32), because a check accepts an array or a list, too.
    """
    name, ours = getattr(mine, "__name__", type(mine).__name__), library_answer(check)
    if _passes(mine, check):
        _keep(mine, check)
        print(f"Your {name} passed its check, so that your code works here.")
        return _guarded(_as_tensor(mine) if tensors else mine, ours)
    print(f"The library's code works here, until your {name} passes its check.")
    return ours


def run_formula(
    module: torch.nn.Module, formula: Formula | None = None, **formulas: Formula | None
) -> torch.nn.Module:
    """Let gates compute with the reader's formulas, in place, and return the module.

    module: an Attention, for which `formula` is meant, or a network with CSAMs, for which semantic=,
    positional= and slice= are. The weights stay those of the library. A formula that is None changes nothing,
    and so does slice= for a gate that draws. The formulas of notebooks 02 and 03 return x times the gate, the
    formula of 04 returns the gate. `record_gates` and `override_gates` work as always.
    """
    if isinstance(module, Attention):
        formulas[module.name] = formula
    for part in [part for part in module.modules() if isinstance(part, (Attention, CSAM))]:
        if isinstance(part, CSAM):
            if any(formulas.get(attention.name) for attention in part.attentions):
                part.fast = False  # the fast path has formulas of its own
        elif formulas.get(part.name) and getattr(part, "normal", None) is None:
            part.gate = torch.nn.Identity()  # for the hooks of gates.py; the formula has its own sigmoid
            part.__class__ = _written(type(part), formulas[part.name])
    return module


def my_formulas() -> dict[str, Formula]:
    """{gate: the reader's formula} of the gates whose exercise is solved, also in earlier notebooks."""
    by_gate = {"semantic": checks.n02.semantic_attention, "positional": checks.n03.positional_attention,
               "slice": checks.n04.slice_gate}
    found = {gate: _find(check) for gate, check in by_gate.items()}
    return {gate: formula for gate, formula in found.items() if formula is not None}


def my_csam() -> Callable[..., CSAM]:
    """The reader's own CSAM, to be called like `CSAM`: it chains the formulas of notebooks 02, 03 and 04.

    Says for each gate whose formula it runs, and writes the reader's formulas into `my_csam.py` in the data
    folder.
    """
    formulas = my_formulas()
    for gate in ("semantic", "positional", "slice"):
        name = getattr(formulas.get(gate), "__name__", None)
        print(f"{gate:11}{f'your {name}' if name else 'the formula of the library'}")
    if path := _write_my_csam(formulas):
        print(f"Your code is kept in {path}")

    def MyCSAM(num_slices: int, channels: int, **options: Any) -> CSAM:
        """The reader's own CSAM; the arguments are those of CSAM."""
        return run_formula(CSAM(num_slices, channels, **options), **formulas)
    return MyCSAM


def _written(attention: type[Attention], formula: Formula) -> type[Attention]:
    """A class of gates that compute with this formula."""
    class Written(attention):
        def forward(self, F: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
            F, mask = without_padding(F, mask)
            if self.gate._forward_hooks:  # somebody reads or replaces the gate
                return F * self.gate_of(F, mask)
            return self.by_formula(F, mask)

        def gate_of(self, F: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
            gated = self.by_formula(F, mask)
            # Because gated = F * A, A = sum(gated * F) / sum(F * F).
            squares = F.square().sum(self.pooled, keepdim=True)
            A = (gated * F).sum(self.pooled, keepdim=True) / squares.clamp(min=torch.finfo(F.dtype).tiny)
            return self.gate(A)

        def gate_from(
            self, m: torch.Tensor, a: torch.Tensor, mask: torch.Tensor | None = None
        ) -> torch.Tensor:
            raise NotImplementedError("a reader's formula starts from the features, not from their pooling")

        def by_formula(self, F: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
            """F times its gate; of a padded volume only the real slices are shown to the formula."""
            real = torch.ones(F.shape[:2], dtype=torch.bool, device=F.device) if mask is None else mask
            if bool(real.all()):
                return self.of_slices(F, self.places(F, None))
            gated, slots = torch.zeros_like(F), self.places(F, real)
            for b, here in enumerate(real):
                at = None if slots is None else slots[b, here][None]
                gated[b, here] = self.of_slices(F[b, here][None], at)[0]
            return gated

        def places(self, F: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor | None:
            """The slot (B, S) of each slice in the MLP of the slice gate; None for other gates."""
            if self.name != "slice":
                return None
            return centred_slots(*F.shape[:2], self.num_slices, F.device, mask)

        def of_slices(self, F: torch.Tensor, slots: torch.Tensor | None) -> torch.Tensor:
            layer = self.conv if self.name == "positional" else self.mlp
            if slots is None:
                return formula(F, layer)
            if F.shape[1] == self.num_slices:
                return F * formula(F, layer)
            D = self.num_slices  # a stack that is not as deep stands in the middle of the slots
            return F * formula(F, lambda pooled: layer(into_slots(pooled, slots, D)).gather(1, slots))

    Written.__name__ = Written.__qualname__ = f"Own{attention.__name__}"
    return Written


def _passes(mine: Callable | None, check: Check) -> bool:
    """Whether the answer passes, without a word and without a change of the random numbers of torch."""
    with contextlib.redirect_stdout(io.StringIO()), torch.random.fork_rng(devices=[]):
        return check.__wrapped__(mine) is True


def _as_tensor(mine: Callable) -> Callable:
    @functools.wraps(mine)
    def converted(*inputs: Any) -> torch.Tensor:
        return checks.numbers(mine(*inputs), "these inputs").float()
    return converted


def _guarded(mine: Callable, ours: Callable | None) -> Callable:
    """The reader's function; at an error `ours`, if there is one, does the work from then on."""
    if ours is None:
        return mine
    failed = []

    def either(*inputs: Any, **options: Any) -> Any:
        if not failed:
            try:
                return mine(*inputs, **options)
            except Exception as error:  # whatever a reader's code can raise: the notebook must go on
                failed.append(error)
                print(f"Your code raised {type(error).__name__}: {error}. The library's code goes on.")
        return ours(*inputs, **options)
    either.__name__ = getattr(mine, "__name__", "either")
    return either


def _keep(mine: Callable, check: Check) -> None:
    _answers[check.key] = mine
    with contextlib.suppress(OSError, InputError, TypeError, ValueError):  # no source, or no disk to write on
        source = f"# {check.key}: {mine.__name__}\n{self_contained(mine)}"
        with whole_file(_file(check.key)) as part:
            part.write_text(source, encoding="utf-8")


def _find(check: Check) -> Callable | None:
    """The answer to a check, from this process or from the disk, if it passes."""
    mine = _answers.get(check.key)
    if mine is None:
        try:
            mine = _load(_file(check.key))
        except Exception:  # a file that is missing, damaged or edited: then no answer is kept
            return None
    return mine if _passes(mine, check) else None


def _load(path: Path) -> Callable:
    source = path.read_text(encoding="utf-8")
    name = source.splitlines()[0].rpartition(": ")[2]
    names: dict[str, Any] = {"__name__": path.stem}
    linecache.cache[str(path)] = (len(source), None, source.splitlines(True), str(path))  # for tracebacks
    exec(compile(source, str(path), "exec"), names)
    return names[name]


def self_contained(function: Callable) -> str:
    """Source code that defines a function and all that it uses from its notebook.

    Those are imports, and functions, classes and values. Raises OSError, TypeError or ValueError where a
    source cannot be found.
    """
    imports, definitions, seen = [], [], set()

    def add(name: str, value: Any) -> None:
        if name in seen:
            return
        seen.add(name)
        module = getattr(value, "__module__", None)
        if isinstance(value, types.ModuleType):
            imports.append(_import("", value.__name__, name))
        elif module not in ("__main__", function.__module__) and getattr(value, "__name__", None):
            imports.append(_import(f"from {module} ", value.__name__, name))
        elif inspect.isroutine(value) or inspect.isclass(value):
            for used, other in sorted(_uses(value).items()):
                add(used, other)
            definitions.append(textwrap.dedent(inspect.getsource(value)).strip())
        elif eval(repr(value), {"__builtins__": {}}) == value:  # numbers, texts, and tuples and lists of them
            definitions.append(f"{name} = {value!r}")
        else:
            raise ValueError(f"{name} cannot be written as source")

    add(function.__name__, function)
    return "\n".join([*imports, *(["\n"] if imports else []), "\n\n\n".join(definitions)]) + "\n"


def _import(source: str, name: str, known_as: str) -> str:
    return f"{source}import {name}" + ("" if name == known_as else f" as {known_as}")


def _uses(value: Callable) -> dict[str, Any]:
    """The global names that a function or a class uses, with their values."""
    functions = [value] if inspect.isfunction(value) else filter(inspect.isfunction, vars(value).values())
    functions = list(functions)
    codes, used = [f.__code__ for f in functions], {}
    globals_ = functions[0].__globals__ if functions else {}
    while codes:
        code = codes.pop()
        codes += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
        used |= {name: globals_[name] for name in code.co_names if name in globals_}
    return used


def _write_my_csam(formulas: dict[str, Formula]) -> Path | None:
    """Write the reader's formulas and the line that chains them; return the file if there is one."""
    if not formulas:
        return None
    path = data_folder() / "my_csam.py"
    try:
        # Each formula is defined inside a function, because two notebooks may use one name for two things.
        blocks = [
            f"def {gate}_formula():\n{textwrap.indent(self_contained(formula), '    ')}\n"
            f"    return {formula.__name__}\n\n" for gate, formula in formulas.items()]
        chosen = ", ".join(f"{gate}={gate}_formula()" for gate in formulas)
        text = "\n".join([
            '"""My own CSAM, from notebooks 02, 03 and 04."""\n\nfrom csam_lite import CSAM, course\n\n',
            *blocks, "def MyCSAM(num_slices, channels, **options):",
            f"    return course.run_formula(CSAM(num_slices, channels, **options), {chosen})\n"])
        with whole_file(path) as part:
            part.write_text(text, encoding="utf-8")
    except (OSError, InputError, TypeError, ValueError):
        return None
    return path


def _file(key: str) -> Path:
    return data_folder() / "answers" / f"{key.replace('.', '_')}.py"
