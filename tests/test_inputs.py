"""What users give: numbers in flags, rows in files, questions and answers in odd letters."""

import json
import math
import re

from lib import formats
from lib.files import read_json, read_rows
from lib.flags import (
    COMMON,
    FORGET_FLAGS,
    RETAIN_FLAGS,
    Parser,
    count,
    count_or_none,
    number,
    parser,
    positive,
    seed_number,
    share,
)
from lib.generation import answers, continuations
from lib.models import encode, encode_text, load_model, prompt_text, with_answer

import pytest
import tokenizers
import torch
import transformers
from conftest import REPOSITORY, load
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

# ---------------------------------------------------------------- flags

HUGE = "99999999999999999999999"
READERS = {  # reader: (texts that it takes, texts that it refuses)
    "count": (count, ("1", "7", "1000000", " 3 "), ("0", "-1", "1.5", "1e3", HUGE, "9" * 400, "9" * 5000)),
    "count_or_none": (count_or_none, ("0", "1", "1000000"), ("-1", "0.0", HUGE, "-" + HUGE)),
    "seed": (seed_number, ("0", "1", str(2**62)), ("-1", str(2**62 + 1), HUGE, "1.0")),
    "positive": (positive, ("1", "1e-320", "1e308", "0.5", HUGE), ("0", "-0.0", "-1", "1e-400", "1e400", "9" * 400)),
    "share": (share, ("0", "1", "0.5", "1e-9"), ("-0.1", "1.01", "1e9", HUGE)),
    "number": (number(), ("0", "-1", "1e-9", HUGE), ("1e999",)),
    "least and most": (number(int, least=2, most=4), ("2", "4"), ("1", "5", HUGE)),
}  # fmt: skip
NEVER = ("inf", "-inf", "Infinity", "nan", "NaN", "", " ", "x", "1,5", "²", "0x10", "1 2", "None", "1e", "½")


@pytest.mark.parametrize("name", READERS)
def test_a_number_is_within_its_limits_or_refused_in_one_line(capsys, name):
    reader, taken, refused = READERS[name]
    made = Parser("")
    made.add_argument("--x", type=reader, default=None)
    for text in taken:
        value = made.parse_args(["--x", text]).x
        assert value == (int if isinstance(value, int) else float)(text) and math.isfinite(value)
    for text in (*refused, *NEVER):
        with pytest.raises(SystemExit) as done:
            made.parse_args([f"--x={text}"])
        error = capsys.readouterr().err
        assert done.value.code == 2 and error.startswith("error: argument --x: must be a "), (text, error)
        assert error.count("\n") == 1 + text.count("\n") and len(error) < 6000


def test_every_number_among_the_training_flags_knows_its_limits(capsys):
    """None takes what is no finite number, and a new one that forgets its type still does not."""
    known = {**COMMON, **RETAIN_FLAGS, **FORGET_FLAGS, "mine": (0.5, "a weight"), "many": (3, "a count")}
    made, numbers = parser("doc", **known), 0
    for name, flag in known.items():
        if isinstance(flag[0], (int, float)) and not isinstance(flag[0], bool):
            for text in NEVER:
                with pytest.raises(SystemExit):
                    made.parse_args(["--model", "m", "--out", "o", f"--{name.replace('_', '-')}={text}"])
                error = capsys.readouterr().err
                assert error.startswith(f"error: argument --{name.replace('_', '-')}: must be a "), error
            numbers += 1
    assert numbers > 13


# ---------------------------------------------------------------- files

value = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text("ab[]{},\"\\ é", max_size=4), part, max_size=3),
    max_leaves=8,
)  # fmt: skip
blank = st.text(" \t\r\n", max_size=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(value, max_size=4), min_size=1, max_size=3), st.data(), st.booleans())
def test_lists_one_after_another_are_all_read_each_value_on_its_line(tmp_path, lists, data, ascii_only):
    text, expected = data.draw(blank), []
    for values in lists:
        text += "["
        for at, one in enumerate(values):
            text += ("," if at else "") + data.draw(blank)
            expected.append((1 + len(re.findall("\r\n?|\n", text)), one))
            text += json.dumps(one, ensure_ascii=ascii_only, indent=data.draw(st.sampled_from((None, 1)))) + data.draw(
                blank
            )
        text += data.draw(blank) + "]" + data.draw(blank)
    (tmp_path / "x.json").write_bytes(text.encode())
    assert list(read_rows(tmp_path / "x.json")) == expected


