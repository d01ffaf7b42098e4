#!/usr/bin/env python3
"""From the start of a process to the first byte of the first new token: pellucid, and Python with transformers.

    python lab/peers/cold_start.py MODEL_FOLDER --pellucid target/release/pellucid --prompt "First" --runs 20
    python lab/peers/cold_start.py MODEL_FOLDER --transformers --runs 5 [--cold]

Needs `pip install torch transformers` for --transformers. The clock runs in this process: from before the child is
started until a byte of its output arrives (the child prints only new tokens), so importing counts. `--cold` (root,
Linux) empties the page cache before each run. Prints one line of JSON, in milliseconds.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

CHILD = """
import sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, prompt = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
with torch.no_grad():
    logits = model(torch.tensor([tokenizer.encode(prompt)])).logits[0, -1]
print(tokenizer.decode([int(logits.argmax())]), end="", flush=True)
"""


def once(command, cold):
    if cold:
        os.sync()
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("3")
        time.sleep(0.2)
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    byte = os.read(child.stdout.fileno(), 1)
    first = time.perf_counter() - start
    child.stdout.read()
    code = child.wait()
    if code or not byte:
        sys.exit(f"{command}: exit status {code}")
    return 1000 * first, 1000 * (time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--pellucid", help="path of the command")
    parser.add_argument("--transformers", action="store_true")
    parser.add_argument("--prompt", default="First")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--cold", action="store_true")
    args = parser.parse_args()
    sides = []
    if args.pellucid:
        flags = ["-n", "1", "-t", "0", "--no-echo"]
        sides.append(("pellucid", [args.pellucid, "generate", args.folder, args.prompt, *flags]))
    if args.transformers:
        sides.append(("transformers", [sys.executable, "-c", CHILD, args.folder, args.prompt]))
    for name, command in sides:
        if not args.cold:
            once(command, False)
        runs = [once(command, args.cold) for _ in range(args.runs)]
        first, whole = zip(*runs)
        print(json.dumps({
            "who": name, "folder": args.folder, "cold": args.cold, "runs": args.runs,
            "first_token_ms": {"median": round(statistics.median(first), 2), "least": round(min(first), 2),
                               "most": round(max(first), 2)},
            "process_ms": round(statistics.median(whole), 2),
        }))


if __name__ == "__main__":
    main()
