"""A StyleGAN2 generator written down once more, with torch: the other side of the comparison.

It takes a state dictionary of the reference's names. Weights are modulated and demodulated image by image
and upsampling is zeros, padding and a filter, as in the paper; nothing of it is shared with the Rust code.
"""

import json

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open

FILTER = torch.outer(torch.tensor([1.0, 3.0, 3.0, 1.0]), torch.tensor([1.0, 3.0, 3.0, 1.0])) / 64


class Golden:
    """Tensors of the reference: `with_prefix` gives one network's state dictionary."""

    def __init__(self, path):
        with safe_open(path, "pt") as file:
            self.metadata = {key: value for key, value in file.metadata().items()}
            self.tensors = {name: file.get_tensor(name) for name in file.keys()}

    def json(self, key):
        return json.loads(self.metadata[key])

    def with_prefix(self, prefix):
        names = [name for name in self.tensors if name.startswith(prefix)]
        return {name[len(prefix) :]: self.tensors[name] for name in names}


def normalize(x):
    return x / torch.sqrt((x * x).mean(1, keepdim=True) + 1e-8)


def linear(state, name, x, lr=1.0):
    weight = state[name + ".weight"]
    return x @ weight.t() * (lr / np.sqrt(weight.shape[1])) + state[name + ".bias"] * lr


def activate(x, gain, clamp):
    x = F.leaky_relu(x, 0.2) * (gain * np.sqrt(2))
    return x if clamp is None else x.clamp(-clamp * gain, clamp * gain)


def upsample(x):
    """Zeros between the pixels, two before and one behind, and the filter."""
    n, c, h, w = x.shape
    y = x.new_zeros(n, c, 2 * h, 2 * w)
    y[:, :, ::2, ::2] = x
    y = F.pad(y, (2, 1, 2, 1))
    return F.conv2d(y, (FILTER * 4).expand(c, 1, 4, 4), groups=c)


def modulated(x, weight, style, demodulate, up):
    weight = weight * style[None, :, None, None]
    if demodulate:
        weight = weight / torch.sqrt((weight * weight).sum((1, 2, 3), keepdim=True) + 1e-8)
    if not up:
        return F.conv2d(x, weight, padding=weight.shape[2] // 2)
    x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    c = x.shape[1]
    return F.conv2d(F.pad(x, (1, 1, 1, 1)), (FILTER * 4).expand(c, 1, 4, 4), groups=c)


def convolve(state, name, x, w, up=False, gain=1.0, clamp=None, rgb=False):
    style = linear(state, name + ".affine", w)[0]
    weight, bias = state[name + ".weight"], state[name + ".bias"]
    if rgb:
        x = modulated(x, weight, style / np.sqrt(weight.shape[1]), False, False) + bias[None, :, None, None]
        return x if clamp is None else x.clamp(-clamp, clamp)
    x = modulated(x, weight, style, True, up)
    x = x + state[name + ".noise_const"] * state[name + ".noise_strength"] + bias[None, :, None, None]
    return activate(x, gain, clamp)


def mapping(state, z, c):
    x = normalize(z)
    if c is not None:
        x = torch.cat([x, normalize(linear(state, "mapping.embed", c))], 1)
    k = 0
    while f"mapping.fc{k}.weight" in state:
        x = activate(linear(state, f"mapping.fc{k}", x, lr=0.01), 1.0, None)
        k += 1
    return x


def image(state, z, c=None, psi=1.0, clamp=None):
    """One picture `[1, C, H, W]`, about [-1, 1], with constant noise, of `z [1, z_dim]`."""
    w = state["mapping.w_avg"] + psi * (mapping(state, z, c) - state["mapping.w_avg"])
    x, img, res = state["synthesis.b4.const"][None], None, 4
    while f"synthesis.b{res}.conv1.weight" in state:
        block, entered = f"synthesis.b{res}", x
        skip = state.get(block + ".skip.weight")
        gain = 1.0 if skip is None else np.sqrt(0.5)
        if res > 4:
            x = convolve(state, block + ".conv0", x, w, up=True, clamp=clamp)
        x = convolve(state, block + ".conv1", x, w, gain=gain, clamp=clamp)
        if skip is not None:
            x = x + upsample(F.conv2d(entered, skip / np.sqrt(skip.shape[1]))) * gain
        img = None if img is None else upsample(img)
        if block + ".torgb.weight" in state:
            rgb = convolve(state, block + ".torgb", x, w, clamp=clamp, rgb=True)
            img = rgb if img is None else img + rgb
        res *= 2
    return img


def pixels(img):
    """`[H, W, C]` of 0 to 255, rounded as the generate command does."""
    img = (img[0].permute(1, 2, 0) * 127.5 + 128).clamp(0, 255)
    return img.to(torch.uint8).numpy().astype(int)


def latent(seed, z_dim):
    z = np.random.RandomState(seed).randn(1, z_dim)
    return torch.from_numpy(z).float()
