"""What sacrebleu, scikit-learn and scipy say. Run: python make_scores.py > scores.json"""
import json
import random
import sys

import sacrebleu
import scipy
import scipy.stats
import sklearn
import sklearn.metrics as m
from sacrebleu.metrics import BLEU, CHRF

SENTENCES = [
    "Der Hund läuft über die Wiese.", "Zwei Männer reparieren ein Dach, das 3.5 Meter hoch ist.",
    "Eine Frau (mit Hut) isst um 10:30 Uhr einen Apfel!", "\"Komm her\", sagte er - und ging.",
    "Preis: 1,234.56 €; Rabatt 20-30 %.", "I can't believe it's 5-star & <b>bold</b>, e.g. this...",
    "Kinder spielen im Schnee .", "ein", "Übergrößenträger & Söhne GmbH/Co. KG", "naïve café — déjà-vu?",
    "A.B.C. und 1.2.3,4", "Wir sehen uns am 24.12.2024 um 8 Uhr.", "It costs $5.99 (or £4.20).", "…",
]


def corrupt(rng, text):
    words = text.split()
    for _ in range(rng.randint(0, 3)):
        action, at = rng.choice(["drop", "swap", "double", "case"]), rng.randrange(len(words))
        if action == "drop" and len(words) > 1:
            del words[at]
        elif action == "swap" and at + 1 < len(words):
            words[at], words[at + 1] = words[at + 1], words[at]
        elif action == "double":
            words.insert(at, words[at])
        else:
            words[at] = words[at].upper()
    return " ".join(words)


def main():
    rng = random.Random(5)
    translations = []
    for case in range(12):
        references = [[s] + ([corrupt(rng, s)] if case % 3 == 2 else []) for s in SENTENCES]
        hypotheses = [corrupt(rng, s) for s in SENTENCES]
        if case == 4:
            hypotheses = ["" for _ in SENTENCES]
        if case == 5:
            hypotheses[3] = ""
        if case == 6:
            hypotheses = ["völlig anderes" for _ in SENTENCES]
        if case == 7:
            hypotheses, references = hypotheses[7:8], references[7:8]
        columns = list(zip(*references))
        columns = [list(c) for c in columns]
        scores = {}
        for name in ["13a", "none", "char"]:
            b = BLEU(tokenize=name).corpus_score(hypotheses, columns)
            scores[name] = {"score": b.score, "precisions": b.precisions, "bp": b.bp, "sys": b.sys_len, "ref": b.ref_len}
        chrf = [CHRF(word_order=n).corpus_score(hypotheses, columns).score for n in (0, 2)]
        translations.append({"hypotheses": hypotheses, "references": references, "bleu": scores, "chrf": chrf})
    labels = []
    for n, k in [(50, 2), (80, 5), (10, 3), (6, 2)]:
        right = [rng.randrange(k) for _ in range(n)]
        given = [r if rng.random() < 0.6 else rng.randrange(k) for r in right]
        labels.append({
            "labels": k, "right": right, "given": given, "accuracy": m.accuracy_score(right, given),
            "macro_f1": m.f1_score(right, given, average="macro"),
            "f1": m.f1_score(right, given, labels=[1], average="macro"),
            "matthews": m.matthews_corrcoef(right, given),
        })
    numbers = []
    for n, ties in [(20, False), (40, True), (3, False)]:
        x = [round(rng.gauss(0, 2)) if ties else rng.gauss(0, 1) for _ in range(n)]
        y = [a * 0.5 + (round(rng.gauss(0, 1)) if ties else rng.gauss(0, 1)) for a in x]
        numbers.append({"x": x, "y": y, "pearson": scipy.stats.pearsonr(x, y)[0], "spearman": scipy.stats.spearmanr(x, y)[0]})
    json.dump({
        "made_by": "make_scores.py", "seed": 5, "sacrebleu": sacrebleu.__version__, "sklearn": sklearn.__version__,
        "scipy": scipy.__version__, "translations": translations, "labels": labels, "numbers": numbers,
    }, sys.stdout, ensure_ascii=False)


main()
