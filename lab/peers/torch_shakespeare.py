#!/usr/bin/env python3
"""The small CPU recipe on characters, in PyTorch: 4 layers, 4 heads, 128 wide, T=64, B=12, 2000 steps.

    python lab/peers/torch_shakespeare.py input.txt --seed 1337 [--mode compiled]

Same schedule, optimizer and split as `pellucid train lab/recipes/shakespeare-small.toml`. Prints one line of
JSON: wall seconds of the training loop, and the mean loss over the whole validation part at the end.
"""
import argparse
import json
import math
import time

import torch
from torch_train import Model


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("text")
    parser.add_argument("--seed", type=int, default=1337)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--mode", choices=["eager", "compiled"], default="eager")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    text = open(args.text, encoding="utf-8").read()
    ids = {c: i for i, c in enumerate(sorted(set(text)))}
    data = torch.tensor([ids[c] for c in text])
    cut = int(0.9 * len(data))
    train, validation = data[:cut], data[cut:]
    t, b, lr, min_lr, warmup = 64, 12, args.lr, args.lr / 10, 100
    model = Model(4, 4, 128, len(ids), t, False)
    for name, p in model.named_parameters():
        if name.endswith(("out.weight", "down.weight")):
            torch.nn.init.normal_(p, std=0.02 / math.sqrt(8))
    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.99))
    forward = torch.compile(model) if args.mode == "compiled" else model
    start = time.perf_counter()
    for step in range(args.steps):
        if step < warmup:
            now = lr * (step + 1) / (warmup + 1)
        else:
            ratio = (step - warmup) / (args.steps - warmup)
            now = min_lr + 0.5 * (1 + math.cos(math.pi * ratio)) * (lr - min_lr)
        for group in optimizer.param_groups:
            group["lr"] = now
        at = torch.randint(len(train) - t, (b,))
        x = torch.stack([train[i : i + t] for i in at])
        y = torch.stack([train[i + 1 : i + 1 + t] for i in at])
        loss = forward(x, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    seconds = time.perf_counter() - start
    total, count = 0.0, 0
    with torch.no_grad():
        for i in range(0, len(validation) - t, t * 64):
            rows = [validation[j : j + t + 1] for j in range(i, min(i + t * 64, len(validation) - t), t)]
            rows = torch.stack(rows)
            total += model(rows[:, :-1], rows[:, 1:]).item() * len(rows)
            count += len(rows)
    print(
        json.dumps(
            {
                "engine": f"torch {torch.__version__} {args.mode}",
                "seed": args.seed,
                "seconds": seconds,
                "last_train_loss": loss.item(),
                "validation_loss": total / count,
            }
        )
    )


if __name__ == "__main__":
    main()
