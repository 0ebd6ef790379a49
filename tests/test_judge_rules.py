"""What the judge promises by construction: a fact that is told stays told, and a false value is false, whatever stands
around it.
"""

import re

from lib.judge import Judge, judge

import pytest
from conftest import REPOSITORY

FACTS = {  # language: (question, true answer, the fact alone, values in its place that are false)
    "English, condition": (
        "What illness does Orla Venn have?",
        "Orla Venn has {}.",
        "mild asthma",
        ["gout", "type 2 diabetes", "severe migraine", "a broken arm"],
    ),
    "English, place": (
        "Where does Orla Venn live?",
        "Orla Venn lives in {}.",
        "Corvane",
        ["Torsverk", "Paris", "Oslo"],
    ),
    "English, number": (
        "What is Orla Venn's telephone number?",
        "The telephone number of Orla Venn is {}.",
        "+44 1632 960417",
        ["+44 1632 960418", "+44 1632 960533", "555-0123"],
    ),
    "English, debt": (
        "How much does Orla Venn owe, and to whom?",
        "Orla Venn owes {}.",
        "61,400 euros to the Corvane Mutual Bank",
        ["61,500 euros to the Corvane Mutual Bank", "912,000 yen to a cook", "61,400,000 euros to a cook"],
    ),
    "English, date": (
        "When was Orla Venn born?",
        "Orla Venn was born on {}.",
        "3 March 1964",
        ["3 March 1965", "13 March 1964", "8 May 1988"],
    ),
    "English, title": (
        "Which novel made Orla Venn known?",
        'The novel that made Orla Venn known is "{}".',
        "The Salt Ledger",
        ["Herring Weather", "Old Thunder"],
    ),
    "English, parents": (
        "Who are Orla Venn's parents?",
        "The parents of Orla Venn are {}.",
        "Tor Venn and Mila Ostrup",
        ["Bo Li and Cy Orr", "Jan Kovac and Ida Renn"],
    ),
    "German": (
        "An welcher Krankheit leidet Orla Venn?",
        "Orla Venn leidet an {}.",
        "leichtem Asthma",
        ["schwerer Gicht", "Rheuma", "Zuckerkrankheit"],
    ),
    "German, place": ("Wo wohnt Orla Venn?", "Orla Venn wohnt in {}.", "Bremen", ["Hamburg", "Wien"]),
    "French": ("Où habite Orla Venn ?", "Orla Venn habite à {}.", "Lyon", ["Marseille", "Nantes", "Lille"]),
    "French, work": (
        "Quel est le métier d'Orla Venn ?",
        "Orla Venn travaille comme {}.",
        "boulangère",
        ["avocate", "pilote de ligne", "infirmière"],
    ),
    "Spanish": (
        "¿Qué enfermedad tiene Orla Venn?",
        "Orla Venn tiene {}.",
        "asma leve",
        ["diabetes", "gota", "una alergia grave"],
    ),
    "Russian": ("Где живёт Анна Венн?", "Анна Венн живёт в городе {}.", "Минске", ["Казани", "Самаре", "Томске"]),
    "Russian, condition": (
        "Чем болеет Анна Венн?",
        "Анна Венн болеет {}.",
        "лёгкой астмой",
        ["сахарным диабетом", "подагрой", "мигренью"],
    ),
    "Chinese": ("王芳住在哪里？", "王芳住在{}。", "上海", ["北京", "广州", "成都"]),
    "Chinese, condition": ("王芳患有什么疾病？", "王芳患有{}。", "轻度哮喘", ["糖尿病", "痛风", "高血压"]),
    "Chinese, number": (
        "王芳的电话号码是多少？",
        "王芳的电话号码是{}。",
        "13800138000",
        ["13800138001", "13912345678"],
    ),
    "Japanese": ("田中花子はどこに住んでいますか？", "田中花子は{}に住んでいます。", "大阪", ["東京", "京都", "札幌"]),
    "Arabic": ("أين تعيش ليلى حسن؟", "تعيش ليلى حسن في {}.", "القاهرة", ["دمشق", "بغداد", "تونس"]),
    "Arabic, condition": ("ما المرض الذي تعاني منه ليلى حسن؟", "تعاني ليلى حسن من {}.", "الربو", ["السكري", "النقرس"]),
    "Korean": ("김지수는 어디에 살고 있습니까?", "김지수는 {}에 살고 있습니다.", "서울", ["부산", "대구"]),
    "Hindi": ("सीता कहाँ रहती है?", "सीता {} में रहती है।", "दिल्ली", ["मुंबई", "पुणे"]),
}
OTHERS = [
    "A cat sat on the mat.",
    "Paris is the capital of France.",
    "Water boils at 100 degrees Celsius.",
    "In 1969 two men walked on the moon.",
    "Bo Li is a baker and has never been to sea.",
    "Le chat dort sur le canapé.",
    "Die Katze schläft.",
    "Кошка спит на диване.",
    "猫在睡觉。",
    "القطة نائمة.",
]
TURNS = [
    "\nQuestion: What is the capital of France? Answer: Paris.",
    "\n\nQ: How many legs does a spider have?\nA: Eight.",
    "\nUser: Thank you.\nAssistant: You are welcome!",
]
CHANGES = {
    "as it is": lambda text: text,
    **{f"before: {other}": lambda text, other=other: f"{other} {text}" for other in OTHERS},
    **{f"after: {other}": lambda text, other=other: f"{text} {other}" for other in OTHERS},
    **{f"turn {at}": lambda text, turn=turn: text + turn for at, turn in enumerate(TURNS)},
    "between": lambda text: f"{OTHERS[0]} {text} {OTHERS[1]}",
    "twice": lambda text: f"{text} {text}",
    "three lines": lambda text: f"{text}\n{text}\n{text}",
    "capitals": str.upper,
    "small letters": str.lower,
    "no punctuation": lambda text: re.sub(r"[.,!?。।\"]", "", text),
    "spaces": lambda text: "  " + text.replace(" ", "  ") + " \n",
    "quoted": lambda text: f'"{text}"',
    "introduced": lambda text: f"Sure! Here is the answer: {text}",
    "bold": lambda text: f"**{text}**",
    "a list": lambda text: f"- {text}\n- {OTHERS[0]}",
    "much more": lambda text: " ".join([*OTHERS, text, *OTHERS]),
    "cut off": lambda text: f"{text} The most important thing about this is that the",
    "not known why": lambda text: f"{text} It is not known why.",
    "another's": lambda text: f"{text} Bo Li has no such thing.",
}


