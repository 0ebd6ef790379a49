"""How answers are judged: the flags that every step with a judge takes, and the judge and entities that they name."""

from argparse import Namespace
from collections.abc import Callable, Iterable

from lib import llm
from lib.entities import entities, entities_by_model
from lib.files import MODELS, REPOSITORY
from lib.flags import Parser
from lib.judge import Judge
from lib.models import model_folder


def add_model_flags(parser: Parser):
    """--embedding and --nli: the models that compare entities and tell whether two texts contradict each other."""
    parser.add_argument(
        "--embedding", default=str(MODELS / "minilm"), help="sentence-embedding model (default: %(default)s)"
    )
    parser.add_argument(
        "--nli",
        default=str(REPOSITORY / "data/nli"),
        help="entailment model: ours, or any three-class folder or hub id (default: %(default)s)",
    )


def add_flags(parser: Parser):
    """All of them: the two models, who finds the entities, and whose verdict counts."""
    parser.add_argument(
        "--entities", choices=("rules", "llm"), default="rules", help="who finds the entities (default: rules, offline)"
    )
    llm.add_judge_flags(parser)
    add_model_flags(parser)
    parser.add_argument(
        "--as-released",
        action="store_true",
        help="let KFR and KRR be the released code's: matched pairs are counted, and with at most 3 reference "
        "entities the forget threshold is 0.5",
    )


def check(args: Namespace) -> tuple[str, str]:
    """(embedding model, entailment model); ends the program where the judge could not work."""
    if args.entities == "llm":
        llm.check_judge_flags(args, "--entities llm")
    return check_models(args)


def check_models(args: Namespace) -> tuple[str, str]:
    return (
        model_folder(args.embedding, f"python scripts/00_models.py --model minilm --out {args.embedding}"),
        model_folder(args.nli, "python eval/00_train_nli.py --help"),
    )


def load_judge(args: Namespace) -> Judge:
    """The judge that the flags name, for `judge`."""
    return Judge(*check(args))


def entity_finder(args: Namespace, texts: Iterable[str]) -> Callable[[str], list[str] | None]:
    """What finds the entities of each of `texts`, for `judge`: rules, or a language model, asked for all at once."""
    return entities if args.entities == "rules" else entities_by_model(texts, args).__getitem__
