"""Writes ops.json: what PyTorch says about each operation, outputs and gradients, computed in f64.

Operands are drawn in f32 (so that f32 holds them exactly) and widened. Layouts are those of `ops/*/mod.rs`.
Run: python make_ops.py   (versions and seed are written into the file)
"""

import json
import math
import pathlib
import sys

import torch
import torch.nn.functional as F

SEED = 20240612
torch.manual_seed(SEED)
cases = []


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float32).double().requires_grad_()


def numbers(t):
    if not t.is_floating_point():
        return t.flatten().tolist()
    return [float(f"{x:.9g}") for x in t.detach().flatten().tolist()]


def case(name, function, inputs=(), params=(), ints=(), loss=False, **settings):
    """`function(*inputs, *params)` returns one output, or a list of which the first carries the gradient."""
    outputs = function(*inputs, *params)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    upstream = torch.ones_like(outputs[0]) if loss else draw(*outputs[0].shape).detach()
    gradients = torch.autograd.grad(outputs[0], [*inputs, *params], upstream)
    cases.append(
        {
            "name": name,
            **settings,
            "inputs": [numbers(x) for x in inputs],
            "params": [numbers(x) for x in params],
            "ints": [numbers(x) for x in ints],
            "d_output": numbers(upstream),
            "outputs": [numbers(x) for x in outputs],
            "d_inputs": [numbers(g) for g in gradients[: len(inputs)]],
            "d_params": [numbers(g) for g in gradients[len(inputs) :]],
        }
    )


# ── norm ─────────────────────────────────────────────────────────────────────
n, c, eps = 5, 19, 1e-5
case("norm/layer", lambda x, w, b: F.layer_norm(x, (c,), w, b, eps), [draw(n, c)], [draw(c), draw(c)], n=n, c=c, eps=eps)
case("norm/rms", lambda x, w: F.rms_norm(x, (c,), w, eps), [draw(n, c)], [draw(c)], n=n, c=c, eps=eps)

# ── activation ───────────────────────────────────────────────────────────────
ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "relu_squared": lambda x: F.relu(x) ** 2,
    "silu": F.silu,
}
for name, function in ACTIVATIONS.items():
    x = (draw(61).detach() * 3).requires_grad_()
    case(f"activation/{name}", function, [x], n=61, activation=name)

# ── rotary ───────────────────────────────────────────────────────────────────
LLAMA3 = {"factor": 8.0, "low_frequency": 1.0, "high_frequency": 4.0, "original": 128}


def frequencies(rotary, theta, scaling):
    f = theta ** (-torch.arange(0, rotary, 2, dtype=torch.float64) / rotary)
    if scaling is None:
        return f
    wave = 2 * math.pi / f
    low = scaling["original"] / scaling["low_frequency"]
    high = scaling["original"] / scaling["high_frequency"]
    smooth = (scaling["original"] / wave - scaling["low_frequency"]) / (
        scaling["high_frequency"] - scaling["low_frequency"]
    )
    blended = (1 - smooth) * f / scaling["factor"] + smooth * f
    return torch.where(wave > low, f / scaling["factor"], torch.where(wave < high, f, blended))


def rotate(x, style, past, rotary, theta, scaling):
    """x (B, T, H, D); as complex numbers, an independent way to say the same."""
    t = x.shape[1]
    position = past[:, None] + torch.arange(t)
    angle = position[..., None].double() * frequencies(rotary, theta, scaling)
    turn = torch.polar(torch.ones_like(angle), angle)[:, :, None]
    part, rest = x[..., :rotary], x[..., rotary:]
    if style == "half":
        a, b = part.chunk(2, -1)
        z = torch.complex(a, b) * turn
        part = torch.cat([z.real, z.imag], -1)
    else:
        z = torch.view_as_complex(part.unflatten(-1, (-1, 2)).contiguous()) * turn
        part = torch.view_as_real(z).flatten(-2)
    return torch.cat([part, rest], -1)


