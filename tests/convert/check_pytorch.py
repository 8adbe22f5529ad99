"""Compares converted networks with the reference's: names and values of the state dictionary, and pictures.

`check_pytorch.py GOLDEN WORK PROGRAM`, with what `make_snapshots.py` wrote in WORK.
"""

import sys

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from judge import GOLDEN, WORK, check, failures, run
from network import Golden, image, latent, pixels

SEEDS = (0, 1, 85)


def same_names(source, prefix, state, network):
    """No missing and no extra key, for torch as well, and the same values."""
    out = WORK / f"{source}.{network}.safetensors"
    run("convert", WORK / source, "--out", out, "--to", "pytorch", "--network", network)
    loaded = load_file(out)
    shapes = lambda tensors: {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    missing = shapes(state).items() - shapes(loaded).items()
    extra = shapes(loaded).items() - shapes(state).items()
    print(f"{source} {prefix}: {len(loaded)} names, {len(missing)} missing, {len(extra)} extra")
    if missing or extra:
        failures.append(f"{source} {prefix}: {sorted(missing)} {sorted(extra)}")
    worst = max(float((loaded[name] - state[name]).abs().max()) for name in state if name in loaded)
    check(f"{source} {prefix}: largest difference of a weight", worst, 1e-6)


def same_pictures(source, state, labels):
    weights, folder = WORK / f"{source}.safetensors", WORK / f"{source}.pictures"
    run("convert", WORK / source, "--out", weights)
    worst = 0
    for psi in (1, 0.7):
        for label in range(labels) if labels else [None]:
            c = None if label is None else torch.eye(labels)[label][None]
            flags = [] if label is None else ["--class", label]
            seeds = ",".join(map(str, SEEDS))
            run("generate", "--weights", weights, "--seeds", seeds, "--out", folder, "--trunc", psi, "--device", "cpu", *flags)
            for seed in SEEDS:
                z = latent(seed, state["mapping.fc0.weight"].shape[1] - (state["mapping.w_avg"].shape[0] if labels else 0))
                theirs = pixels(image(state, z, c, psi))
                ours = np.asarray(Image.open(folder / f"seed{seed:04}.png")).astype(int)
                worst = max(worst, int(np.abs(ours - theirs).max()))
    check(f"{source}: largest difference of a pixel, of 255", worst, 1)


def oracle(name, state, z, c, expected, psi=1.0):
    """The torch code of these tests against the reference's own pictures."""
    worst = 0
    for i in range(len(z)):
        label = None if c is None or c.shape[1] == 0 else c[i : i + 1]
        worst = max(worst, float((image(state, z[i : i + 1], label, psi) - expected[i]).abs().max()))
    check(f"{name}: this code and the reference, psi {psi}", worst, 1e-4)


for stem in ("tiny32", "tiny32cond"):
    file = Golden(GOLDEN / f"e_{stem}_networks.safetensors")
    g, d = file.with_prefix("G."), file.with_prefix("D.")
    z, c = file.tensors["in.z"], file.tensors.get("in.c")
    oracle(stem, g, z, c, file.tensors["out.img"])
    oracle(stem, g, z, c, file.tensors["out.img_psi0.7"], 0.7)
    same_names(f"{stem}.pkl", "G", g, "g-ema")
    same_names(f"{stem}.pkl", "D", d, "d")
    same_pictures(f"{stem}.pkl", g, file.json("spec")["c_dim"])
    if stem == "tiny32":
        same_names("tiny32.pt", "G", g, "g-ema")
        same_names("tiny32.pt", "D", d, "d")
        same_pictures("tiny32.pt", g, 0)
        run("convert", WORK / "tiny32old.pt", "--out", WORK / "old.safetensors", "--to", "pytorch")
        old = load_file(WORK / "old.safetensors")
        worst = max(float((old[name] - g[name]).abs().max()) for name in g if name != "mapping.w_avg")
        check("tiny32old.pt: largest difference of a weight", worst, 1e-6)
file = Golden(GOLDEN / "e_arch_variants.safetensors")
for key in file.json("variants"):
    g, d = file.with_prefix(f"{key}.G."), file.with_prefix(f"{key}.D.")
    oracle(f"arch{key}", g, file.tensors[f"{key}.z"], None, file.tensors[f"{key}.img"])
    same_names(f"arch{key}.pkl", "G", g, "g-ema")
    same_names(f"arch{key}.pkl", "D", d, "d")
    same_pictures(f"arch{key}.pkl", g, 0)
if failures:
    sys.exit("failed: " + "; ".join(failures))
