#!/usr/bin/env python3
"""One token at a time with GPT-2's 124M shape (random weights) in transformers, batch 1, with a KV cache.

    python lab/peers/torch_decode.py --precision f32|bf16|int8 --mode eager|compiled --tokens 64

int8 is torch's dynamic quantisation of every linear layer (weights int8 per channel, activations int8 on the fly).
Prints one line of JSON: median and spread of seconds per token after the warm-up, tokens/s, peak resident memory.
"""
import argparse
import json
import resource
import time
import warnings

import torch
import torch.nn as nn

warnings.filterwarnings("ignore")


def gpt2(precision):
    """The model in that precision, and its configuration."""
    import transformers
    from transformers.pytorch_utils import Conv1D

    transformers.logging.set_verbosity_error()
    torch.manual_seed(1337)
    config = transformers.GPT2Config()
    if precision == "bf16":
        torch.set_default_dtype(torch.bfloat16)
    model = transformers.GPT2LMHeadModel(config).eval()
    torch.set_default_dtype(torch.float32)
    if precision == "int8":
        # GPT-2's layers are Conv1D in transformers; dynamic quantisation knows nn.Linear.
        for module in list(model.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, Conv1D):
                    linear = nn.Linear(child.weight.shape[0], child.weight.shape[1])
                    with torch.no_grad():
                        linear.weight.copy_(child.weight.t())
                        linear.bias.copy_(child.bias)
                    setattr(module, name, linear)
        model = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    return model, config


def report(args, seconds, tokens):
    seconds.sort()
    median = seconds[len(seconds) // 2]
    print(
        json.dumps(
            {
                "engine": f"torch {torch.__version__} {args.mode}",
                "precision": args.precision,
                "threads": torch.get_num_threads(),
                "seconds_median": median,
                "seconds_min": seconds[0],
                "seconds_max": seconds[-1],
                "tokens_per_second": tokens / median,
                "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            }
        )
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--precision", choices=["f32", "bf16", "int8"], default="f32")
    parser.add_argument("--mode", choices=["eager", "compiled"], default="eager")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--warmup", type=int, default=8)
    parser.add_argument("--prompt", type=int, default=16)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    from transformers import DynamicCache, StaticCache

    model, config = gpt2(args.precision)
    seconds = []
    with torch.inference_mode():
        prompt = torch.randint(config.vocab_size, (1, args.prompt))
        if args.mode == "compiled":
            cache = StaticCache(config=config, max_cache_len=args.prompt + args.warmup + args.tokens + 1)
            forward = torch.compile(model.forward, dynamic=False)
        else:
            cache = DynamicCache(config=config)
            forward = model.forward
        logits = model(prompt, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        for i in range(args.warmup + args.tokens):
            start = time.perf_counter()
            token = logits[:, -1].argmax(-1, keepdim=True)
            position = torch.tensor([[args.prompt + i]])
            logits = forward(token, past_key_values=cache, use_cache=True, position_ids=position).logits
            if i >= args.warmup:
                seconds.append(time.perf_counter() - start)
    report(args, seconds, 1)


if __name__ == "__main__":
    main()
