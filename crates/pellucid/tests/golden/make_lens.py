"""What TransformerLens sees inside random GPT-2 and Llama models.

    python make_lens.py            # writes lens/<name>.json, and lens/llama/ as transformers saves it

Versions are in the files. GPT-2 is families/gpt2; Llama is drawn here. Nothing is folded or centred. Each file:
{"provenance", "clean", "corrupted": ids of equal length, "cache": {site: [shape, values]} of the clean text,
"gradient": {site: ...} of the logit difference on the corrupted text, "lens": scores of each resid_pre and the last
resid_post at the last position through ln_final and unembed, "attribution": {"labels", "values"} of the logit
difference at the last position by component, "patch": {name: grid of logit differences}}.
"""
import json
import platform
from importlib.metadata import version
from pathlib import Path

import torch
import transformers as tf
from transformer_lens import HookedTransformer, HookedTransformerConfig, patching
from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights, convert_llama_weights

SEED = 9
HERE = Path(__file__).resolve().parent
CLEAN = [5, 11, 3, 17, 40, 8, 22]
CORRUPTED = [5, 11, 29, 17, 40, 8, 22]
RIGHT, WRONG = 7, 31


def randomise(model, generator):
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            p.copy_(1 + 0.3 * noise if "norm" in name and name.endswith("weight") else 0.25 * noise)


def gpt2():
    model = tf.GPT2LMHeadModel.from_pretrained(HERE / "families" / "gpt2").eval()
    c = model.config
    cfg = HookedTransformerConfig(
        n_layers=c.n_layer, d_model=c.n_embd, n_ctx=c.n_positions, n_heads=c.n_head, d_head=c.n_embd // c.n_head,
        d_mlp=c.n_inner or 4 * c.n_embd, d_vocab=c.vocab_size, act_fn="gelu_new", eps=c.layer_norm_epsilon, normalization_type="LN",
        original_architecture="GPT2LMHeadModel", default_prepend_bos=False, use_attn_result=True)
    return cfg, convert_gpt2_weights(model, cfg)


def llama():
    config = tf.LlamaConfig(vocab_size=48, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
                            num_key_value_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=2,
                            pad_token_id=0, rms_norm_eps=1e-5)
    generator = torch.Generator().manual_seed(SEED)
    model = tf.LlamaForCausalLM(config).eval()
    randomise(model, generator)
    model.save_pretrained(HERE / "lens" / "llama")
    cfg = HookedTransformerConfig(
        n_layers=2, d_model=16, n_ctx=64, n_heads=4, d_head=4, d_mlp=24, d_vocab=48, act_fn="silu", eps=1e-5,
        normalization_type="RMS", positional_embedding_type="rotary", rotary_dim=4, rotary_adjacent_pairs=False,
        rotary_base=10000, n_key_value_heads=2, gated_mlp=True, final_rms=True,
        original_architecture="LlamaForCausalLM", default_prepend_bos=False, use_attn_result=True)
    return cfg, convert_llama_weights(model, cfg)


def flat(x):
    # JSON has no infinity; f32 has seven digits.
    return [list(x.shape), [None if v == float("-inf") else float(f"{v:.8g}") for v in x.flatten().tolist()]]


def grids(model, clean_cache, corrupted, metric):
    names = {
        "resid_pre": patching.get_act_patch_resid_pre,
        "resid_mid": patching.get_act_patch_resid_mid,
        "attn_out": patching.get_act_patch_attn_out,
        "mlp_out": patching.get_act_patch_mlp_out,
        "z_heads": patching.get_act_patch_attn_head_out_all_pos,
        "v_heads": patching.get_act_patch_attn_head_v_all_pos if model.cfg.n_key_value_heads is None else None,
        "q_heads": patching.get_act_patch_attn_head_q_all_pos,
        "pattern_heads": patching.get_act_patch_attn_head_pattern_all_pos,
    }
    return {n: f(model, corrupted, clean_cache, metric).tolist() for n, f in names.items() if f is not None}


def main():
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    for name, make in (("gpt2", gpt2), ("llama", llama)):
        cfg, state = make()
        model = HookedTransformer(cfg).eval()
        model.load_state_dict({**model.state_dict(), **state}, strict=False)
        model.cfg.use_attn_result = True
        clean, corrupted = torch.tensor([CLEAN]), torch.tensor([CORRUPTED])
        metric = lambda logits: logits[0, -1, RIGHT] - logits[0, -1, WRONG]
        logits, cache = model.run_with_cache(clean)
        gradient = {}

        def add(g, hook):
            # The norm before attention runs three times, for queries, keys and values.
            gradient[hook.name] = gradient.get(hook.name, 0) + g.detach().clone()

        hooks = [(n, add) for n in cache.keys() if not n.endswith("hook_result")]
        with model.hooks(bwd_hooks=hooks):
            metric(model(corrupted)).backward()
        per, names = cache.get_full_resid_decomposition(expand_neurons=False, pos_slice=-1, return_labels=True)
        per = cache.apply_ln_to_stack(per, layer=-1, pos_slice=-1)
        direction = model.W_U[:, RIGHT] - model.W_U[:, WRONG]
        # TransformerLens's normalised stack has no weights of the norm in it.
        weight = model.ln_final.w if hasattr(model.ln_final, "w") else torch.ones(cfg.d_model)
        shares = (per[:, 0] * weight) @ direction
        lens = []
        for layer in range(cfg.n_layers + 1):
            site = f"blocks.{layer}.hook_resid_pre" if layer < cfg.n_layers else f"blocks.{layer - 1}.hook_resid_post"
            lens.append(model.unembed(model.ln_final(cache[site]))[0, -1].tolist())
        out = {
            "provenance": {"transformer_lens": version("transformer_lens"),
                           "torch": torch.__version__, "transformers": tf.__version__,
                           "python": platform.python_version(), "seed": SEED},
            "clean": CLEAN, "corrupted": CORRUPTED, "right": RIGHT, "wrong": WRONG,
            "logits": flat(logits.detach()),
            "cache": {n: flat(v.detach()) for n, v in cache.items()},
            "gradient": {n: flat(v) for n, v in gradient.items()},
            "lens": lens,
            "attribution": {"labels": names, "values": shares.tolist()},
            "patch": grids(model, cache, corrupted, metric),
        }
        path = HERE / "lens" / f"{name}.json"
        path.write_text(json.dumps(out))
        print(name, len(cache), "sites", path.stat().st_size, "bytes", names[:6])


main()
