"""Golden checkpoints: tiny random models of `transformers`, saved as it saves them, with the logits it computes.

    python make_transformers.py            # writes hf/<name>/ next to this file

Each folder holds config.json, the weights (one file, or shards with an index) and logits.json:
{"provenance": {...}, "ids": [[...]], "logits": [[[...]]]}, logits (B, T, V) in f32, computed on one thread.
Weights are drawn with a larger spread than usual, so that every part of the network shows in the logits.
"""

import json
import platform
import shutil
from pathlib import Path

import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

SEED = 20260
HERE = Path(__file__).resolve().parent
GPT2 = dict(vocab_size=96, n_positions=24, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
LLAMA = dict(vocab_size=96, max_position_embeddings=24, hidden_size=32, intermediate_size=52, num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=2, bos_token_id=0, eos_token_id=0, rms_norm_eps=1e-5)
MODELS = {
    # name: (class, config, dtype, largest shard)
    "gpt2": (GPT2LMHeadModel, GPT2Config(**GPT2), torch.float32, None),
    "gpt2-untied-bf16": (GPT2LMHeadModel,
                         GPT2Config(**{**GPT2, "n_layer": 1, "n_inner": 48, "activation_function": "gelu",
                                       "tie_word_embeddings": False}), torch.bfloat16, None),
    "llama": (LlamaForCausalLM, LlamaConfig(**LLAMA), torch.float32, None),
    "llama-tied-shards": (LlamaForCausalLM,
                          LlamaConfig(**{**LLAMA, "num_hidden_layers": 1, "num_key_value_heads": 1, "head_dim": 6,
                                         "rope_theta": 500.0, "tie_word_embeddings": True}), torch.float32, "16KB"),
}


def randomise(model, generator):
    """Biases and norms are constants at first, which would hide faults."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            p.copy_(1 + 0.3 * noise if ("norm" in name or "ln_" in name) and name.endswith("weight") else 0.15 * noise)


def main():
    torch.set_num_threads(1)
    provenance = {"script": "tests/golden/make_transformers.py", "seed": SEED, "torch": torch.__version__,
                  "transformers": transformers.__version__, "python": platform.python_version()}
    for i, (name, (kind, config, dtype, shard)) in enumerate(MODELS.items()):
        generator = torch.Generator().manual_seed(SEED + i)
        config._attn_implementation = "eager"
        model = kind(config).eval()
        randomise(model, generator)
        folder = HERE / "hf" / name
        shutil.rmtree(folder, ignore_errors=True)
        model.to(dtype)
        model.save_pretrained(folder, **({"max_shard_size": shard} if shard else {}))
        model.float()  # rounded weights, f32 arithmetic: as our loader has them
        ids = torch.randint(0, config.vocab_size, (2, 9), generator=generator)
        with torch.no_grad():
            logits = model(ids).logits
        text = {"provenance": provenance, "ids": ids.tolist(),
                "logits": [[[float(f"{x:.9g}") for x in row] for row in batch] for batch in logits.tolist()]}
        (folder / "logits.json").write_text(json.dumps(text) + "\n")
        size = sum(f.stat().st_size for f in folder.iterdir())
        print(f"{name}: {size} bytes, {[f.name for f in sorted(folder.iterdir())]}, spread {logits.std():.3f}")


if __name__ == "__main__":
    main()
