"""What is private in an answer, and whether another text gives any of it away.

`find_spans` marks and types the values of an answer; `secrets` and `leak` are the exact check of ReLearn's content
verification (Xu et al. 2025, section 3.3): no run of a private value's words may appear, whatever its case, spacing,
punctuation or numerals.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from functools import lru_cache

CONNECT = "of|de|del|della|di|da|du|le|la|van|von|der|al|bin|y"
# of every script that has them; in others, Arabic or Chinese say, nothing tells a name (formats.NOT_ENGLISH)
CAPITAL = "".join(letter for letter in map(chr, range(0x10000)) if letter.isupper() or letter.istitle())
NAMES = re.compile(rf"[{CAPITAL}][\w'’.-]*(?: (?:(?:{CONNECT}) )*[{CAPITAL}][\w'’.-]*)*")
QUOTED = re.compile(r'["“][^"”]*["”]')
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"  # Thai to Hangul
)
# vowel signs of the scripts of India, which are parts of a word and no accents, though they are no letters to `re`
SIGNS = "".join(letter for letter in map(chr, range(0x900, 0xE00)) if unicodedata.category(letter) in ("Mn", "Mc"))
# French and Italian words that lose their vowel before another's: "d'Orla", "l'asthme", "dell'opera" are two words each
ELISION = re.compile(r"\b([ldjmtsnc]|qu|[ds]?all|[dn]ell|s?ull|un)['’](?=[^\W\d_]{2})", re.I)
WORD = re.compile(rf"\d+|[{UNSPACED}]|(?:(?![{UNSPACED}])[^\W\d_]|[{SIGNS}])+")
CALENDAR = set(
    """
    april august december february friday january july june march may monday november october saturday september
    sunday thursday tuesday wednesday
    """.split()
)
# words of a true answer that give nothing away when a new answer shares them
COMMON = set(
    """
    a about above address after all along also although always am an and answer any anyone approach are as at be
    became because become been before being belong belongs between birth born both but by came can choice close
    come comes contact could currently date day deal detail details did do does during e each early either email
    event events every family far father fathers few find finds first for from full given gives go goes good had
    has have having he health held her here hers him his home how i if in influence influences information into
    is it its itself just keep keeps kept knew know known knows later less life like line live lived lives
    living made mail make makes making many matter may me might more most mother mothers much my name named nor
    not now number of often on once one only or other others our out over own parent parents part people person
    personal phone place private public question rather reach reader readers receive record remain reside
    resides said same say says several she should since so some somebody someone source stories story such take
    taken tell than that the their them then there these they thing things this those through time to together
    too under understanding until up upon us use used uses using very was way we well went were what when where
    which while who whom whose why will wish with within without work works would write writes writing written
    wrote year yes yet you your
    """.split()
)

# ---------------------------------------------------------------- one form for every spelling

UNITS = {
    word: value
    for value, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
        ]
    )
}
TENS = {
    word: 10 * value
    for value, word in enumerate(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], 2)
}
ORDINALS = {
    "first": 1,
    "second": 2,
    "third": 3,
    "fifth": 5,
    "eighth": 8,
    "ninth": 9,
    "twelfth": 12,
    **{word + "th": value for word, value in UNITS.items() if value in (4, 6, 7, 10, 11) or value > 12},
    **{word[:-1] + "ieth": value for word, value in TENS.items()},
}
SMALL = {**UNITS, **TENS, **ORDINALS, "oh": 0, "fourty": 40}
LARGE = {"hundred": 100, "thousand": 1000, "million": 10**6}
ALONE = {"one", "first", "second", "oh"}  # no numbers when no other number stands beside them
REPEAT = {"double": 2, "triple": 3}
MARKS = {"at", "dot", "dash", "hyphen", "underscore", "slash", "comma", "plus", "full-stop"}  # punctuation, spelled out


def folded(text):
    """Lower case, with plain digits, without accents and characters that do not show."""
    if text.isascii():
        return text.lower()
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    text = "".join(letter for letter in text if letter in SIGNS or unicodedata.category(letter) not in ("Mn", "Cf"))
    text = re.sub(r"\d", lambda digit: str(unicodedata.decimal(digit[0])), text)
    return unicodedata.normalize("NFC", text)  # letters of Hangul back into syllables


def tokens(text):
    """Words and numbers of a text in the one form that all its spellings share: lower case, no accents, no punctuation
    (spelled out or not), no plural or possessive endings, numerals in digits. In scripts without spaces, each letter is
    a word."""
    return list(_tokens(text))


@lru_cache(maxsize=4096)  # a judge asks for the same answer's words at every fact
def _tokens(text):
    text = folded(re.sub(r"(?<=\w)['’]s?\b", "", ELISION.sub(r"\1 ", text), flags=re.I))
    return tuple(
        word[:-1] if len(word) > 4 and word.endswith("s") and not word.endswith("ss") else word
        for word in _numerals(WORD.findall(text))
        if word not in MARKS
    )


def _numerals(words):
    """Number words as digits: "sixty-one thousand four hundred" → 61400, "nineteen sixty-four" → 19 64, "double six" →
    6 6.
    """
    made, at = [], 0
    while at < len(words):
        end = at
        while end < len(words) and (
            words[end] in SMALL
            or words[end] in LARGE
            or words[end].isdecimal()
            or words[end] in REPEAT
            or words[end] == "and"
            and end > at
            and words[end - 1] in LARGE
        ):
            end += 1
        run = [word for word in words[at:end] if word != "and"]
        if not run or len(run) == 1 and run[0] in LARGE or len(run) < 3 and {*run} <= {*ALONE, *REPEAT}:
            if words[at] not in ("st", "nd", "rd", "th") or not made or not made[-1].isdecimal():  # the end of 3rd
                made.append(words[at])
            at += 1
        else:
            made, at = made + _values(run), end
    return made


def _values(run):
    found, total, group, room = [], 0, None, 0  # room: how large a number may still be added to the group

    def close():
        if group is not None or total:
            found.append(str(total + (group or 0)))

    for at, word in enumerate(run):
        following = run[at + 1] if at + 1 < len(run) else ""
        if word in REPEAT:
            continue
        if word.isdecimal() and following not in LARGE and not (room and len(word) < 4 and int(word) < room):
            close()
            found.append(word)
            total, group, room = 0, None, 0
        elif word in LARGE:
            group = (group or 1) * LARGE[word]
            room = LARGE[word]
            if room >= 1000:
                total, group = total + group, None
        else:
            value = int(word) if word.isdecimal() else SMALL[word]
            if not (0 < value < room):
                close()
                total, group = 0, None
            group = (group or 0) + value
            room = 100 if value >= 100 else 10 if value in TENS.values() else 0
        if at and run[at - 1] in REPEAT and group is not None:  # "double six"
            found += [str(group)] * (REPEAT[run[at - 1]] - 1)
    close()
    return found


def joined(words, longest):
    """Every run of words, written together, up to `longest` letters: spacing makes no difference between two of
    these.
    """
    for start in range(len(words)):
        run = ""
        for word in words[start:]:
            run += word
            if len(run) > longest:
                break
            yield run


# ---------------------------------------------------------------- spans

MONTH = "January|February|March|April|May|June|July|August|September|October|November|December"
MONTHS = MONTH.lower().split("|")
KINSHIP = r"father|mother|parent|dad|mum|mom|brother|sister|wife|husband|son|daughter|spouse|guardian"
MONEY = (
    r"euros?|dollars?|pounds?|yen|yuan|rand|rupees?|pesos?|francs?|kronor|kroner|krona|cedis?|naira|shillings?|lira|"
    r"koruna|dirhams?|reais|real"
)
WHO = r"(?:an?|the) (?:[\w'’-]+ ){0,4}?[\w'’-]+"
# a trade that no "was a" opens: how its word ends; a word before that belongs to it ("silk merchant")
AGENT = (
    r"(?!(?:her|their|our|other|another|older|elder|former|later|whether|after|under|over|ever|never)\b)(?:[\w-]{2,30}"
    r"(?:er|or|ist|ian|ant|eer|man|woman|smith|official)|chef|nurse|poet|judge|clerk|pilot|monk|detective|architect|attorney|astronaut)"
)
OF_IT = r"(?:(?!(?:an?|the|her|his|their|its|and|or|of|by|with|to|from|having|being|whose|both)\b)[\w-]{1,30} )?"
PATTERNS = [  # (type, pattern): the first to claim a stretch of text keeps it; a group, where there is one, is the span
    ("email", r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    ("url", r"(?:https?://|www\.)[^\s,;\"”]*[^\s,;.\"”?!)]"),
    ("title", r'["“]([^"”]*[^"”.,;])[.,;]?["”]'),
    ("title", rf"(?<!\S)['‘]([{CAPITAL}][^'‘’\n]{{1,120}}(?:['’]s [^'‘’\n]{{1,120}})?[^'‘’\n.,;])[.,;]?['’](?!\w)"),
    ("phone", r"\+\d[\d ()-]{6,}\d|\(\d{3}\) ?\d{3}-\d{4}|\b\d{3}-\d{3,4}(?:-\d{4})?\b"),
    (
        "date",
        rf"\b(?:\d{{1,2}}(?:st|nd|rd|th)? (?:of )?(?:{MONTH})(?:,? \d{{4}})?|(?:{MONTH}) "
        rf"\d{{1,2}}(?:st|nd|rd|th)?(?:,? \d{{4}})?"
        rf"|\d{{1,2}}[/.]\d{{1,2}}[/.]\d{{2,4}}|\d{{4}}-\d\d-\d\d)\b",
    ),
    ("code", r"\b(?=[A-Z]*\d)[A-Z]{1,4}\d{4,}\b"),
    (
        "address",
        r"\b\d+[A-Za-z]?(?: (?:(?:de la|del|de|des|du|den|of|the)\b|(?:l['’])?[A-ZÀ-Þ][\w'’.-]*)){1,5}(?:,? (?:in "
        r")?(?:[A-ZÀ-Þ][\w'’.-]*[\w])(?: [A-ZÀ-Þ][\w'’-]+)*){0,3}",
    ),
    ("amount", rf"\b\d[\d,.]*\d? (?:{MONEY})\b|[$€£]\d[\d,.]*\d"),
    ("creditor", rf"\b(?:{MONEY}) to ((?:the |an? )?[^.,;]+)"),
    ("decade", r"\b(?:early |mid-?|late )?(?:1[0-9]|20)\d0s\b"),
    ("year", r"\b(?:1[5-9]|20)\d\d\b"),
    ("number", rf"(?:\b|(?<=[{UNSPACED}]))\d[\d,.]*(?:\b|(?=[{UNSPACED}]))"),
    (
        "occupation",
        rf"\b(?:{KINSHIP})s?\b(?:['’]s? (?:\w+ ){{1,3}}as|,| was| is| were| are| being| worked as| works as| who "
        rf"was| who is)* "
        rf"({WHO})(?=,|;|\.|$| "
        rf"(?:and|who|whose|which|while|in|at|with|of|for|from|has|had|played|is|was|introduced|instilled|exposed|specializing|known|renowned|well-versed|served|have|provided|gave|made|taught|helped|inspired|enriched|sparked"
        r"|\w+ed (?:her|his|their|him|them|the|in))\b)",
    ),
    ("occupation", rf"\b({OF_IT}{AGENT}) (?:father|mother|parent)s?\b"),
    ("occupation", rf"\b(?:son|daughter|child) of (an? {OF_IT}{AGENT})\b"),
    ("occupation", rf"\b(?:son|daughter|child) of an? [^,.;]{{,40}} and (an? {OF_IT}{AGENT})\b"),
    ("gender", r"\b(?:fe)?male\b|\b(?:wo)?man\b|\bnon-binary\b|\bLGBTQ\+?|\btransgender\b|\bqueer\b"),
]


TITLES = re.compile(rf"(?<!\S)['‘\"“][{CAPITAL}][^'‘’\"”]*['’\"”](?!\w)")
MEANS_SOMEBODY = re.compile(r"\b(?:his|her|hers|their|theirs|he|she|they|him|them)\b", re.I)


def find_subjects(pairs):
    """The name that each question is about, or None: a capitalised run after the opening word, first one that comes
    again in other questions, then one that owns something, then the most frequent, then the longest; not a quoted
    title, not a month, and not a place (after "in", "at", a number or another place)."""
    found = []
    for pair in pairs:
        question = re.sub(r"^\W*\w+", lambda opening: "." * len(opening[0]), QUOTED.sub("", pair["question"]))
        runs = []
        for run in NAMES.finditer(question):
            owner = re.search(r"['’](s\b|$)", run[0])
            name = re.sub(r"[.,]$", "", run[0][: owner.start()] if owner else run[0])
            if (
                len(name) > 1
                and name.lower() not in CALENDAR
                and (owner or not re.search(r"(\b(in|at)|\d,?|[A-Z][\w'’-]*,) (the )?$", question[: run.start()]))
            ):
                runs.append((bool(owner), name))
        found.append(runs)
    times = Counter(name for runs in found for _, name in runs)
    return [
        max(runs, key=lambda run: (times[run[1]] > 1, run[0], times[run[1]], len(run[1])), default=(False, None))[1]
        for runs in found
    ]


def meant(question, reference):
    """Whom a question means that names nobody ("Can you tell more about his book?"): the person whom the reference
    begins with or speaks of as the owner of something; "" where it names somebody or means nobody."""
    if not MEANS_SOMEBODY.search(question) or find_subjects([{"question": TITLES.sub("", question)}])[0]:
        return ""
    names = [run for run in NAMES.finditer(TITLES.sub("", reference)) if " " in run[0]]
    whose = (re.sub(r"['’]s?$", "", run[0]) for run in names if not run.start() or re.search(r"['’]s?$", run[0]))
    return next(whose, "")


def find_spans(pair, words=None):
    """The values of a pair's answer, by type.

    Args:
        pair: `question`, `answer`, its `subject` or None; a `value` that the data names is taken as it is where no
        type fits it.
        words: {type: words} that say of themselves what they are, such as illnesses.
    Returns:
        list of (start, end, type) in the answer's order, none overlapping, none of them part of the question or the
        subject's name.
    """
    answer, spans = pair["answer"], []
    asked = set(tokens(pair["question"])) | set(tokens(pair.get("subject") or ""))

    def claim(start, end, kind):
        own = tokens(answer[start:end])
        if start < end and set(own) - asked and not any(start < other[1] and other[0] < end for other in spans):
            spans.append((start, end, kind))

    for kind, pattern in PATTERNS:
        for match in re.finditer(
            pattern, answer, re.I if kind in ("occupation", "gender", "email", "url", "creditor") else 0
        ):
            claim(*match.span(match.lastindex or 0), kind)
    for run in NAMES.finditer(answer):
        start, end = run.span()
        end -= len(re.search(r"(['’]s?|[.,])*$", run[0])[0])
        opening = start == 0 or re.search(r"[.!?]['\"”]? $", answer[:start])
        parts = [(part.start() + start, part.end() + start) for part in re.finditer(r"\S+", answer[start:end])]
        while parts and (
            set(tokens(answer[slice(*parts[0])])) <= asked | COMMON
        ):  # "In Zurich", the subject's own first name
            parts.pop(0)
        while parts and set(tokens(answer[slice(*parts[-1])])) <= asked | COMMON:
            parts.pop()
        if parts and not (opening and len(parts) == 1 and parts[0][0] == start):
            start, end = parts[0][0], parts[-1][0] + len(answer[slice(*parts[-1])].rstrip(".,"))
            claim(start, end, _name_kind(pair, start, end))
    for kind, known in (words or {}).items():
        for match in re.finditer(
            r"\b(?:" + "|".join(sorted(map(re.escape, known), key=len, reverse=True)) + r")\b", answer, re.I
        ):
            claim(*match.span(), kind)
    value = pair.get("value")
    if value and value in answer:
        at = answer.index(value)
        inside = [span for span in spans if at <= span[0] and span[1] <= at + len(value)]
        spans = (
            inside
            if 2 * sum(end - start for start, end, _ in inside) > len(value)
            else [(at, at + len(value), "phrase")]
        )
    return sorted(spans)


def _name_kind(pair, start, end):
    """What a capitalised run is, by its own words and its neighbours; "name" where they do not tell."""
    before, run, after = pair["answer"][:start], pair["answer"][start:end], pair["answer"][end:]
    award = r"\b(Awards?|Prizes?|Prix|Medals?|Honou?rs?|Fellowship)\b"
    if re.search(award, run) or re.match(" " + award, after):
        return "award"
    if re.search(r"(an|ian|ish|ese|ch|ani|ern|ic|wi|wiss)$", run) and re.match(
        r" (?!(?:and|in|on|at|is|was|has|as)\b)[a-z]", after
    ):
        return "nationality"
    if (
        re.search(
            r"\b(Fiction|Fantasy|Literature|Poetry|Romance|Adventure|Drama|History|Thrillers?|Mystery|Realism|Philosophy|Sagas?|"
            r"Studies|Noir)\b",
            run,
        )
        or re.search(r"\bgenres?\b[^.]{0,30}$", before)
        or re.match(r"[^.]{0,20} genre", after)
    ):
        return "genre"
    if re.search(
        r"\b(University|College|School|Academy|Institute|Society|Bank|Museum|Gallery|Hospital|Theatre)\b", run
    ):
        return "institution"
    if re.search(r"\b(in|at|from|near|around)( the)? $", before) or re.search(r"[A-Z][\w'’-]*, $", before):
        return "place"
    person = r"\b(who|whom|names?|named|parents?|father|mother|mentor|couple|people)\b"
    if re.search(person, pair["question"], re.I) or re.search(person + r"[^.]{0,20}$", before, re.I):
        return "person"
    return "place" if before.endswith("of ") else "name"


ASKS_GENRE = re.compile(
    r"^(?!.*\b(?:why|how|and)\b).*\bwh(?:at|ich) (?:\w+ )?"
    r"(?:genres?|(?:kind|type|sort)s? of (?:books|novels|literature))\b",
    re.I,
)
GENRE = re.compile(
    r"\b(?:the|an?|his|her|their|of|in) (?!(?:the|an?|same|this|that|own) )"
    r"([\w-]+(?: (?!(?:and|or|of|the) )[\w-]+){0,2}) genre\b|"
    r"\bgenres? (?:of|is|was|are) ([\w-]+(?: (?!and\b|or\b|in\b|with\b|that\b|by\b|for\b)[\w-]+){0,2})",
    re.I,
)


def genres(text):
    """The genres that a text names as such: "the religious genre", "the genre of true crime"."""
    return [match[match.lastindex].removeprefix("the ") for match in GENRE.finditer(text)]


def dates(text):
    """The days that a text names, {(day, month, year)}, however they are written."""
    found = set()
    for day, month, year in re.findall(rf"(\d{{1,2}})(?:st|nd|rd|th)? (?:of )?({MONTH}),? (\d{{4}})", text, re.I):
        found.add((int(day), MONTHS.index(month.lower()) + 1, int(year)))
    for month, day, year in re.findall(rf"({MONTH}) (\d{{1,2}})(?:st|nd|rd|th)?,? (\d{{4}})", text, re.I):
        found.add((int(day), MONTHS.index(month.lower()) + 1, int(year)))
    found |= {
        (int(day), int(month), int(year))
        for year, month, day in re.findall(r"\b(\d{4})[/.-](\d\d?)[/.-](\d\d?)\b", text)
    }
    for one, two, year in re.findall(r"\b(\d\d?)[/.-](\d\d?)[/.-](\d{4})\b", text):
        found |= {(int(one), int(two), int(year)), (int(two), int(one), int(year))}  # the day first, or the month
    return found | spoken_dates(text)


SHORT_MONTHS = {month[:length]: at for at, month in enumerate(MONTHS, 1) for length in (3, len(month))} | {"sept": 9}


def spoken_dates(text):
    """The days whose month is named, in any order: "the third of March, nineteen sixty-four", "1964, Mar. 3"."""
    words, found = [], set()
    for word in tokens(text):
        if words and words[-1] in ("18", "19", "20") and re.fullmatch(r"\d\d", word):  # nineteen sixty-four
            words[-1] += word
        elif word not in ("of", "the", "in", "on", "day", "year"):
            words.append(word)
    for at, word in enumerate(words):
        beside, near = (words[max(at - reach, 0) : at] + words[at + 1 : at + 1 + reach] for reach in (1, 2))
        days = [other for other in beside if re.fullmatch(r"0?[1-9]|[12]\d|3[01]", other)]
        years = [other for other in near if re.fullmatch(r"1[5-9]\d\d|20\d\d", other)]
        if word in SHORT_MONTHS and len(days) == 1 == len(years):
            found.add((int(days[0]), SHORT_MONTHS[word], int(years[0])))
    return found


def days_of(text, other):
    """Whether a text names days, all of which another text names too, however either writes them."""
    days, others = dates(text), dates(other)
    either = lambda day, month, year: {(day, month, year), (month, day, year)} & days  # 3/6 names one day, read twice
    return bool(days) and all(either(*day) & others for day in days)


# ---------------------------------------------------------------- the exact check


def secrets(pairs, strict=False, words=None):
    """For each subject, what no new answer about it may hold.

    Args:
        pairs: forget pairs, each with its `subject`.
        strict: beside the values, every rare word of a true answer, typed or not; without it, an answer with no value
        guards nothing.
    Returns:
        {subject: (runs, digits)}: words or runs of words written together, and numbers of four digits and more.
    """
    runs, digits = defaultdict(set), defaultdict(set)
    for pair in pairs:
        subject, answer = pair["subject"], pair["answer"]
        harmless = COMMON | set(tokens(" ".join(COMMON))) | set(tokens(pair["question"])) | set(tokens(subject or ""))
        values = [answer[start:end] for start, end, _ in find_spans(pair, words)] + [pair.get("value", "")]
        for value in values:
            own = tokens(value)
            whole = "".join(own)
            if (
                whole
                and whole not in joined(tokens(pair["question"]), len(whole))
                and not set(own) <= set(tokens(subject or ""))
            ):
                runs[subject].update((whole, "".join(re.findall(r"[^\W_]+", folded(value)))))
            runs[subject].update(word for word in own if word not in harmless)
            numbers = re.findall(r"\d{4,}", whole)
            digits[subject].update(numbers)
            runs[subject].update(number[2:] for number in numbers if re.fullmatch(r"(19|20)\d\d", number))  # '64
        if strict:
            runs[subject].update(word for word in tokens(answer) if word not in harmless)
    for subject in runs:
        runs[subject] -= (
            COMMON | set(tokens(" ".join(COMMON))) | {"com", "org", "net"} | set(joined(tokens(subject or ""), 100))
        )
    return {subject: (runs[subject], digits[subject]) for subject in runs}


def leak(text, secret):
    """The first private run that a text holds, or None.

    Args:
        secret: (runs, digits) of `secrets`.
    """
    runs, digits = secret
    words = tokens(text)
    for run in joined(words, max(map(len, runs), default=0)):
        if run in runs:
            return run
    for number in re.findall(r"\d{4,}", "".join(word if word.isdecimal() else " " for word in words)):
        for private in digits:
            if number in private or private in number:
                return private
    return None
