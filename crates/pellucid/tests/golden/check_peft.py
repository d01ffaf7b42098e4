"""Opens an adapter that pellucid wrote in PEFT and compares scores: check_peft.py OURS GOLDEN"""
import json
import sys
from pathlib import Path

import peft
import torch
import transformers as tf
from make_families import pad, positions

ours, golden = Path(sys.argv[1]), Path(sys.argv[2])
expected = json.loads((golden / "expected.json").read_text())
settings = json.loads((ours / "adapter_config.json").read_text())
kind = {"CAUSAL_LM": tf.AutoModelForCausalLM, "SEQ_CLS": tf.AutoModelForSequenceClassification,
        "SEQ_2_SEQ_LM": tf.AutoModelForSeq2SeqLM}[settings["task_type"]]
base = kind.from_pretrained(settings["base_model_name_or_path"], attn_implementation="eager")
model = peft.PeftModel.from_pretrained(base, ours).eval()
rows = expected["rows"]
ids, mask = pad(rows, False, 0)
with torch.no_grad():
    if "sources" in expected:
        sources, source_mask = pad(expected["sources"], False, base.config.pad_token_id)
        logits = model(input_ids=sources, attention_mask=source_mask, decoder_input_ids=ids).logits
    else:
        logits = model(input_ids=ids, attention_mask=mask).logits
got = [o.tolist() for o in logits] if logits.dim() == 2 else positions(logits, rows, False)
far = max(abs(a - b) for x, y in zip(got, expected["scores"]) for a, b in zip(x, y))
print(f"{ours.name}: largest difference {far:.2e}")
sys.exit(0 if far < 5e-5 else 1)
