"""GGUF files as llama.cpp's converter lays them out, written with the package gguf from models of families/.

    python make_gguf.py            # writes gguf/ next to this file

<family>.gguf: the model of families/<family>, F32, whose expected.json has the scores. mixed.gguf: a llama whose
matrices are of all types but the K-quants, v2 of the format, with the scores of its dequantised weights. f16.gguf: a
qwen2 in F16. Their scores are in scores.json. blocks.json: random blocks of each type with the package's values, and
values with the package's blocks, as hexadecimal bytes. tokens-*.gguf: tokenizers without weights, with ids that
transformers gives for some texts (tokens.json).

The converter itself is no package; so the rows of llama's queries and keys are reordered here, and transformers' own
reader of GGUF must find the same scores.
"""
import json
import platform
import struct
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
import tokenizers
import torch
import transformers as tf
from gguf import GGMLQuantizationType as Q
from make_families import HERE, expected, randomise

SEED = 77
OUT = HERE / "gguf"
FAMILIES = {"llama3-rope": "llama", "llama-linear-rope": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gpt2": "gpt2"}
NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "ln_1": "attn_norm", "ln_2": "ffn_norm", "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
}


def name_of(key):
    path, kind = key.rsplit(".", 1)
    for prefix in ("model.layers.", "transformer.h."):
        if path.startswith(prefix):
            block, part = path[len(prefix):].split(".", 1)
            return f"blk.{block}.{NAMES[part]}.{kind}"
    return f"{NAMES[path]}.{kind}"


def interleaved(rows, heads):
    """Rows i and i + D/2 of a head become 2i and 2i + 1."""
    width = rows.shape[0] // heads
    return rows.reshape(heads, 2, width // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def tensors(model, arch):
    config, seen = model.config, {}
    for key, p in model.named_parameters():
        x = p.detach().numpy().astype(np.float32)
        name = name_of(key)
        if arch == "gpt2" and ".c_" in key and key.endswith("weight"):
            x = x.T
        if arch == "llama" and ".attn_q." in name:
            x = interleaved(x, config.num_attention_heads)
        if arch == "llama" and ".attn_k." in name:
            x = interleaved(x, config.num_key_value_heads)
        seen[name] = np.ascontiguousarray(x)
    return seen


def keys(writer, model, arch):
    c = model.config
    rope = getattr(c, "rope_parameters", None) or {}
    if arch == "gpt2":
        writer.add_context_length(c.n_positions)
        writer.add_embedding_length(c.n_embd)
        writer.add_block_count(c.n_layer)
        writer.add_feed_forward_length(4 * c.n_embd)
        writer.add_head_count(c.n_head)
        writer.add_layer_norm_eps(c.layer_norm_epsilon)
    else:
        head = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
        writer.add_vocab_size(c.vocab_size)
        writer.add_context_length(c.max_position_embeddings)
        writer.add_embedding_length(c.hidden_size)
        writer.add_block_count(c.num_hidden_layers)
        writer.add_feed_forward_length(c.intermediate_size)
        writer.add_head_count(c.num_attention_heads)
        writer.add_head_count_kv(c.num_key_value_heads)
        writer.add_layer_norm_rms_eps(c.rms_norm_eps)
        writer.add_rope_freq_base(rope["rope_theta"])
        writer.add_rope_dimension_count(head)
        writer.add_key_length(head)
        writer.add_value_length(head)
        if rope["rope_type"] == "linear":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(rope["factor"])
        if arch == "llama" and c.model_type == "mistral":
            writer.add_sliding_window(c.sliding_window)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_eot_token_id(3)


def rope_factors(model):
    """As the converter computes them for Llama 3."""
    c, rope = model.config, model.config.rope_parameters
    head = c.hidden_size // c.num_attention_heads
    freqs = 1.0 / rope["rope_theta"] ** (torch.arange(0, head, 2, dtype=torch.float32) / head)
    original, low, high = rope["original_max_position_embeddings"], rope["low_freq_factor"], rope["high_freq_factor"]
    factors = []
    for freq in freqs.tolist():
        turns = original * freq / (2 * np.pi)
        smooth = min(max((turns - low) / (high - low), 0.0), 1.0)
        factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(factors, dtype=np.float32)


def write(path, model, arch, kind=lambda name, x: Q.F32, version=3):
    """Also gives back what the stored tensors say."""
    writer, stored = gguf.GGUFWriter(path, arch), {}
    keys(writer, model, arch)
    rope = getattr(model.config, "rope_parameters", None) or {}
    for name, x in tensors(model, arch).items():
        q = Q.F32 if x.ndim == 1 else kind(name, x)
        data = gguf.quants.quantize(x, q)
        stored[name] = gguf.quants.dequantize(data, q).reshape(x.shape)
        writer.add_tensor(name, data, raw_dtype=q)
    if rope.get("rope_type") == "llama3":
        writer.add_tensor("rope_freqs.weight", rope_factors(model))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    if version != 3:
        raw = bytearray(path.read_bytes())
        raw[4:8] = struct.pack("<I", version)
        path.write_bytes(raw)
    return stored


def scores(path, config, generator=None, rows=None):
    """What transformers' own reader makes of the tensors; of the keys it leaves out scalings and other widths."""
    model = tf.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32,
                                                    config=config, attn_implementation="eager").eval()
    if rows is None:
        return expected(model, model.config, generator)
    return [model(torch.tensor([row])).logits[0].flatten().tolist() for row in rows]


