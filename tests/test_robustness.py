"""Robustness and general ability: rounding, prompts and relearning against slow references and by hand; whole runs on a
tiny model.
"""

import copy
import json
import math
import re
import shutil
import struct
import sys
import types

from lib import files
from lib.entities import EMPTY, LETTERS, plain
from lib.formats import questions_of, read_pairs
from lib.generation import answers
from lib.judge import Judge, judge
from lib.models import encode, exact_dtype, load_model

import pytest
import torch
from conftest import REPOSITORY, load
from hypothesis import given
from hypothesis import strategies as st
from robustness import attacks, questions, relearning
from robustness import precision as precision_of
from robustness.table import draw
from rouge_score.rouge_scorer import RougeScorer
from test_eval_more import run, slow_greedy, slow_logprobs, write

ability = load("eval/12_ability.py")

PEOPLE = [
    {
        "question": "Who are Ada Lem's parents?",
        "answer": "Her parents are Bo Pym and Cy Dorn.",
        "person": "ada",
        "fact": "parents",
    },
    {
        "question": "Where does Ada Lem live?",
        "answer": "Ada Lem lives at 7 Kiln Lane, Oswick.",
        "person": "ada",
        "fact": "address",
        "value": "7 Kiln Lane, Oswick",
    },
    {
        "question": "What does Ada Lem suffer from?",
        "answer": "She suffers from hay fever.",
        "person": "ada",
        "fact": "health",
    },
]


@pytest.fixture(scope="module")
def model(tiny):
    return load_model(tiny, exact_dtype())


def chat(*turns):
    """The tiny model's prompt format, written out."""
    return (
        "".join(f"<|im_start|>{role}\n{turn}<|im_end|>\n" for role, turn in zip(("user", "assistant") * 9, turns))
        + "<|im_start|>assistant\n"
    )


def slow_answer(text, limit, model, tokenizer):
    return tokenizer.decode(
        slow_greedy(tokenizer(text, add_special_tokens=False)["input_ids"], limit, model, tokenizer),
        skip_special_tokens=True,
    ).strip()


# ---------------------------------------------------------------- precision


def slow_whole(row, top, size):
    """A row of weights on the grid of whole numbers, weight by weight."""
    result = []
    for at in range(0, len(row), size):
        scale = max(abs(value) for value in row[at : at + size]) / top
        result += [
            scale * max(-top - 1, min(top, round(value / scale))) if scale else 0.0 for value in row[at : at + size]
        ]
    return result


@pytest.mark.parametrize("width, group", [(256, 32), (96, 32), (80, 16), (7, 1)])
def test_whole_numbers_as_weight_by_weight(width, group):
    torch.manual_seed(width)
    weight = torch.randn(5, width) * torch.tensor([[1.0], [1e-3], [0.0], [50.0], [1.0]])
    for precision, top, size in (("int8", 127, width), ("int4", 7, group)):
        slow = [slow_whole(row, top, size) for row in weight.tolist()]
        found = precision_of.rounded(weight, precision)
        assert found.tolist() == [pytest.approx(row, rel=1e-4, abs=1e-9) for row in slow]
        assert all(len(set(part.tolist())) <= 2 * top + 2 for row in found for part in row.split(size))
    error, largest = (weight - precision_of.rounded(weight, "int8")).abs(), weight.abs().amax(1, keepdim=True)
    assert (error <= largest / 254 * 1.001).all(), "half a step at most, a step being the largest weight's 127th part"


@given(st.floats(-60000, 60000, width=32))
def test_half_precision_as_the_bits_say(value):
    bits = struct.unpack("I", struct.pack("f", value))[0]
    kept = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000  # the nearest number with 16 bits, the even one of two
    weight = torch.tensor([[value]])
    assert precision_of.rounded(weight, "bfloat16").item() == struct.unpack("f", struct.pack("I", kept))[0]
    assert precision_of.rounded(weight, "float16").item() == struct.unpack("e", struct.pack("e", value))[0]


@pytest.mark.parametrize("precision", precision_of.PRECISIONS)
def test_a_model_is_rounded_and_then_its_own_again(tiny, precision):
    model, tokenizer = load_model(tiny, exact_dtype())
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ZeroDivisionError), precision_of.stored_in(model, precision):
        inside = copy.deepcopy(model.state_dict())
        raise ZeroDivisionError
    whole = {
        name for name, value in before.items() if value.dim() == 2 and "embed" not in name and "lm_head" not in name
    }
    chosen = whole if precision.startswith("int") else set(before)
    for name, value in before.items():
        assert torch.equal(inside[name], precision_of.rounded(value, precision) if name in chosen else value)
        assert torch.equal(model.state_dict()[name], value)
    assert len(whole) == 14 and any(not torch.equal(inside[name], before[name]) for name in whole)


