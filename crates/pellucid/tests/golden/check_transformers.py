"""Loads a folder that pellucid wrote in `transformers` and compares logits.

    python check_transformers.py FOLDER [LOGITS.json]

LOGITS.json (default FOLDER/logits.json), written by pellucid, is {"ids": [[...]], "logits": [[[...]]]}. A raw .f32
file of logits (T, V) may stand in for it, with a text file of ids next to it given as a third argument.
Exit status 1 unless the largest difference is below 5e-5 and no tensor is missing or unexpected.
"""

import json
import sys
from pathlib import Path

import numpy
import torch
from transformers import AutoModelForCausalLM

LIMIT = 5e-5


def expected(arguments, folder):
    path = Path(arguments[0]) if arguments else folder / "logits.json"
    if path.suffix == ".f32":
        ids = [int(x) for x in Path(arguments[1]).read_text().replace(",", " ").split()]
        logits = numpy.fromfile(path, "<f4")
        return ids, logits
    text = json.loads(path.read_text())
    return text["ids"], numpy.array(text["logits"], "f4")


def main():
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    model, report = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True,
                                                         attn_implementation="eager")
    faults = {k: v for k, v in report.items() if v and k != "error_msgs"}
    if faults:
        print(f"{folder}: transformers reports {faults}")
    ids, logits = expected(sys.argv[2:], folder)
    if logits.ndim == 1:  # raw: as many positions as the file has
        t = logits.size // model.config.vocab_size
        ids, logits = [ids[:t]], logits.reshape(1, t, -1)
    with torch.no_grad():
        ours = model.eval()(torch.tensor(ids)).logits.numpy()
    difference = float(numpy.abs(ours - logits).max())
    print(f"{folder}: {type(model).__name__}, logits {ours.shape}, max difference {difference:.3e} (limit {LIMIT:g})")
    sys.exit(0 if difference < LIMIT and not faults else 1)


if __name__ == "__main__":
    main()
