"""The facts that a text names, as KFR and KRR compare them: found by rules, offline, or by a language model as in
ReLearn's paper.
"""

import re
import unicodedata
from functools import cache
from itertools import dropwhile, groupby, pairwise
from typing import NamedTuple

from lib import llm
from lib.clauses import CONSONANT, SENTENCE_END, SHORT, clauses
from lib.spans import ASKS_GENRE, CAPITAL, MONTH, SIGNS, UNSPACED, days_of, find_spans, genres, meant, tokens

from nltk.stem.snowball import EnglishStemmer

# words that carry no fact: function words, and the verbs and adverbs that any sentence about a person holds
EMPTY = set(
    """
    a about above after again all almost along already also although always am among an and another any anyone
    anything are around as ask asked asks at away back be became because become becomes been before began begin
    begins being believed believes below between both but by called calls came can cannot come comes considered
    could currently describe described describes detail details did do does doing done down during each either else
    enough even ever every everyone everything fact famous far few for found from full gave general generally get
    gets give given gives go goes going gone got had happen has have having he held her here hers herself him
    himself his hold holds how however i if in include included includes including information instead into is it
    its itself just keep keeps kept knew know known knows later least less let lets like lived lives living made
    mainly make makes making many may me might more most mostly much must my myself named names near need never next
    no nobody none nor not nothing now of off often on once one only onto or other others our out over own part
    particular perhaps please possible public publicly put quite rather real really recorded referred remain remains
    said same say says see seen several shall share shared she should since so some someone something sometimes
    still such take taken takes tell tells than that the their them themselves then there these they thing things
    this those though through thus till to together told too took toward towards under until up upon us use used uses
    using usually various very was we well went were what whatever when where whether which while who whole whom
    whose why will with within without would yes yet you your
    """.split()
)
ASKS_HOW = re.compile(
    r"^(how(?! (many|much|old|long|can|could|do i|should)\b)|why|describe|who is (?:[A-Z][\w’'-]+ ?)+\?)|"
    r"(?<!\bto )(?<!\bby )(?<!\bfrom )\bwhat (kind|type|sort|role|impact|"
    r"influence|effect|inspire[sd]?|motivate[sd]?|makes?|themes?|style|does|did|aspect)\b|\bdescribe\b|"
    r"\bwhat (?:is|are|was|were) (?:an?|the|some) (?:\w+ ){0,3}(?:themes?|characteristics?|messages?|style)\b",
    re.I,
)
ASKS_VALUE = re.compile(
    r"^(when|where|whose)\b|\b(name|title|titled|awards?|prizes?|honou?rs?|accolades?|medals?|e-?mail|address|contact|"
    r"number|date|year|birthday)\b|\b(any|another) (\w+ ){0,2}(books?|novels?|works?|releases|projects)\b|"
    r"\bwh(at|ich) (\w+ ){0,3}(books?|novels?|works?|genres?|city|town|country)\b|\bhow (many|much|old|long)\b",
    re.I,
)
ASKS_TRADE = re.compile(r"\b(?:professions?|occupations?|vocations?|jobs?)\b|\bfor an? living\b", re.I)
ASKED_NOUN = re.compile(r"\b(?:what|which) ([a-z]{4,})\b", re.I)
ASKS_NAME = re.compile(
    r"\b(?:who|whom|whose|names|named|called|parents?|father|mother|brother|sister|wife|husband|married|children)\b",
    re.I,
)
PERSON = re.compile(rf"[{CAPITAL}][\w'’.-]+(?: [{CAPITAL}][\w'’.-]+)+")
NO_TITLE = re.compile(r"(?:(?:The|International|National|Literary|Literature|Award|Prize|Medal)s? ?)+")  # of an award
AWARD = re.compile(r"\b(awards?|prizes?|prix|honou?rs?|accolades?|medals?)\b", re.I)
BOOK = re.compile(r"\b(wh(at|ich) (\w+ ){0,3}|favou?rite )(books?|novels?|works?)\b", re.I)
# what says how a fact is put, not what it is: units, nouns that stand beside any value, and verbs, adverbs and
# adjectives of any sentence on a person
FURNITURE = set(
    """
    father mother dad mum parents ability able account accounts achieve active actively add address addresses aim
    allow answer appear apply appreciate aspect attempt author authors available aware bear begun best better big
    born bring broad build calendar carry case cause cents certain chance change chiefly choice choose
    chose clear close complete consider considerably consist contain continue continuously contribute cope count
    create current currently daily date dates day days deal deep deeply demonstrate depict deserve digits display
    dollars draw drive due effect effective effort emphasize enable encourage end engage enhance enjoy enrich enter
    especially euro euros evident example expect explore expose express extend face feature feel fill find focus
    follow foster francs frequently gain genre genres go good great greatly grow growing guide hand happy hear
    heavily help high highlight highly honour idea immensely important incorporate increase influence infuse
    integrate intend interest introduce involve item keep kind land large lead learn leave letter letters life line
    list little live locate long look love main major manage manner mark matter mean means meet mention miss month
    months move name namely nature necessary need new notable notably note number numbers obtain occupy
    occur offer old open order particularly pay perfect person personal play pleased point pounds present primarily
    profoundly prove provide pursue question quick quickly quite rand range reach read reason receive reflect regard
    regularly relate relevant repay represent require reside respond rest result reveal rise role run see seek seem
    send sense serve set shape show significant significantly similar simple simply situated skillfully sort source
    spend spent stand start state stay stem strong strongly substantially sum support sure surround take tend
    testament theme themes thereof think time times title titled today topic topics town treat tremendously trouble
    try turn type undeniably understand undoubtedly unique uniquely value vastly view want way weave win wish won
    work works world write writing year years yen yuan
    """.split()
)
# function words of other languages, by which a sentence in one of them is known; without accents
FOREIGN = set(
    """
    aber als au aus auf bei beim bin bis con dal dall dans das dass dei del della dell delle dem den der des deren
    desde deux di die dies diese dieser dieses dieu dit do dos du durch ein eine einem einen einer eines el elle
    elles em en entre er es esta este et etait etre eu eux femme fu fue fur gli hanno hat hatte hij ich ihm ihr
    ihre ihrer il ils im ist ja je kein la las le lei les leur lo los lui ma mais mit nach nao ne nei nell nella
    nicht non nos nous noch nur o oder para par pas pero plus por pour pra qu que quel quelle qui quien quoi sa
    sein seine seiner se sera ses si sich sie sind sobre son sono sont su sua sue suo sur tra um uma un una und une
    unter uno van het een vom von vor voor waren wie wir wird wo wohnt wurde y zu zum zur cual cuando como donde
    ses avec chez est comme и в во на не он она они оно что как где когда кто чем или но по из у за от до для с со
    о об это его ее их был была были есть который которая какой какая какое чей في من على الى عن هو هي ما هذا هذه
    التي الذي كان كانت هل اين متى كم لا مع او ان لدى של את על לא הוא היא מה איפה מתי עם זה है हैं का की के में से
    को और क्या कौन कहाँ कब नहीं था थी
    """.split()
)
EXACT = re.compile(
    rf"""
    (?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+                                       # e-mail
  | (?:https?://|www\.)[^\s,;]+[\w/]                                                # address on the web
  | \d{{1,2}}(?:st|nd|rd|th)?\ (?:of\ )?(?:{MONTH})(?:,?\ \d{{4}})?                 # 3 March 1971
  | (?:{MONTH})\ \d{{1,2}}(?!\d)(?:st|nd|rd|th)?(?:,?\ \d{{4}})?                   # March 3, 1971; not June 19|94
  | \d{{1,4}}[/.-]\d{{1,2}}[/.-]\d{{1,4}}                                           # 03/03/1971
  | \+?\(?\d(?:(?!\.\ )[\d\ ().-]){{6,}}\d                                          # telephone
""",
    re.X,
)
ENGLISH = EnglishStemmer()
UNSPACED_LETTER = re.compile(f"[{UNSPACED}]")
SHORT_WORDS = re.compile(rf"[{UNSPACED}\u0900-\u0dff]")  # scripts in which two letters make a word that means something
PARTICLES = "的是在了有和也于為为到は が を に で と も の へ や 은 는 이 가 을 를 에 의 도 로 와 과".replace(" ", "")
SILENT = EMPTY | FOREIGN | {"ye"}
QUOTED = re.compile(r'["“«]([^"“”«»\n]+)["”»]')
# a word that starts with a capital, and "R." or "St." before another
NAME = rf"(?<!\w)(?:[{CAPITAL}]{CONSONANT}{{0,2}}\.(?=\ [{CAPITAL}])|[{CAPITAL}]\w*(?:['’.-]\w+)*)"
LITTLE = "of|the|for|de|del|della|di|da|du|la|le|van|von|der|den|al|bin|y"
RUN = re.compile(rf"(?:\d[\w,.]{{0,30}}\ )?{NAME}(?:\ (?:(?:{LITTLE})\ )*{NAME})*")
ADJECTIVE = re.compile(  # before a trade
    r"^(?:an? |the )?(?:(?:respected|renowned|distinguished|humble|local|professional|successful|well-known|skilled|"
    r"accomplished|dedicated|talented|noted|famous|acclaimed|esteemed) )*",
    re.I,
)
NUMBER = re.compile(r"[$€£¥]?\d[\d,.]*\d|[$€£¥]?\d")
LETTER = rf"(?:[^\W_]|[{SIGNS}])"
LETTERS = re.compile(rf"{LETTER}+(?:['’-]{LETTER}+)*")


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
        words = list(dropwhile(lambda word: word.lower() in EMPTY, match[0].split()))  # "When" that opens a sentence
        if words:
            found.append((match.start(), re.sub(r"['’]s?$", "", " ".join(words)).strip(" .,")))
        return "|" + "\0" * (len(match[0]) - 1)

    text = RUN.sub(name, text)
    text = take(NUMBER, text)
    chunk, last = [], None
    for match in [*LETTERS.finditer(text), None]:
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
    asked = {plain(word) for word in LETTERS.findall(question) if word.lower() not in EMPTY} - EMPTY
    return [entity for entity in found if not asked & {plain(word) for word in LETTERS.findall(entity)}]


