"""ROUGE by the library, in any script: its own tokenizer keeps a-z and 0-9 alone."""

import re
import unicodedata

from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer

UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)  # Japanese, Chinese
WORD = re.compile(rf"(?=\w)[{UNSPACED}]|[^\W_{UNSPACED}]+")  # where blanks part no words, each character is one


def foreign(text):
    """Whether a letter of it is not Latin; ª, µ and the phonetic marks below U+0370 pass as Latin."""
    return any(
        letter > "\u036f" and letter.isalpha() and "LATIN" not in unicodedata.name(letter, "LATIN") for letter in text
    )


def rouge_scorer(kind):
    """The library's scorer of one kind ("rouge1", "rougeL"), with words stemmed, that also reads scripts other than
    Latin.

    Its own tokenizer keeps a-z and 0-9 alone: of a Cyrillic or Chinese answer nothing, which would look like perfect
    forgetting. Texts whose letters are all Latin go through it unchanged; in other texts, words in other scripts are
    kept, lower-case and without marks.
    """
    own = DefaultTokenizer(use_stemmer=True)

    class Tokenizer:
        def tokenize(self, text):
            text = text.lower()
            if not foreign(text):
                return own.tokenize(text)
            text = "".join(
                letter for letter in unicodedata.normalize("NFC", text) if unicodedata.category(letter)[0] != "M"
            )
            return [
                token
                for word in WORD.findall(text)
                for token in ([word] if foreign(word) or word.isnumeric() else own.tokenize(word))
            ]  # numbers: other digits than 0-9

    return RougeScorer([kind], tokenizer=Tokenizer())
