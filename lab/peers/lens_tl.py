#!/usr/bin/env python3
"""Looking inside GPT-2 small with random weights: TransformerLens, and ROME's causal tracing in PyTorch.

    python lab/peers/lens_tl.py --threads 2

Needs torch, transformers and transformer_lens 3 (4 has no HookedTransformer). The same as `pellucid bench lens`: a plain
run and run_with_cache at T=128; get_act_patch_resid_pre over 12 blocks x 16 positions; and ROME's tracing (one clean row
and ten noisy ones in a batch; for the stream, and for windows of ten blocks of feed-forward and attention, every block
and position restored on its own) of facts of ten tokens whose subject is tokens 1 to 3. Medians, one line of JSON.
"""
import argparse
import json
import statistics
import time

import torch
import transformers as tf
from transformer_lens import HookedTransformer, HookedTransformerConfig, patching


def timed(repeats, work, warm=1):
    for _ in range(warm):
        work()
    all = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        all.append(time.perf_counter() - start)
    return {"median": statistics.median(all), "min": min(all), "max": max(all)}


def lens(t, patch_t, repeats):
    cfg = HookedTransformerConfig(n_layers=12, d_model=768, n_ctx=1024, n_heads=12, d_head=64, d_mlp=3072, d_vocab=50257,
                                  act_fn="gelu_new", normalization_type="LN", seed=1)
    model = HookedTransformer(cfg).eval()
    ids = torch.randint(0, 50257, (1, t))
    out = {"plain": timed(repeats, lambda: model(ids)), "cached": timed(repeats, lambda: model.run_with_cache(ids))}
    clean = torch.randint(0, 50257, (1, patch_t))
    corrupted = clean.clone()
    corrupted[0, 0] = (corrupted[0, 0] + 1) % 50257
    metric = lambda logits: logits[0, -1, 5] - logits[0, -1, 6]

    def sweep():
        _, cache = model.run_with_cache(clean)
        patching.get_act_patch_resid_pre(model, corrupted, cache, metric)

    out["patch"] = timed(2, sweep, warm=0)
    return out


def trace(model, ids, subject, answer, most, samples=10, window=10):
    """ROME's trace_with_patch, for every block and position and three sorts; stops after `most` of them. Cells, done."""
    blocks, layers = model.transformer.h, len(model.transformer.h)
    rows = ids.repeat(1 + samples, 1)
    noise = 3 * model.transformer.wte.weight.std() * torch.randn(samples, len(subject), model.config.n_embd)

    def run(places, sort):
        def embed(_, __, y):
            y[1:, subject] += noise
            return y

        hooks = [model.transformer.wte.register_forward_hook(embed)]
        for layer, position in places:
            block = blocks[layer]
            module = {"stream": block, "mlp": block.mlp, "attn": block.attn}[sort]

            def restore(_, __, y, position=position):
                h = y[0] if isinstance(y, tuple) else y
                h[1:, position] = h[0, position]
                return y

            hooks.append(module.register_forward_hook(restore))
        logits = model(rows).logits
        for hook in hooks:
            hook.remove()
        return torch.softmax(logits[1:, -1], -1).mean(0)[answer].item()

    grid = {}
    for sort in ("stream", "mlp", "attn"):
        for layer in range(layers):
            around = range(max(0, layer - window // 2), min(layers, layer - (-window // 2)))
            around = [layer] if sort == "stream" else list(around)
            for position in range(rows.shape[1]):
                if len(grid) < most:
                    grid[sort, layer, position] = run([(l, position) for l in around], sort)
    return 3 * layers * rows.shape[1], len(grid)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--t", type=int, default=128)
    parser.add_argument("--patch-t", type=int, default=16)
    parser.add_argument("--fact-t", type=int, default=10)
    parser.add_argument("--cells", type=int, default=10**9, help="time so many of a fact's cells, and scale up")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    torch.manual_seed(1)
    out = lens(args.t, args.patch_t, args.repeats)
    model = tf.GPT2LMHeadModel(tf.GPT2Config()).eval()
    ids = torch.randint(0, 50257, (1, args.fact_t))
    trace(model, ids, list(range(1, 4)), 7, 1)
    start = time.perf_counter()
    cells, done = trace(model, ids, list(range(1, 4)), 7, args.cells)
    out["trace_cells"], out["trace_cells_timed"] = cells, done
    out["trace_per_fact"] = (time.perf_counter() - start) * cells / done
    out["versions"] = {"torch": torch.__version__, "transformers": tf.__version__,
                       "transformer_lens": __import__("importlib.metadata").metadata.version("transformer_lens")}
    print(json.dumps(out))


main()
