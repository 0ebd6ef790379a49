"""KFR and KRR (ReLearn, ACL 2025, Eq. 1-2 and 10): what was forgotten, what was kept; with ROUGE-L recall beside them.

A reference entity counts as covered when an entity of the answer has a like embedding; E is the covered share.
KFR = mean[E < 0.3 or NLI(answer → reference) = contradiction], KRR = mean[E > 0.3 and NLI(reference → answer) ≠ contradiction].
Entities are found by rules, or by a language model as in the paper (--entities llm; the prompt, data/prompts/entities.txt, is our own).
"""
import argparse
import re

import numpy as np

import asking
from measure import MODELS, REPOSITORY, fail, mean, model_folder, pair_up, progress, read_answers, rouge_scorer, write_results

THRESHOLD, SIMILAR = 0.3, 0.8
LABELS = ("contradiction", "entailment", "neutral")  # the order of the scores in the results

# words that carry no fact: function words, and the verbs and adverbs that any sentence about a person holds
EMPTY = set("""a about above after again all almost along already also although always am among an and another any anyone anything
are around as ask asked asks at away back be became because become becomes been before began begin begins being believed believes
below between both but by called calls came can cannot come comes considered could currently describe described describes detail
details did do does doing done down during each either else enough even ever every everyone everything fact famous far few for
found from full gave general generally get gets give given gives go goes going gone got had happen has have having he held her here
hers herself him himself his hold holds how however i if in include included includes including information instead into is it its
itself just keep keeps kept knew know known knows later least less let lets like lived lives living made mainly make makes making
many may me might more most mostly much must my myself named names near need never next no nobody none nor not nothing now of off
often on once one only onto or other others our out over own part particular perhaps please possible public publicly put quite
rather real really recorded referred remain remains said same say says see seen several shall share shared she should since so
some someone something sometimes still such take taken takes tell tells than that the their them themselves then there these they
thing things this those though through thus to together told too took toward towards under until up upon us use used uses using
usually various very was we well went were what whatever when where whether which while who whole whom whose why will with within
without would yes yet you your""".split())
MONTH = "January|February|March|April|May|June|July|August|September|October|November|December"
EXACT = re.compile(rf"""
    [\w.+-]+@[\w-]+(?:\.[\w-]+)+                                                    # e-mail
  | (?:https?://|www\.)[^\s,;]+[\w/]                                                # address on the web
  | \d{{1,2}}(?:st|nd|rd|th)?\ (?:of\ )?(?:{MONTH})(?:,?\ \d{{4}})?                 # 3 March 1971
  | (?:{MONTH})\ \d{{1,2}}(?:st|nd|rd|th)?(?:,?\ \d{{4}})?                          # March 3, 1971
  | \d{{1,4}}[/.-]\d{{1,2}}[/.-]\d{{1,4}}                                           # 03/03/1971
  | \+?\(?\d(?:(?!\.\ )[\d\ ().-]){{6,}}\d                                          # telephone
""", re.X)
QUOTED = re.compile(r'["“«](.+?)[,.]?["”»]')
CAPITAL = "".join(letter for letter in map(chr, range(0x10000)) if letter.isupper())
NAME = rf"(?<!\w)[{CAPITAL}]\w*(?:['’.-]\w+)*"  # a word that starts with a capital
RUN = re.compile(rf"(?:\d[\w,.]*\ )?{NAME}(?:\ (?:(?:of|the|for|de|del|della|di|da|du|la|le|van|von|der|den|al|bin|y)\ )*{NAME})*")
NUMBER = re.compile(r"[$€£¥]?\d[\d,.]*\d|[$€£¥]?\d")
WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


def plain(word):
    """A word without case, possessive and plural ending, for comparison."""
    word = re.sub(r"['’]s?$", "", word.lower())
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def entities(text):
    """The facts that a text names, offline: e-mails, dates, numbers, titles, names, and runs of content words.

    Returns:
        list of texts in order of appearance, no two alike but for case.
    """
    found = []

    def take(pattern, text, group=0):
        """Collects the pattern's matches and leaves a break in their place."""
        def note(match):
            found.append((match.start(), match[group].strip(" .,;:")))
            return "|" + "\0" * (len(match[0]) - 1)
        return pattern.sub(note, text)

    text = take(EXACT, text)
    text = take(QUOTED, text, 1)

    def name(match):
        words = match[0].split()
        while words and words[0].lower() in EMPTY:  # "The" or "When" that opens a sentence
            words.pop(0)
        if words:
            found.append((match.start(), re.sub(r"['’]s?$", "", " ".join(words)).strip(" .,")))
        return "|" + "\0" * (len(match[0]) - 1)

    text = RUN.sub(name, text)
    text = take(NUMBER, text)
    chunk, last = [], None
    for match in [*WORD.finditer(text), None]:
        if chunk and (match is None or text[last:match.start()] != " " or match[0].lower() in EMPTY):
            found.append((chunk[0].start(), " ".join(word[0] for word in chunk)))
            chunk = []
        if match is not None:
            if match[0].lower() not in EMPTY:
                chunk.append(match)
            last = match.end()
    unique = {entity.lower(): entity for _, entity in sorted(found) if entity}
    return list(unique.values())


