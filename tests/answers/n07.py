"""Answers to the exercises of 07_see_attention: wrong ones to reject, unusual right ones to accept."""

import math

import numpy as np
import torch

from csam_lite.core.gates import override_gates, record_gates

WRONG_ENTROPY = {
    "not divided": lambda p: torch.special.entr(p).sum(1),
    "bits": lambda p: torch.special.entr(p).sum(1) / np.log(2),
    "log of zero": lambda p: -(p * p.log()).sum(1) / np.log(p.shape[1]),
    "sign": lambda p: torch.xlogy(p, p).sum(1) / np.log(p.shape[1]),
    "over slices": lambda p: torch.special.entr(p).sum(0) / np.log(p.shape[1]),
    "one minus the largest": lambda p: (1 - p.amax(1)) / (1 - 1 / p.shape[1]),
    "mean": lambda p: torch.special.entr(p).mean(1) / np.log(p.shape[1]),
    "in place": lambda p: -(p.mul_((p + 1e-30).log())).sum(1) / np.log(p.shape[1]),
    "zeros replaced in place": lambda p: torch.special.entr(p.clamp_(min=1e-12)).sum(1) / np.log(p.shape[1]),
    "K is always 3": lambda p: torch.special.entr(p).sum(1) / np.log(3),
    "zeros in slice 0 alone": lambda p: torch.where(p[:1] > 0, torch.special.entr(p), 0).sum(1) / np.log(p.shape[1]),
    "keeps the axis": lambda p: torch.special.entr(p).sum(1, keepdim=True) / np.log(p.shape[1]),
}


def flat_loop(gate):
    return torch.stack([torch.full_like(volume, volume.mean()) for volume in gate])


def in_place(gate):
    for volume in gate:
        volume[...] = volume.mean()
    return gate


WRONG_FLAT = {
    "open": torch.ones_like,
    "mean of all volumes": lambda gate: torch.full_like(gate, gate.mean()),
    "mean over volumes": lambda gate: gate.mean(0, keepdim=True).expand_as(gate),
    "axis lost": lambda gate: gate.flatten(1).mean(1),
    "last axis only": lambda gate: gate.mean(-1, keepdim=True).expand_as(gate),
    "last two axes only": lambda gate: gate.mean((-1, -2)[:gate.ndim - 1], keepdim=True).expand_as(gate),
    "median": lambda gate: gate.flatten(1).median(1).values.view(-1, *[1] * (gate.ndim - 1)).expand_as(gate),
    "unchanged": lambda gate: gate,
    "in place": in_place,
}


def union(before, after):
    return ((before > 0) | (after > 0)).sum()


def writes_into_before(before, after):
    part = changed(before, after)
    before[...] = after
    return part


WRONG_CHANGED = {
    "all voxels": lambda b, a: (b != a).mean(),
    "foreground or not": lambda b, a: ((b > 0) != (a > 0)).sum() / max(union(b, a), 1),
    "part of before": lambda b, a: (b != a).sum() / max((b > 0).sum(), 1),
    "count": lambda b, a: (b != a).sum(),
    "writes after into before": writes_into_before,
    "difference of classes": lambda b, a: np.abs(b.astype(int) - a).sum() / max(union(b, a), 1),
    "part of the larger mask": lambda b, a: (b != a).sum() / max((b > 0).sum(), (a > 0).sum(), 1),
    "part of what both have": lambda b, a: (b != a).sum() / max(((b > 0) & (a > 0)).sum(), 1),
    "first slice only": lambda b, a: (b[:1] != a[:1]).sum() / max(union(b, a), 1),
    "empty is NaN": lambda b, a: (b != a).sum() / union(b, a) if union(b, a) else np.nan,
    "what stayed": lambda b, a: (b == a).sum() / b.size,
    "unsigned difference": lambda b, a: (b - a).sum() / max(union(b, a), 1),
}


def changed(before, after):
    return (before != after).sum() / max(union(before, after), 1)


def changed_loop(before, after):
    pairs = [(b, a) for b, a in zip(before.flatten().tolist(), after.flatten().tolist()) if b or a]
    return sum(b != a for b, a in pairs) / len(pairs) if pairs else 0.0


