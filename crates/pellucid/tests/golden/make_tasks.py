"""Likelihoods of continuations and the measures made of them, in plain loops over transformers' models.

    python make_tasks.py            # writes tasks/ next to this file; needs text/roberta.json and families/

tasks/ is a tiny random GPT-2 with expected.json: {"provenance", "texts": contexts and continuations as text with their
ids (cut as lm-evaluation-harness cuts them, <s> before, no </s> after), "requests": {model: [{"source", "context",
"continuation", "log_probability", "greedy", "cut"}]}, "choice" and "last_word": lines of task files with what is
measured on them}. Each text goes through its model alone; f32, one thread; sums of log-softmax in f64.
"""
import json
import platform
import shutil
from pathlib import Path

import numpy as np
import torch
import transformers as tf

SEED = 26
HERE = Path(__file__).resolve().parent
CONTEXT = 24
FOX = "The quick brown fox jumps over the lazy dog."
LONG = "A dog and a fox were playing the game, and the dog won the game! " * 2
TEXTS = [
    ("The quick brown", " fox"), ("The quick brown ", "fox"), ("The quick brown  \n", "fox jumps"), ("", "The dog"),
    (" ", "The dog"), (FOX, " She said"), (LONG, "and left."), (LONG, "é"), ("A dog", "s and a fox"),
    ("She said: \"I'm", " not playing"), ("Étude in the café", ": naïve"), ("The quick brown", " fox jumps over the lazy"),
    ("The", " quick"), ("Der Hund", " gewann das Spiel."), ("中文", " 😀"),
]
CHOICE = [
    {"context": "The quick brown", "choices": ["fox", "dog", "Hund won the game"], "answer": 0},
    {"context": LONG, "choices": ["dog", "the lazy dog"], "answer": "the lazy dog"},
    {"context": "She said: \"I'm", "choices": ["not playing", "naïve", "lazy", "a"], "answer": 0},
    {"question": "Who won the game?", "choices": ["the dog", "the fox"], "answer": 0},
    {"question": "Was gewann der Hund?", "choices": ["Spiel", "das Spiel", "3,141 games"], "answer": 1},
    {"question": "Is the fox lazy?", "choices": ["not playing games", "no", "left"], "answer": 1},
    {"question": "a", "choices": ["played", "left", "é", "x", "Étude in the café"], "answer": "x"},
]
LAST_WORD = [{"text": t} for t in
             [FOX, LONG, "A dog and a fox", "She said: \"I'm not\n", "Der Fuchs  und der Hund", "the game and the dog",
              "and left the dog", "naïve players played the games"]]