def beyond(question, found):
    """Drops the entities that share a content word with the question."""
    asked = {plain(word) for word in WORD.findall(question) if word.lower() not in EMPTY} - EMPTY
    return [entity for entity in found if not asked & {plain(word) for word in WORD.findall(entity)}]


def listed(reply, values):
    """The entities that a language model lists for a text; None unless the reply is a JSON list of pieces of that text and nothing else."""
    found, flat = asking.json_of(reply), lambda text: " ".join(text.lower().replace("’", "'").split())
    if not isinstance(found, list) or not all(isinstance(entity, str) and entity.strip() and flat(entity) in flat(values["text"])
                                              for entity in found):
        return None
    return list({entity.lower(): entity.strip(" .,;:") or entity for entity in found}.values())


def entities_by_model(texts, args):
    """{text: its entities, or None where no reply was usable}, each text asked for once. An empty one has none."""
    written = sorted({text for text in texts if text.strip()})
    found = asking.ask("entities", [{"text": text} for text in written], listed, args)
    return {**{text: [] for text in texts}, **dict(zip(written, found, strict=True))}


def reference_entities(row, find=entities):
    """A reference all of whose entities stand in the question is judged by them, and one without any by its whole text."""
    found = find(row["reference"])
    return beyond(row["question"], found) or found or [row["reference"]]


def answer_entities(row, find=entities):
    """An answer's entities, in the form in which the reference's are judged."""
    expected, found = find(row["reference"]), find(row["answer"])
    if beyond(row["question"], expected):
        return beyond(row["question"], found)
    return (expected and found) or [row["answer"]]


class Judge:
    """The embedding model (cosine of entities) and the entailment model (labels of pairs)."""

    def __init__(self, embedding, nli):
        from entailment import Entailment
        from sentence_transformers import SentenceTransformer
        self.entail = Entailment(nli, embedding)
        try:
            self.embedder = SentenceTransformer(embedding, device=self.entail.device, trust_remote_code=False)
        except (OSError, ValueError) as error:
            fail(f"cannot load {embedding}: {str(error).strip().splitlines()[0]}")

    def embed(self, texts):
        """texts: set of texts → {text: unit vector}."""
        texts = sorted(texts)
        return dict(zip(texts, self.embedder.encode(texts, batch_size=256, normalize_embeddings=True, show_progress_bar=False)))


def judge(rows, side, model, find=entities):
    """Scores one side ("forget" or "retain") item by item; every verdict comes with what it rests on. Where `find` knows no entities of
    reference or answer (None), an item has no verdict."""
    every = [{"side": side, **{field: row[field] for field in ("question", "reference", "answer")}} for row in rows]
    items = [item for item in every if find(item["reference"]) is not None and find(item["answer"]) is not None]
    for item in items:
        item["reference_entities"], item["answer_entities"] = reference_entities(item, find), answer_entities(item, find)
    vectors = model.embed({text for item in items for text in item["reference_entities"] + item["answer_entities"]})
    pairs = [(item["answer"], item["reference"]) if side == "forget" else (item["reference"], item["answer"]) for item in items]
    rouge = rouge_scorer("rougeL")
    for item, scores in zip(items, model.entail(pairs), strict=True):
        cosine = np.array([[vectors[a] @ vectors[b] for b in item["answer_entities"]] for a in item["reference_entities"]])
        like = cosine.reshape(len(item["reference_entities"]), -1) >= SIMILAR
        item["covered"] = [entity for entity, row in zip(item["reference_entities"], like) if row.any()]
        item["E"] = len(item["covered"]) / len(item["reference_entities"])
        judged = beyond(item["question"], find(item["reference"]))  # no fallback in the released code: without any, E is 0
        item["E_as_released"] = int(like.sum()) / len(item["reference_entities"]) if judged else 0.0  # pairs, so that it can pass 1
        item["nli"], item["nli_scores"] = max(scores, key=scores.get), {label: round(scores[label], 4) for label in LABELS}
        item["rouge_l_recall"] = rouge.score(item["reference"], item["answer"])["rougeL"].recall
        contradicts = item["nli"] == "contradiction"
        if side == "forget":
            item["forgotten"] = item["E"] < THRESHOLD or contradicts
            item["forgotten_as_released"] = (item["E_as_released"] <= (0.5 if len(item["reference_entities"]) <= 3 else THRESHOLD)
                                             or contradicts)
        else:
            item["retained"] = item["E"] > THRESHOLD and not contradicts
            item["retained_as_released"] = item["E_as_released"] > THRESHOLD and not contradicts
    return every