def changed_torch(before, after):
    before, after = torch.from_numpy(before), torch.from_numpy(after)
    either = (before > 0) | (after > 0)
    return (before[either] != after[either]).float().mean().nan_to_num(0)


def mask(network, x, overrides=None):
    with torch.no_grad(), override_gates(network, overrides or {}):
        return network(x).argmax(2).numpy()


def keys_of(network, volumes):
    with torch.no_grad(), record_gates(network) as record:
        network(volumes)
    return [(name, gate) for name, gates in record.items() for gate in gates]


def effects(network, x, put=flat_loop):
    before = mask(network, x)
    return {key: changed(before, mask(network, x, {key: put})) for key in keys_of(network, x)}


def effects_with_record(network, x):
    with torch.no_grad(), record_gates(network) as record:
        before = network(x).argmax(2)
    means = {(name, gate): flat_loop(torch.as_tensor(named.values))
             for name, gates in record.items() for gate, named in gates.items()}
    parts = {}
    for key, mean in means.items():
        with torch.no_grad(), override_gates(network, {key: mean}):
            after = network(x).argmax(2)
        parts[key] = (before != after).sum().item() / max(((before > 0) | (after > 0)).sum().item(), 1)
    return parts


def cumulative(network, x):
    before, overrides, parts = mask(network, x), {}, {}
    for key in keys_of(network, x):
        overrides[key] = flat_loop
        parts[key] = changed(before, mask(network, x, overrides))
    return parts


def never_removed(network, x):
    before, parts = mask(network, x), {}
    for key in keys_of(network, x):
        override_gates(network, {key: flat_loop}).__enter__()
        parts[key] = changed(before, mask(network, x))
    return parts


def of_logits(network, x):
    with torch.no_grad():
        before, parts = network(x), {}
        for key in keys_of(network, x):
            with override_gates(network, {key: flat_loop}):
                parts[key] = float((network(x) - before).abs().mean())
    return parts


def three_gates_by_name(network, x):
    before, keys = mask(network, x), [(f"csam.{level}", gate) for level in (0, 1) for gate in ("semantic", "positional", "slice")]
    found = keys_of(network, x)
    return {key: changed(before, mask(network, x, {key: flat_loop} if key in found else {})) for key in keys}


def keeps_what_it_found(network, x, parts={}):  # noqa: B006, a usual trap
    parts.update(effects(network, x))
    return parts


def mean_of_volumes(network, x):
    before = mask(network, x)
    return {key: np.mean([changed(b, a) for b, a in zip(before, mask(network, x, {key: flat_loop}))])
            for key in keys_of(network, x)}


WRONG_EFFECTS = {
    "the mean of all volumes": lambda network, x: effects(network, x, torch.mean),
    "the first volume only": lambda network, x: effects(network, x[:1]),
    "the mean of the volumes' parts": mean_of_volumes,
    "empty masks are NaN": lambda network, x: {
        key: value or math.nan for key, value in effects(network, x).items()},
    "one instead of the mean": lambda network, x: effects(network, x, 1.0),
    "cumulative": cumulative,
    "never removed": never_removed,
    "logits": of_logits,
    "nothing replaced": lambda network, x: effects(network, x, lambda gate: gate),
    "slice gates only": lambda network, x: {
        key: value for key, value in effects(network, x).items() if key[1] == "slice"},
    "three gates at two scales, by name": three_gates_by_name,
    "keeps what it found before": keeps_what_it_found,
    "names only": lambda network, x: {gate: value for (_, gate), value in effects(network, x).items()},
    "a list": lambda network, x: list(effects(network, x).values()),
}


