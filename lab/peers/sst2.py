#!/usr/bin/env python3
"""Fine-tunes an encoder on SST-2 in PyTorch with the settings of lab/recipes/sst2.toml.

    python lab/peers/sst2.py --model ENCODER --data FOLDER --seed 1 --json
    pellucid train lab/recipes/sst2.toml --train.start ENCODER --seed 1 ...      (see there)

ENCODER is a folder in transformers' layout; FOLDER holds train.tsv and dev.tsv (text, tab, label; no header). As ours
does: BERT's pooler and a linear layer over the first position, drawn with a deviation of 0.02 where the folder has none;
dropout everywhere the model has it and before the last layer; 64 ids at most; whole epochs in an order of their own, whose
last batch is short; AdamW that decays matrices and tables; a line up to the learning rate and one down to 0; a global norm
of 1. Rows are padded to the longest of the batch.

`--lora RANK` trains low-rank additions (peft) to the projections that --lora-targets names, with the head and the pooler.
`--initial-from RUN` takes every weight, those of the head too, from a folder that `pellucid train` wrote: with a run of one
step at a learning rate of 1e-12 both sides then start from the same bits.

Needs torch and transformers (and peft for --lora). Prints accuracy, F1 of class 1, Matthews and the seconds of training.
"""
import argparse
import contextlib
import json
import math
import time
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, logging


def read(path):
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [(text.strip(), label.strip()) for text, label in rows]


class Texts:
    def __init__(self, rows, names, tokenizer, longest):
        self.ids = [tokenizer(t, truncation=True, max_length=longest)["input_ids"] for t, _ in rows]
        self.labels = [names.index(label) for _, label in rows]
        self.pad = tokenizer.pad_token_id or 0

    def batch(self, chosen):
        length = max(len(self.ids[i]) for i in chosen)
        ids = torch.full((len(chosen), length), self.pad)
        mask = torch.zeros((len(chosen), length), dtype=torch.long)
        for row, i in enumerate(chosen):
            n = len(self.ids[i])
            ids[row, :n] = torch.tensor(self.ids[i])
            mask[row, :n] = 1
        return ids, mask, torch.tensor([self.labels[i] for i in chosen])


def build(args, names):
    model = AutoModelForSequenceClassification.from_pretrained(
        args.initial_from or args.model,
        num_labels=len(names),
        hidden_dropout_prob=args.dropout,
        attention_probs_dropout_prob=args.dropout,
        classifier_dropout=args.dropout,
        dtype=torch.float32,
        # A run's folder may hold more labels' names or none; sizes are checked by the load itself.
        ignore_mismatched_sizes=False,
    )
    if not args.lora:
        return model
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        task_type="SEQ_CLS",
        r=args.lora,
        lora_alpha=args.lora_alpha or 2 * args.lora,
        lora_dropout=0.0,
        target_modules=args.lora_targets.split(","),
        modules_to_save=["classifier", "pooler"],
    )
    return get_peft_model(model, config)


def rate(step, steps, args):
    warmup = round(args.warmup * steps)
    if step < warmup:
        return args.lr * (step + 1) / (warmup + 1)
    return args.lr * (1 - (step - warmup) / (steps - warmup))


def scores(model, texts):
    model.eval()
    order = sorted(range(len(texts.ids)), key=lambda i: len(texts.ids[i]))
    out = torch.zeros(len(order), model.config.num_labels)
    with torch.no_grad():
        for at in range(0, len(order), 64):
            chosen = order[at : at + 64]
            ids, mask, _ = texts.batch(chosen)
            out[chosen] = model(input_ids=ids, attention_mask=mask).logits
    return out