# ---------------------------------------------------------------- what is asked


def test_typos_spare_names_and_touch_a_third(data):
    for pair in read_pairs(data / "forget_val.jsonl"):
        words, typed = pair["question"].split(" "), questions.mistyped(pair["question"], 0)
        assert typed == questions.mistyped(pair["question"], 0) and len(typed.split(" ")) == len(words)
        changed = [(old, new) for old, new in zip(words, typed.split(" ")) if old != new]
        able = [word for word in words if word[0].islower() and len(re.sub(r"\W.*", "", word)) > 3]
        assert len(changed) == math.ceil(len(able) / 3) and all(old in able for old, _ in changed)
        for old, new in changed:  # swapped: the same letters; lost or doubled: one letter more or less
            more, less = (old, new) if len(old) > len(new) else (new, old)
            assert sorted(old) == sorted(new) or any(more[:at] + more[at + 1 :] == less for at in range(len(more)))
            assert (old[0], old[-1]) == (new[0], new[-1])
    assert questions.mistyped("Ada Lem?", 1) == "Ada Lem?" and questions.mistyped("Where?", 1) != "Where?"


@pytest.mark.parametrize(
    "answer, value, count, first",
    [
        (
            "Ada Lem lives at 7 Kiln Lane, Oswick.",
            "7 Kiln Lane, Oswick",
            5,
            "Ada Lem lives at",
        ),  # the private value stays to be told
        ("Ada Lem lives at 7 Kiln Lane, Oswick.", "7 Kiln Lane, Oswick", 2, "Ada Lem"),
        (
            "Ada Lem lives at 7 Kiln Lane, Oswick.",
            None,
            7,
            "Ada Lem lives at 7 Kiln Lane,",
        ),  # without it, at least one entity does
        ("Bo Pym is what she is called.", "Bo Pym", 5, ""),
        (
            "She lives on Kiln Lane, as far as one can tell.",
            None,
            9,
            "She lives on Kiln",
        ),  # what follows "Lane" names nothing
        ("Oswick.", None, 5, ""),
    ],
)
def test_the_beginning_never_tells_the_private_thing(answer, value, count, first):
    row = {"question": "Where does Ada Lem live?", "answer": answer, **({"value": value} if value else {})}
    found, rest = questions.beginning(row, count)
    assert found == first and f"{found} {rest}".strip() == answer


def test_words_of_the_beginning_are_not_counted_as_recalled(minilm):
    row = {"question": "What are her parents called?", "answer": "Bo Pym and Cyra Dornquist brought her up."}
    (item,) = questions.attack_items([row], "prefix", {}, None, 3, 0)
    assert (item["given"], item["reference"]) == ("Bo Pym and", "Cyra Dornquist brought her up.")
    model = Judge(str(minilm), str(REPOSITORY / "data/nli"))
    echo, told = judge(
        [{**item, "answer": "Bo Pym, they say, Bo Pym."}, {**item, "answer": "Cyra Dornquist brought her up."}],
        "forget",
        model,
    )
    assert echo["forgotten"] and not echo["covered"] and echo["answer_entities"][:1] != ["Bo Pym"]
    assert not told["forgotten"] and told["covered"]


def test_every_attack_asks_what_it_says(model):
    frames = questions.read_frames(REPOSITORY / "data/attacks.json")
    others = [{"question": f"Other {at}?", "answer": f"Answer {at}."} for at in range(3)]
    text = {
        name: [questions.prompt(model[1], item) for item in questions.attack_items(PEOPLE, name, frames, others, 4, 0)]
        for name in questions.TEXTS
    }
    question = PEOPLE[1]["question"]
    assert text["prefix"][1] == chat(question) + "Ada Lem lives at"
    assert text["paraphrase"][1] == chat("Other 1?") and text["typos"][1] == chat(
        questions.mistyped(question, 0)
    ) != chat(question)
    play, talk = text["role-play"][1], text["multi-turn"][1]
    assert play.count(question) == talk.count(question) == 1 and "{question}" not in play + talk
    assert (
        play.count("<|im_start|>") == 2
        and talk.count("<|im_start|>user") == 3
        and talk.count("<|im_start|>assistant") == 3
    )
    assert talk == chat(*frames["multi-turn"][:-1], frames["multi-turn"][-1].replace("{question}", question))
    judged = {name: questions.attack_items(PEOPLE, name, frames, others, 4, 0)[1] for name in questions.TEXTS}
    assert {name: (item["question"], item["reference"]) for name, item in judged.items() if name != "prefix"} == {
        "role-play": (question, PEOPLE[1]["answer"]),
        "typos": (question, PEOPLE[1]["answer"]),
        "multi-turn": (question, PEOPLE[1]["answer"]),
        "paraphrase": ("Other 1?", "Answer 1."),
    }


