"""Opens GGUF files that pellucid wrote with the package gguf and with transformers: check_gguf.py FOLDER

FOLDER has <name>-<type>.gguf and, beside each, <name>-<type>/ with the weights that pellucid read from it. Keys and
tensors must be those of the folder in F32, bytes those of gguf.quants; transformers' own reader of GGUF must find the
scores and the ids of the folder.
"""
import json
import sys
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers as tf
from gguf import GGMLQuantizationType as Q
from make_gguf import tensors

TEXT = "the cat and a dog sat on 12 logs!  \n\nGrüße, don't"


def scalar(reader, key):
    field = reader.fields.get(key)
    return None if field is None else field.contents()


def check_keys(reader, arch, config, name):
    size = config.num_hidden_layers
    wanted = {"general.architecture": arch, f"{arch}.block_count": size, f"{arch}.vocab_size": config.vocab_size,
              f"{arch}.context_length": config.max_position_embeddings,
              f"{arch}.embedding_length": config.hidden_size, f"{arch}.attention.head_count": config.num_attention_heads,
              "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2", "tokenizer.ggml.eos_token_id": 0,
              "tokenizer.chat_template": "{{ messages[0].content }}", "general.sampling.top_k": 20,
              "general.quantization_version": 2}
    if arch == "gpt2":
        wanted |= {"gpt2.feed_forward_length": config.n_inner}
    else:
        wanted |= {f"{arch}.feed_forward_length": config.intermediate_size,
                   f"{arch}.attention.head_count_kv": config.num_key_value_heads,
                   f"{arch}.attention.key_length": config.head_dim,
                   f"{arch}.rope.freq_base": config.rope_parameters["rope_theta"]}
    faults = [f"{name}: {k} = {scalar(reader, k)!r}, not {v!r}" for k, v in wanted.items() if scalar(reader, k) != v]
    tokens = scalar(reader, "tokenizer.ggml.tokens")
    if len(tokens) != config.vocab_size or len(scalar(reader, "tokenizer.ggml.token_type")) != len(tokens):
        faults.append(f"{name}: {len(tokens)} tokens")
    return faults


def check_tensors(reader, wanted, stored, name):
    faults = []
    found = {t.name: t for t in reader.tensors}
    if found.keys() != wanted.keys():
        return [f"{name}: {sorted(found.keys() ^ wanted.keys())}"]
    for key, x in wanted.items():
        q = Q.F32 if x.ndim == 1 or key == "position_embd.weight" else Q[stored.upper()]
        t = found[key]
        data = gguf.quants.quantize(np.ascontiguousarray(x), q)
        if t.tensor_type != q or t.shape.tolist() != list(reversed(x.shape)):
            faults.append(f"{name}: {key} is {t.tensor_type.name} {t.shape}")
        elif t.data.tobytes() != data.tobytes():
            faults.append(f"{name}: {key} has other bytes")
    return faults


def main():
    torch.set_num_threads(1)
    folder, faults = Path(sys.argv[1]), []
    ids = torch.tensor([[5, 9, 300, 41, 7, 7, 120]])
    for home in sorted(folder.glob("*-f32")):
        name = home.name.removesuffix("-f32")
        exact = tf.AutoModelForCausalLM.from_pretrained(home)
        config, arch = exact.config, exact.config.model_type
        own = tf.PreTrainedTokenizerFast(tokenizer_file=str(home / "tokenizer.json"))
        for stored in ("f32", "f16", "bf16", "q8_0", "q4_0"):
            file = folder / f"{name}-{stored}.gguf"
            reader = gguf.GGUFReader(file)
            faults += check_keys(reader, arch, config, file.name)
            faults += check_tensors(reader, tensors(exact, arch), stored, file.name)
            options = dict(dtype=torch.float32, attn_implementation="eager")
            ours = tf.AutoModelForCausalLM.from_pretrained(file.with_suffix(""), **options).eval()
            theirs = tf.AutoModelForCausalLM.from_pretrained(folder, gguf_file=file.name, config=config, **options).eval()
            with torch.no_grad():
                ours, theirs = ours(ids).logits, theirs(ids).logits
            far = (theirs - ours).abs().max().item() / ours.abs().max().item()
            print(f"{file.name}: scores are {far:.2e} of the greatest away")
            if not far <= 1e-6:
                faults.append(f"{file.name}: scores differ by {far}")
        tokens = scalar(reader, "tokenizer.ggml.tokens")
        merges = scalar(reader, "tokenizer.ggml.merges")
        told = json.loads(own.backend_tokenizer.to_str())["model"]
        if any(tokens[i] != t for t, i in told["vocab"].items()) or merges != [" ".join(m) for m in told["merges"]]:
            faults.append(f"{name}: other tokens or merges")
        if arch != "gpt2":  # Of which transformers makes no tokenizer.
            theirs = tf.AutoTokenizer.from_pretrained(folder, gguf_file=f"{name}-f32.gguf")
            if theirs.encode(TEXT, add_special_tokens=False) != own.encode(TEXT, add_special_tokens=False):
                faults.append(f"{name}: other ids")
    print("\n".join(faults) or "all as it should be")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
