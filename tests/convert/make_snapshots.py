"""Writes networks as other tools do, for reading them again: snapshots (.pkl) and checkpoints (.pt).

`make_snapshots.py GOLDEN OUT` writes those of the golden networks; `make_snapshots.py --fixtures GOLDEN OUT`
the small ones that come with the crate, which hold the expected picture beside them.
"""

import argparse
import collections
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from network import FILTER, Golden, image, latent, mapping

BUFFERS = ("w_avg", "noise_const", "resample_filter")


def stand_in(module, name, value):
    """Makes `module.name` known under the name that the other tools give it."""
    path = module.split(".")
    for end in range(1, len(path) + 1):
        sys.modules.setdefault(".".join(path[:end]), types.ModuleType(".".join(path[:end])))
    value.__module__ = module
    value.__qualname__ = value.__name__ = name
    setattr(sys.modules[module], name, value)
    return value


class EasyDict(dict):
    pass


def reconstruct(meta):
    raise NotImplementedError(f"only written here, never read: {meta['class_name']}")


stand_in("dnnlib.util", "EasyDict", EasyDict)
stand_in("torch_utils.persistence", "_reconstruct_persistent_obj", reconstruct)


class Persistent(torch.nn.Module):
    """A module that is pickled with its class as text, as the reference's are."""

    plain_dicts = False  # as newer versions of torch keep parameters and buffers

    def __reduce__(self):
        state = dict(self.__dict__)
        if Persistent.plain_dicts:
            for key, value in state.items():
                if isinstance(value, collections.OrderedDict):
                    state[key] = dict(value)
        source = "raise RuntimeError('the code in a snapshot was run')\n"
        name = type(self).__name__
        meta = dict(type="class", version=6, module_src=source, class_name=name, state=state)
        return reconstruct, (meta,)


def module_of(name, parent):
    """Name of the class that a module has in the reference."""
    if name.startswith("fc") or name in ("affine", "embed", "out"):
        return "FullyConnectedLayer"
    if name == "torgb":
        return "ToRGBLayer"
    if name.startswith("conv") and parent == "SynthesisBlock":
        return "SynthesisLayer"
    if name.startswith("b"):
        return "SynthesisBlock" if parent == "SynthesisNetwork" else "DiscriminatorBlock"
    return {"mapping": "MappingNetwork", "synthesis": "SynthesisNetwork"}.get(name, "Conv2dLayer")


def dress(module, path, spec, architecture):
    """Attributes that the reference's module of this place has."""
    name, parent = type(module).__name__, path.split(".")
    module.training = False
    if name == "FullyConnectedLayer":
        is_mapping = parent[0] == "mapping" and parent[-1].startswith("fc")
        lr = 0.01 if is_mapping else 1
        is_linear = parent[-1] in ("affine", "embed", "out")
        module.activation = "linear" if is_linear else "lrelu"
        module.weight_gain = lr / np.sqrt(module.weight.shape[1])
        module.bias_gain = lr
    if name in ("SynthesisLayer", "ToRGBLayer", "Conv2dLayer"):
        module.conv_clamp = None if parent[-1] == "skip" else spec.get("clamp")
        module.act_gain = np.sqrt(2)
    if name in ("SynthesisLayer", "Conv2dLayer"):
        module.activation = "linear" if parent[-1] == "skip" else "lrelu"
    if name == "SynthesisLayer":
        module.use_noise = True
        module.up = 2 if parent[-1] == "conv0" else 1
    if name in ("SynthesisBlock", "DiscriminatorBlock"):
        module.architecture = architecture
        module.resolution = int(parent[-1][1:])
        module.use_fp16 = False


def network(state, class_name, spec, architecture):
    """A tree of modules with these tensors."""
    make = lambda name: type(name, (Persistent,), {})()
    root = make(class_name)
    root._init_args = ()
    root._init_kwargs = EasyDict(z_dim=spec["z_dim"], img_resolution=spec["res"])
    for name, tensor in state.items():
        module, path = root, name.split(".")
        for part in path[:-1]:
            if part not in module._modules:
                module.add_module(part, make(module_of(part, type(module).__name__)))
            module = module._modules[part]
        if path[-1] in BUFFERS:
            module.register_buffer(path[-1], tensor.clone())
        else:
            module.register_parameter(path[-1], torch.nn.Parameter(tensor.clone()))
    if class_name == "Discriminator":
        mbstd = make("MinibatchStdLayer")
        mbstd.group_size, mbstd.num_channels = spec["mbstd"], 1
        root.b4.add_module("mbstd", mbstd)
        root.b4.fromrgb = root.b4._modules.get("fromrgb")
    for path, module in root.named_modules():
        dress(module, path, spec, architecture)
    return root