b, t, heads, width, rest = 2, 3, 2, 10, 6
past = torch.tensor([0, 333])
for style, rotary, theta, scaling in [
    ("half", 10, 10000.0, None),
    ("half", 8, 500000.0, LLAMA3),
    ("interleaved", 10, 10000.0, None),
    ("interleaved", 6, 10000.0, LLAMA3),
]:

    def packed(row):
        turned = rotate(row[..., : heads * width].unflatten(-1, (heads, width)), style, past, rotary, theta, scaling)
        return torch.cat([turned.flatten(-2), row[..., heads * width :]], -1)

    case(
        f"rotary/{style}/{rotary}of{width}", packed, [draw(b, t, heads * width + rest)], ints=[past],
        b=b, t=t, row=heads * width + rest, heads=heads, width=width, rotary=rotary, theta=theta, style=style,
        scaling=scaling,
    )  # fmt: skip

# ── attention ────────────────────────────────────────────────────────────────
b, t, h, kv, d = 2, 7, 4, 2, 8


def attention(qkv):
    q, k, v = qkv.split([h * d, kv * d, kv * d], -1)
    q, k, v = (x.unflatten(-1, (-1, d)).transpose(1, 2) for x in (q, k, v))
    k, v = (x.repeat_interleave(h // kv, 1) for x in (k, v))
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return y.transpose(1, 2).flatten(-2)


case("attention/causal", attention, [draw(b, t, (h + 2 * kv) * d)], b=b, t=t, h=h, kv=kv, d=d)

# ── embedding ────────────────────────────────────────────────────────────────
b, t, c, v, scale = 2, 4, 6, 5, 2.5
ids, past = torch.randint(0, v, (b, t)), torch.tensor([0, 2])
case(
    "embedding/learned",
    lambda wte, wpe: scale * F.embedding(ids, wte) + F.embedding(past[:, None] + torch.arange(t), wpe),
    params=[draw(v, c), draw(8, c)],
    ints=[ids, past],
    b=b, t=t, c=c, vocab=v, max=8, scale=scale,
)  # fmt: skip

# ── cross-entropy ────────────────────────────────────────────────────────────
n, c, v, ignore = 9, 5, 13, -100
targets = torch.randint(0, v, (n,))
targets[[2, 7]] = ignore
for smoothing, z_loss, bias in [(0.0, 0.0, False), (0.1, 0.0, False), (0.1, 0.01, True)]:

    def loss(x, w, bias=None):
        z = F.linear(x, w, bias)
        counts = targets != ignore
        losses = F.cross_entropy(z, targets, ignore_index=ignore, label_smoothing=smoothing, reduction="none")
        losses = losses + z_loss * torch.where(counts, torch.logsumexp(z, -1) ** 2, 0.0)
        mean = F.cross_entropy(z, targets, ignore_index=ignore, label_smoothing=smoothing)
        mean = mean + z_loss * (torch.logsumexp(z[counts], -1) ** 2).mean()
        return [mean[None], losses]

    case(
        f"cross_entropy/smoothing{smoothing}/z{z_loss}", loss, [draw(n, c)],
        [draw(v, c), draw(v)] if bias else [draw(v, c)], [targets], loss=True,
        n=n, c=c, v=v, smoothing=smoothing, z_loss=z_loss, bias=bias, ignore=ignore,
    )  # fmt: skip

# ── linear ───────────────────────────────────────────────────────────────────
n, i, o = 5, 7, 11
case("linear/plain", F.linear, [draw(n, i)], [draw(o, i)], n=n, i=i, o=o, bias=False, activation=None, residual=False)
for name, function in ACTIVATIONS.items():
    case(
        f"linear/{name}", lambda x, r, w, b: function(F.linear(x, w, b)) + r, [draw(n, i), draw(n, o)],
        [draw(o, i), draw(o)], n=n, i=i, o=o, bias=True, activation=name, residual=True,
    )  # fmt: skip

# ── low rank ─────────────────────────────────────────────────────────────────
n, i, o, first, columns, rank, scale = 5, 7, 11, 3, 6, 2, 1.5


def low_rank(x, y, a, b):
    added = scale * F.linear(F.linear(x, a), b)
    return y + F.pad(added, (first, o - first - columns))


case(
    "low_rank", low_rank, [draw(n, i), draw(n, o)], [draw(rank, i), draw(columns, rank)],
    n=n, i=i, o=o, first=first, columns=columns, rank=rank, scale=scale,
)  # fmt: skip

golden = {
    "made_by": "make_ops.py",
    "torch": torch.__version__,
    "python": sys.version.split()[0],
    "seed": SEED,
    "cases": cases,
}
path = pathlib.Path(__file__).with_name("ops.json")
path.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
