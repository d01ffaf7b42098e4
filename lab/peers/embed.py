#!/usr/bin/env python3
"""Sentence vectors per second: pellucid, sentence-transformers and ONNX Runtime on the same texts, in turn.

    python lab/peers/embed.py --model FOLDER --pairs sts-dev.tsv --columns 6,7,5 --pellucid target/release/pellucid

FOLDER is a sentence-transformers folder (BERT, mean pooling, normalised). All texts of both columns are embedded, by
tokenizer and model together; starting and loading do not count. bf16 is bfloat16 weights in PyTorch, operands rounded in
pellucid; ONNX Runtime runs f32. Every engine sorts by length, as sentence-transformers does, and has the batch that
suits it best of 16, 32, 64 and 128 (pellucid cuts batches itself). ONNX Runtime runs what torch.onnx.export makes of the
same weights, all optimisations on; sequences are padded to the longest of a batch.

Needs torch, sentence-transformers, onnx, onnxscript, onnxruntime, scipy. Prints medians, spread, Spearman and the least
cosine to sentence-transformers' vectors; --json writes them.
"""
import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy
import onnxruntime
import torch
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

BATCHES = (16, 32, 64, 128)


class Onnx:
    def __init__(self, folder, threads, longest):
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.longest = longest
        model = AutoModel.from_pretrained(folder, attn_implementation="sdpa").eval()
        self.path = Path(tempfile.mkdtemp()) / "model.onnx"
        names = ["input_ids", "attention_mask", "token_type_ids"]
        ids = torch.randint(5, 100, (3, 7))
        example = (ids, torch.ones_like(ids), torch.zeros_like(ids))

        class Vectors(torch.nn.Module):
            def __init__(self, inner):
                super().__init__()
                self.inner = inner

            def forward(self, input_ids, attention_mask, token_type_ids):
                return self.inner(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)[0]

        axes = {name: {0: "batch", 1: "time"} for name in names + ["vectors"]}
        torch.onnx.export(Vectors(model), example, str(self.path), input_names=names, output_names=["vectors"],
                          dynamic_axes=axes, opset_version=17, dynamo=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = onnxruntime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])

    def encode(self, texts, batch):
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        found = [None] * len(texts)
        for start in range(0, len(texts), batch):
            chosen = order[start:start + batch]
            fed = self.tokenizer([texts[i] for i in chosen], padding=True, truncation=True, max_length=self.longest,
                                 return_tensors="np")
            fed = {k: v.astype(numpy.int64) for k, v in fed.items()}
            states = self.session.run(None, fed)[0]
            mask = fed["attention_mask"][:, :, None].astype(numpy.float32)
            mean = (states * mask).sum(1) / mask.sum(1)
            mean /= numpy.linalg.norm(mean, axis=1, keepdims=True)
            for row, i in zip(mean, chosen):
                found[i] = row
        return numpy.stack(found)


def pellucid(binary, args, precision, texts):
    flags = [binary, "embed", args.model, "--pairs", args.pairs, "--columns", args.columns, "--precision", precision,
             "--threads", str(args.threads), "--json"]
    found = json.loads(subprocess.run(flags, capture_output=True, text=True, check=True).stdout)
    return found["texts_per_second"], found["spearman"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--pairs", required=True, help="a table with tabs")
    parser.add_argument("--columns", default="1,2,3", help="first text, second text, number, from 1")
    parser.add_argument("--pellucid", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    first, second, number = (int(c) - 1 for c in args.columns.split(","))
    rows = [line.rstrip("\n").split("\t") for line in open(args.pairs, encoding="utf-8")]
    texts = [r[first] for r in rows] + [r[second] for r in rows]
    numbers = [float(r[number]) for r in rows]
    theirs = SentenceTransformer(args.model, device="cpu")
    halves = SentenceTransformer(args.model, device="cpu", model_kwargs={"dtype": torch.bfloat16})
    onnx = Onnx(args.model, args.threads, theirs.max_seq_length)
    engines = {
        "sentence-transformers": lambda batch: theirs.encode(texts, batch_size=batch, normalize_embeddings=True),
        "sentence-transformers bf16": lambda batch: halves.encode(
            texts, batch_size=batch, normalize_embeddings=True, convert_to_tensor=True).float().numpy(),
        "ONNX Runtime": lambda batch: onnx.encode(texts, batch),
    }
    best = {}
    for name, run in engines.items():
        run(32)
        rates = {}
        for batch in BATCHES:
            start = time.perf_counter()
            run(batch)
            rates[batch] = len(texts) / (time.perf_counter() - start)
        best[name] = max(rates, key=rates.get)
        print(name, {b: round(r) for b, r in rates.items()}, file=sys.stderr)
    speeds = {name: [] for name in (*engines, "pellucid f32", "pellucid bf16")}
    vectors, ranks = {}, {}
    for _ in range(args.rounds):
        for precision in ("f32", "bf16"):
            rate, ranks[f"pellucid {precision}"] = pellucid(args.pellucid, args, precision, texts)
            speeds[f"pellucid {precision}"].append(rate)
        for name, run in engines.items():
            start = time.perf_counter()
            vectors[name] = run(best[name])
            speeds[name].append(len(texts) / (time.perf_counter() - start))
    half = len(rows)
    for name, found in vectors.items():
        ranks[name] = float(spearmanr((found[:half] * found[half:]).sum(1), numbers)[0])
    apart = (vectors["ONNX Runtime"] * vectors["sentence-transformers"]).sum(1).min()
    print(f"{len(texts)} texts; least cosine of ONNX Runtime to sentence-transformers {apart:.8f}")
    print("| engine | texts/s (median) | min-max | Spearman |\n|---|---|---|---|")
    for name, found in speeds.items():
        batch = f", batches of {best[name]}" if name in best else ""
        print(f"| {name}{batch} | {statistics.median(found):.0f} | {min(found):.0f}-{max(found):.0f} | {ranks[name]:.4f} |")
    if args.json:
        Path(args.json).write_text(json.dumps({"texts": len(texts), "speeds": speeds, "spearman": ranks, "batches": best},
                                              indent=1) + "\n")


if __name__ == "__main__":
    main()