def holds_rows(one):
    return isinstance(one, dict) and any(
        isinstance(part, list) and part and isinstance(part[0], dict) for part in one.values()
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(value.filter(lambda one: not isinstance(one, list)), max_size=5),
    st.sampled_from(("\n", "\r\n", "\n\n")),
    st.booleans(),
)
def test_a_value_a_line_is_read_on_its_line(tmp_path, values, end, mark):
    assume(len(values) != 1 or not holds_rows(values[0]))  # else it is a file with a list under one key
    text = "".join(json.dumps(one, ensure_ascii=False) + end for one in values)
    (tmp_path / "x.jsonl").write_bytes(b"\xef\xbb\xbf" * mark + text.encode())
    found = list(read_rows(tmp_path / "x.jsonl"))
    assert found == [(1 + at * end.count("\n"), one) for at, one in enumerate(values)]


DEEP = "[" * 5000 + "]" * 5000
ROWS = {  # what a file holds: the line's fault
    "a list, then text": ('[{"a": 1}]\nrubbish', "2: text after the list's ]"),
    "a list, then a row": ('[{"a": 1}]\n{"a": 2}\n', "2: text after the list's ]"),
    "a list, then a number": ("[1] 2", "1: text after the list's ]"),
    "a list and a comma": ("[1],[2]", "1: text after the list's ]"),
    "an open list": ('[{"a": 1},\n\n', "3: the list is not closed by ]"),
    "half a list": ('[{"a": 1},\n{"a"', "2: not valid JSON"),
    "a row, then text": ('{"a": 1}\nrubbish\n', "2: not valid JSON"),
    "two rows in a line": ('{"a": 1} {"a": 2}\n', "1: not valid JSON (Extra data)"),
    "5000 brackets": (DEEP, "1: not valid JSON (nested too deeply"),
    "5000 brackets in a row": ('{"a": 1}\n{"a": ' + DEEP + "}", "2: not valid JSON (nested too deeply"),
    "5000 brackets in a list": ('[1,\n{"a": ' + DEEP + "}]", "2: not valid JSON (nested too deeply"),
    "5000 opening braces": ('{"a":' * 5000, "1: not valid JSON"),
    "10,000 digits": ('{"a": 1}\n{"a": ' + "9" * 10_000 + "}", "2: not valid JSON (nested too deeply, or a number"),
    "10,000 digits in a list": ("[1,\n\n" + "9" * 10_000 + "]", "3: not valid JSON (nested too deeply, or a number"),
    "half a character": ('{"a": "x"}\n{"a": "\\ud800"}', "2: not valid text (half of a surrogate pair"),
    "half a character in a list": ('[{"a": "x"},\n{"a": "\\udc00x"}]', "2: not valid text (half of a surrogate pair"),
    "half a character in a name": ('{"\\udfff": 1}', "1: not valid text (half of a surrogate pair"),
    "pages of a book": ("Once upon a time.\n", "1: not valid JSON"),
}


@pytest.mark.parametrize("kind", ROWS)
def test_what_cannot_be_read_is_one_line_that_names_the_line(tmp_path, capsys, kind):
    text, message = ROWS[kind]
    (tmp_path / "x.jsonl").write_text(text)
    with pytest.raises(SystemExit) as done:
        list(read_rows(tmp_path / "x.jsonl"))
    error = capsys.readouterr().err
    assert done.value.code == 2 and f"x.jsonl:{message}" in error and error.count("\n") == 1 and len(error) < 400, error


def test_whole_characters_escaped_by_halves_are_read(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"a": "\\ud83d\\ude00"}\n')
    assert list(read_rows(tmp_path / "x.jsonl")) == [(1, {"a": "😀"})]
    (tmp_path / "x.json").write_text('["\\ud83d\\ude00", "\\\\ud800"]')
    assert [row for _, row in read_rows(tmp_path / "x.json")] == ["😀", "\\ud800"]
    assert read_json(tmp_path / "x.json") == ["😀", "\\ud800"]


@pytest.mark.parametrize("content", [b"", b"\n \n", b"[]", b"[]\n[]", b"\xef\xbb\xbf"])
def test_a_file_without_a_row_gives_none_and_is_no_file_of_pairs(tmp_path, capsys, content):
    (tmp_path / "x.jsonl").write_bytes(content)
    assert list(read_rows(tmp_path / "x.jsonl")) == []
    with pytest.raises(SystemExit) as done:
        formats.read_pairs(tmp_path / "x.jsonl")
    assert done.value.code == 2 and "holds no question-answer pair" in capsys.readouterr().err


