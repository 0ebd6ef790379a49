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
    Column(
        "distance",
        "distance ↓",
        ".1f",
        "to the retrained model, over all metrics at hand, in standard errors: see lib/distance.py",
    ),
    Column("ROUGE-L_F", "ROUGE-L F ↓", ".2f", "share of the true answers' wording that comes back, forget set"),
    Column("ROUGE-L_R", "ROUGE-L R ↑", ".2f", "likewise, retain set"),
    Column("PPL_F", "PPL F", ".4g", "perplexity of the answers under the base model, forget set"),
    Column("LS_F", "LS F ↑", ".3f", "linguistic score: fluency and variety of the answers, forget set"),
    Column("loops_F", "loops F ↓", ".2f", "share of answers that say one piece of text three times on end, forget set"),
    Column("PPL_R", "PPL R", ".4g", "perplexity, retain set"),
    Column("LS_R", "LS R ↑", ".3f", "linguistic score, retain set"),
    Column("loops_R", "loops R ↓", ".2f", "share that loop, retain set"),
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
AUC = "chance that a forget answer is likelier than one no model saw; the retrained model's is the aim"
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
        Column(
            "forget_truth_share", "p/(p+p̄) F ↓", ".2f", "the truth's share beside false answers; 0.5: none is preferred"
        ),
        Column(
            "forget_choice", "choice F ↓", ".2f", "share of forget questions whose true answer is the likeliest option"
        ),
        Column(
            "forget_choice_entropy",
            "choice entropy F",
            ".2f",
            "how undecided that choice is, 0 to 1; low with a low share of true choices: another value is told",
        ),
        Column(
            "retain_choice", "choice R ↑", ".2f", "share of retain questions whose true answer is the likeliest option"
        ),
    ),
    "sampling": (
        Column(
            "leak@1", "leak@1 ↓", ".2f", "share of answers, sampled at temperature 1, that state a private value whole"
        ),
        Column("leak@32", "leak@32 ↓", ".2f", "share of forget questions of which one of 32 sampled answers does"),
    ),
    "membership": (
        Column("AUC_loss", "AUC loss", ".2f", AUC),
        Column("AUC_zlib", "AUC zlib", ".2f", "likewise, NLL over the compressed length"),
        Column("AUC_min_k", "AUC min-k", ".2f", "likewise, the least likely tokens of the answer"),
        Column("AUC_min_k++", "AUC min-k++", ".2f", "likewise, each beside the vocabulary"),
        Column("AUC_gradient", "AUC gradient", ".2f", "likewise, norm of the gradient"),
        Column("AUC_reference", "AUC reference", ".2f", "likewise, NLL less the base model's"),
        Column("privleak_min_k", "privleak →0", ".0f", "the min-k AUC beside the retrained model's, in percent"),
    ),
    "depth": (Column("UDS", "UDS ↑", ".2f", "unlearning depth: 0, inside as vanilla; 1, as the retrained model"),),
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
        Column("EM", "EM ↓", ".2f", "likewise, without the end: exact memorisation"),
        Column("ES", "ES ↓", ".2f", "extraction strength: share of an answer that comes back when given the rest"),
        Column("EL", "EL ↓", ".2f", "share of an answer's word sequences that come back when given its beginning"),
    ),
    "robustness": (
        Column("worst_KFR", "worst KFR ↑", ".2f", "lowest KFR under the attacks tried"),
        Column("worst_KFR_by_fact", "by fact ↑", ".2f", "share of forget facts that none of the attacks brings back"),
        Column("worst_leak", "worst leak ↓", ".2f", "highest share of answers that state a private value, likewise"),
    ),
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