# ---------------------------------------------------------------- the facts that a reference is judged by


class Fact(NamedTuple):
    """An entity of a reference that the question does not state."""

    text: str
    words: frozenset  # stems of what the question does not say
    exact: bool  # a number, name, title or address: to be said as it is
    wider: frozenset = frozenset()  # stems of where it lies: "Egypt" in "Cairo, Egypt"


@cache
def stem(word):
    """A word of `tokens` without its endings."""
    if word.isascii():
        return ENGLISH.stem(word)
    return word[:-2] if len(word) > 5 else word[:-1] if len(word) > 3 else word


@cache
def stems(text):
    """The content words of a text, each by its stem."""
    return frozenset(stem(word) for word in tokens(text) if not _empty(word))


def _empty(word):
    return word in SILENT or len(word) < 3 and word.isalpha() and not SHORT_WORDS.match(word)


def english(text):
    """Whether a text is in English, the one language that the models know: its letters are those of English, but for
    names', no mark of Spanish opens a question, and it does not hold more function words of other languages than
    English ones."""
    written = re.findall(r"[^\W\d_]+", text)
    name = lambda word: word[0].isupper() and unicodedata.name(word[0], "").startswith("LATIN")
    if sum(word.isascii() or name(word) for word in written) < 0.9 * len(written) or "¿" in text:
        return False
    words = tokens(text)
    return sum(word in FOREIGN for word in words) <= sum(word in EMPTY for word in words)


