"""Models in CTranslate2's format, and what ctranslate2 makes of them: what checkpoint/ctranslate2 must give.

Three kinds of tiny random models: transformers' Marian and BART through ctranslate2's own loaders, and a pre-norm,
gated one with two vocabularies written with its specs; the first also in int8, int16, float16 and bfloat16. Computed
in float32 (compute_type) whatever is stored. With the real Arabic-English models beside the repository, their scores
too.

Run: python make_ct2.py [folder with v1 and v2 of the real models]   (writes the folder ct2)
"""
import json
import pathlib
import shutil
import sys

import ctranslate2
import numpy as np
import torch
import transformers
from ctranslate2.converters import transformers as loaders
from ctranslate2.specs import common_spec, transformer_spec

SEED = 5
HERE = pathlib.Path(__file__).parent / "ct2"
SOURCES = [["e", "a", "b", "</s>"], ["h", "</s>"], ["c", "?", "d", "f", "g", "a", "b", "</s>"]]
TARGETS = [["b", "a", "h"], ["?", "c", "d", "e", "f"], ["g"]]


class Tokens:
    """As much of a tokenizer as the loaders ask for."""

    bos_token, eos_token, unk_token, pad_token = "<s>", "</s>", "<unk>", "<pad>"

    def __init__(self, tokens):
        self.tokens = tokens

    def get_vocab(self):
        return {token: i for i, token in enumerate(self.tokens)}

    def convert_ids_to_tokens(self, i):
        return self.tokens[i]


def stir(module):
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, p in module.named_parameters():
            if "embed_positions" in name and not p.requires_grad:
                continue
            # Large enough that probabilities are far from even, and a token is not followed by itself.
            size = 0.1 if p.ndim == 1 else 0.25 if "shared" in name else 0.6
            ones = 1.0 if p.ndim == 1 and name.endswith("weight") else 0.0
            p.copy_(size * torch.randn(p.shape, generator=generator) + ones)


def sizes(tokens):
    return dict(
        vocab_size=len(tokens), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=20, decoder_ffn_dim=20, max_position_embeddings=20,
        decoder_start_token_id=0, forced_eos_token_id=None, pad_token_id=len(tokens) - 1, eos_token_id=0,
        bos_token_id=None,
    )


def marian():
    tokens = ["</s>", "<unk>", *"abcdefgh", "<pad>"]
    config = transformers.MarianConfig(
        **sizes(tokens), decoder_vocab_size=len(tokens), activation_function="swish", scale_embedding=True
    )
    model = transformers.MarianMTModel(config).eval()
    stir(model)
    model.final_logits_bias = torch.linspace(-0.3, 0.4, len(tokens))[None]
    model.final_logits_bias[0, 0] = 0.8
    return loaders.MarianMTLoader()(model, Tokens(tokens))