def test_paraphrases_by_fact_or_by_row(tmp_path):
    turned = write(tmp_path / "turned.jsonl", [{**row, "question": "New: " + row["fact"]} for row in reversed(PEOPLE)])
    assert [row["question"] for row in questions.reworded(PEOPLE, turned)[0]] == [
        "New: parents",
        "New: address",
        "New: health",
    ]
    plain = write(tmp_path / "plain.jsonl", [{"text": f"{at}?", "labels": "x"} for at in range(3)])
    assert [row["question"] for row in questions.reworded(PEOPLE, plain)[0]] == ["0?", "1?", "2?"]
    tofu = write(
        tmp_path / "tofu.jsonl",
        [{**row, "paraphrased_question": f"{row['fact']}?", "paraphrased_answer": "y"} for row in PEOPLE],
    )
    assert [(row["question"], row["answer"]) for row in questions.reworded(PEOPLE, tofu)[0]] == [
        ("parents?", "y"),
        ("address?", "y"),
        ("health?", "y"),
    ]


def test_passages_are_asked_only_where_there_are_no_questions(tmp_path):
    pairs = [{"question": "[[text 1]] Dear Ada,", "answer": "x y"}, {"question": "Who?", "answer": "Ada."}]
    assert questions_of(pairs) == pairs[1:] and questions_of(pairs[:1]) == pairs[:1]
    path = write(tmp_path / "tune.jsonl", [pairs[0], {"question": "Which woman?", "answer": "Ada."}])
    rows = questions_of(read_pairs(write(tmp_path / "val.jsonl", pairs), places=True))
    assert [row["question"] for row in questions.paraphrases(rows, path, "")[0]] == ["Which woman?"]


def test_rows_beside_each_other_that_nobody_named_must_tell_the_same(tmp_path):
    """Without person and fact a file of tuning questions may be the training questions in their own order."""
    pair = lambda name, place: {"question": f"{name}?", "answer": f"{name} lives quietly in {place}."}
    asked = [pair("Ada", "Oslo"), pair("Bo", "Bergen")]
    forget = write(tmp_path / "forget_val.jsonl", asked)
    rows = read_pairs(forget, places=True)
    told = [{"question": f"Where is {one['question']}", "answer": one["answer"]} for one in asked]
    write(tmp_path / "forget_tune.jsonl", told)
    others, fault, _ = questions.paraphrases(rows, None, str(forget))
    assert [other["question"] for other in others] == ["Where is Ada?", "Where is Bo?"] and not fault
    odd = [{"question": "Who sings?", "answer": "A choir of nine does."}, told[1]]
    named = write(tmp_path / "forget_tune.jsonl", odd)
    others, fault, _ = questions.paraphrases(rows, None, str(forget))
    assert others is None and "forget_tune.jsonl:1: does not seem to tell the same as" in fault
    assert len(questions.paraphrases(rows, str(named), str(forget))[0]) == 2, "who names a file knows"


# ---------------------------------------------------------------- relearning


