"""LoRA adapters as PEFT saves them, for models of families/, with what the model computes with them.

    python make_adapters.py            # writes adapters/<name>/ next to this file

expected.json: {"provenance", "rows", "sources" of encoder-decoders, "scores": of each row's real positions, or of each
row, in one right-padded batch, "away": how far the model without the adapter is}. f32, one thread. Both factors are
random, so that nothing is zero.
"""
import json
import platform
import shutil
from pathlib import Path

import peft
import torch
import transformers as tf
from make_families import HERE, digits, expected

SEED = 40
ALL = dict(bias="none", lora_dropout=0.0)
ADAPTERS = {
    # name: family, class, settings
    "qwen2": ("qwen2", tf.Qwen2ForCausalLM, dict(r=3, lora_alpha=6, target_modules=["q_proj", "v_proj", "down_proj"],
                                                 task_type="CAUSAL_LM")),
    "llama-all": ("llama3-rope", tf.LlamaForCausalLM, dict(r=2, lora_alpha=5, use_rslora=True, task_type="CAUSAL_LM",
                                                           target_modules="all-linear")),
    "gpt2": ("gpt2", tf.GPT2LMHeadModel, dict(r=4, lora_alpha=4, target_modules=["c_attn", "c_fc"],
                                              fan_in_fan_out=True, task_type="CAUSAL_LM")),
    "bert-labels": ("bert-labels", tf.BertForSequenceClassification,
                    dict(r=2, lora_alpha=8, target_modules=["query", "value", "attention.output.dense"],
                         task_type="SEQ_CLS", modules_to_save=["pooler"])),
    "bart": ("bart", tf.BartForConditionalGeneration,
             dict(r=2, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj", "fc1", "fc2"],
                  task_type="SEQ_2_SEQ_LM")),
}


def main():
    torch.set_num_threads(1)
    provenance = {"script": "tests/golden/make_adapters.py", "seed": SEED, "torch": torch.__version__,
                  "transformers": tf.__version__, "peft": peft.__version__, "python": platform.python_version()}
    for i, (name, (family, kind, settings)) in enumerate(ADAPTERS.items()):
        generator = torch.Generator().manual_seed(SEED + i)
        base = kind.from_pretrained(HERE / "families" / family, attn_implementation="eager").eval()
        plain = expected(base, base.config, torch.Generator().manual_seed(SEED + i))
        model = peft.get_peft_model(base, peft.LoraConfig(**ALL, **settings)).eval()
        with torch.no_grad():
            for key, p in sorted(model.named_parameters()):
                if p.requires_grad:
                    p.copy_(0.3 * torch.randn(p.shape, generator=generator))
        text = expected(model.base_model.model, base.config, torch.Generator().manual_seed(SEED + i))
        text = {k: text[k] for k in ("rows", "sources", "scores") if k in text}
        away = max(abs(a - b) for x, y in zip(text["scores"], plain["scores"]) for a, b in zip(x, y))
        folder = HERE / "adapters" / name
        shutil.rmtree(folder, ignore_errors=True)
        model.peft_config["default"].base_model_name_or_path = f"../../families/{family}"
        model.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)
        (folder / "expected.json").write_text(json.dumps({"provenance": provenance, **text, "away": away}) + "\n")
        print(name, away, sorted(p.name for p in folder.iterdir()))


if __name__ == "__main__":
    main()
