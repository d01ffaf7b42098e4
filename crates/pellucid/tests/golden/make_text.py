"""Writes text/: small tokenizers of the kinds that encoders use with ids by transformers, and chats
rendered by its apply_chat_template. Written with tokenizers 0.23 and transformers 5.24.

python make_text.py, in this folder.
"""

import json
import pathlib

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

OUT = pathlib.Path(__file__).parent / "text"
CORPUS = [
    "The quick brown fox jumps over the lazy dog.",
    "A dog and a fox were playing the game, and the dog won the game!",
    "Étude in the café: naïve, played by unplayable players.",
    "She said: \"I'm not playing 3,141 games\" -- and left.",
    "Der Fuchs und der Hund spielten ein Spiel; der Hund gewann das Spiel.",
] * 4
TEXTS = CORPUS[:5] + [
    "",
    " ",
    "  two  spaces\tand a tab\n",
    "UPPER lower MiXeD",
    "中文 and 😀 unseen",
    "played[MASK] the [SEP] game <mask> </s>",
    "unplayable-ness's",
    "a",
]
PAIRS = [(0, 1), (2, 12), (12, 3), (5, 12), (10, 9), (1, 5)]
LENGTHS = [None, 16, 9, 6]


def bert(lowercase):
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tok = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tok.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=180, special_tokens=names, show_progress=False))
    ids = {name: tok.token_to_id(name) for name in names}
    tok.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])])
    tok.decoder = decoders.WordPiece()
    return tok, dict(pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]")


def roberta():
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tok = Tokenizer(models.BPE(unk_token="<unk>"))
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=380, special_tokens=names, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False))
    tok.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    return tok, dict(bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>", unk_token="<unk>", pad_token="<pad>", mask_token="<mask>")


def t5():
    names = ["<pad>", "</s>", "<unk>"]
    tok = Tokenizer(models.Unigram())
    tok.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(__import__("tokenizers").Regex(" {2,}"), " ")])
    tok.pre_tokenizer = pre_tokenizers.Metaspace()
    tok.train_from_iterator(CORPUS, trainers.UnigramTrainer(vocab_size=160, special_tokens=names, unk_token="<unk>", show_progress=False))
    tok.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    tok.decoder = decoders.Metaspace()
    return tok, dict(pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


CHATS = {
    "plain": [("user", "Hi"), ("assistant", "Hello there."), ("user", "  2 + 2?\n"), ("assistant", "4 ")],
    "system": [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hé \"you\" <b>")],
    "open": [("user", "Hi"), ("assistant", "A"), ("user", "B")],
    "two users": [("user", "Hi"), ("user", "again")],
}
TEMPLATES = {
    "chatml": "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "headers": """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{{- "Today Date: " + date_string + "\n\n" }}
{%- if tools is not none %}{{- "TOOLS" }}{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
""",
    "merging": """{% if messages[0].role == 'system' %}
    {% set rest = messages[1:] %}
    {% set system = '<<SYS>>\n' + messages[0].content.strip() + '\n<</SYS>>\n\n' %}
{% else %}
    {% set rest = messages %}
    {% set system = '' %}
{% endif %}
{% for message in rest %}
    {% if (message.role == 'user') != (loop.index0 % 2 == 0) %}
        {{ raise_exception('Roles must alternate user/assistant/user/assistant/...') }}
    {% endif %}
    {% set content = system + message.content if loop.first else message.content %}
    {% if message.role == 'user' %}
{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}
    {%- elif message.role == 'assistant' %}
{% generation %}
{{ ' ' + content.strip() + ' ' + eos_token }}
{%- endgeneration %}
    {% endif %}
{% endfor %}
""",
    "python": """{%- set ns = namespace(turns=0, last=none) -%}
{%- macro show(m) -%}<{{ m.role.upper() }}:{{ m.content.split(' ')[-1] }}>{%- endmacro -%}
{%- for m in messages -%}
{%- if loop.first and m['content'].startswith('Hi') %}greeting {% endif -%}
{%- set ns.turns = ns.turns + 1 -%}
{%- set ns.last = m -%}
{{ show(m) }}{{ loop.index0 }}{% if not loop.last %}, {% endif -%}
{%- if m.content == 'A' %}{% continue %}{% endif -%}
{%- for k, v in m.items() %}{{ k }}={{ v | length }};{% endfor -%}
{%- endfor %}
{{ ns.turns }} {{ ns.last | tojson }} {{ messages[::-1][0] | tojson(indent=2) }} {{ true }} {{ none }} {{ nothing }} {{ 7 // 2 }} {{ 1.5 }} {{ messages | map(attribute='role') | join('+') }} {{ [1, 'a', none, false] | tojson }} {{ {} | tojson }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ 'x' if add_generation_prompt else 'y' }} {{ "a b".title() }} {{ messages[-1].get('name', 'nobody') }} {{ '%s!' | format('f') }} {{ ' t '|trim ~ 1 }} {{ "lstrip".lstrip('l').rstrip('p').replace('t', 'T') }}
   {# a comment #}
   {% if tools %}tools{% endif %}
   end
""",
}


def main():
    OUT.mkdir(exist_ok=True)
    kinds = {"bert": bert(True), "bert_cased": bert(False), "roberta": roberta(), "t5": t5()}
    answers = {"texts": TEXTS, "pairs": PAIRS, "lengths": LENGTHS, "kinds": {}}
    for name, (tok, special) in kinds.items():
        (OUT / f"{name}.json").write_text(tok.to_str(), encoding="utf-8")
        fast = PreTrainedTokenizerFast(tokenizer_object=tok, **special)
        one = dict(add_special_tokens=True, return_token_type_ids=True)
        rows = [fast(text, **one)["input_ids"] for text in TEXTS]
        plain = [fast(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
        pairs = []
        for a, b in PAIRS:
            for length in LENGTHS:
                cut = {} if length is None else dict(truncation="longest_first", max_length=length)
                # As a batch: an empty second text is otherwise no second text.
                both = fast([(TEXTS[a], TEXTS[b])], **one, **cut)
                pairs.append([both["input_ids"][0], both["token_type_ids"][0]])
        ids = {k: fast.convert_tokens_to_ids(v) for k, v in special.items()}
        answers["kinds"][name] = {"with": rows, "without": plain, "pairs": pairs, "special": ids}
    (OUT / "ids.json").write_text(json.dumps(answers, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")

    fast = PreTrainedTokenizerFast(tokenizer_object=kinds["roberta"][0], bos_token="<s>", eos_token="</s>")
    chats = {"chats": CHATS, "templates": TEMPLATES, "cases": []}
    for name, template in TEMPLATES.items():
        for chat, turns in CHATS.items():
            messages = [{"role": r, "content": c} for r, c in turns]
            for prompt in [False, True]:
                more = {"date_string": "25 Nov 2026"} if name == "headers" else {}
                try:
                    text = fast.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=prompt, **more)
                    result = {"text": text}
                except Exception as e:
                    result = {"error": str(e)}
                chats["cases"].append({"template": name, "chat": chat, "prompt": prompt, **result})
    (OUT / "chats.json").write_text(json.dumps(chats, ensure_ascii=False, indent=1), encoding="utf-8")


main()