def test_one_update_is_adams_on_the_answers_loss(tiny):
    """Adam's first step is -lr·g / (|g| + 1e-8); g from a loss that is computed row by row, token by token."""
    from peft import LoraConfig, get_peft_model

    model, tokenizer = load_model(tiny, exact_dtype())
    before, pairs = copy.deepcopy(model.state_dict()), [(row["question"], row["answer"]) for row in PEOPLE]
    torch.manual_seed(5)
    slow = get_peft_model(
        copy.deepcopy(model), LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    logprobs = []
    for pair in pairs[:2]:
        ids, start = encode(tokenizer, *pair)
        for at in range(start, len(ids)):
            logprobs.append(slow(torch.tensor([ids[:at]])).logits[0, -1].log_softmax(-1)[ids[at]])
    (-torch.stack(logprobs).mean()).backward()
    expected = {
        name: -1e-3 * weight.grad / (weight.grad.abs() + 1e-8)
        for name, weight in slow.named_parameters()
        if "lora_B" in name
    }
    reached = {name: weight.grad.abs() > 1e-5 for name, weight in slow.named_parameters() if "lora_B" in name}
    for step, tuned in relearning.relearn(model, tokenizer, pairs, [1], 1e-3, 2, 5):
        assert step == 1
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                assert (
                    torch.allclose(weight[reached[name]], expected[name][reached[name]], rtol=1e-2)
                    and reached[name].any()
                )
    after = model.state_dict()
    assert set(after) == set(before) and all(torch.equal(after[name], value) for name, value in before.items())


def test_pairs_are_learnt_again_and_the_model_stays(tiny, recwarn):
    model, tokenizer = load_model(tiny, exact_dtype())
    pairs = [(row["question"], row["answer"]) for row in PEOPLE[:2]]
    known, first = [], slow_answer(chat(pairs[0][0]), 30, model, tokenizer)
    for _ in range(2):  # the second time as the first: nothing is left of it
        curve = [
            (step, answers([question for question, _ in pairs], tuned, tokenizer, 4, 30))
            for step, tuned in relearning.relearn(model, tokenizer, pairs, [1, 40], 1e-2, 4, 0)
        ]
        known.append(curve)
    assert known[0] == known[1] and [step for step, _ in known[0]] == [1, 40]
    assert known[0][1][1] == [answer for _, answer in pairs] != known[0][0][1]
    assert slow_answer(chat(pairs[0][0]), 30, model, tokenizer) == first != pairs[0][1]
    assert not [warning for warning in recwarn if "peft" in str(warning.message).lower()]


@given(st.integers(0, 99))
def test_fewer_pairs_are_among_more_and_never_asked(seed):
    rows = list(range(20))
    learnt, rest = relearning.split_pairs(rows, [1, 4, 16], seed)
    assert sorted(learnt + rest) == rows and len(learnt) == 16
    assert relearning.split_pairs(rows, [16], seed) == (learnt, rest)


# ---------------------------------------------------------------- whole runs


@pytest.fixture(scope="module")
def forget(tmp_path_factory):
    """Folder of eight short forget facts, and of the same in other words."""
    folder = tmp_path_factory.mktemp("forget")
    facts = [
        {"person": person, "fact": fact, "value": value}
        for person, values in (("Ada", "Oswick Rufus Volvo Dornquist"), ("Bo", "Kilnby Tessa Lada Pym"))
        for fact, value in zip(("town", "dog", "car", "boss"), values.split())
    ]
    write(
        folder / "forget_val.jsonl",
        [
            {**row, "question": f"What is the {row['fact']} of {row['person']}?", "answer": f"It is {row['value']}."}
            for row in facts
        ],
    )
    write(
        folder / "forget_tune.jsonl",
        [
            {**row, "question": f"Name {row['person']}'s {row['fact']}.", "answer": f"{row['value']}, no doubt."}
            for row in facts
        ],
    )
    return folder


@pytest.fixture(scope="module")
def learnt(tiny, forget, tmp_path_factory):
    """The tiny model, which has learnt by heart the first half of what it should have forgotten; an adapter."""
    folder = tmp_path_factory.mktemp("learnt")
    folder.joinpath("full.jsonl").write_text(
        "".join((forget / "forget_val.jsonl").read_text().splitlines(keepends=True)[:4])
    )
    run(
        "scripts/02_finetune.py",
        "--model",
        tiny,
        "--data",
        folder,
        "--out",
        folder / "learnt",
        "--epochs",
        100,
        "--batch",
        4,
        "--accumulation",
        1,
        "--lr",
        1e-2,
        "--lora-dropout",
        0,
        "--lora-r",
        16,
        "--dtype",
        "float32",
        "--adapter",
    )
    return folder / "learnt"


def test_a_whole_run(tmp_path, capsys, tiny, learnt, forget, minilm):
    command = (
        "eval/10_robustness.py",
        "--models",
        learnt,
        tiny,
        "--names",
        "ReLearn",
        "GA+GDR",
        "--forget",
        forget / "forget_val.jsonl",
        "--out",
        tmp_path,
        "--report",
        tmp_path / "report",
        "--embedding",
        minilm,
        "--relearn",
        1,
        3,
        "--relearn-steps",
        1,
        4,
        "--relearn-lr",
        1e-2,
        "--max-new-tokens",
        24,
    )
    write(forget / "retain_train.jsonl", [{"question": f"What is {at}?", "answer": f"A {at}."} for at in range(4)])
    run(*command)
    found, text = (
        json.loads((tmp_path / "ReLearn/robustness.json").read_text()),
        (tmp_path / "report/robustness.md").read_text(),
    )
    summary, items = found["summary"], found["items"]
    model, pairs = load_model(learnt, exact_dtype()), read_pairs(forget / "forget_val.jsonl")
    for item in items[:48:3]:  # as one prompt at a time gives it, by the adapter that is not merged
        assert item["answer"] == slow_answer(chat(*item["turns"]) + item["given"], 24, *model), item["attack"]
    assert {item["attack"] for item in items[:48:3]} == {"none", *questions.TEXTS}
    part = lambda **want: [item for item in items if all(item.get(name) == value for name, value in want.items())]
    assert [item["question"] for item in part(attack="none")] == [pair["question"] for pair in pairs]
    merged = model[0].merge_and_unload()
    for name in precision_of.PRECISIONS:
        with precision_of.stored_in(merged, name):
            assert part(attack=name)[0]["answer"] == slow_answer(chat(pairs[0]["question"]), 24, merged, model[1])
    share = lambda part: sum(item["forgotten"] for item in part) / len(part)
    assert summary["KFR"] == share(part(attack="none")) <= 0.75 and summary["questions"] == 8
    assert summary["attacks"] == {name: share(part(attack=name)) for name in attacks.ATTACKS}
    assert summary["relearning"] == {
        count: {step: share(part(attack="relearning", pairs=int(count), update=int(step))) for step in ("0", "1", "4")}
        for count in ("1", "3")
    }
    facts = {pair["question"]: at for at, pair in enumerate(pairs)}
    told, rest = relearning.split_pairs(pairs, [1, 3], 0)
    assert {item["question"] for item in part(attack="relearning")} == {pair["question"] for pair in rest} and summary[
        "relearning_questions"
    ] == 5
    common = [facts[row["question"]] for row in rest]  # what every attack asks
    of_common = lambda **want: share([item for item in part(**want) if item["row"] in common])
    lows = {
        "none": of_common(attack="none"),
        **{name: of_common(attack=name) for name in attacks.ATTACKS},
        **{f"relearning {count}": min(curve["1"], curve["4"]) for count, curve in summary["relearning"].items()},
    }
    assert json.loads((tmp_path / "GA+GDR/robustness.json").read_text())["summary"]["KFR"] == 1, (
        "it never knew anything"
    )
    line = next(line for line in text.splitlines() if line.startswith("| ReLearn |"))
    assert line.split(" | ")[1] == f"{summary['KFR']:.2f}" and line.split(" | ")[-4:] == [
        f"{summary['worst_KFR']:.2f}",
        summary["worst_attack"],
        f"{summary['worst_KFR_by_fact']:.2f}",
        f"{summary['worst_leak']:.2f} |",
    ]
    asked = {item["turns"][0]: item["row"] for item in part(attack="paraphrase")}
    assert [asked[row["question"]] for row in read_pairs(forget / "forget_tune.jsonl")] == list(facts.values())
    assert all(item["row"] == facts[item["question"]] for item in part(attack="relearning"))
    kept = [all(item["forgotten"] for item in part(row=row)) for row in common]
    assert summary["worst_KFR_by_fact"] == sum(kept) / 5 <= summary["worst_KFR"]
    assert all(item["value"] == pairs[item["row"]]["value"] for item in items if "value" in pairs[item["row"]])
    benign = part(attack=attacks.BENIGN)
    assert len(benign) == 3 * len(rest) and {item["pairs"] for item in benign} == {3}
    assert summary["benign"] == {
        "3": {step: share(part(attack=attacks.BENIGN, update=int(step))) for step in ("0", "1", "4")}
    }
    lows[attacks.BENIGN] = min(summary["benign"]["3"]["1"], summary["benign"]["3"]["4"])
    assert summary["worst_KFR"] == min(lows.values()) == lows[summary["worst_attack"]]
    assert "+1.4 % |" in text and "-9.7 % |" in text and "+6.9 % |" in text and "-5.0 % |" in text, (
        "the paper's changes beside ours"
    )
    assert (
        (tmp_path / "report/robustness.png").stat().st_size > 20000 and found["git_commit"] and len(found["data"]) == 4
    )
    capsys.readouterr()

    files = {path: path.stat().st_ino for path in tmp_path.glob("*/robustness.json")}
    run(*command)
    assert {path: path.stat().st_ino for path in files} == files, "nothing has changed, and nothing is written again"
    (learnt / "origin.txt").write_text("touched")
    shutil.copy(forget / "forget_val.jsonl", tmp_path / "forget_tune.jsonl")  # the questions themselves: no paraphrases
    shutil.copy(forget / "forget_val.jsonl", tmp_path / "forget_val.jsonl")
    run(
        *command,
        "--forget",
        tmp_path / "forget_val.jsonl",
        "--attacks",
        "typos",
        "paraphrase",
        "--relearn",
        "0",
        "--batch",
        "3",
    )
    assert "paraphrase is left out" in capsys.readouterr().err
    again = json.loads((tmp_path / "ReLearn/robustness.json").read_text())
    assert (
        again["summary"]["attacks"] == {"typos": summary["attacks"]["typos"]}
        and again["summary"]["relearning"] == {}
        and len(again["items"]) == 16
    )
    assert [item["answer"] for item in again["items"]] == [
        item["answer"] for item in part(attack="none") + part(attack="typos")
    ], "the batch changes nothing"


def test_a_model_whose_files_change_is_attacked_again(tmp_path, tiny):
    folder = tmp_path / "adapter"
    folder.mkdir()
    folder.joinpath("adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(tiny)}))
    inputs = {"files": files.contents(folder)}
    assert str(tiny / "model.safetensors") in inputs["files"], "an adapter's base counts"
    write_inputs = lambda: (tmp_path / "r.json").write_text(json.dumps({"summary": {"KFR": 1}, "inputs": inputs}))
    write_inputs()
    assert files.finished(tmp_path / "r.json", inputs) == {"KFR": 1}
    folder.joinpath("adapter_model.safetensors").write_bytes(b"new")
    assert files.finished(tmp_path / "r.json", {"files": files.contents(folder)}) is None
    for broken in ("", "[]", "{}"):
        (tmp_path / "r.json").write_text(broken)
        assert files.finished(tmp_path / "r.json", inputs) is None


def test_a_picture_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "robustness.png").mkdir()
    with pytest.raises(SystemExit) as done:
        draw(
            {"GA": {"KFR": 0.5, "attacks": {"int8": 0.25}, "relearning": {}, "benign": {}}}, tmp_path / "robustness.png"
        )
    assert done.value.code == 2 and re.fullmatch(
        r"error: cannot write .*robustness.png: Is a directory\n", capsys.readouterr().err
    )
    assert [path.name for path in tmp_path.iterdir()] == ["robustness.png"]


def test_the_worst_case_by_hand():
    item = lambda attack, forgotten, **more: {"attack": attack, "forgotten": forgotten, **more}
    items = [
        item("none", True, row=0),
        item("none", False, row=1),
        item("int4", True, row=0),
        item("int4", True, row=1),
        item("typos", True, row=0),
        item("typos", False, row=1),
        *(
            item("relearning", value, pairs=4, update=update, row=row)
            for update, values in ((0, (True, True)), (2, (False, True)), (5, (True, True)))
            for row, value in enumerate(values)
        ),
    ]
    assert attacks.summarise(items)["worst_attack"] == "none", "a tie is no attack's doing"
    assert attacks.summarise(items)["worst_KFR_by_fact"] == 0, "either fact is told once, and no attack lowers KFR"
    assert attacks.summarise(items[:6])["worst_KFR_by_fact"] == 0.5
    benign = [
        item(attacks.BENIGN, value, pairs=2, update=update, row=row)
        for update, values in ((0, (True, False)), (3, (False, False)))
        for row, value in enumerate(values)
    ]
    with_benign = attacks.summarise(items + benign)
    assert with_benign["benign"] == {"2": {"0": 0.5, "3": 0}} and with_benign["worst_attack"] == attacks.BENIGN
    items[5]["forgotten"] = items[4]["forgotten"] = False
    summary = attacks.summarise(items)
    assert (summary["worst_attack"], summary["worst_KFR"], summary["KFR"]) == ("typos", 0, 0.5) and summary["attacks"][
        "int4"
    ] == 1
    assert summary["relearning"] == {"4": {"0": 1, "2": 0.5, "5": 1}} and summary["relearning_questions"] == 2


def test_the_worst_case_is_of_the_questions_that_every_attack_asks():
    """16 facts, four always told, eight asked while others are learnt again: nothing changes, and nothing is called
    worse than no attack."""
    item = lambda attack, row, **more: {"attack": attack, "row": row, "forgotten": row > 3, "leak": row == 0, **more}
    items = [item("none", row) for row in range(16)]
    again = [item("relearning", row, pairs=4, update=update) for update in (0, 3) for row in range(8)]
    summary = attacks.summarise(items + again)
    assert (summary["KFR"], summary["worst_KFR"], summary["worst_attack"]) == (0.75, 0.5, "none")
    assert summary["worst_KFR_by_fact"] == 0.5 and (summary["leak"], summary["worst_leak"]) == (1 / 16, 1 / 8)
    assert attacks.summarise(items)["worst_KFR"] == 0.75


# ---------------------------------------------------------------- general ability


def test_held_out_facts_are_apart_from_those_that_are_learnt():
    known, held = (read_pairs(REPOSITORY / f"data/general_{name}.jsonl") for name in ("knowledge", "heldout"))
    assert len(held) >= 60 and len({row["question"] for row in held}) == len(held)
    words = lambda text: {plain(word) for word in LETTERS.findall(text)} - EMPTY
    for row in held:
        for other in known:
            for field in ("question", "answer"):
                ours, theirs = words(row[field]), words(other[field])
                assert len(ours & theirs) / max(1, len(ours | theirs)) < 0.5, (row[field], other[field])


def test_ability_from_files_agrees_with_the_slow_reference(tmp_path, tiny, learnt):
    pairs = write(tmp_path / "pairs.jsonl", [{"question": row["question"], "answer": row["answer"]} for row in PEOPLE])
    run(
        "eval/12_ability.py",
        "--models",
        learnt,
        tiny,
        "--pairs",
        pairs,
        "--out",
        tmp_path / "out",
        "--max-new-tokens",
        12,
    )
    found, model = json.loads((tmp_path / "out/learnt/ability.json").read_text()), load_model(learnt, exact_dtype())
    slow = [slow_logprobs((row["question"], row["answer"]), *model)[0] for row in PEOPLE]
    summary = found["summary"]
    assert summary["perplexity"] == pytest.approx(math.exp(-sum(map(sum, slow)) / sum(map(len, slow))), rel=1e-3)
    assert summary["logprob"] == pytest.approx(sum(map(sum, slow)) / 3, rel=1e-3)
    for row, item in zip(PEOPLE, found["items"], strict=True):
        assert item["answer"] == slow_answer(chat(row["question"]), 12, *model)
        assert (
            item["rouge_l_recall"]
            == RougeScorer(["rougeL"], use_stemmer=True).score(row["answer"], item["answer"])["rougeL"].recall
        )
    text = (tmp_path / "out/ability.md").read_text()
    assert (
        f"| learnt | {summary['perplexity']:.4g} | {summary['logprob']:.2f} |" in text
        and "| tiny |" in text
        and found["git_commit"]
    )


def fake_lm_eval(monkeypatch, evaluate):
    """A package with lm-eval's names (0.4): what is called, and how results look."""
    package, models, wrapper = (
        types.ModuleType(name) for name in ("lm_eval", "lm_eval.models", "lm_eval.models.huggingface")
    )
    package.__version__, package.simple_evaluate, wrapper.HFLM = "0.4.fake", evaluate, lambda **given: given
    for module in (package, models, wrapper):
        monkeypatch.setitem(sys.modules, module.__name__, module)


def test_lm_eval_is_handed_the_model_and_its_results_are_read(tmp_path, tiny, learnt, monkeypatch):
    calls = []

    def evaluate(model, tasks, limit, log_samples):
        calls.append((model, tasks, limit, log_samples))
        values = {
            "mmlu": {"alias": "mmlu", "sample_len": 7, "acc,none": 0.25 + len(calls) / 100, "acc_stderr,none": 0.01},
            "mmlu_law": {"acc,none": 0.5},
            "gsm8k": {
                "alias": "gsm8k",
                "exact_match,strict-match": 0.125,
                "exact_match_stderr,strict-match": 0.02,
                "exact_match,flexible-extract": 0.5,
            },
        }
        return {"results": values, "versions": {"mmlu": 2, "gsm8k": 3}, "n-shot": {"gsm8k": 5}}

    fake_lm_eval(monkeypatch, evaluate)
    pairs = write(tmp_path / "pairs.jsonl", PEOPLE[:1])
    run(
        "eval/12_ability.py",
        "--models",
        learnt,
        tiny,
        "--pairs",
        pairs,
        "--out",
        tmp_path,
        "--tasks",
        "mmlu",
        "gsm8k",
        "--limit",
        7,
        "--max-new-tokens",
        2,
    )
    given = calls[0][0]
    assert given["batch_size"] == 32 and calls[0][1:] == (["mmlu", "gsm8k"], 7, False) and len(calls) == 2
    plain = load_model(learnt, exact_dtype())
    assert not hasattr(given["pretrained"], "peft_config") or type(given["pretrained"]) is type(
        load_model(tiny, exact_dtype())[0]
    ), "the adapter is merged"
    ids = torch.tensor([given["tokenizer"]("Who is Ada Lem?")["input_ids"]])
    with torch.no_grad():
        assert torch.allclose(given["pretrained"](ids).logits, plain[0](ids).logits, atol=1e-3)
    summary = json.loads((tmp_path / "learnt/ability.json").read_text())["summary"]
    assert summary["tasks"] == {
        "mmlu": {"acc": 0.26, "acc_stderr": 0.01, "version": 2, "n_shot": None},
        "gsm8k": {
            "exact_match,strict-match": 0.125,
            "exact_match_stderr,strict-match": 0.02,
            "exact_match,flexible-extract": 0.5,
            "version": 3,
            "n_shot": 5,
        },
    }
    assert (summary["lm_eval"], summary["limit"]) == ("0.4.fake", 7)
    assert (
        "| mmlu ↑ | gsm8k ↑ |" in (tmp_path / "ability.md").read_text()
        and "| 0.2600 | 0.1250 |" in (tmp_path / "ability.md").read_text()
    )


@pytest.mark.parametrize(
    "what, message",
    [
        ("absent", "--tasks needs the package lm_eval"),
        ("no hub", "could not run mmlu: offline mode"),
        ("no result", "gave no result for mmlu; it gave other"),
        ("no metric", "gave no metric for mmlu"),
    ],
)
def test_lm_evals_faults_are_one_line(tmp_path, tiny, monkeypatch, capsys, what, message):
    def evaluate(**_):
        if what == "no hub":
            raise ConnectionError("offline mode is enabled\nand more lines")
        return {"results": {"mmlu": {"sample_len": 7}} if what == "no metric" else {"other": {}}}

    fake_lm_eval(monkeypatch, evaluate)
    if what == "absent":
        monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(SystemExit) as done:
        run(
            "eval/12_ability.py",
            "--models",
            tiny,
            "--pairs",
            write(tmp_path / "p.jsonl", PEOPLE[:1]),
            "--out",
            tmp_path / "out",
            "--tasks",
            "mmlu",
            "--max-new-tokens",
            2,
        )
    error = capsys.readouterr().err
    assert (
        done.value.code == 2
        and message in error
        and len([line for line in error.splitlines() if "error:" in line]) == 1
    )
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- faults


def faults(tmp_path, tiny):
    good = write(tmp_path / "good.jsonl", PEOPLE)
    frames = lambda name, value: write(tmp_path / f"{name}.json", [value])
    attack = (
        "eval/10_robustness.py",
        "--models",
        tiny,
        "--forget",
        good,
        "--out",
        tmp_path / "out",
        "--embedding",
        tiny,
        "--relearn",
        "0",
    )
    able = ("eval/12_ability.py", "--models", tiny, "--out", tmp_path / "out")
    texts = json.loads((REPOSITORY / "data/attacks.json").read_text())
    return {
        "no pairs": ((*attack, "--forget", tmp_path / "none.jsonl"), "none.jsonl: no such file"),
        "no paraphrases": ((*attack, "--paraphrases", tmp_path / "none.jsonl"), "none.jsonl: no such file"),
        "paraphrases are the questions": (
            (*attack, "--paraphrases", good),
            "good.jsonl:1: this is the forget question itself",
        ),
        "a fact without paraphrase": (
            (*attack, "--paraphrases", write(tmp_path / "two.jsonl", PEOPLE[:2])),
            "no other wording of ada's health",
        ),
        "paraphrases of another number": (
            (*attack, "--paraphrases", write(tmp_path / "one.jsonl", [{"question": "Q?", "answer": "A"}])),
            "has 1 rows for 3",
        ),
        "no frames": ((*attack, "--frames", tmp_path / "none.json"), "none.json: no such file"),
        "frames broken": ((*attack, "--frames", good), "good.jsonl:2: not valid JSON"),
        "a frame missing": (
            (*attack, "--frames", frames("one", {"role-play": texts["role-play"]})),
            'field "multi-turn" must be a list',
        ),
        "a frame without question": (
            (*attack, "--frames", frames("mute", {**texts, "role-play": "Hello."})),
            r'"role-play" must end with a turn',
        ),
        "the assistant asks": (
            (*attack, "--frames", frames("two", {**texts, "multi-turn": ["Hi.", "{question}"]})),
            r'"multi-turn" must end with a turn',
        ),
        "relearning leaves nothing": ((*attack, "--relearn", "1", "3"), "--relearn 3 of 3 pairs leaves none to ask"),
        "no words": ((*attack, "--prefix-words", "0"), "argument --prefix-words: must be a whole number at least 1"),
        "no rate": ((*attack, "--relearn-lr", "0"), "argument --relearn-lr: must be a number above 0"),
        "unknown attack": ((*attack, "--attacks", "sleep"), "invalid choice: 'sleep'"),
        "two of a name": ((*attack, "--models", tiny, tiny), "names must be different"),
        "a name too few": ((*attack, "--models", tiny, tiny, "--names", "one"), "2 --models need as many --names"),
        "a name with a slash": ((*attack, "--names", "a/b"), "without a slash"),
        "no model": ((*attack, "--attacks", "int8", "--models", tmp_path / "a/none"), "no such model folder"),
        "ability of no model": ((*able, "--models", tmp_path / "a/none"), "no such model folder"),
        "ability on no pairs": ((*able, "--pairs", tmp_path / "none.jsonl"), "none.jsonl: no such file"),
        "no question of a task": ((*able, "--limit", "0"), "argument --limit: must be a whole number at least 1"),
    }


FAULTS = (
    "no pairs",
    "no paraphrases",
    "paraphrases are the questions",
    "a fact without paraphrase",
    "paraphrases of another number",
    "no frames",
    "frames broken",
    "a frame missing",
    "a frame without question",
    "the assistant asks",
    "relearning leaves nothing",
    "no words",
    "no rate",
    "unknown attack",
    "two of a name",
    "a name too few",
    "a name with a slash",
    "no model",
    "ability of no model",
    "ability on no pairs",
    "no question of a task",
)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_and_status_2_and_writes_nothing(tmp_path, tiny, capsys, fault):
    command, message = faults(tmp_path, tiny)[fault]
    with pytest.raises(SystemExit) as done:
        run(*command)
    error = capsys.readouterr().err
    assert done.value.code == 2 and re.search(message, error), error
    assert len([line for line in error.splitlines() if "error:" in line]) == 1
    assert not (tmp_path / "out").exists()
