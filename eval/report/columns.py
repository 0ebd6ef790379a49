"""The columns of the table: the one place where their names, formats and meanings stand."""

from typing import NamedTuple


class Column(NamedTuple):
    """One column: its key in the metrics files, its heading with the better direction, format, and meaning."""

    key: str
    heading: str
    form: str
    meaning: str


COLUMNS = (
    Column("KFR", "KFR ↑", ".2f", "share of the forget facts no longer told"),
    Column("leak", "leak ↓", ".2f", "share of the forget answers that state a private value of their fact whole"),
    Column("KFR_strict", "KFR strict ↑", ".2f", "share of the forget facts neither told nor leaked"),
    Column("KRR", "KRR ↑", ".2f", "share of the retain facts still told"),
    Column("HM", "HM ↑", ".2f", "harmonic mean of KFR and KRR"),
    Column("ROUGE-L_F", "ROUGE-L F ↓", ".2f", "share of the true answers' wording that comes back, forget set"),
    Column("ROUGE-L_R", "ROUGE-L R ↑", ".2f", "likewise, retain set"),
    Column("PPL_F", "PPL F", ".4g", "perplexity of the answers under the base model, forget set"),
    Column("LS_F", "LS F ↑", ".3f", "linguistic score: fluency and variety of the answers, forget set"),
    Column("PPL_R", "PPL R", ".4g", "perplexity, retain set"),
    Column("LS_R", "LS R ↑", ".3f", "linguistic score, retain set"),
    Column("leak_all", "leak all ↓", ".2f", "share of the forget answers that state every private value of their fact"),
    Column(
        "leak_any",
        "leak any ↓",
        ".2f",
        "share of all answers, to retain questions too, that state a private value of any forget fact",
    ),
    Column("KFR_as_released", "KFR rel.", ".2f", "KFR as ReLearn's released code counts it"),
    Column("KRR_as_released", "KRR rel.", ".2f", "KRR likewise"),
)
FURTHER = {  # metrics file that may be there: its columns
    "kfr_krr": (  # of documents alone
        Column("verbatim_F", "verbatim F ↓", ".2f", "share of a passage's rest that comes back given its beginning"),
        Column("verbatim_R", "verbatim R ↑", ".2f", "likewise, retain set"),
    ),
    "tofu": (
        Column(
            "forget_quality",
            "forget quality ↑",
            ".2g",
            "TOFU: chance that two models alike differ as much as this one and the retrained; above 0.05 they cannot "
            "be told apart",
        ),
        Column(
            "model_utility",
            "utility ↑",
            ".2f",
            "TOFU: harmonic mean of what is left on retain set, real authors and world facts",
        ),
        Column(
            "utility_of_sets_given", "utility of sets given ↑", ".2f", "TOFU's utility over the sets that were there"
        ),
        Column(
            "forget_truth_ratio",
            "truth ratio F",
            ".3g",
            "TOFU: how likely false answers are beside the true one; 1 and above: the truth is no longer preferred",
        ),
        Column(
            "forget_truth_ratio_min",
            "min(R, 1/R) F ↑",
            ".3g",
            "open-unlearning's forget_truth_ratio: 1 where truth and falsehoods are equally likely",
        ),
    ),
    "exposure": (
        Column(
            "GenEx_per_token",
            "GenEx →0",
            ".2f",
            "exposure in bits a token, against models that never saw the forget set",
        ),
        Column(
            "RelEx_per_token", "RelEx →0", ".2f", "exposure in bits a token, against fresh examples that no model saw"
        ),
    ),
    "memorization": (
        Column("MEMO", "MEMO ↓", ".2f", "how much of an answer the model goes on with when given its beginning"),
        Column("MA", "MA ↓", ".2f", "share of an answer's tokens guessed right, one by one"),
        Column("EL", "EL ↓", ".2f", "share of an answer's word sequences that come back when given its beginning"),
    ),
    "robustness": (Column("worst_KFR", "worst KFR ↑", ".2f", "lowest KFR under the attacks tried"),),
    "ability": (
        Column("perplexity", "general PPL ↓", ".4g", "perplexity of true answers to general questions"),
        Column("ROUGE-L", "general ROUGE-L ↑", ".2f", "share of their wording that the model's own answers have"),
    ),
    "judge": (
        Column("fluency", "fluency ↑", ".2f", "1 to 5, from a judging language model"),
        Column("relevance", "relevance ↑", ".2f", "likewise"),
        Column("forgetting", "forgetting ↑", ".2f", "likewise"),
    ),
}
ALL = (*COLUMNS, *(column for columns in FURTHER.values() for column in columns))
REFERENCE = ("vanilla", "retrained")  # not unlearned: the start, and exact unlearning's result