WRONG = {"entropy": WRONG_ENTROPY, "flat": WRONG_FLAT, "changed": WRONG_CHANGED, "effects": WRONG_EFFECTS}
RIGHT = {
    "entropy": {
        "entr": lambda p: torch.special.entr(p).sum(1) / np.log(p.shape[1]),
        "loop": lambda p: -sum(torch.where(p_k > 0, p_k * p_k.clamp(min=1e-30).log(), 0)
                               for p_k in p.unbind(1)) / np.log(p.shape[1]),
        "distribution": lambda p: torch.distributions.Categorical(
            probs=p.movedim(1, -1)).entropy() / np.log(p.shape[1]),
        "numpy": lambda p: -(p.numpy() * np.log(p.numpy() + 1e-12)).sum(1) / np.log(p.shape[1]),
    },
    "flat": {
        "loop": flat_loop,
        "broadcasts": lambda gate: gate.mean(tuple(range(1, gate.ndim)), keepdim=True),
        "expanded": lambda gate: gate.flatten(1).mean(1).view(-1, *[1] * (gate.ndim - 1)).expand_as(gate),
    },
    "changed": {
        "changed": changed,
        "changed_loop": changed_loop,
        "changed_torch": changed_torch,
    },
    "effects": {
        "effects": effects,
        "effects_with_record": effects_with_record,
    },
}

_VOLUME = "all volumes have the same number of axes and of classes"
EQUIVALENT = {
    "entropy": {
        "detach()": "the text asks for no gradient",
        "«torch.special.entr(p).abs()": "entropies are not negative",
        "«p[:1]».shape[1]": _VOLUME,
        "«p[-1:]».shape[1]": _VOLUME,
        "«p_k >= 0»": "clamp gives 0 times a finite logarithm",
        "p_k > «-1»": "clamp gives 0 times a finite logarithm",
        "«p_k».log()": "where() does not take the NaN",
        "clamp(min=«": "where() does not take what clamp gives at 0",
        "-(«p» * np.log": "numpy reads a tensor",
        "+ «1.25e-12»": "every number will do that is far smaller than a probability",
        "+ «8e-13»": "every number will do that is far smaller than a probability",
    },
    "flat": {
        "detach()": "the text asks for no gradient",
        ".abs()": "gates are not negative",
        "return «[torch.full_like(": "a list of volumes is as good as a tensor",
        "full_like(«volume[:1]»": "an axis of length one stands for all",
        "full_like(«volume[-1:]»": "an axis of length one stands for all",
        "«gate[:1]».ndim": _VOLUME,
        "«gate[-1:]».ndim": _VOLUME,
        "«gate.flatten(1).mean(1).view(-1, *[1] * (gate.ndim - 1))»": "an axis of length one stands for all",
        "mean(«-1»)": "axis 1 of two is the last one",
    },
    "changed": {
        "detach()": "masks have no gradient",
        "«max(1, union": "max does not depend on the order",
        "«union(after, before)»": "the union does not depend on the order",
        ".round()»": "a whole number stays as it is",
        "pairs = [«(a, b)»": "unequal does not depend on the order",
        "«zip(after.flatten().tolist(), before.flatten().tolist())»": "unequal does not depend on the order",
        "zip(«before.flatten()», after": "numbers of numpy compare like those of Python",
        "before.flatten().tolist(), «after.flatten()»)": "numbers of numpy compare like those of Python",
        "if «pairs[:1]» else": "a list is empty where its first part is",
        "if «pairs[-1:]» else": "a list is empty where its last part is",
        "«(torch.from_numpy(after), torch.from_numpy(before))»": "the masks may change places",
        ".abs()": "counts are not negative",
    },
    "effects": {
        "detach()": "the effects are numbers without a gradient",
        "«changed(mask(network, x, {key: put}), before)»": "the masks may change places",
        "keys_of(network, «x[": "one volume is enough to find the names",
        ".round()»": "a whole number stays as it is",
        "return «network(x).argmax(2)»": "masks may be tensors",
        "«max(1, union": "max does not depend on the order",
        "«union(after, before)»": "the union does not depend on the order",
        "network(«volumes[": "one volume is enough to find the names",
        "parts[key] = «(before != after).sum()»": "a tensor of one number",
        "max(«((before > 0) | (after > 0)).sum()», 1)": "a tensor of one number",
        "«max(1, ((before": "max does not depend on the order",
        "full_like(«volume[": "an axis of length one stands for all",
        "«volume.abs()": "gates are not negative",
    },
}