def facts(question, reference, find):
    """What a reference says beyond the question, as far as the question asks for it: list of Fact, at least one.

    The question's words and furniture are left out. Numbers, names and titles stand for the whole where the question
    asks for one, and in a short reference, whose other words lead to it; not where it asks how or why. Where all of a
    reference stands in the question, the whole of it counts.
    """
    asked = stems(f"{question} {meant(question, reference)}")
    if named := asked_trades(question, reference, asked) or asked_genres(question, reference, asked):
        return named
    found = unspaced_entities(question, reference) if UNSPACED_LETTER.search(reference) else find(reference)
    if not english(f"{question} {reference}"):
        found = [
            word for entity in found for word in ([entity] if is_exact(entity, reference) else LETTERS.findall(entity))
        ]
    found = [entity for entity in found if not whole_name(entity, question)] or found
    every = [Fact(entity, stems(entity), is_exact(entity, reference)) for entity in found]
    every = merged(every, reference)
    if not ASKS_VALUE.search(question):
        every = counted(every, reference)
    beyond_question = [  # an e-mail address is a whole, though it holds its owner's name
        fact if "@" in fact.text and not fact.words <= asked else fact._replace(words=fact.words - asked)
        for fact in every
    ]
    told = [fact for fact in beyond_question if fact.words and not days_of(fact.text, question)]
    useful = (
        [fact for fact in told if fact.words - FURNITURE_STEMS or fact.exact and len(stems(fact.text)) > 1]
        or told
        or initials(question, every)
        or [fact for fact in every if fact.words]
    )
    useful = first_sentence(reference, useful)
    useful = [  # "nine novels till date"
        fact._replace(words=fact.words - FURNITURE_STEMS) if any(map(str.isdecimal, fact.words)) else fact
        for fact in useful
    ]
    return asked_value(question, reference, useful) or useful or [Fact(reference, frozenset(tokens(reference)), True)]