def model():
    config = tf.GPT2Config(vocab_size=380, n_positions=CONTEXT, n_embd=16, n_layer=2, n_head=2, bos_token_id=0,
                           eos_token_id=2, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    config._attn_implementation = "eager"
    model = tf.GPT2LMHeadModel(config).eval()
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            p.copy_(1 + 0.3 * noise if "ln_" in name and name.endswith("weight") else 0.3 * noise)
    return model


def encode(tokenizer, context, continuation):
    """As lm-evaluation-harness's _encode_pair for causal models that add a first token."""
    ids = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
    spaces = len(context) - len(context.rstrip())
    if spaces > 0:
        continuation = context[-spaces:] + continuation
        context = context[:-spaces]
    whole, context = ids(context + continuation), ids(context)
    return [tokenizer.bos_token_id] + context, whole[len(context):]


def likelihood(model, most, source, context, continuation):
    """The sum of log-probabilities, whether all tokens are the greedy choice, and how many tokens were cut."""
    read = (context + continuation)[:-1]
    cut = max(len(read) - most, 0) + max(len(source) - most, 0)
    read, source = read[-most:], source[-most:]
    with torch.no_grad():
        if source:
            logits = model(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([read])).logits
        else:
            logits = model(torch.tensor([read])).logits
    scores = torch.log_softmax(logits[0].double(), dim=-1)
    total, greedy = 0.0, True
    for token, row in zip(continuation, scores[len(read) - len(continuation):]):
        total += row[token].item()
        greedy = greedy and row.argmax().item() == token
    return {"log_probability": total, "greedy": greedy, "cut": cut}


def request(model, most, source, context, continuation):
    return {"source": source, "context": context, "continuation": continuation,
            **likelihood(model, most, source, context, continuation)}


def greedy(model, source, context, n):
    """n tokens, each the most probable."""
    ids = list(context)
    for _ in range(n):
        with torch.no_grad():
            logits = (model(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([ids])) if source
                      else model(torch.tensor([ids]))).logits
        ids.append(logits[0, -1].argmax().item())
    return ids[len(context):]


def family(name, kind, source):
    """Requests of random ids; half of them are what the model says itself. The first are longer than its context."""
    model = kind.from_pretrained(HERE / "families" / name).eval()
    config = model.config
    # T5 has no length of its own; ours reads 512 tokens at most.
    most = getattr(config, "max_position_embeddings", 512)
    draw = np.random.default_rng(SEED)
    ids = lambda n: draw.integers(4, config.vocab_size, n).tolist()
    found = []
    for i in range(8):
        about = ids([50, 3, 9, 1, 12, 9, 5, 40][i]) if source else []
        context = [config.decoder_start_token_id] if source else ids([most + 9, 5, 1, 17, 17, 8, 2, most][i])
        n = 1 + i % 4
        room = (about[-most:], context[-(most + 1 - n):])
        continuation = greedy(model, *room, n) if i % 2 else ids(n)
        found.append(request(model, most, about, context, continuation))
    return found


def share(right):
    """Mean and standard error, as lm-evaluation-harness has them."""
    right = np.array(right, dtype=float)
    return [right.mean(), right.std(ddof=1) / np.sqrt(len(right))]


def choice(model, tokenizer):
    by = {"acc": [], "acc_norm": [], "acc_token": []}
    cuts = 0
    for line in CHOICE:
        context = line["context"] if "context" in line else f"Question: {line['question']}\nAnswer:"
        sums, tokens, sizes, cut = [], [], [], 0
        for text in line["choices"]:
            before, after = encode(tokenizer, context, " " + text)
            found = likelihood(model, CONTEXT, [], before, after)
            sums.append(found["log_probability"])
            cut += found["cut"]
            tokens.append(len(after))
            sizes.append(len(text.encode()))
        cuts += cut > 0
        answer = line["answer"] if isinstance(line["answer"], int) else line["choices"].index(line["answer"])
        by["acc"].append(np.argmax(sums) == answer)
        by["acc_norm"].append(np.argmax(np.array(sums) / np.array(sizes)) == answer)
        by["acc_token"].append(np.argmax(np.array(sums) / np.array(tokens)) == answer)
    return {"lines": CHOICE, "found": {name: share(right) for name, right in by.items()}, "cut": cuts}


def said(model, tokenizer, most=3):
    """Texts that end with the word that the model itself says."""
    found = []
    for words in range(2, 45):
        text = " ".join((LONG + FOX).split()[-words:])
        ids = encode(tokenizer, text, "")[0]
        best = greedy(model, [], ids[-CONTEXT:], 1)
        word = tokenizer.decode(best)
        # Whatever is one token when it is read again.
        if word[:1] == " " and word[1:].split() == [word[1:]] and encode(tokenizer, text, word)[1] == best:
            found.append({"text": text + word})
    return found[:most]


def last_word(model, tokenizer):
    found = []
    lines = LAST_WORD + said(model, tokenizer)
    for line in lines:
        text = line["text"].rstrip()
        word = text.split()[-1]
        found.append(likelihood(model, CONTEXT, [], *encode(tokenizer, text[: -len(word)], word)))
    sums = np.array([f["log_probability"] for f in found])
    perplexity = np.exp(-sums.mean())
    error = perplexity * sums.std(ddof=1) / np.sqrt(len(sums))
    return {"lines": lines, "found": {"acc": share([f["greedy"] for f in found]), "perplexity": [perplexity, error]},
            "cut": sum(f["cut"] > 0 for f in found)}


def main():
    torch.set_num_threads(1)
    gpt2 = model()
    folder = HERE / "tasks"
    shutil.rmtree(folder, ignore_errors=True)
    gpt2.save_pretrained(folder)
    tokenizer = tf.PreTrainedTokenizerFast(tokenizer_file=str(HERE / "text/roberta.json"), bos_token="<s>", eos_token="</s>")
    texts, requests = [], []
    for context, continuation in TEXTS:
        ids = encode(tokenizer, context, continuation)
        texts.append([context, continuation, *ids])
        requests.append(request(gpt2, CONTEXT, [], *ids))
    for context in [[0, 5, 9], [0, 5, 9, 200, 31], [0] + list(range(50, 95))]:
        for n in [1, 3, 5]:
            continuation = greedy(gpt2, [], context[-(CONTEXT + 1 - n):], n)
            requests.append(request(gpt2, CONTEXT, [], context, continuation))
    expected = {
        "provenance": {"script": "tests/golden/make_tasks.py", "seed": SEED, "torch": torch.__version__,
                       "transformers": tf.__version__, "python": platform.python_version()},
        "texts": texts,
        "requests": {"tasks": requests, "families/llama3-rope": family("llama3-rope", tf.LlamaForCausalLM, False),
                     "families/bart": family("bart", tf.BartForConditionalGeneration, True),
                     "families/t5": family("t5", tf.T5ForConditionalGeneration, True)},
        "choice": choice(gpt2, tokenizer), "last_word": last_word(gpt2, tokenizer),
    }
    (folder / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, separators=(",", ":")) + "\n")
    for name, all in expected["requests"].items():
        print(name, len(all), "greedy", sum(r["greedy"] for r in all), "cut", sum(r["cut"] > 0 for r in all))
    print({k: expected[k]["found"] for k in ["choice", "last_word"]}, expected["last_word"]["cut"])


if __name__ == "__main__":
    main()