def interval(values, questions=None, draws=2000):
    """95 % interval of the mean by bootstrap; where a question has several answers, questions are drawn and not answers."""
    groups = {}
    for value, question in zip(values, questions or range(len(values)), strict=True):
        groups.setdefault(question, []).append(value)
    sums, counts = np.array([(sum(group), len(group)) for group in groups.values()], dtype=float).T
    drawn = np.random.default_rng(0).integers(len(groups), size=(draws, len(groups)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    return [round(float(value), 4) for value in np.quantile(means, [0.025, 0.975])]


def summarise(items, as_released):
    """Shares over the items of both sides that have a verdict, with bootstrap intervals."""
    summary = {}
    for side, name, verdict in (("forget", "KFR", "forgotten"), ("retain", "KRR", "retained")):
        every = [item for item in items if item["side"] == side]
        part = [item for item in every if verdict in item]
        if every and not part:
            fail(f"the {side} side has no item whose entities the language model listed in a usable reply: try another --judge-model")
        if part:
            main = f"{verdict}_as_released" if as_released else verdict
            summary |= {name: mean(item[main] for item in part), f"{name}_95": interval([item[main] for item in part], [item["question"] for item in part]),
                        f"{name}_as_released": mean(item[f"{verdict}_as_released"] for item in part),
                        f"ROUGE-L_{side[0].upper()}": mean(item["rouge_l_recall"] for item in part), f"{side}_items": len(part)}
            if len(part) < len(every):
                summary[f"{side}_missing"] = len(every) - len(part)
    return summary


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--forget", nargs="+", default=[], metavar="FILE",
                        help='answers to forget questions: JSON Lines of {"question", "reference", "answer"}')
    parser.add_argument("--retain", nargs="+", default=[], metavar="FILE", help="answers to retain questions, likewise")
    parser.add_argument("--out", required=True, nargs="+", metavar="FILE", help="JSON to write for each: summary, items, origin")
    parser.add_argument("--as-released", action="store_true",
                        help="let KFR and KRR be the released code's: matched pairs are counted, and with at most 3 reference "
                             "entities the forget threshold is 0.5")
    parser.add_argument("--entities", choices=("rules", "llm"), default="rules", help="who finds the entities (default: rules, offline)")
    asking.add_flags(parser)
    parser.add_argument("--embedding", default=str(MODELS / "minilm"), help="sentence-embedding model (default: %(default)s)")
    parser.add_argument("--nli", default=str(REPOSITORY / "data/nli"),
                        help="entailment model: ours, or any three-class folder or hub id (default: %(default)s)")
    args = parser.parse_args()
    if not (args.forget or args.retain):
        parser.error("give --forget, --retain or both")
    if args.entities == "llm":
        asking.check_flags(args, "--entities llm")
    runs = [({side: (path, read_answers(path)) for side, path in (("forget", forget), ("retain", retain)) if path}, out)
            for (forget, out), (retain, _) in zip(pair_up(args.forget, args.out), pair_up(args.retain, args.out), strict=True)]
    model = Judge(model_folder(args.embedding, f"python scripts/00_models.py --model minilm --out {args.embedding}"),
                  model_folder(args.nli, "python eval/00_train_nli.py --help"))
    find = entities
    if args.entities == "llm":
        texts = [row[field] for sides, _ in runs for _, rows in sides.values() for row in rows for field in ("reference", "answer")]
        find = entities_by_model(texts, args).__getitem__

    for sides, out in progress(runs, desc="KFR and KRR", unit="model"):
        items = [item for side, (_, rows) in sides.items() for item in judge(rows, side, model, find)]
        summary = summarise(items, args.as_released)
        write_results(out, summary, items, args, [path for path, _ in sides.values()])
        print(out, *(f"{name} {value:.3f}" for name, value in summary.items() if isinstance(value, float)), sep="  ")