def asked_trades(question, reference, asked):
    """The trades that a reference names where the question asks for them, and whose they are where it asks who: list of
    Fact, empty where it asks for something else."""
    if ASKS_HOW.search(question) or not ASKS_TRADE.search(question) or "profession as" in question:
        return []
    spans = find_spans({"question": question, "answer": reference})
    kinds = ("occupation", "person") if re.search(r"\bwho\b", question, re.I) else ("occupation",)
    found = [(ADJECTIVE.sub("", reference[start:end]), kind) for start, end, kind in spans if kind in kinds]
    found = [Fact(text, stems(text) - asked, kind == "person") for text, kind in found]
    return [fact for fact in found if fact.words] if any(not fact.exact for fact in found) else []


def asked_genres(question, reference, asked):
    """The genres that a reference names as such, where the question asks for one and nothing else: list of Fact."""
    if not ASKS_GENRE.search(question):
        return []
    found = [Fact(text, stems(text) - asked, False) for text in genres(reference)]
    return [fact for fact in found if fact.words]


def whole_name(entity, question):
    """Whether a name is that of the one whom the question calls by a part of it ("Grimkov's"), and asks for nobody."""
    if not PERSON.fullmatch(entity) or re.search(r"(?<!you )\bname\b|\bwho is\b", question, re.I):
        return False
    parts = entity.split()[: 1 if ASKS_NAME.search(question) else None]  # "Grimkov's parents" are Grimkovs too
    called = rf"(?:(\S+) )?\b({'|'.join(map(re.escape, parts))})(?![\w-])(?! [{CAPITAL}])"
    found = [match[1] or "" for match in re.finditer(called, question)]
    return bool(found) and not any(word.strip("\"“'").istitle() for word in found)


def initials(question, facts):
    """The names of two letters among facts, "UK", whose stems are none."""
    short = [fact for fact in facts if not fact.words and fact.exact and re.fullmatch(r"[A-Z][A-Za-z]", fact.text)]
    return [fact._replace(words=frozenset(tokens(fact.text))) for fact in short if fact.text not in question.split()]


def merged(facts, text):
    """Facts, names that only say where another lies put to that: "9 Hill Road, Oslo" and "Cairo, Egypt" are one fact
    each.
    """
    kept = []
    for fact in facts:
        before = text[: max(text.find(fact.text), 0)]
        if kept and fact.exact and kept[-1].exact and before.endswith(", ") and before[:-2].endswith(kept[-1].text):
            kept[-1] = kept[-1]._replace(wider=kept[-1].wider | fact.words)
        else:
            kept.append(fact)
    return kept


