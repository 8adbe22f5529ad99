"""Runs exported models with onnxruntime and compares their pictures with the reference's and with ours.

`check_onnx.py GOLDEN WORK PROGRAM`, with what `make_snapshots.py` wrote in WORK.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from PIL import Image
from safetensors import safe_open

from judge import GOLDEN, WORK, check, failures, run
from network import Golden, latent, pixels

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures/convert"
TOLERANCE = 1e-4


def session(source):
    """The model of a file, and how it is called."""
    model = WORK / f"{Path(source).name}.onnx"
    run("convert", WORK / source, "--out", model, "--to", "onnx")
    loaded = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])

    def call(z, c=None, psi=1.0):
        inputs = {"z": z.numpy(), "truncation_psi": np.array(psi, np.float32)}
        if c is not None:
            inputs["c"] = c.numpy()
        return torch.from_numpy(loaded.run(["img"], inputs)[0])

    return call


def same_as_ours(source, call, z_dim, labels):
    """The files of the generate command."""
    weights, folder = WORK / f"{source}.ours.safetensors", WORK / f"{source}.ours"
    run("convert", WORK / source, "--out", weights)
    flags = ["--class", 1] if labels else []
    c = torch.eye(labels)[1:2] if labels else None
    run("generate", "--weights", weights, "--seeds", "0-4", "--out", folder, "--trunc", 0.7, "--device", "cpu", *flags)
    worst = 0
    for seed in range(5):
        theirs = pixels(call(latent(seed, z_dim), c, 0.7))
        ours = np.asarray(Image.open(folder / f"seed{seed:04}.png")).astype(int)
        worst = max(worst, int(np.abs(ours - theirs).max()))
    check(f"{source}: onnxruntime and generate, of 255", worst, 1)


def difference(a, b):
    return float((a - b).abs().max())


for stem in ("tiny32", "tiny32cond"):
    file = Golden(GOLDEN / f"e_{stem}_networks.safetensors")
    labels = file.json("spec")["c_dim"]
    z, c = file.tensors["in.z"], file.tensors["in.c"] if labels else None
    call = session(f"{stem}.pkl")
    check(f"{stem}: onnxruntime and the reference", difference(call(z, c), file.tensors["out.img"]), TOLERANCE)
    truncated = file.tensors["out.img_psi0.7"]
    check(f"{stem}: the same at psi 0.7", difference(call(z, c, 0.7), truncated), TOLERANCE)
    same_as_ours(f"{stem}.pkl", call, z.shape[1], labels)
file = Golden(GOLDEN / "e_arch_variants.safetensors")
for key in file.json("variants"):
    call = session(f"arch{key}.pkl")
    img = call(file.tensors[f"{key}.z"])
    check(f"arch{key}: onnxruntime and the reference", difference(img, file.tensors[f"{key}.img"]), TOLERANCE)
    same_as_ours(f"arch{key}.pkl", call, file.tensors[f"{key}.z"].shape[1], 0)
with safe_open(FIXTURES / "expected.safetensors", "pt") as file:
    call = session(FIXTURES / "small4.pkl")
    img = call(file.get_tensor("z"), psi=0.7)
    check("small: onnxruntime and torch, clamped", difference(img, file.get_tensor("img_clamped")), TOLERANCE)
if failures:
    sys.exit("failed: " + "; ".join(failures))