def far(a, b):
    return max(abs(x - y) for r, s in zip(a, b) for x, y in zip(r, s))


def blocks(rng):
    def numbers(shape):
        return (rng.standard_normal(shape) * np.exp(rng.uniform(-6, 3, (shape[0], 1)))).astype(np.float32)

    found = {"decode": {}, "encode": {}}
    for q in (Q.F32, Q.F16, Q.BF16, Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q8_0, Q.Q4_K, Q.Q5_K, Q.Q6_K):
        block, size = gguf.GGML_QUANT_SIZES[q]
        n = 3 if block > 32 else 6 if block > 1 else 32
        raw = rng.integers(0, 256, (n, size), dtype=np.uint8)
        # Scales are halves: neither NaN nor infinite. One of them is subnormal.
        for at in {Q.Q4_1: [0, 2], Q.Q5_1: [0, 2], Q.Q4_K: [0, 2], Q.Q5_K: [0, 2], Q.Q6_K: [208]}.get(q, [0]):
            half = rng.standard_normal(n).astype(np.float16)
            half[0] = 3e-7
            if size > 2:
                raw[:, at:at + 2] = half.view(np.uint8).reshape(n, 2)
        if block == 1:
            raw = gguf.quants.quantize(numbers((n, 1)), q).view(np.uint8).reshape(n, size)
        values = gguf.quants.dequantize(raw, q).astype(np.float32)
        found["decode"][q.name] = {"blocks": raw.tobytes().hex(), "values": values.tobytes().hex()}
    x = numbers((10, 32))
    x[1] = 0
    x[2, 3:5] = [-x[2].max() * 4, x[2].max() * 4]  # A tie of magnitudes.
    x[3] = np.round(x[3]) + 0.5
    x[4] = 127 * np.sign(x[4]) * np.arange(32) / 64  # Codes halfway between two.
    for q in (Q.F32, Q.F16, Q.BF16, Q.Q8_0, Q.Q4_0):
        found["encode"][q.name] = {"values": x.tobytes().hex(), "blocks": gguf.quants.quantize(x, q).tobytes().hex()}
    return found


TEXTS = ["Hello, world!", " two  spaces\n\n and\ttabs  ", "It's 1234567 o'clock, don't you'd say?", "Grüße 日本語 👍",
         "<|endoftext|>done</s>", "the then there the", "", " ", "x=1;\n\n\n  return x"]
CORPUS = ["the then there those other mother", "Hello world, hello there!", "It's don't won't you'd we'll",
          "1234567 890 12 34 56", "return x = 1;\n\n  if x:\n    return 2", "Grüße aus Köln"] * 4
PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def byte_level(pre):
    pt, level = tokenizers.pre_tokenizers, tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tok = tokenizers.Tokenizer(tokenizers.models.BPE(ignore_merges=pre == "llama-bpe"))
    split = lambda digits: pt.Split(tokenizers.Regex(PATTERN % digits), "isolated")
    tok.pre_tokenizer = {
        "gpt-2": pt.ByteLevel(add_prefix_space=False, use_regex=True),
        "llama-bpe": pt.Sequence([split("{1,3}"), level]), "qwen2": pt.Sequence([split(""), level]),
        "smollm": pt.Sequence([pt.Digits(individual_digits=True),
                               pt.ByteLevel(add_prefix_space=False, use_regex=True)]),
    }[pre]
    if pre == "qwen2":
        tok.normalizer = tokenizers.normalizers.NFC()
    tok.decoder = tokenizers.decoders.ByteLevel()
    tok.train_from_iterator(CORPUS, tokenizers.trainers.BpeTrainer(
        vocab_size=330, special_tokens=["<|endoftext|>"], show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()))
    return tok