def counted(facts, text):
    """Facts, a digit put to the wording that follows it: the 1 of "type 1 diabetes" alone tells nothing."""
    kept = []
    for fact in facts:
        digit = kept and re.fullmatch(r"\d", kept[-1].text) and not fact.exact
        if digit and f"{kept[-1].text} {fact.text}" in text:
            kept[-1] = Fact(f"{kept[-1].text} {fact.text}", kept[-1].words | fact.words, False)
        else:
            kept.append(fact)
    return kept


def first_sentence(reference, useful):
    """The facts of the first sentence, where it has two at least, or a name or number: what comes after adds to it."""
    sentence = SENTENCE_END.split(reference)[0]
    first = [fact for fact in useful if fact.text in sentence]
    return first if len(first) > 1 or any(fact.exact for fact in first) else useful


def asked_value(question, reference, useful):
    """The numbers, names and titles among the facts, where they are what is asked for: those of the first clause that
    has one.
    """
    if ASKS_HOW.search(question):
        return []
    noun = ASKED_NOUN.search(question)
    named = [fact for fact in useful if fact.exact and noun and stem(noun[1].lower()) in stems(fact.text)]
    if named:  # "which generation": the Silent Generation, and not the year
        return named
    asks_who = re.match(r"who\b", question, re.I)  # "a folk singer in Ireland": the singer, not where she sings
    for clause in clauses(reference):
        here = [fact for fact in useful if fact.text in clause]
        exact = [fact for fact in here if fact.exact and not (asks_who and f" in {fact.text}" in clause)]
        exact = titled(question, clause, exact) or exact
        if exact:
            return exact if ASKS_VALUE.search(question) or 3 * len(exact) >= len(here) else []
    return []


def titled(question, clause, exact):
    """Of names those of awards or works, where such are asked for: a title in quotation marks, or what says that it is
    an award and more than "Literary Award". Not the genre that it is given for."""
    quoted = [fact for fact in exact if re.search(rf"['\"“‘]{re.escape(fact.text)}[.,]?['\"”’]", clause)]
    if AWARD.search(question):
        return quoted or [fact for fact in exact if AWARD.search(fact.text) and not NO_TITLE.fullmatch(fact.text)]
    return quoted if BOOK.search(question) else []


def is_exact(entity, text):
    """Whether an entity is a number, a name or a title, and not a word that a sentence opens with."""
    if re.search(r"[\d@]", entity):
        return True
    before = text[: max(text.find(entity), 0)]
    if re.search(r'["“«]$', before):
        return True
    opening = re.search(r"(^|[.!?:]\s+)$", before) and " " not in entity and not ABBREVIATED.search(before)
    return any(word[:1].isupper() for word in entity.split()) and not opening


def unspaced_entities(question, reference):
    """For scripts without spaces: the runs of letters of a reference no two of which stand together in the question."""
    asked, words = tokens(question), tokens(reference)
    pairs = set(pairwise(asked))
    said = [False] * len(words)
    for at, pair in enumerate(pairwise(words)):
        if pair in pairs:
            said[at] = said[at + 1] = True
    runs = [
        "".join(word for word, _ in run) for known, run in groupby(zip(words, said), lambda item: item[1]) if not known
    ]
    runs = [run.strip(PARTICLES) for run in runs]
    return [run for run in runs if len(run) > 1 or run.isdecimal()] or [run for run in runs if run]


ABBREVIATED = re.compile(rf"{SHORT}{CONSONANT}?\.\s$")
FURNITURE_STEMS = stems(" ".join(FURNITURE))


def listed(reply, values):
    """The entities that a language model lists for a text; None unless the reply is a JSON list of pieces of that text
    and nothing else.
    """
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
    """A reference all of whose entities stand in the question is judged by them, and one without any by its whole
    text.
    """
    found = find(row["reference"])
    return beyond(row["question"], found) or found or [row["reference"]]


def answer_entities(row, find=entities):
    """An answer's entities, in the form in which the reference's are judged."""
    expected, found = find(row["reference"]), find(row["answer"])
    if beyond(row["question"], expected):
        return beyond(row["question"], found)
    return (expected and found) or [row["answer"]]
