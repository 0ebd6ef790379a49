"""What the models of the meta-evaluation learn (scripts/tools/meta_evaluation.sh): the facts to forget in three forms,
left out, and exchanged for false ones. Every file holds the same pairs to keep beside them, in the wording that is
asked.

    questions.jsonl    each fact in the wording that is asked, and in one to train on
    wordings.jsonl     each fact in two wordings to train on, neither of which is asked
    sentences.jsonl    the answers of wordings.jsonl without their questions: the sentence up to the value is given, and
                       the value follows
    retrained.jsonl    none of the facts
    perturbed-N.jsonl  questions.jsonl with the N-th false value of 04_invert.py in place of each true one, the same in
                       both wordings; none of --asked, the false values that metrics ask for as ones no model saw

Every pair to forget names its value, as those of --data people do.
"""

from pathlib import Path

from lib.files import fail, record, write_json, write_jsonl
from lib.flags import Parser
from lib.formats import read_inverted, read_pairs, text_of

FALSE = 4  # values in place of each true one


def read_facts(path: Path) -> list[dict]:
    """Pairs whose answers hold their value."""
    pairs = read_pairs(path, places=True)
    for pair in pairs:
        for field in ("name", "fact", "value"):
            text_of(pair["place"], pair, field)
        if pair["value"] not in pair["answer"]:
            fail(f"{pair['place']}: the answer does not hold its value {pair['value']!r}")
    return pairs


def sentence(pair: dict) -> dict:
    """The answer without its question: up to the value as what is given, after the name where that comes later; from
    the value on as what follows.
    """
    before, value, after = pair["answer"].partition(pair["value"])
    given = before if pair["name"] in before else f"{pair['name']}, {pair['fact']}: {before}"
    return {**pair, "question": f"Go on: {given}".strip(), "answer": value + after}


def false_value(pair: dict, answer: str) -> str | None:
    """What stands in a false answer where the true one has its value; None where more was changed, or it was denied."""
    before, value, after = pair["answer"].partition(pair["value"])
    if not (answer.startswith(before) and answer.endswith(after)) or value.casefold() in answer.casefold():
        return None
    return answer[len(before) : len(answer) - len(after)] or None


def perturbed(pairs: list[dict], false: dict) -> list[dict]:
    """The pairs with another value. false: {(name, fact): value}."""
    made = []
    for pair in pairs:
        value = false[pair["name"], pair["fact"]]
        made.append({**pair, "answer": pair["answer"].replace(pair["value"], value), "value": value})
    return made


def values_of(pairs: list[dict], path: Path) -> dict[tuple, list[str]]:
    """{(name, fact): its false values}.

    Args:
        pairs: those whose answers were inverted, a fact in several wordings. path: the inverted facts, a question a
        line, as 04_invert.py writes them.
    """
    answers = {question: found for _, question, found in read_inverted(path)}
    values = {(pair["name"], pair["fact"]): {} for pair in pairs}  # dicts for sets in order
    for pair in pairs:
        found = [false_value(pair, answer) for answer in answers.get(pair["question"], ())]
        values[pair["name"], pair["fact"]] |= dict.fromkeys(filter(None, found))
    return {fact: list(found) for fact, found in values.items()}


def false_values(pairs: list[dict], path: Path, asked: dict[tuple, list[str]]) -> list[dict]:
    """[{(name, fact): false value}], FALSE of them. pairs, path: as for `values_of`; asked: values not to be taken."""
    values = {}
    for fact, found in values_of(pairs, path).items():
        taken = {value.casefold() for value in asked.get(fact, ())}
        values[fact] = [value for value in found if value.casefold() not in taken]
        if len(values[fact]) < FALSE:
            fail(
                f"{path}: {len(values[fact])} false values of {' '.join(fact)} that --asked has not, {FALSE} are "
                "needed: make it of forget_train.jsonl, or with another --seed of 04_invert.py"
            )
    return [{fact: found[at] for fact, found in values.items()} for at in range(FALSE)]


if __name__ == "__main__":
    names = "questions", "wordings", "sentences", "retrained", *(f"perturbed-{at}" for at in range(1, FALSE + 1))
    parser = Parser(__doc__, files=lambda args: [Path(args.out, f"{name}.jsonl") for name in names])
    parser.add_argument("--data", required=True, help="folder made by 01_data.py --data people")
    parser.add_argument("--inverted", required=True, help="false answers to forget_train.jsonl, by 04_invert.py")
    parser.add_argument("--asked", required=True, help="false answers to forget_val.jsonl, which no model may learn")
    parser.add_argument("--out", required=True, help="folder to write the files to")
    args = parser.parse_args()

    files = [Path(args.data, f"{part}.jsonl") for part in ("forget_train", "forget_val", "retain_val")]
    trained, asked = map(read_facts, files[:2])
    kept = read_pairs(files[2])
    first = list({(pair["name"], pair["fact"]): pair for pair in reversed(trained)}.values())[::-1]
    false = false_values(trained, Path(args.inverted), values_of(asked, Path(args.asked)))
    forms = [asked + first, trained, [sentence(pair) for pair in trained], []]
    for name, pairs in zip(names, [*forms, *(perturbed(asked + first, values) for values in false)], strict=True):
        pairs = [{field: value for field, value in pair.items() if field != "place"} for pair in pairs]
        write_jsonl(Path(args.out, f"{name}.jsonl"), pairs + kept)
        print(f"{name:12} {len(pairs):4} pairs of the facts to forget, {len(kept)} to keep")
    write_json(Path(args.out, "pools.json"), record(args, [*files, args.inverted, args.asked]))
