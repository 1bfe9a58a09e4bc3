"""Make released_small.npz: small inputs, outputs and gradients of the modules that the paper's authors released.

    git clone https://github.com/aL3x-O-o-Hung/CSAM released        # at commit a002920
    python tests/golden/make.py released tests/golden/released_small.npz

Weights and inputs follow a formula (`wave`), so that only outputs and gradients need to be stored. Two lines of the released
networks are completed, because they do not run: the decoder of the U-Net has no forward, and U-Net++ calls super() wrongly.
Everywhere the slice attention is the certain one, without a draw.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

S, C, H, W = 4, 16, 4, 5


def wave(shape, number):
    """An array of `shape` between -1 and 1 that looks random and depends on `number` alone."""
    place = torch.arange(int(np.prod(shape)), dtype=torch.float64)
    return torch.sin(12.9898 * place + 78.233 * number + 0.01 * place.square()).float().reshape(shape)


def parameters(shapes, number):
    """{name: values} for {name: shape}: about as large as PyTorch's own start."""
    return {name: wave(shape, number + i) * (1.5 / max(int(np.prod(shape[1:])), 1) ** 0.5) for i, (name, shape) in enumerate(shapes.items())}


def main(released, target):
    sys.path.insert(0, str(released))
    import CSAM_modules as modules
    import CSAM_networks as networks

    def decode(self, x, skips):
        for block, skip in zip(self.conv, skips):
            x = block(x, skip)
        return x

    networks.UNetDecoder.forward = decode
    source = (Path(released) / "CSAM_networks.py").read_text(encoding="utf-8").replace("super(CSAMUNetPlusPlus).__init__()", "super().__init__()")
    exec(compile(source, "CSAM_networks.py", "exec"), networks.__dict__)
    networks.UNetDecoder.forward = decode

    stored, shapes = {}, {}
    cases = {
        "semantic": (modules.SemanticAttentionModule(C), "x"), "positional": (modules.PositionalAttentionModule(), "x"),
        "slice": (modules.SliceAttentionModule(S, uncertainty=False), "x"), "csam": (modules.CSAM(S, C, uncertainty=False), "x"),
        "unet": (networks.C2BAMUNet(1, 3, 3, base_num=C, batch_size=S, uncertainty=False), "net_x"),
        "unetpp": (networks.CSAMUNetPlusPlus(1, 3, 3, base_num=C, batch_size=S, uncertainty=False), "net_x")}
    for number, (name, (module, key)) in enumerate(cases.items()):
        shapes[name] = {key: list(value.shape) for key, value in module.named_parameters()}
        module.load_state_dict(parameters(shapes[name], 100 * number))
        x = inputs()[key].requires_grad_()
        out = module.eval()(x)
        out = out[-1] if isinstance(out, (list, tuple)) else out
        (out * wave(out.shape, 900 + number)).sum().backward()
        stored |= {f"{name}/out": out.detach(), f"{name}/grad_x": x.grad}
        small = (key for key in shapes[name] if "unet" not in name or "attentions.0" in key or "attentions.1" in key)
        stored |= {f"{name}/grad/{key}": grad for key in small if (grad := module.get_parameter(key).grad) is not None}
    normal = modules.SliceAttentionModule(S, uncertainty=True)
    shapes["slice_uncertain"] = {key: list(value.shape) for key, value in normal.named_parameters()}
    normal.load_state_dict(parameters(shapes["slice_uncertain"], 700))
    seen = []

    class Seen(torch.distributions.LowRankMultivariateNormal):
        def __init__(self, loc, cov_factor, cov_diag):
            super().__init__(loc, cov_factor, cov_diag)
            seen.append({"mean": loc, "diag": cov_diag, "factor": cov_factor, "cov": self.covariance_matrix})

        def sample(self):
            return self.loc

    modules.td.LowRankMultivariateNormal = Seen
    stored["slice_uncertain/out_mean"] = normal(inputs()["x"]).detach()
    stored |= {f"slice_uncertain/{key}": value.detach() for key, value in seen[0].items()}
    arrays = {key: value.numpy().astype(np.float32) for key, value in stored.items()}
    np.savez_compressed(target, shapes=np.frombuffer(json.dumps(shapes).encode(), np.uint8), **arrays)


def inputs():
    return {"x": 2 * wave((S, C, H, W), 1), "net_x": 2 * wave((S, 1, 12, 12), 2)}


def load(path):
    """All tensors of the file, with the inputs, weights and probes that follow the formula."""
    with np.load(path) as file:
        golden = {key: torch.from_numpy(file[key]) for key in file if key != "shapes"}
        shapes = json.loads(file["shapes"].tobytes())
    golden |= inputs()
    for number, name in enumerate(shapes):
        start = 700 if name == "slice_uncertain" else 100 * number
        golden |= {f"{name}/{key}": value for key, value in parameters(shapes[name], start).items()}
        if f"{name}/out" in golden:
            golden[f"{name}/probe"] = wave(golden[f"{name}/out"].shape, 900 + number)
    return golden


if __name__ == "__main__":
    main(*sys.argv[1:])
