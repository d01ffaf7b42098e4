#!/usr/bin/env python3
"""One training step of an encoder or an encoder-decoder in PyTorch, timed as `pellucid bench train` times its own.

    python lab/peers/torch_transformer.py --recipe bert-mini --precision f32 --mode eager --steps 5
    pellucid bench train --recipe bert-mini --precision f32 --steps 5 --json

The layers are PyTorch's own, torch.nn.TransformerEncoder and torch.nn.Transformer, with the sizes, the order of norms, the
nonlinearity and the dropout of ours; the embedding is tied to the head. PyTorch's layers also drop inside the
feed-forward, ours do not: that one is taken out. AdamW is the fused one. `--gather` scores only positions with a target,
which PyTorch's own head does not do by itself.

Needs `pip install torch` in an environment of its own; nothing of it enters this repository's build. Prints one line of
JSON: median and spread of seconds per step (forward, backward, clip, AdamW), tokens/s on both sides, peak resident memory.
"""
import argparse
import contextlib
import json
import math
import resource
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

IGNORE = -100
RECIPES = {
    # layers (each stack), heads, width, hidden, vocab, B, T, S, dropout, share of targets
    "bert-mini": (4, 4, 256, 1024, 30522, 32, 128, 0, 0.1, 0.15),
    "transformer-tiny": (4, 4, 128, 256, 10000, 32, 64, 64, 0.3, 1.0),
    "transformer-iwslt": (6, 4, 512, 1024, 10000, 32, 64, 64, 0.3, 1.0),
}


def without_inner_dropout(layer):
    layer.dropout = nn.Identity()
    return layer


class Encoder(nn.Module):
    """BERT on hidden tokens: post-norm, GELU, learned positions, two kinds of segments, a transform before the head."""

    def __init__(self, a):
        super().__init__()
        c = a.width
        self.token = nn.Embedding(a.vocab, c)
        self.position = nn.Embedding(a.time, c)
        self.segment = nn.Embedding(2, c)
        self.norm = nn.LayerNorm(c, eps=1e-12)
        self.drop = nn.Dropout(a.dropout)
        layer = nn.TransformerEncoderLayer(
            c, a.heads, a.hidden, a.dropout, "gelu", layer_norm_eps=1e-12, batch_first=True, norm_first=False
        )
        self.stack = nn.TransformerEncoder(without_inner_dropout(layer), a.layers, enable_nested_tensor=False)
        self.dense = nn.Linear(c, c)
        self.head_norm = nn.LayerNorm(c, eps=1e-12)
        self.bias = nn.Parameter(torch.zeros(a.vocab))
        for p in (self.token, self.position, self.segment):
            nn.init.normal_(p.weight, std=0.02)

    def forward(self, ids, _source, targets, index):
        x = self.token(ids) + self.position(torch.arange(ids.shape[1])) + self.segment.weight[0]
        x = self.stack(self.drop(self.norm(x))).flatten(0, 1)
        targets = targets.flatten()
        if index is not None:
            x, targets = x[index], targets[index]
        x = self.head_norm(F.gelu(self.dense(x)))
        return F.cross_entropy(F.linear(x, self.token.weight, self.bias), targets, ignore_index=IGNORE)


class EncoderDecoder(nn.Module):
    """The original Transformer: post-norm, ReLU, sines, one embedding for source, target and head."""

    def __init__(self, a):
        super().__init__()
        c = a.width
        self.token = nn.Embedding(a.vocab, c)
        nn.init.normal_(self.token.weight, std=c**-0.5)
        self.register_buffer("sines", sines(max(a.time, a.source_time), c))
        self.drop = nn.Dropout(a.dropout)
        kinds = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
        layers = [
            without_inner_dropout(
                kind(c, a.heads, a.hidden, a.dropout, "relu", batch_first=True, norm_first=False)
            )
            for kind in kinds
        ]
        # Without the norms that nn.Transformer puts on top: post-norm has had its own.
        self.stacks = nn.Transformer(
            c,
            a.heads,
            custom_encoder=nn.TransformerEncoder(layers[0], a.layers, enable_nested_tensor=False),
            custom_decoder=nn.TransformerDecoder(layers[1], a.layers),
            batch_first=True,
        )
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(a.time))
        self.scale = math.sqrt(c)

    def embed(self, ids):
        return self.drop(self.token(ids) * self.scale + self.sines[: ids.shape[1]])

    def forward(self, ids, source, targets, index):
        x = self.stacks(self.embed(source), self.embed(ids), tgt_mask=self.mask, tgt_is_causal=True)
        x, targets = x.flatten(0, 1), targets.flatten()
        if index is not None:
            x, targets = x[index], targets[index]
        return F.cross_entropy(F.linear(x, self.token.weight), targets, ignore_index=IGNORE)


