#!/usr/bin/env python3
"""A prompt through GPT-2's 124M shape (random weights) in transformers: batch 1, logits of the last position, KV cache kept.

    python lab/peers/torch_prompt.py --precision f32|bf16 --mode eager|compiled --tokens 512 --repeats 5

Prints one line of JSON: median and spread of seconds per prompt after the warm-up, tokens/s, peak resident memory.
"""
import argparse
import time

import torch
from torch_decode import gpt2, report


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--mode", choices=["eager", "compiled"], default="eager")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model, config = gpt2(args.precision)
    forward = torch.compile(model.forward) if args.mode == "compiled" else model.forward
    seconds = []
    with torch.inference_mode():
        for i in range(args.warmup + args.repeats):
            ids = torch.randint(config.vocab_size, (1, args.tokens))
            start = time.perf_counter()
            forward(ids, use_cache=True, logits_to_keep=1)
            if i >= args.warmup:
                seconds.append(time.perf_counter() - start)
    report(args, seconds, args.tokens)


if __name__ == "__main__":
    main()