def bart():
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *"abcdefgh"]
    config = transformers.BartConfig(
        **{**sizes(tokens), "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2},
        activation_function="gelu", scale_embedding=False,
    )
    model = transformers.BartForConditionalGeneration(config).eval()
    stir(model)
    config.normalize_before = False
    return loaders.BartLoader()(model, Tokens(tokens))


def two_vocabularies():
    source, target = ["<s>", "</s>", *"abcdefgh", "x", "<unk>"], ["<unk>", "</s>", "<s>", *"hgfedcba", "y", "z"]
    spec = transformer_spec.TransformerSpec.from_config(
        (2, 1), 2, pre_norm=True, activation=common_spec.Activation.GELUTanh, ffn_glu=True, rms_norm=True
    )
    random = np.random.default_rng(SEED)
    sizes = {"embeddings": 12, "source": len(source), "target": len(target)}
    c, f = sizes["embeddings"], 20

    def draw(*shape):
        return (0.4 * random.standard_normal(shape)).astype(np.float32)

    def linear(layer, rows, columns):
        layer.weight, layer.bias = draw(rows, columns), draw(rows)

    def norm(layer):
        layer.gamma = 1 + draw(c)

    def block(layer, crosses):
        norm(layer.self_attention.layer_norm)
        linear(layer.self_attention.linear[0], 3 * c, c)
        linear(layer.self_attention.linear[1], c, c)
        if crosses:
            norm(layer.attention.layer_norm)
            for i, rows in enumerate([c, 2 * c, c]):
                linear(layer.attention.linear[i], rows, c)
        norm(layer.ffn.layer_norm)
        linear(layer.ffn.linear_0, f, c)
        linear(layer.ffn.linear_0_noact, f, c)
        linear(layer.ffn.linear_1, c, f)

    for layer in spec.encoder.layer:
        block(layer, False)
    for layer in spec.decoder.layer:
        block(layer, True)
    spec.encoder.embeddings[0].weight = draw(len(source), c)
    spec.decoder.embeddings.weight = draw(len(target), c)
    # One is a factor, the other a switch: neither is √C on both sides.
    spec.encoder.scale_embeddings = np.dtype("float32").type(2.5)
    linear(spec.decoder.projection, len(target), c)
    norm(spec.encoder.layer_norm)
    norm(spec.decoder.layer_norm)
    spec.register_source_vocabulary(source)
    spec.register_target_vocabulary(target)
    spec.config.add_source_bos = spec.config.add_source_eos = True
    spec.config.layer_norm_epsilon = 1e-3
    return spec


def outcome(folder, sources, targets):
    translator = ctranslate2.Translator(str(folder), compute_type="float32", inter_threads=1, intra_threads=1)
    scores = translator.score_batch(sources, targets)
    found = {"sources": sources, "targets": targets, "log_probs": [s.log_probs for s in scores], "beams": []}
    for beams, penalty in [(1, 1.0), (2, 1.0), (4, 0.6)]:
        # By default a text may not end at once, and what is left is normalised anew; transformers, and so pellucid,
        # forbids after the softmax.
        results = translator.translate_batch(
            sources, beam_size=beams, length_penalty=penalty, max_decoding_length=10, min_decoding_length=0,
            return_scores=True,
        )
        found["beams"].append({
            "beams": beams, "length_penalty": penalty,
            "tokens": [r.hypotheses[0] for r in results], "scores": [r.scores[0] for r in results],
        })
    return found


def main():
    shutil.rmtree(HERE, ignore_errors=True)
    golden = {
        "versions": {"ctranslate2": ctranslate2.__version__, "transformers": transformers.__version__,
                     "torch": torch.__version__, "numpy": np.__version__},
        "seed": SEED, "models": {}, "real": {},
    }
    kinds = [("marian", marian, None), ("bart", bart, None), ("two", two_vocabularies, None)]
    kinds += [(f"marian-{q}", marian, q) for q in ["int8", "int16", "float16", "bfloat16"]]
    for name, make, quantization in kinds:
        spec = make()
        spec.validate()
        spec.optimize(quantization)
        folder = HERE / name
        folder.mkdir(parents=True)
        spec.save(str(folder))
        sources = SOURCES
        if name == "two":
            # x is of the source alone, y of the target, ? of neither.
            sources = [["e", "a", "x"], ["h"], ["y", "?", "d", "x", "g", "a", "b"]]
        if name == "bart":
            # Nothing is put at the end.
            sources = [*SOURCES[:2], SOURCES[2][:-1]]
        golden["models"][name] = outcome(folder, sources, TARGETS)
    if len(sys.argv) > 1:
        sources = [list(s.replace(" ", "")) for s in ["آ ت ز م و ن", "آ ت ش ي س و ن", "q آ . ـ"]]
        targets = [list("atzmon"), list("achison"), list("aqu")]
        for path in sorted(pathlib.Path(sys.argv[1]).glob("v*/*")):
            name = "/".join(path.parts[-2:])
            golden["real"][name] = outcome(path, sources, targets)
    (HERE / "golden.json").write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