def sines(length, width):
    half = width // 2
    angles = torch.arange(length)[:, None] / 10000 ** (torch.arange(half)[None] / half)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def draw(a):
    """Ids, source, targets; of the positions as many have a target as ours."""
    ids = torch.randint(a.vocab, (a.batch, a.time))
    source = torch.randint(a.vocab, (a.batch, a.source_time))
    targets = torch.randint(a.vocab, (a.batch * a.time,))
    if a.targets < 1:
        counted = max(1, round(a.targets * len(targets)))
        targets[torch.randperm(len(targets))[counted:]] = IGNORE
    return ids, source, targets.view(a.batch, a.time)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", choices=RECIPES, default="bert-mini")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--mode", choices=["eager", "compiled"], default="eager")
    parser.add_argument("--gather", action="store_true", help="score only positions that have a target")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--threads", type=int, default=0, help="0 takes PyTorch's own number")
    for name in ("batch", "time", "source-time", "vocab"):
        parser.add_argument(f"--{name}", type=int, help="in place of the recipe's")
    parser.add_argument("--dropout", type=float, help="in place of the recipe's")
    parser.add_argument("--targets", type=float, help="share of positions that have a target")
    parser.add_argument("--json", action="store_true", help="accepted; the output is always JSON")
    a = parser.parse_args()
    names = "layers heads width hidden vocab batch time source_time dropout targets".split()
    for name, value in zip(names, RECIPES[a.recipe]):
        if getattr(a, name, None) is None:
            setattr(a, name, value)
    if a.source_time and not RECIPES[a.recipe][7]:
        parser.error(f"--source-time: {a.recipe} has no encoder beside a decoder")
    return a


def main():
    a = arguments()
    if a.threads:
        torch.set_num_threads(a.threads)
    torch.manual_seed(1337)
    model = (EncoderDecoder if a.source_time else Encoder)(a)
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": 0.1},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), fused=True)
    forward = torch.compile(model) if a.mode == "compiled" else model
    bf16 = a.precision == "bf16"
    cast = torch.autocast("cpu", dtype=torch.bfloat16) if bf16 else contextlib.nullcontext()
    seconds, losses = [], []
    for step in range(a.warmup + a.steps):
        ids, source, targets = draw(a)
        start = time.perf_counter()
        index = (targets.flatten() != IGNORE).nonzero().flatten() if a.gather else None
        with cast:
            loss = forward(ids, source, targets, index)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        if step >= a.warmup:
            seconds.append(time.perf_counter() - start)
    seconds.sort()
    median = seconds[len(seconds) // 2]
    kind = a.mode + (" gather" if a.gather else "")
    out = {"engine": f"torch {torch.__version__} {kind}"}
    for name in ("recipe", "precision", "batch", "time", "source_time", "dropout", "targets"):
        out[name] = getattr(a, name)
    out |= {
        "threads": torch.get_num_threads(),
        "parameters": sum(p.numel() for p in parameters),
        "seconds_median": median,
        "seconds_min": seconds[0],
        "seconds_max": seconds[-1],
        "tokens_per_second": a.batch * (a.time + a.source_time) / median,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "first_loss": losses[0],
        "last_loss": losses[-1],
    }
    print(json.dumps(out))


if __name__ == "__main__":
    main()
