"""The facts that a text names, as KFR and KRR compare them: found by rules, offline, or by a language model as in ReLearn's paper."""

import re

from lib import llm

# words that carry no fact: function words, and the verbs and adverbs that any sentence about a person holds
EMPTY = set(
    """
    a about above after again all almost along already also although always am among an and another any anyone
    anything are around as ask asked asks at away back be became because become becomes been before began begin
    begins being believed believes below between both but by called calls came can cannot come comes considered
    could currently describe described describes detail details did do does doing done down during each either
    else enough even ever every everyone everything fact famous far few for found from full gave general
    generally get gets give given gives go goes going gone got had happen has have having he held her here hers
    herself him himself his hold holds how however i if in include included includes including information
    instead into is it its itself just keep keeps kept knew know known knows later least less let lets like
    lived lives living made mainly make makes making many may me might more most mostly much must my myself
    named names near need never next no nobody none nor not nothing now of off often on once one only onto or
    other others our out over own part particular perhaps please possible public publicly put quite rather real
    really recorded referred remain remains said same say says see seen several shall share shared she should
    since so some someone something sometimes still such take taken takes tell tells than that the their them
    themselves then there these they thing things this those though through thus to together told too took
    toward towards under until up upon us use used uses using usually various very was we well went were what
    whatever when where whether which while who whole whom whose why will with within without would yes yet you
    your
    """.split()
)
MONTH = "January|February|March|April|May|June|July|August|September|October|November|December"
EXACT = re.compile(
    rf"""
    [\w.+-]+@[\w-]+(?:\.[\w-]+)+                                                    # e-mail
  | (?:https?://|www\.)[^\s,;]+[\w/]                                                # address on the web
  | \d{{1,2}}(?:st|nd|rd|th)?\ (?:of\ )?(?:{MONTH})(?:,?\ \d{{4}})?                 # 3 March 1971
  | (?:{MONTH})\ \d{{1,2}}(?:st|nd|rd|th)?(?:,?\ \d{{4}})?                          # March 3, 1971
  | \d{{1,4}}[/.-]\d{{1,2}}[/.-]\d{{1,4}}                                           # 03/03/1971
  | \+?\(?\d(?:(?!\.\ )[\d\ ().-]){{6,}}\d                                          # telephone
""",
    re.X,
)
QUOTED = re.compile(r'["“«](.+?)[,.]?["”»]')
CAPITAL = "".join(letter for letter in map(chr, range(0x10000)) if letter.isupper())
NAME = rf"(?<!\w)[{CAPITAL}]\w*(?:['’.-]\w+)*"  # a word that starts with a capital
RUN = re.compile(
    rf"(?:\d[\w,.]*\ )?{NAME}(?:\ (?:(?:of|the|for|de|del|della|di|da|du|la|le|van|von|der|den|al|bin|y)\ )*{NAME})*"
)
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
        if chunk and (match is None or text[last : match.start()] != " " or match[0].lower() in EMPTY):
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
    found, flat = llm.json_of(reply), lambda text: " ".join(text.lower().replace("’", "'").split())
    if not isinstance(found, list) or not all(
        isinstance(entity, str) and entity.strip() and flat(entity) in flat(values["text"]) for entity in found
    ):
        return None
    return list({entity.lower(): entity.strip(" .,;:") or entity for entity in found}.values())


def entities_by_model(texts, args):
    """{text: its entities, or None where no reply was usable}, each text asked for once. An empty one has none."""
    written = sorted({text for text in texts if text.strip()})
    found = llm.ask_for("entities", [{"text": text} for text in written], listed, args)
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