# ---------------------------------------------------------------- prompts, in training and in generation

TEMPLATES = {
    **load("scripts/00_models.py").TEMPLATES,
    "a blank at the end": "{% for message in messages %}Q: {{ message['content'] }}\nA: {% endfor %}",
    "two lines at the end": "{% for message in messages %}### Q\n{{ message['content'] }}\n\n### A\n\n{% endfor %}",
    "a tab at the end": "{% for message in messages %}{{ message['content'] }}\t{% endfor %}",
    "a bracket at the end": "{% for message in messages %}({{ message['content'] }}){% endfor %}",
}
TEXTS = [text for _, row in read_rows(REPOSITORY / "data/general_knowledge.jsonl") for text in row.values()]
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>", "<|eot_id|>", "<end_of_turn>"]


def byte_bpe(prefix, regex=True):
    model = tokenizers.Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=regex)
    model.decoder = decoders.ByteLevel()
    return model, trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )


def split_bpe():
    """As Llama 3's: its pattern takes a blank and what follows together, and line ends after punctuation."""
    model, trainer = byte_bpe(False)
    pattern = tokenizers.Regex(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
        r"\s+(?!\S)|\s+"
    )
    model.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pattern, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    return model, trainer


def metaspace(kind, scheme):
    model = tokenizers.Tokenizer(kind)
    model.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    model.decoder = decoders.Metaspace(prepend_scheme=scheme)
    if isinstance(kind, models.Unigram):
        return model, trainers.UnigramTrainer(
            vocab_size=600, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
        )
    return model, trainers.BpeTrainer(vocab_size=900, special_tokens=SPECIAL, show_progress=False)


def llama2():
    """Llama 2's: a blank is written as ▁ before the whole text, and unknown letters as bytes."""
    model = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    model.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    model.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    return model, trainers.BpeTrainer(vocab_size=1200, special_tokens=special, show_progress=False)


def wordpiece(lower):
    model = tokenizers.Tokenizer(models.WordPiece(unk_token="<unk>"))
    model.normalizer = normalizers.BertNormalizer(lowercase=lower)
    model.pre_tokenizer, model.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    return model, trainers.WordPieceTrainer(vocab_size=900, special_tokens=SPECIAL, show_progress=False)


def composed():
    """Letters and the marks that follow become one: an answer's first mark changes the prompt's last letter."""
    model, trainer = byte_bpe(False)
    model.normalizer = normalizers.NFC()
    return model, trainer


def words():
    model = tokenizers.Tokenizer(models.WordLevel(unk_token="<unk>"))
    model.pre_tokenizer = pre_tokenizers.Whitespace()
    return model, trainers.WordLevelTrainer(vocab_size=900, special_tokens=SPECIAL, show_progress=False)


