"""Writes adamw.json: six steps of torch.optim.AdamW in f64, started from numbers that f32 holds exactly.

Run: python make_adamw.py   (versions and seed are written into the file)
"""

import json
import pathlib
import sys

import torch

SEED = 20240611
N = 37
BETA1, BETA2, EPS, DECAY = 0.9, 0.95, 1e-8, 0.1


def numbers(t, digits=10):
    return [float(f"{x:.{digits}g}") for x in t.flatten().tolist()]


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float32).double()


torch.manual_seed(SEED)
p = draw(N).requires_grad_()
optimizer = torch.optim.AdamW([p], lr=1.0, betas=(BETA1, BETA2), eps=EPS, weight_decay=DECAY, foreach=False)
golden = {
    "made_by": "make_adamw.py",
    "torch": torch.__version__,
    "python": sys.version.split()[0],
    "seed": SEED,
    "beta1": BETA1,
    "beta2": BETA2,
    "eps": EPS,
    "weight_decay": DECAY,
    "p": numbers(p.detach()),
    "steps": [],
}
for step in range(6):
    lr = 0.05 / (1 + step)
    optimizer.param_groups[0]["lr"] = lr
    g = draw(N) * 10.0 ** (step % 3 - 1)
    g = g.float().double()
    p.grad = g.clone()
    optimizer.step()
    state = optimizer.state[p]
    golden["steps"].append(
        {
            "lr": lr,
            "g": numbers(g),
            "p": numbers(p.detach()),
            "m": numbers(state["exp_avg"]),
            "v": numbers(state["exp_avg_sq"]),
        }
    )
path = pathlib.Path(__file__).with_name("adamw.json")
path.write_text(json.dumps(golden, separators=(",", ":")) + "\n")