def snapshot(path, networks, protocol=3):
    """`networks`: by name, in the dictionary that the reference writes."""
    Persistent.plain_dicts = protocol >= 4
    pipe = type("AugmentPipe", (Persistent,), {})()
    pipe.p, pipe.xint_max = np.float64(0.125), 0.125
    pipe.register_buffer("Hz_geom", torch.ones(12))
    data = EasyDict(class_name="training.dataset.ImageFolderDataset", path="paintings-of-an-artist.zip")
    content = dict(training_set_kwargs=data, **networks, augment_pipe=pipe)
    with open(path, "wb") as file:
        pickle.dump(content, file, protocol=protocol)


def rosinality(state):
    """The same generator under rosinality's names; its mean of w apart."""
    theirs = collections.OrderedDict()
    theirs._metadata = collections.OrderedDict({"": {"version": 1}})
    layers = {"b4.conv1": "conv1", "b4.torgb": "to_rgb1"}
    for k in range(8):
        layers[f"b{8 << k}.conv0"], layers[f"b{8 << k}.conv1"] = f"convs.{2 * k}", f"convs.{2 * k + 1}"
        layers[f"b{8 << k}.torgb"] = f"to_rgbs.{k}"
    noises = {f"b{8 << k // 2}.conv{k % 2}": k + 1 for k in range(16)}
    noises["b4.conv1"] = 0
    for name, tensor in state.items():
        parts = name.split(".")
        what = ".".join(parts[3:])
        layer = layers.get(".".join(parts[1:3]))
        if name.endswith("resample_filter") or name == "mapping.w_avg":
            continue
        if parts[0] == "mapping":
            theirs[f"style.{int(parts[1][2:]) + 1}.{parts[2]}"] = tensor.clone()
        elif name == "synthesis.b4.const":
            theirs["input.input"] = tensor[None].clone()
        elif what == "noise_const":
            theirs[f"noises.noise_{noises['.'.join(parts[1:3])]}"] = tensor[None, None].clone()
        elif what == "noise_strength":
            theirs[layer + ".noise.weight"] = tensor.reshape(1).clone()
        elif what.startswith("affine."):
            theirs[f"{layer}.conv.modulation.{parts[-1]}"] = tensor.clone()
        elif what == "weight":
            fan_in = tensor[0].numel()
            scaled = tensor if "torgb" in name else tensor * np.sqrt(fan_in)
            theirs[layer + ".conv.weight"] = scaled[None].clone()
        elif "torgb" in name:
            theirs[layer + ".bias"] = tensor.reshape(1, -1, 1, 1).clone()
        else:
            theirs[layer + ".activate.bias"] = tensor.clone()
        if what == "weight" and "b4." not in name:
            kind = {"conv0": "conv.blur", "torgb": "upsample"}.get(parts[2])
            if kind:
                theirs[f"{layer}.{kind}.kernel"] = FILTER * 4
    return theirs


