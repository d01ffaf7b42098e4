"""Tiny random models of every family of `transformers`, saved as it saves them, with what it computes.

    python make_families.py            # writes families/<name>/ next to this file

expected.json: {"provenance", "rows": ids of rows of different lengths, "sources" of encoder-decoders, "scores": of each
row's real positions, computed in one right-padded batch, "left": the same in a left-padded batch (decoders), "pooled",
"greedy": 10 tokens with the cache, "beam": ids of 3 beams}. f32, one thread. Weights are drawn with a larger spread than usual.
"""
import json
import platform
import shutil
from pathlib import Path

import torch
import transformers as tf

SEED = 4
HERE = Path(__file__).resolve().parent
V, C, F, L, H = 48, 16, 24, 2, 2
LLAMA = dict(vocab_size=V, hidden_size=C, intermediate_size=F, num_hidden_layers=L, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0)
BERT = dict(vocab_size=V, hidden_size=C, intermediate_size=F, num_hidden_layers=L, num_attention_heads=H,
            max_position_embeddings=40, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
BART = dict(vocab_size=V, d_model=C, encoder_layers=L, decoder_layers=1, encoder_attention_heads=H,
            decoder_attention_heads=H, encoder_ffn_dim=F, decoder_ffn_dim=F, max_position_embeddings=40, dropout=0.0,
            attention_dropout=0.0, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=3,
            forced_eos_token_id=2)
T5 = dict(vocab_size=V, d_model=C, d_kv=6, d_ff=F, num_layers=L, num_decoder_layers=1, num_heads=H, dropout_rate=0.0,
          relative_attention_num_buckets=8, relative_attention_max_distance=20, pad_token_id=0, eos_token_id=2,
          decoder_start_token_id=0)
LABELS = dict(id2label={0: "bad", 1: "so so", 2: "good"}, label2id={"bad": 0, "so so": 1, "good": 2})
LLAMA3 = dict(rope_type="llama3", rope_theta=10000.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=16)
MODELS = {
    "llama3-rope": (tf.LlamaForCausalLM, tf.LlamaConfig(**LLAMA, rope_parameters=LLAMA3)),
    "llama-linear-rope": (tf.LlamaForCausalLM, tf.LlamaConfig(
        **LLAMA, rope_parameters=dict(rope_type="linear", rope_theta=500.0, factor=2.0), tie_word_embeddings=True)),
    "mistral": (tf.MistralForCausalLM, tf.MistralConfig(**LLAMA, sliding_window=4)),
    "qwen2": (tf.Qwen2ForCausalLM, tf.Qwen2Config(**LLAMA)),
    "qwen3": (tf.Qwen3ForCausalLM, tf.Qwen3Config(**{**LLAMA, "head_dim": 6})),
    "gpt2": (tf.GPT2LMHeadModel, tf.GPT2Config(vocab_size=V, n_positions=40, n_embd=C, n_layer=L, n_head=H,
                                               bos_token_id=1, eos_token_id=2, resid_pdrop=0.0, embd_pdrop=0.0,
                                               attn_pdrop=0.0)),
    "bert": (tf.BertForMaskedLM, tf.BertConfig(**BERT)),
    "bert-vectors": (tf.BertModel, tf.BertConfig(**BERT)),
    "bert-labels": (tf.BertForSequenceClassification, tf.BertConfig(**BERT, **LABELS)),
    "bert-tags": (tf.BertForTokenClassification, tf.BertConfig(**BERT, **LABELS)),
    "roberta": (tf.RobertaForMaskedLM, tf.RobertaConfig(**BERT, type_vocab_size=1, pad_token_id=1)),
    "roberta-labels": (tf.RobertaForSequenceClassification,
                       tf.RobertaConfig(**BERT, type_vocab_size=1, pad_token_id=1, **LABELS)),
    "marian": (tf.MarianMTModel, tf.MarianConfig(**BART, activation_function="swish", scale_embedding=True)),
    "bart": (tf.BartForConditionalGeneration, tf.BartConfig(**BART, activation_function="gelu")),
    "t5": (tf.T5ForConditionalGeneration, tf.T5Config(**T5, feed_forward_proj="relu")),
    "t5-gated": (tf.T5ForConditionalGeneration,
                 tf.T5Config(**T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False)),
}


def randomise(model, generator):
    """Biases and norms are constants at first, which would hide faults."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            norm = any(part in name.lower() for part in ("norm", "ln_")) and name.endswith("weight")
            fixed = name.endswith("embed_positions.weight") and not p.requires_grad
            if not fixed:
                p.copy_(1 + 0.3 * noise if norm else 0.25 * noise)
        if hasattr(model, "final_logits_bias"):
            model.final_logits_bias.copy_(0.5 * torch.randn(model.final_logits_bias.shape, generator=generator))


def pad(rows, left, value):
    longest = max(map(len, rows))
    ids, mask = [], []
    for row in rows:
        fill = [value] * (longest - len(row))
        ids.append(fill + row if left else row + fill)
        mask.append([0] * len(fill) + [1] * len(row) if left else [1] * len(row) + [0] * len(fill))
    return torch.tensor(ids), torch.tensor(mask)


def digits(tensor):
    return [float(f"{x:.8g}") for x in tensor.flatten().tolist()]


def positions(output, rows, left):
    longest = max(map(len, rows))
    return [digits(o[longest - len(r):] if left else o[: len(r)]) for o, r in zip(output, rows)]


def expected(model, config, generator):
    draw = lambda n: torch.randint(5, V, (n,), generator=generator).tolist()
    rows, text = [draw(5), draw(9), draw(2)], {}
    with torch.no_grad():
        if config.is_encoder_decoder:
            sources = [draw(7), draw(3), draw(10)]
            ids, mask = pad(sources, False, config.pad_token_id)
            targets, _ = pad(rows, False, config.pad_token_id)
            out = model(input_ids=ids, attention_mask=mask, decoder_input_ids=targets).logits
            text |= {"sources": sources, "scores": positions(out, rows, False)}
            options = dict(input_ids=ids, attention_mask=mask, max_new_tokens=10, do_sample=False)
            text["greedy"] = model.generate(**options, num_beams=1)[:, 1:].tolist()
            text["beam"] = model.generate(**options, num_beams=3, length_penalty=0.8)[:, 1:].tolist()
        elif hasattr(model, "generate") and model.can_generate():
            for name, left in (("scores", False), ("left", True)):
                ids, mask = pad(rows, left, 0)
                places = (mask.cumsum(1) - 1).clamp(min=0)
                text[name] = positions(model(ids, attention_mask=mask, position_ids=places).logits, rows, left)
            greedy, beam = [], []
            for row in rows:
                options = dict(input_ids=torch.tensor([row]), max_new_tokens=10, do_sample=False, pad_token_id=0)
                greedy.append(model.generate(**options, num_beams=1)[0, len(row):].tolist())
                beam.append(model.generate(**options, num_beams=3, length_penalty=0.8)[0, len(row):].tolist())
            text |= {"greedy": greedy, "beam": beam}
        else:
            ids, mask = pad(rows, False, config.pad_token_id or 0)
            out = model(input_ids=ids, attention_mask=mask)
            if hasattr(out, "pooler_output"):
                text["pooled"] = [digits(p) for p in out.pooler_output]
                text["scores"] = positions(out.last_hidden_state, rows, False)
            elif out.logits.dim() == 2:
                text["scores"] = [digits(p) for p in out.logits]
            else:
                text["scores"] = positions(out.logits, rows, False)
    return {"rows": rows, **text}


def main():
    torch.set_num_threads(1)
    provenance = {"script": "tests/golden/make_families.py", "seed": SEED, "torch": torch.__version__,
                  "transformers": tf.__version__, "python": platform.python_version()}
    for i, (name, (kind, config)) in enumerate(MODELS.items()):
        generator = torch.Generator().manual_seed(SEED + i)
        config._attn_implementation = "eager"
        model = kind(config).eval()
        randomise(model, generator)
        folder = HERE / "families" / name
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder)
        text = {"provenance": provenance, **expected(model, config, generator)}
        (folder / "expected.json").write_text(json.dumps(text) + "\n")
        size = sum(f.stat().st_size for f in folder.iterdir())
        spread = max(max(map(abs, r)) for r in text["scores"])
        print(f"{name}: {size} bytes, {[f.name for f in sorted(folder.iterdir())]}, largest {spread:.2f}")


if __name__ == "__main__":
    main()
