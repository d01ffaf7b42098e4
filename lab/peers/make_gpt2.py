#!/usr/bin/env python3
"""Writes a folder with GPT-2's 124M shape (random weights) and a tokenizer of its size, for measuring cold starts.

    python lab/peers/make_gpt2.py OUT

The vocabulary is made, not learned: 256 bytes, 50000 pairs of bytes, one end of text.
"""
import json
import pathlib
import sys

import torch
import transformers


def bytes_as_letters():
    """GPT-2's way to write every byte as a printable letter."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))]


def main():
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    letters = bytes_as_letters()
    pairs = [(a, b) for b in letters for a in letters][:50000]
    vocab = {token: i for i, token in enumerate([*letters, *(a + b for a, b in pairs), "<|endoftext|>"])}
    (out / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    merges = "#version: 0.2\n" + "\n".join(f"{a} {b}" for a, b in pairs) + "\n"
    (out / "merges.txt").write_text(merges, encoding="utf-8")
    from tokenizers import ByteLevelBPETokenizer

    tokenizer = ByteLevelBPETokenizer(str(out / "vocab.json"), str(out / "merges.txt"))
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(out / "tokenizer.json"))
    settings = {"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|endoftext|>", "model_max_length": 1024}
    (out / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    torch.manual_seed(1337)
    transformers.GPT2LMHeadModel(transformers.GPT2Config()).save_pretrained(out)


if __name__ == "__main__":
    main()
