#!/usr/bin/env python3
"""One training step of a GPT-2-shaped model in PyTorch, timed as pellucid times its own.

    python lab/peers/torch_train.py --recipe nano --precision f32 --mode eager --steps 7

Needs `pip install torch` in an environment of its own; nothing of it enters this repository's build.
Prints one line of JSON: median and spread of seconds per step (forward, backward, clip, AdamW),
tokens/s, peak resident memory.
"""
import argparse
import contextlib
import json
import resource
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

RECIPES = {  # layers, heads, width, vocab, T, B, biases
    "tiny": (4, 4, 128, 65, 64, 12, False),
    "nano": (6, 6, 384, 65, 256, 64, False),
    "gpt2": (12, 12, 768, 50257, 1024, 1, True),
}


class Block(nn.Module):
    def __init__(self, heads, width, bias):
        super().__init__()
        self.heads = heads
        self.n1 = nn.LayerNorm(width, bias=bias)
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)
        self.n2 = nn.LayerNorm(width, bias=bias)
        self.up = nn.Linear(width, 4 * width, bias=bias)
        self.down = nn.Linear(4 * width, width, bias=bias)
        self.tanh = "tanh" if bias else "none"

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = self.qkv(self.n1(x)).split(c, dim=2)
        q, k, v = (z.view(b, t, self.heads, c // self.heads).transpose(1, 2) for z in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, c))
        return x + self.down(F.gelu(self.up(self.n2(x)), approximate=self.tanh))


class Model(nn.Module):
    def __init__(self, layers, heads, width, vocab, t, bias):
        super().__init__()
        self.wte = nn.Embedding(vocab, width)
        self.wpe = nn.Embedding(t, width)
        self.blocks = nn.ModuleList(Block(heads, width, bias) for _ in range(layers))
        self.norm = nn.LayerNorm(width, bias=bias)
        for p in self.parameters():
            if p.dim() >= 2:
                nn.init.normal_(p, std=0.02)

    def forward(self, ids, targets):
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.wte.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--recipe", choices=RECIPES, default="nano")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--mode", choices=["eager", "compiled"], default="eager")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1337)
    layers, heads, width, vocab, t, b, bias = RECIPES[args.recipe]
    model = Model(layers, heads, width, vocab, t, bias)
    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99))
    forward = torch.compile(model) if args.mode == "compiled" else model
    cast = (
        torch.autocast("cpu", dtype=torch.bfloat16)
        if args.precision == "bf16"
        else contextlib.nullcontext()
    )
    seconds, losses = [], []
    for step in range(args.warmup + args.steps):
        ids = torch.randint(vocab, (b, t))
        targets = torch.randint(vocab, (b, t))
        start = time.perf_counter()
        with cast:
            loss = forward(ids, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        if step >= args.warmup:
            seconds.append(time.perf_counter() - start)
    seconds.sort()
    median = seconds[len(seconds) // 2]
    print(
        json.dumps(
            {
                "engine": f"torch {torch.__version__} {args.mode}",
                "recipe": args.recipe,
                "precision": args.precision,
                "threads": args.threads,
                "seconds_median": median,
                "seconds_min": seconds[0],
                "seconds_max": seconds[-1],
                "tokens_per_second": b * t / median,
                "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                "last_loss": losses[-1],
            }
        )
    )


if __name__ == "__main__":
    main()
