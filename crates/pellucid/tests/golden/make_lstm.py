"""Writes lstm.json: what torch.nn.LSTM says, outputs and gradients, in f64.

The operation gets x already projected, so `weight_ih` is the identity and there is no bias. Lengths become packed
sequences; the reversed direction is the second one of a bidirectional layer. Operands are drawn in f32.
Run: python make_lstm.py   (versions and seed are written into the file)
"""

import json
import pathlib
import sys

import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

SEED = 20240613
torch.manual_seed(SEED)
B, T, C = 3, 5, 4


def draw(*shape, scale=1.0):
    return (scale * torch.randn(*shape, dtype=torch.float32)).double()


def numbers(t):
    return [float(f"{x:.9g}") for x in t.detach().flatten().tolist()]


def case(name, initial, reverse, lengths):
    x, h, c = (draw(*shape).requires_grad_() for shape in [(B, T, 4 * C), (B, C), (B, C)])
    lstm = torch.nn.LSTM(4 * C, C, bias=False, batch_first=True, bidirectional=reverse).double()
    suffix = "_reverse" if reverse else ""
    weights = dict(lstm.named_parameters())
    with torch.no_grad():
        weights[f"weight_ih_l0{suffix}"].copy_(torch.eye(4 * C))
        weights[f"weight_hh_l0{suffix}"].copy_(draw(4 * C, C, scale=0.7))
    w = weights[f"weight_hh_l0{suffix}"]
    directions = 2 if reverse else 1
    # The other direction begins with the same states; only the last direction is looked at.
    states = (h.expand(directions, B, C), c.expand(directions, B, C)) if initial else None
    if lengths:
        packed = pack_padded_sequence(x, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
        y, (last_h, last_c) = lstm(packed, states)
        y, _ = pad_packed_sequence(y, batch_first=True, total_length=T)
    else:
        y, (last_h, last_c) = lstm(x, states)
    outputs = [y[..., -C:], last_h[-1], last_c[-1]]
    upstream = [draw(*output.shape) for output in outputs]
    inputs = [x, h, c] if initial else [x]
    gradients = torch.autograd.grad(outputs, [*inputs, w], upstream)
    return {
        "name": name, "b": B, "t": T, "c": C, "initial": initial, "reverse": reverse,
        "inputs": [numbers(x) for x in inputs],
        "params": [numbers(w)],
        "ints": [lengths] if lengths else [],
        "d_outputs": [numbers(x) for x in upstream],
        "outputs": [numbers(x) for x in outputs],
        "d_inputs": [numbers(g) for g in gradients[:-1]],
        "d_params": [numbers(gradients[-1])],
    }  # fmt: skip


golden = {
    "made_by": "make_lstm.py",
    "torch": torch.__version__,
    "python": sys.version.split()[0],
    "seed": SEED,
    "cases": [
        case("lstm", False, False, None),
        case("lstm/lengths", True, False, [5, 2, 3]),
        case("lstm/reverse", True, True, None),
        case("lstm/reverse/lengths", True, True, [1, 4, 3]),
    ],
}
path = pathlib.Path(__file__).with_name("lstm.json")
path.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
