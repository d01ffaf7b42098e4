#!/usr/bin/env python3
"""PyTorch's fused attention, forward and backward, timed as `pellucid bench attention` times its own.

    python lab/peers/torch_attention.py --t 4096 --heads 12 --d 64 --batch 1 --precision bf16 --repeats 5 --json

Needs `pip install torch` in an environment of its own; nothing of it enters this repository's build.
`scaled_dot_product_attention(is_causal=True)` on tensors of that precision. Prints one line of JSON: seconds
of forward and backward together (median, min, max) and apart, flops (2 products forward, 5 backward, only
pairs that see each other), peak resident memory of the process and what the runs added to it.
"""
import argparse
import json
import resource
import statistics
import time

import torch
import torch.nn.functional as F


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--t", type=int, default=1024)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--d", type=int, default=64)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="0 takes all cores")
    parser.add_argument("--packed", action="store_true", help="q, k, v as views into one (B, T, 3, H, D) tensor")
    parser.add_argument("--json", action="store_true", help="accepted; the output is always JSON")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[args.precision]
    b, t, h, d = args.batch, args.t, args.heads, args.d
    if args.packed:
        qkv = torch.randn(b, t, 3, h, d).to(dtype).requires_grad_()
        leaves = [qkv]
    else:
        leaves = [torch.randn(b, h, t, d).to(dtype).requires_grad_() for _ in range(3)]
    grad = torch.randn(b, h, t, d).to(dtype)
    before = peak()
    forward, backward, whole = [], [], []
    for _ in range(args.repeats + 1):
        for leaf in leaves:
            leaf.grad = None
        start = time.perf_counter()
        q, k, v = (leaves[0][:, :, i].transpose(1, 2) for i in range(3)) if args.packed else leaves
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        middle = time.perf_counter()
        out.backward(grad)
        end = time.perf_counter()
        forward.append(middle - start)
        backward.append(end - middle)
        whole.append(end - start)
    forward, backward, whole = forward[1:], backward[1:], whole[1:]  # the first run warms up
    pairs = t * (t + 1) // 2
    flops = 7 * 2 * b * h * d * pairs
    median = statistics.median(whole)
    print(json.dumps({
        "engine": f"torch {torch.__version__}",
        "t": t, "heads": h, "d": d, "batch": b, "precision": args.precision,
        "threads": torch.get_num_threads(),
        "seconds_median": median, "seconds_min": min(whole), "seconds_max": max(whole),
        "forward_seconds": statistics.median(forward), "backward_seconds": statistics.median(backward),
        "flops": flops, "gflops": flops / median * 1e-9,
        "peak_bytes": peak(), "peak_bytes_added": peak() - before,
    }))


main()