def sentence_piece():
    import sentencepiece as spm
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus.txt"
        corpus.write_text("\n".join(CORPUS) + "\n")
        spm.SentencePieceTrainer.train(input=str(corpus), model_prefix=f"{folder}/m", vocab_size=360, model_type="bpe",
                                       byte_fallback=True, character_coverage=1.0, normalization_rule_name="identity",
                                       remove_extra_whitespaces=False, split_digits=True, minloglevel=2,
                                       allow_whitespace_only_pieces=True)
        return spm.SentencePieceProcessor(model_file=f"{folder}/m.model")


def vocabularies():
    """Without weights; with the ids of some texts."""
    found = {}
    for pre in ("gpt-2", "llama-bpe", "qwen2", "smollm"):
        tok = byte_level(pre)
        state = json.loads(tok.to_str())
        vocab = sorted(state["model"]["vocab"].items(), key=lambda item: item[1])
        writer = gguf.GGUFWriter(OUT / f"tokens-{pre}.gguf", "llama")
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_list([text for text, _ in vocab] + [f"[PAD{len(vocab)}]"])
        writer.add_token_types([3] + [1] * (len(vocab) - 1) + [5])
        writer.add_token_merges([" ".join(m) if isinstance(m, list) else m for m in state["model"]["merges"]])
        writer.add_bos_token_id(0)
        writer.add_chat_template("{% for m in messages %}{{ m.content }}{% endfor %}")
        finish(writer)
        found[pre] = [tok.encode(text, add_special_tokens=False).ids for text in TEXTS]
    sp = sentence_piece()
    n = sp.get_piece_size()
    kind = lambda i: 2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 6 if sp.is_byte(i) else 1
    writer = gguf.GGUFWriter(OUT / "tokens-llama.gguf", "llama")
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([sp.id_to_piece(i) for i in range(n)])
    writer.add_token_scores([sp.get_score(i) for i in range(n)])
    writer.add_token_types([kind(i) for i in range(n)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    finish(writer)
    # SentencePiece has no spelling of its special tokens.
    found["llama"] = [sp.encode(text) if "</s>" not in text else None for text in TEXTS]
    return {"texts": TEXTS, "ids": found}


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    torch.set_num_threads(1)
    OUT.mkdir(exist_ok=True)
    provenance = {"script": "tests/golden/make_gguf.py", "seed": SEED, "torch": torch.__version__, "gguf": "0.19.0",
                  "transformers": tf.__version__, "tokenizers": tokenizers.__version__,
                  "python": platform.python_version()}
    dump = lambda name, text: (OUT / name).write_text(json.dumps({"provenance": provenance, **text}) + "\n")
    dump("blocks.json", blocks(np.random.default_rng(SEED)))
    dump("tokens.json", vocabularies())
    for name, arch in FAMILIES.items():
        model = tf.AutoModelForCausalLM.from_pretrained(HERE / "families" / name, attn_implementation="eager").eval()
        write(OUT / f"{name}.gguf", model, arch)
        wanted = json.loads((HERE / "families" / name / "expected.json").read_text())
        with torch.no_grad():
            print(name, far(scores(OUT / f"{name}.gguf", model.config, rows=wanted["rows"]), wanted["scores"]))
    small = dict(vocab_size=48, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                 num_key_value_heads=2, max_position_embeddings=40, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    kinds = [Q.Q8_0, Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.BF16, Q.F16]
    counter = iter(range(1000))
    found = {}
    for name, arch, config, kind in [
        ("mixed", "llama", tf.LlamaConfig(**small), lambda n, x: kinds[next(counter) % len(kinds)]),
        ("f16", "qwen2", tf.Qwen2Config(**{**small, "num_hidden_layers": 1}, tie_word_embeddings=True), lambda n, x: Q.F16),
    ]:
        config._attn_implementation = "eager"
        generator = torch.Generator().manual_seed(SEED)
        model = (tf.LlamaForCausalLM if arch == "llama" else tf.Qwen2ForCausalLM)(config).eval()
        randomise(model, generator)
        write(OUT / f"{name}.gguf", model, arch, kind, version=2 if name == "mixed" else 3)
        found[name] = {k: v for k, v in scores(OUT / f"{name}.gguf", config, generator).items() if k in ("rows", "scores")}
        with torch.no_grad():
            exact = [model(torch.tensor([row])).logits[0].flatten().tolist() for row in found[name]["rows"]]
        print(name, "rounding moves the scores by", far(exact, found[name]["scores"]))
    dump("scores.json", found)
    print(sum(p.stat().st_size for p in OUT.iterdir()), "bytes")


if __name__ == "__main__":
    sys.exit(main())
