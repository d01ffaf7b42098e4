"""Writes text/words.json: ids of words by transformers' is_split_into_words, with the word of each id, for the
tokenizers in text/. Written with transformers 5.24.

python make_words.py, in this folder.
"""

import json
import pathlib

import transformers
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

OUT = pathlib.Path(__file__).parent / "text"
SENTENCES = [
    "The quick brown fox jumps over the lazy dog .".split(),
    "unplayable-ness 's naïve 3,141 games".split(),
    ["Étude", "中文", "\u200d", "😀", "two words", "[MASK]", "fox"],
    ["\u0007", "a"],
    ["a"],
]
LENGTHS = [None, 12, 6, 4]


def main():
    kinds = {}
    for name in ["bert", "bert_cased", "roberta", "t5"]:
        tokenizer = Tokenizer.from_file(str(OUT / f"{name}.json"))
        if name == "roberta":
            # What transformers demands before it takes words; all its files of RoBERTa have it as a flag.
            state = json.loads(tokenizer.to_str())
            state["pre_tokenizer"]["add_prefix_space"] = True
            state["post_processor"]["add_prefix_space"] = True
            tokenizer = Tokenizer.from_str(json.dumps(state))
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
        rows = []
        for words in SENTENCES:
            for longest in LENGTHS:
                found = fast(words, is_split_into_words=True, truncation=longest is not None, max_length=longest)
                rows.append([found["input_ids"], found.word_ids()])
        kinds[name] = rows
    golden = {"made_by": "make_words.py", "transformers": transformers.__version__,
              "sentences": SENTENCES, "lengths": LENGTHS, "kinds": kinds}
    (OUT / "words.json").write_text(json.dumps(golden, ensure_ascii=False) + "\n")


main()