def agreement(right, given):
    """Accuracy, F1 of class 1 and Matthews, from their definitions."""
    pairs = list(zip(right, given))
    tp, tn = sum(p == (1, 1) for p in pairs), sum(p == (0, 0) for p in pairs)
    fp, fn = sum(p == (0, 1) for p in pairs), sum(p == (1, 0) for p in pairs)
    root = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return {
        "accuracy": (tp + tn) / len(pairs),
        "f1": 2 * tp / max(1, 2 * tp + fp + fn),
        "matthews": (tp * tn - fp * fn) / root if root else None,
    }


def train(model, texts, args):
    steps_of_epoch = math.ceil(len(texts.ids) / args.batch)
    steps = args.steps or args.epochs * steps_of_epoch
    moving = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in moving if p.dim() >= 2], "weight_decay": args.weight_decay},
        {"params": [p for p in moving if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, args.beta2), eps=1e-8, fused=True)
    bf16 = args.precision == "bf16"
    model.train()
    random = torch.Generator().manual_seed(args.seed)
    losses, tokens, order = [], 0, []
    start = time.perf_counter()
    for step in range(steps):
        if not order:
            order = torch.randperm(len(texts.ids), generator=random).tolist()
        chosen, order = order[: args.batch], order[args.batch :]
        ids, mask, labels = texts.batch(chosen)
        cast = torch.autocast("cpu", dtype=torch.bfloat16) if bf16 else contextlib.nullcontext()
        with cast:
            logits = model(input_ids=ids, attention_mask=mask).logits
        loss = torch.nn.functional.cross_entropy(logits.float(), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(moving, args.clip)
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps, args)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        tokens += int(mask.sum())
    seconds = time.perf_counter() - start
    count = sum(p.numel() for p in moving)
    last = losses[-20:]
    return {
        "steps": steps,
        "seconds": seconds,
        "tokens_per_second": tokens / seconds if steps else None,
        "first_loss": losses[0] if losses else None,
        "loss": sum(last) / len(last) if last else None,
        "trained_parameters": count,
    }


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--initial-from", metavar="RUN", help="take all weights, the head's too, from this folder")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--steps", type=int, default=0, help="in place of whole epochs")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--warmup", type=float, default=0.06, help="share of the steps")
    parser.add_argument("--beta2", type=float, default=0.999)
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--clip", type=float, default=1.0)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--longest", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--lora", type=int, default=0, metavar="RANK")
    parser.add_argument("--lora-alpha", type=float, default=0.0, help="[twice the rank]")
    parser.add_argument("--lora-targets", default="query,value")
    parser.add_argument("--check", metavar="TEXT", help="prints ids, first position's vector and logits, and ends")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def check(model, tokenizer, args):
    """What `pellucid embed --pooling cls --raw --json` gives as well."""
    model.eval()
    ids = tokenizer(args.check, truncation=True, max_length=args.longest, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        found = model(input_ids=ids, output_hidden_states=True)
    vector = found.hidden_states[-1][0, 0].tolist()
    print(json.dumps({"ids": ids[0].tolist(), "vector": vector, "logits": found.logits[0].tolist()}))


def main():
    args = arguments()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rows = read(args.data / "train.tsv")
    names = sorted({label for _, label in rows})
    model = build(args, names)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    if args.check:
        return check(model, tokenizer, args)
    texts = Texts(rows, names, tokenizer, args.longest)
    held = Texts(read(args.data / "dev.tsv"), names, tokenizer, args.longest)
    out = {"engine": f"torch {torch.__version__}", "seed": args.seed, "precision": args.precision}
    out |= {"lora": args.lora, "threads": torch.get_num_threads()}
    out |= train(model, texts, args)
    out |= agreement(held.labels, scores(model, held).argmax(1).tolist())
    if args.json:
        return print(json.dumps(out))
    matthews = "undefined" if out["matthews"] is None else f"{out['matthews']:.4f}"
    print(
        f"{out['steps']} updates in {out['seconds']:.1f} s: accuracy {out['accuracy']:.4f}, F1 {out['f1']:.4f}, "
        f"Matthews {matthews}"
    )


if __name__ == "__main__":
    main()
