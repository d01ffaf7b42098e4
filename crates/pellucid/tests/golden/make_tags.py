"""Entities of tag sequences as seqeval finds and scores them. Run: python make_tags.py > tags.json"""
import json
import random
import sys
import warnings
from importlib.metadata import version

from seqeval.metrics import accuracy_score, classification_report, f1_score, precision_score, recall_score
from seqeval.metrics.sequence_labeling import get_entities

SEED = 11


def well_formed(rng, length, types, scheme):
    """Entities with gaps between them, or none; spelled in IOB2 or IOBES."""
    tags = []
    while len(tags) < length:
        if rng.random() < 0.5:
            tags.append("O")
            continue
        kind, n = rng.choice(types), min(rng.choice([1, 1, 2, 3]), length - len(tags))
        if scheme == "IOBES":
            tags += [f"S-{kind}"] if n == 1 else [f"B-{kind}"] + [f"I-{kind}"] * (n - 2) + [f"E-{kind}"]
        else:
            tags += [f"B-{kind}"] + [f"I-{kind}"] * (n - 1)
    return tags


def noisy(rng, tags, alphabet, rate):
    return [rng.choice(alphabet) if rng.random() < rate else tag for tag in tags]


def main():
    warnings.simplefilter("ignore")
    rng = random.Random(SEED)
    cases = []
    for case in range(16):
        types = ["PER", "LOC", "ORG", "MISC-X"][: rng.randint(1, 4)]
        scheme = "IOBES" if case % 2 else "IOB2"
        letters = "BIES" if scheme == "IOBES" else "BI"
        alphabet = ["O"] + [f"{letter}-{kind}" for letter in letters for kind in types]
        if case % 4 >= 2:
            # Tags without a type, and schemes mixed.
            alphabet += ["B", "I"] + [f"{letter}-{kind}" for letter in "ES" for kind in types]
        right, given = [], []
        for _ in range(rng.randint(1, 8)):
            tags = well_formed(rng, rng.randint(1, 14), types, scheme)
            # The right ones may be malformed too.
            right.append(tags if case < 8 else noisy(rng, tags, alphabet, 0.5))
            given.append(noisy(rng, right[-1], alphabet, [0.0, 0.15, 0.5, 1.0][case // 2 % 4]))
        if case == 13:
            right, given = [["O", "O"]], [["O", "B-PER"]]
        if case == 15:
            right = given = [["O", "O"], ["O"]]
        report = classification_report(right, given, output_dict=True, zero_division=0) if case != 15 else {}
        cases.append({
            "right": right, "given": given, "entities": [get_entities(tags) for tags in right + given],
            "precision": precision_score(right, given, zero_division=0),
            "recall": recall_score(right, given, zero_division=0),
            "f1": f1_score(right, given, zero_division=0),
            "accuracy": accuracy_score(right, given),
            "types": {name: [row["precision"], row["recall"], row["f1-score"], int(row["support"])]
                      for name, row in report.items() if not name.endswith(" avg")},
            "macro_f1": report["macro avg"]["f1-score"] if report else 0.0,
        })
    json.dump({"made_by": "make_tags.py", "seed": SEED, "seqeval": version("seqeval"), "cases": cases}, sys.stdout)


main()