def rosinality_d(state):
    """The same discriminator under rosinality's names."""
    theirs = {}
    top = max(int(name.split(".")[0][1:]) for name in state if name.startswith("b"))
    layers = {"conv0": ("conv1.0", "conv1.1"), "conv1": ("conv2.1", "conv2.2"), "skip": ("skip.1", None)}
    for name, tensor in state.items():
        block, layer, what = name.split(".") if name.count(".") == 2 else (None, None, None)
        if what not in ("weight", "bias"):
            continue
        is_bias = what == "bias"
        if layer == "fromrgb":
            place = f"convs.0.{int(is_bias)}"
        elif block == "b4":
            place = {"conv": f"final_conv.{int(is_bias)}", "fc": "final_linear.0", "out": "final_linear.1"}[layer]
        else:
            k = int(np.log2(top // int(block[1:]))) + 1
            place = f"convs.{k}.{layers[layer][is_bias]}"
            filtered = {"conv1": "conv2.0", "skip": "skip.0"}.get(layer)
            if filtered:
                theirs[f"convs.{k}.{filtered}.kernel"] = FILTER
        theirs[f"{place}.{what}"] = tensor.clone()
    return theirs


def all_snapshots(golden, out):
    for stem, protocol in (("tiny32", 3), ("tiny32cond", 4)):
        file = Golden(golden / f"e_{stem}_networks.safetensors")
        spec, g, d = file.json("spec"), file.with_prefix("G."), file.with_prefix("D.")
        raw = {name: tensor * 0 if name.endswith("bias") else tensor for name, tensor in g.items()}
        networks = dict(
            G=network(raw, "Generator", spec, "skip"),
            D=network(d, "Discriminator", spec, "resnet"),
            G_ema=network(g, "Generator", spec, "skip"),
        )
        weight = networks["G_ema"].synthesis.b32.conv1.weight
        weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        snapshot(out / f"{stem}.pkl", networks, protocol)
    file = Golden(golden / "e_tiny32_networks.safetensors")
    state = rosinality(file.with_prefix("G."))
    parameter = torch.nn.Parameter(torch.ones(3))
    parameter.grad = torch.ones(3)
    optimizer = torch.optim.Adam([parameter], lr=0.002, betas=(0.0, 0.99))
    optimizer.step()
    theirs = {"g": state, "g_ema": state, "g_optim": optimizer.state_dict(), "ada_aug_p": 0.0}
    theirs["d"] = rosinality_d(file.with_prefix("D."))
    theirs["args"] = argparse.Namespace(size=32, path="paintings-of-an-artist.lmdb")
    torch.save({**theirs, "latent_avg": file.tensors["G.mapping.w_avg"]}, out / "tiny32.pt")
    torch.save(theirs, out / "tiny32old.pt", _use_new_zipfile_serialization=False)
    file = Golden(golden / "e_arch_variants.safetensors")
    for key, variant in file.json("variants").items():
        spec = variant["spec"]
        g, d = file.with_prefix(f"{key}.G."), file.with_prefix(f"{key}.D.")
        networks = dict(
            G_ema=network(g, "Generator", spec, variant["g_arch"]),
            D=network(d, "Discriminator", spec, variant["d_arch"]),
        )
        snapshot(out / f"arch{key}.pkl", networks, protocol=3)


def small_state(clamp):
    """Random weights of an 8x8 generator."""
    rng = np.random.RandomState(7)
    draw = lambda *dims: torch.from_numpy(rng.randn(*dims)).float()
    state = {"mapping.w_avg": draw(6), "synthesis.b4.const": draw(4, 4, 4)}
    for k, dim in enumerate((6, 6)):
        state[f"mapping.fc{k}.weight"], state[f"mapping.fc{k}.bias"] = draw(6, dim) * 100, draw(6)
    for layer, dims in {
        "b4.conv1": (4, 4, 3), "b4.torgb": (3, 4, 1), "b8.conv0": (4, 4, 3), "b8.conv1": (4, 4, 3), "b8.torgb": (3, 4, 1)
    }.items():
        out_dim, in_dim, k = dims
        name = "synthesis." + layer
        state[name + ".weight"], state[name + ".bias"] = draw(out_dim, in_dim, k, k), draw(out_dim)
        state[name + ".affine.weight"], state[name + ".affine.bias"] = draw(in_dim, 6), draw(in_dim)
        if k == 3:
            res = int(layer[1])
            state[name + ".noise_const"], state[name + ".noise_strength"] = draw(res, res), draw(1)[0] * 0.3
            state[name + ".resample_filter"] = FILTER
    for res in (4, 8):
        state[f"synthesis.b{res}.resample_filter"] = FILTER
    return state


def fixtures(golden, out):
    spec = {"z_dim": 6, "res": 8, "clamp": 0.7}
    state = small_state(spec["clamp"])
    network_8 = network(state, "Generator", spec, "skip")
    for protocol in (3, 4):
        snapshot(out / f"small{protocol}.pkl", dict(G_ema=network_8), protocol)
    theirs = {"g_ema": rosinality(state), "latent_avg": state["mapping.w_avg"]}
    torch.save(theirs, out / "small.pt")
    torch.save(theirs, out / "small_old.pt", _use_new_zipfile_serialization=False)
    z = latent(3, 6)
    expected = {
        "z": z,
        "w": mapping(state, z, None),
        "img": image(state, z, psi=0.7),
        "img_clamped": image(state, z, psi=0.7, clamp=spec["clamp"]),
    }
    save_file({name: tensor.contiguous() for name, tensor in expected.items()}, out / "expected.safetensors")
    file = Golden(golden / "e_arch_variants.safetensors")
    variant = file.json("variants")["0"]
    g = network(file.with_prefix("0.G."), "Generator", variant["spec"], variant["g_arch"])
    snapshot(out / "golden_orig.pkl", dict(G_ema=g), protocol=4)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--fixtures", action="store_true")
    arguments.add_argument("golden", type=Path)
    arguments.add_argument("out", type=Path)
    arguments = arguments.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    (fixtures if arguments.fixtures else all_snapshots)(arguments.golden, arguments.out)
