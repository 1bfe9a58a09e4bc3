"""Checks of the course's exercises: each says which property failed, on what input, what was expected and what was found.

One file a notebook (`checks.n02` for 02_semantic_attention), one function an exercise, named after what is checked:

    checks.n02.channel_gate(my_gate)

prints a line and returns True (all properties hold), False (the first that fails is named) or None (nothing is returned yet: complete the
cell first). A check asks for values, never for the way they were computed: functions, modules, loops and einsum are all right.
"""

import importlib

__all__ = ["n00", "n01", "n02", "n03", "n04", "n05", "n06", "n07", "n08", "n09"]


class Untouched(Exception):
    """The learner has not written anything yet."""


class Wrong(Exception):
    """A property does not hold; the text says on what input, what was expected, what was found, and what often causes it."""


def verify(name, *properties):
    """Try properties, functions without arguments whose docstrings state them, in order; print the outcome, and return it.

    A property returns if it holds. It raises Wrong where it does not, or Untouched; any other error is the learner's and is shown too.
    """
    for property in properties:
        statement = property.__doc__.strip().rstrip(".")
        try:
            property()
        except (Untouched, NotImplementedError):
            print(f"[..] {name}: nothing is returned yet; complete the cell, or add a missing `return`")
            return None
        except Wrong as wrong:
            print(f"[FAIL] {name}: {statement}\n       {wrong}")
            return False
        except Exception as error:  # whatever a learner's code can raise: the notebook must go on
            print(f"[FAIL] {name}: {statement}\n       your code raised {type(error).__name__}: {error}")
            return False
    print(f"[OK] {name}: {len(properties)} properties hold")
    return True


def answer(function, *inputs):
    """function(*inputs); None and Ellipsis mean that the stub is untouched."""
    if function is None or function is Ellipsis:
        raise Untouched
    result = function(*inputs)
    if result is None or result is Ellipsis:
        raise Untouched
    return result


def parts(found, names):
    """The parts of an answer that is a tuple or list with one for each name; Wrong where it is not, Untouched where one is still open."""
    if not isinstance(found, (tuple, list)) or len(found) != len(names):
        raise Wrong(f"expected {len(names)} parts, {', '.join(names)}; found {type(found).__name__}")
    return [answer(lambda part=part: part) for part in found]


def same_shape(found, expected, on):
    """Raise Wrong unless `found` is a tensor of the shape `expected`; `on` says for which input."""
    shape = tuple(getattr(found, "shape", ()))
    if shape != tuple(expected):
        raise Wrong(f"on {on}: expected shape {tuple(expected)}, found {shape if hasattr(found, 'shape') else type(found).__name__}")


def same_values(found, expected, on, hint="", tolerance=1e-4):
    """Raise Wrong unless the tensors agree within `tolerance`, relative to the largest expected value; `hint` names a usual cause."""
    import torch

    same_shape(found, expected.shape, on)
    apart = (torch.as_tensor(found).detach().double() - expected.detach().double()).abs()
    if not bool((apart <= tolerance * max(1.0, float(expected.detach().abs().max()))).all()):  # NaN fails too
        at = tuple(int(i) for i in torch.unravel_index(apart.nan_to_num(torch.inf).argmax(), apart.shape))
        expects, found = float(expected.detach()[at]), float(torch.as_tensor(found).detach()[at])
        raise Wrong(f"on {on}: at {at} expected {expects:.4g}, found {found:.4g}{'; ' + hint if hint else ''}")


def same_gradients(theirs, ours, x, part):
    """Raise Wrong unless the gradients of the sum of squares of theirs(x) and ours(x) agree: in x, and in the parameters of `part`."""
    import torch

    found, expected = [], []
    for module, gradients in ((theirs, found), (ours, expected)):
        leaf = x.clone().requires_grad_()
        loss = module(leaf).square().sum()
        if not loss.requires_grad:
            raise Wrong("the output does not depend on x for autograd: is there a no_grad(), a detach() or a tensor made anew?")
        gradients += torch.autograd.grad(loss, [leaf, *part.parameters()], allow_unused=True)
    for name, theirs_, ours_ in zip(["x", *(name for name, _ in part.named_parameters())], found, expected):
        if theirs_ is None:
            raise Wrong(f"no gradient reaches {name}: is there a no_grad(), a detach() or a tensor made anew?")
        same_values(theirs_, ours_, f"the gradient in {name}", "values may agree and gradients not, where the graph is cut")


def __getattr__(name):
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