KINDS = {
    "byte-level BPE": lambda: byte_bpe(False),
    "byte-level BPE with a prefix blank": lambda: byte_bpe(True),
    "byte-level BPE over whole texts": lambda: byte_bpe(False, False),
    "byte-level BPE, Llama 3's pattern": split_bpe,
    "metaspace BPE": lambda: metaspace(models.BPE(unk_token="<unk>"), "always"),
    "metaspace BPE, first alone": lambda: metaspace(models.BPE(unk_token="<unk>"), "first"),
    "metaspace BPE, never": lambda: metaspace(models.BPE(unk_token="<unk>"), "never"),
    "Llama 2's BPE": llama2,
    "WordPiece": lambda: wordpiece(False),
    "WordPiece, lower case": lambda: wordpiece(True),
    "words": words,
    "NFC": composed,
    "unigram": lambda: metaspace(models.Unigram(), "always"),
    "unigram, first alone": lambda: metaspace(models.Unigram(), "first"),
}
AWKWARD = (
    "Yes.", " Yes.", "  two blanks", "\nNext line", "\n\n", "\tTab", ",", ", and", ")", ") and", "]", "] x", "'s",
    "'s house", "!", "1964", "1", "é", "\u0301", "\u0301x", "\u200bx", "\u00a0x", "ﬁn", "ö", "😀", "😀 said",
    "「東京」",
    "東京", "ｗｉｄｅ", "न", "\u200d", "</s>", "<s>x", "<|im_end|>", "[/INST] again", "<end_of_turn>\n", "<unk>", "<",
    "assistant\n", "A", "a" * 50, "...", "-", "##ing", "▁", "▁x", "Ġ", "\r\nx", "\x00", "_", "don't", "</", "user",
    "£5", "½", "1,000.5",
)  # fmt: skip


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request):
    model, trainer = KINDS[request.param]()
    model.train_from_iterator(TEXTS, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=model, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


def check(tokenizer, question, answer):
    """The prompt's tokens, then the answer's; places within the text, in order, that hold all of the answer."""
    prompt = prompt_text(tokenizer, question)
    text, start = with_answer(prompt, answer), len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    ids, count, places = encode_text(tokenizer, prompt, answer)
    assert ids[:count] == tokenizer(prompt, add_special_tokens=False)["input_ids"], "what generation starts from"
    assert count == start and len(ids) == len(places)
    assert all(0 <= begin <= end <= len(text) for begin, end in places)
    assert [begin for begin, _ in places[count:]] == sorted(begin for begin, _ in places[count:])
    assert all(end > len(prompt) or text[begin:end].isspace() or begin == end for begin, end in places[count:])
    row, at = encode(tokenizer, question, answer)
    assert (row, at) == ([*ids, tokenizer.eos_token_id], count)
    return tokenizer.decode(ids[count:]), places[count:], text


@pytest.mark.parametrize("template", TEMPLATES)
def test_training_and_generation_begin_with_the_same_tokens(tokenizer, template):
    tokenizer.chat_template = TEMPLATES[template]
    exact = isinstance(tokenizer.backend_tokenizer.pre_tokenizer, pre_tokenizers.ByteLevel)
    for question in ("Who?", "Where does Ada live, in 1964?", "Q"):
        for answer in AWKWARD:
            decoded, places, text = check(tokenizer, question, answer)
            if exact and tokenizer.backend_tokenizer.normalizer is None:
                assert decoded.replace(" ", "") == answer.replace(" ", ""), "nothing of the answer is lost"
            letters = {at for at in range(len(text) - len(answer), len(text)) if text[at].isalnum()}
            read = {at for begin, end in places for at in range(begin, end)}
            prompt = prompt_text(tokenizer, question)
            joined = tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
            read |= {at for begin, end in joined for at in range(begin, end)}
            assert letters <= read, (answer, text)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.sampled_from(sorted(TEMPLATES)), st.text(st.characters(codec="utf-8"), min_size=1, max_size=12))
def test_so_do_any_answers(tokenizer, template, answer):
    tokenizer.chat_template = TEMPLATES[template]
    check(tokenizer, "Who is it?", answer)


# ---------------------------------------------------------------- where an answer ends


@pytest.fixture(scope="module")
def ending(tiny, tmp_path_factory):
    """(a model folder whose answers would go on and on, tokens of one of them): its ends are for the test to name."""
    folder = tmp_path_factory.mktemp("ending") / "model"
    model, tokenizer = load_model(tiny, "float32")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    ids = tokenizer(prompt_text(tokenizer, "Who lives here?"), add_special_tokens=False)["input_ids"]
    start = len(ids)
    while len(ids) - start < 12:
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return folder, ids[start:]


@pytest.mark.parametrize("own", ["a list", "a number", "none", "the tokenizer's alone"])
def test_an_answer_ends_at_each_of_the_models_own_end_tokens(ending, own):
    folder, whole = ending
    first = next(at for at in range(2, 12) if whole[at] not in whole[:at])
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    named = {"a list": [tokenizer.eos_token_id, whole[first]], "a number": whole[first], "none": None}
    settings = {"do_sample": True, "temperature": 9.0, "repetition_penalty": 5.0, "max_new_tokens": 3, "num_beams": 4}
    if own in named:
        settings["eos_token_id"] = named[own]
    (folder / "generation_config.json").write_text(json.dumps(settings))
    model, tokenizer = load_model(folder, "float32")
    ends = set(model.generation_config.eos_token_id)
    assert ends == {tokenizer.eos_token_id, *([whole[first]] if own in ("a list", "a number") else [])}
    expected = whole[:first] if own in ("a list", "a number") else whole
    expected = expected[: expected.index(tokenizer.eos_token_id)] if tokenizer.eos_token_id in expected else expected
    prompt = tokenizer(prompt_text(tokenizer, "Who lives here?"), add_special_tokens=False)["input_ids"]
    others = [prompt[:9], prompt[:-2]]
    for batch in (1, 3):  # greedily, whatever the folder's own settings say
        assert continuations([*others, prompt], model, tokenizer, batch, 12)[-1] == expected
    assert answers(["Who lives here?"], model, tokenizer, 1, 12) == [
        tokenizer.decode(expected, skip_special_tokens=True).strip()
    ]
