"""Beam search of transformers on a toy whose logits are a function of the history: what generate/beam.rs must give.

Run: python make_beam.py > beam.json
"""
import json
import math
import sys

import torch
import transformers
from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import CausalLMOutput

VOCAB = 11


def logits(history):
    h = 17
    for token in history:
        h = (h * 31 + token + 7) % 1000003
    return [3.0 * math.sin(h * 0.001 * (v + 1) + v) for v in range(VOCAB)]


class Toy(PreTrainedModel, GenerationMixin):
    config_class = PretrainedConfig
    main_input_name = "input_ids"

    def __init__(self, config):
        super().__init__(config)
        self.nothing = torch.nn.Parameter(torch.zeros(1))
        self.post_init()

    def forward(self, input_ids, **_):
        rows = [[logits(row[: i + 1]) for i in range(len(row))] for row in input_ids.tolist()]
        return CausalLMOutput(logits=torch.tensor(rows, dtype=torch.float32))

    def prepare_inputs_for_generation(self, input_ids, **_):
        return {"input_ids": input_ids}


def main():
    toy = Toy(PretrainedConfig(vocab_size=VOCAB, is_encoder_decoder=False)).eval()
    settings = []
    for beams, penalty, early, new, extra in [
        (1, 1.0, False, 8, {}),
        (2, 1.0, False, 8, {}),
        (3, 1.0, False, 12, {}),
        (3, 0.6, False, 12, {}),
        (3, 0.0, False, 12, {}),
        (3, -1.0, False, 12, {}),
        (4, 2.0, False, 15, {}),
        (3, 1.0, True, 12, {}),
        (5, 0.6, True, 12, {}),
        (3, 1.0, "never", 12, {}),
        (3, 0.0, "never", 12, {}),
        (4, -0.5, "never", 9, {}),
        (4, 1.0, False, 10, {"min_new_tokens": 5}),
        (4, 1.0, False, 7, {"forced_eos_token_id": 2}),
        (4, 1.0, False, 10, {"bad_words_ids": [[5], [7]]}),
        (4, 1.0, False, 10, {"eos_token_id": [2, 9]}),
        (5, 1.0, False, 1, {}),
    ]:
        config = GenerationConfig(
            num_beams=beams, length_penalty=penalty, early_stopping=early, max_new_tokens=new,
            num_return_sequences=beams, do_sample=False, use_cache=False, return_dict_in_generate=True,
            output_scores=True, **{"eos_token_id": 2, "pad_token_id": 0, **extra},
        )
        prompts = torch.tensor([[1, 3], [4, 4], [8, 6]])
        out = toy.generate(prompts, generation_config=config)
        ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
        found = []
        for i in range(3):
            rows = []
            for j in range(beams):
                tokens = out.sequences[i * beams + j, 2:].tolist()
                cut = next((k for k, t in enumerate(tokens) if t in ends), len(tokens))
                score = float(out.sequences_scores[i * beams + j]) if beams > 1 else None
                rows.append({"tokens": tokens[:cut], "score": score})
            found.append(rows)
        settings.append({
            "beams": beams, "length_penalty": penalty, "early_stopping": str(early).lower(), "max_new": new,
            "min_new": extra.get("min_new_tokens", 0), "forced_last": extra.get("forced_eos_token_id"),
            "banned": [w[0] for w in extra.get("bad_words_ids", [])], "stop_ids": ends, "found": found,
        })
    json.dump({
        "made_by": "make_beam.py", "torch": torch.__version__, "transformers": transformers.__version__,
        "vocab": VOCAB, "prompts": [[1, 3], [4, 4], [8, 6]], "settings": settings,
    }, sys.stdout)


main()