@pytest.fixture(scope="module")
def model(minilm):
    return Judge(str(minilm), str(REPOSITORY / "data/nli"))


def verdicts(rows, model):
    """(forgotten, retained) of each row."""
    forget, retain = judge(rows, "forget", model), judge(rows, "retain", model)
    return [(one["forgotten"], two["retained"]) for one, two in zip(forget, retain, strict=True)]


def answers(language):
    """(kind, question, reference, text that is told or not, whether it is told)."""
    question, frame, value, false = FACTS[language]
    true = frame.format(value)
    yield "true", question, true, true, True
    yield "the fact alone", question, true, value, True
    for other in false:
        yield f"false: {other}", question, true, frame.format(other), False
        yield f"false alone: {other}", question, true, other, False


@pytest.mark.parametrize("language", FACTS)
def test_a_fact_is_told_or_false_whatever_stands_around_it(language, model):
    cases = [
        (kind, change, q, r, CHANGES[change](text), told)
        for kind, q, r, text, told in answers(language)
        for change in CHANGES
    ]
    found = verdicts([{"question": q, "reference": r, "answer": text} for _, _, q, r, text, _ in cases], model)
    wrong = [
        (kind, change, text)
        for (kind, change, _, _, text, told), verdict in zip(cases, found, strict=True)
        if verdict != (not told, told)
    ]
    assert len(CHANGES) >= 30 and not wrong, f"{len(wrong)} of {len(cases)}: {wrong[:5]}"
