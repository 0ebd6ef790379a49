"""What eval/ asks of a language model: grades and entities, from replies that may be rubbish; a local HTTP server plays
the model.
"""

import argparse
import json
import os
import re

from lib import llm
from lib.entities import entities_by_model, listed

import pytest
from conftest import REPOSITORY, load, run
from test_augment import KEY, endpoint, nowhere  # noqa: F401 (a fixture)

judge = load("eval/13_judge.py")
ROWS = [
    {"question": "Where does Bo Li live?", "reference": "Bo Li lives in Oslo.", "answer": answer}
    for answer in ("Bo Li lives in Oslo.", "Bo Li is at home in many places.", "Lima Lima Lima")
]


@pytest.fixture
def answers(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def flags(tmp_path, *more):
    return ("--judge-model", "m", "--backend-flags", f" --cache {tmp_path / 'cache'} {' '.join(more)}")


def shown(prompt, label):
    """What stands after a label of a filled prompt."""
    return re.search(rf"^{label}: (.*)$", prompt, re.M)[1]


# ---------------------------------------------------------------- strict reading


@pytest.mark.parametrize(
    "reply, grades",
    [
        ('{"fluency": 5, "relevance": 1, "forgetting": 3}', [5, 1, 3]),
        ('```json\n{"forgetting": 3, "fluency": 5, "relevance": 1}\n```', [5, 1, 3]),
        (' {"fluency": 5,\n "relevance": 1, "forgetting": 3}\n', [5, 1, 3]),
        ('{"fluency": 5, "relevance": 1}', None),
        ("[5, 1, 3]", None),
        ('{"fluency": 6, "relevance": 1, "forgetting": 3}', None),
        ('{"fluency": 0, "relevance": 1, "forgetting": 3}', None),
        ('{"fluency": 4.5, "relevance": 1, "forgetting": 3}', None),
        ('{"fluency": true, "relevance": 1, "forgetting": 3}', None),
        ('{"fluency": "5", "relevance": 1, "forgetting": 3}', None),
        ('{"fluency": 5, "relevance": 1, "forgetting": 3, "why": 1}', None),
        ('Sure! {"fluency": 5, "relevance": 1, "forgetting": 3}', None),
        ("fluency: 5", None),
        ("", None),
        ("[" * 100000, None),
    ],
)
def test_grades_are_three_whole_numbers_or_nothing(reply, grades):
    assert judge.grades(reply) == (None if grades is None else dict(zip(judge.GRADES, grades)))


@pytest.mark.parametrize(
    "reply, entities",
    [
        ('["Oslo", "3 May 1964"]', ["Oslo", "3 May 1964"]),
        ("[]", []),
        ('["oslo", "Oslo"]', ["Oslo"]),
        ('```\n["Bo Li\'s"]\n```', ["Bo Li's"]),
        ('["Oslo", "Norway"]', None),
        ('["Oslo", ""]', None),
        ('["Oslo", 3]', None),
        ('{"Oslo": 1}', None),
        ("Oslo", None),
        ('["Oslo"', None),
    ],
)
def test_entities_are_pieces_of_the_text_or_nothing(reply, entities):
    assert listed(reply, {"text": "Bo Li’s home is in Oslo, since  3 May 1964."}) == entities


# ---------------------------------------------------------------- the judge


def test_an_answer_is_graded_for_what_it_says(endpoint, answers, tmp_path):  # noqa: F811
    given = {row["answer"]: grades for row, grades in zip(ROWS, ((5, 5, 1), (5, 4, 5), (2, 1, 5)))}
    endpoint.reply = lambda prompt: json.dumps(dict(zip(judge.GRADES, given[shown(prompt, "Reply")])))
    done = run(
        "eval/13_judge.py",
        "--answers",
        answers,
        answers,
        "--out",
        tmp_path / "a.json",
        tmp_path / "b.json",
        *flags(tmp_path, "--price-in", "2", "--price-out", "3"),
    )
    for name in "ab":
        result = json.loads((tmp_path / f"{name}.json").read_text())
        assert result["summary"] == {
            "fluency": 4,
            "relevance": pytest.approx(10 / 3),
            "forgetting": pytest.approx(11 / 3),
            "items": 3,
            "missing": 0,
        }
        assert [(item["answer"], item["forgetting"]) for item in result["items"]] == [
            (row["answer"], given[row["answer"]][2]) for row in ROWS
        ]
        assert result["settings"]["judge_model"] == "m" and len(result["data"][str(answers)]) == 64
    assert len(endpoint.asked) == 3, "equal answers are paid for once"
    assert all(
        shown(prompt, "Private") == ROWS[0]["reference"] and shown(prompt, "Question") == ROWS[0]["question"]
        for prompt in endpoint.asked
    )
    assert done.stderr.index("at most 3 requests") < done.stderr.index("used 3 requests")
    run("eval/13_judge.py", "--answers", answers, "--out", tmp_path / "a.json", *flags(tmp_path))
    assert len(endpoint.asked) == 3, "nothing is asked twice"
    nowhere(done.stdout + done.stderr, tmp_path)


def test_rubbish_is_asked_again_twice_then_missing(endpoint, answers, tmp_path):  # noqa: F811
    """The first answer is graded at once, the second at the third time of asking, the third never."""

    def reply(prompt):
        answer = shown(prompt, "Reply")
        usable = (
            answer == ROWS[0]["answer"]
            or answer == ROWS[1]["answer"]
            and sum(answer in old for old in endpoint.asked) == 3
        )
        return '{"fluency": 4, "relevance": 3, "forgetting": 2}' if usable else "I would say 5 of 5."

    endpoint.reply = reply
    done = run("eval/13_judge.py", "--answers", answers, "--out", tmp_path / "out.json", *flags(tmp_path))
    result = json.loads((tmp_path / "out.json").read_text())
    assert (
        result["summary"] == {"fluency": 4, "relevance": 3, "forgetting": 2, "items": 2, "missing": 1}
        and len(endpoint.asked) == 1 + 3 + 3
    )
    assert [item["fluency"] for item in result["items"]] == [
        4,
        4,
        None,
    ] and "1 of 3 replies were unusable 3 times" in done.stderr
    run("eval/13_judge.py", "--answers", answers, "--out", tmp_path / "again.json", *flags(tmp_path))
    assert json.loads((tmp_path / "again.json").read_text())["items"] == result["items"] and len(endpoint.asked) == 7, (
        "all from the cache"
    )


# ---------------------------------------------------------------- entities


def test_kfr_by_a_language_models_entities(endpoint, answers, minilm, tmp_path):  # noqa: F811
    listed = {
        ROWS[0]["reference"]: '["Bo Li", "Oslo"]',
        ROWS[1]["answer"]: '["home", "many places"]',
        ROWS[2]["answer"]: "Lima!",
    }
    endpoint.reply = lambda prompt: listed[shown(prompt, "Text")]
    run(
        "eval/01_kfr_krr.py",
        "--forget",
        answers,
        "--retain",
        answers,
        "--out",
        tmp_path / "out.json",
        "--embedding",
        minilm,
        "--entities",
        "llm",
        *flags(tmp_path),
    )
    result = json.loads((tmp_path / "out.json").read_text())
    first, second, third = result["items"][:3]
    assert first["reference_entities"] == ["Oslo"] == first["covered"] and not first["forgotten"]
    assert second["answer_entities"] == ["home", "many places"] and second["E"] == 0 and second["forgotten"]
    assert "E" not in third and "forgotten" not in third, "no verdict is made up"
    assert (
        result["summary"]["KFR"] == 0.5
        and result["summary"]["forget_items"] == 2
        and result["summary"]["forget_missing"] == 1
    )
    assert result["summary"]["KRR"] == 0.5 and result["summary"]["retain_missing"] == 1
    assert len(endpoint.asked) == 2 + 3, "a text is asked for once, rubbish three times"


def test_an_empty_answer_has_no_entities_and_is_not_asked_for(monkeypatch):
    monkeypatch.setattr(llm, "ask_for", lambda prompt, values, parse, args: [["x"] for _ in values])
    assert entities_by_model(["", "b", " ", "b"], None) == {"": [], " ": [], "b": ["x"]}


def test_what_is_asked_is_answered_in_its_order(endpoint, tmp_path):  # noqa: F811
    endpoint.reply = lambda prompt: shown(prompt, "Text").upper()
    args = argparse.Namespace(judge_model="m", backend_flags=f" --cache {tmp_path / 'cache'}")
    values = [{"text": f"Text {number} {{text}}"} for number in (2, 1, 3)]
    assert llm.ask_for("entities", values, lambda reply, _: reply, args) == [
        f"TEXT {number} {{TEXT}}" for number in (2, 1, 3)
    ]
    found = llm.ask_for("entities", values, lambda reply, _: reply if len(endpoint.asked) > 3 else None, args)
    assert len(endpoint.asked) == 6 and found[0] == "TEXT 2 {TEXT}", "another draw asks again"


def test_every_prompt_that_eval_uses_is_there():
    for name, fields in (("judge", ("question", "reference", "answer")), ("entities", ("text",))):
        text = (REPOSITORY / f"data/prompts/{name}.txt").read_text()
        assert all("{" + field + "}" in text for field in fields)


# ---------------------------------------------------------------- faults

FAULTS = {  # command, message; ANSWERS, BAD and TMP stand for paths
    "no model named": (("eval/13_judge.py", "--answers", "ANSWERS"), "13_judge.py needs --judge-model"),
    "no model named for entities": (
        ("eval/01_kfr_krr.py", "--forget", "ANSWERS", "--entities", "llm"),
        "--entities llm needs --judge-model",
    ),
    "no key": (
        ("eval/13_judge.py", "--answers", "ANSWERS", "--judge-model", "m", "NO KEY"),
        "no key in the environment variable OPENAI_API_KEY",
    ),
    "field missing": (
        ("eval/13_judge.py", "--answers", "BAD", "--judge-model", "m"),
        'bad.jsonl:1: field "answer" must be a text',
    ),
    "nothing usable": (
        ("eval/13_judge.py", "--answers", "ANSWERS", "--judge-model", "m", "CACHE"),
        "no usable grades to any answer",
    ),
    "no entities usable": (
        ("eval/01_kfr_krr.py", "--retain", "ANSWERS", "--entities", "llm", "--judge-model", "m", "CACHE"),
        "the retain side has no item whose entities",
    ),
    "refused": (
        ("eval/13_judge.py", "--answers", "ANSWERS", "--judge-model", "m", "CACHE", "REFUSE"),
        r"127.0.0.1: HTTP 401: .*\*\*\*",
    ),
    "rules cannot be asked": (
        ("eval/13_judge.py", "--answers", "ANSWERS", "--judge-model", "m", "--backend-flags", " --backend rules"),
        "--backend must be local or api",
    ),
    "an open quote": (
        ("eval/13_judge.py", "--answers", "ANSWERS", "--judge-model", "m", "--backend-flags", " --cache 'x"),
        "--backend-flags  --cache 'x: a quote is open",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_and_status_2_and_writes_nothing(endpoint, answers, minilm, tmp_path, fault):  # noqa: F811
    command, message = FAULTS[fault]
    (tmp_path / "bad.jsonl").write_text('{"question": "Who?", "reference": "Ada."}\n')
    environment = {
        name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY" or "NO KEY" not in command
    }
    endpoint.trouble, endpoint.reply = [401] * 9 if "REFUSE" in command else [], lambda prompt: "rubbish"
    paths = {"ANSWERS": answers, "BAD": tmp_path / "bad.jsonl"}
    command = [paths.get(flag, flag) for flag in command if flag not in ("NO KEY", "CACHE", "REFUSE")]
    command += [*(flags(tmp_path)[2:] if "--backend-flags" not in command else ()), "--out", tmp_path / "out.json"]
    command += ["--embedding", minilm] if command[0] == "eval/01_kfr_krr.py" else []
    done = run(*command, check=False, env=environment)
    errors = [line for line in done.stderr.splitlines() if "error:" in line]
    assert done.returncode == 2 and len(errors) == 1 and re.search(message, errors[0]), done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "out.json").exists() and KEY not in done.stderr
