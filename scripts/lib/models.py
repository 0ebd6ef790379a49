"""Model folders: loading them, their prompt format, and pairs as tokens.

A model folder is in the Hugging Face layout, safetensors only: full weights, or a PEFT adapter that names its base. It
carries its prompt format as the tokenizer's chat template.
"""

import contextlib
import datetime
import os
import re
import sys
from pathlib import Path

from lib import hub, lora, parallel
from lib.files import base_model, fail, read_object, real_path, writing
from lib.formats import given_of, turns_of

import jinja2
import torch
import transformers
from peft import PeftModel

HOW = "python scripts/02_finetune.py --help"
DATE = datetime.date(
    2024, 7, 26
)  # for templates that ask for today's: the one that Llama 3.2's takes where there is no clock


def pick_device():
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pick_dtype(name):
    """`auto` is bfloat16 where the hardware multiplies in it; elsewhere it would be emulated, 4× slower than
    float32.
    """
    if name != "auto":
        if name not in ("bfloat16", "float16", "float32"):
            fail(f"--dtype must be auto, bfloat16, float16 or float32, not {name}")
        return getattr(torch, name)
    if torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = torch.cpu.get_capabilities()
        fast = able.get("amx_bf16") or able.get("avx512_bf16")
    return torch.bfloat16 if fast else torch.float32


def stored_dtype(path):
    """The --dtype that a model folder's weights have on disk, of an adapter those of its base."""
    base = hub.folder(base_model(hub.folder(model_folder(path))))
    with loading(path):
        found = transformers.AutoConfig.from_pretrained(base, trust_remote_code=False).dtype
    return str(found or torch.float32).removeprefix("torch.")


def exact_dtype():
    """The --dtype of what merges an adapter to measure it: float32, but on a GPU that multiplies in bfloat16 that."""
    return "auto" if torch.cuda.is_available() else "float32"


def model_folder(path, how=HOW):
    """Checks that a model is there, before anything slow begins. A hub id (owner/name) is let through.

    Args:
        how: the command that makes it, for the fault's line.
    """
    if Path(path).is_dir() or hub.is_id(path):
        return str(path)
    fail(f"{path}: no such model folder; make it with: {how}")


def model_names(folders, names=()):
    """What the models are called in a table: `names`, or else their folders' own; no two alike."""
    if names and len(names) != len(folders):
        fail(f"{len(folders)} --models need as many --names, not {len(names)}")
    names = list(names) or [real_path(folder).name for folder in folders]
    if len(set(names)) < len(names) or not all(Path(name).name == name for name in names):
        fail(
            f"the models' names must be different from each other and without a slash; give --names (now "
            f"{', '.join(names)})"
        )
    return names


def load_model(path, dtype="auto", shard="ddp"):
    """Loads a model folder (full weights, or a PEFT adapter with its base) or a hub id, safetensors only.

    Returns:
        (model on the device, with several processes shared out as `shard` says; tokenizer). The tokenizer's chat
        template is the model's prompt format, and the model's generation_config is greedy and holds all of the model's
        own end tokens.
    """
    model, tokenizer = read_model(path, dtype)
    return parallel.place(model, pick_device(), shard), tokenizer


def is_adapter(name):
    """Whether a model folder, or what a hub id names, is an adapter."""
    return Path(hub.folder(name), "adapter_config.json").is_file()


@contextlib.contextmanager
def loading(path):
    """What a library cannot load is the folder's fault, whatever it raises: one line that names the folder."""
    try:
        yield
    except Exception as error:
        fail(f"cannot load a model from {path}: {(str(error).strip() or repr(error)).splitlines()[0]}")


def fixed_date(template):
    """A chat template that asks for today's date with DATE in its place: the prompt would be another every day, in
    training, in a continued training and in evaluation."""
    if isinstance(template, dict):
        return {name: fixed_date(text) for name, text in template.items()}
    found = r"strftime_now\(\s*(['\"])(.*?)\1\s*\)"
    template = re.sub(found, lambda match: f'"{DATE.strftime(match[2])}"', template or "") or None
    if template and "strftime_now(" in template:
        fail("the chat template asks for the date (strftime_now) in a way not understood: give another --chat-template")
    return template


def read_model(path, dtype="auto"):
    """(model in host memory, tokenizer): each of several processes reads all of it there."""
    transformers.utils.logging.disable_progress_bar()
    given, path = path, hub.folder(model_folder(path))
    base = base_model(path)
    if not Path(base).is_dir() and os.sep in base and not hub.is_id(base):
        fail(f"{base}: no such model folder, but the base of {given}: change base_model_name_or_path there")
    named, base = given if base == path else base, hub.folder(base)
    for file in (
        Path(folder, f"{name}.json")
        for folder in {str(path), base}
        for name in ("config", "tokenizer_config", "generation_config", "special_tokens_map")
    ):
        if file.is_file():
            read_object(file)
    if base != str(path) and not Path(path, "adapter_model.safetensors").is_file():
        fail(f"{path}: an adapter needs adapter_model.safetensors (pickled weights are not loaded)")
    with loading(path):
        own = any(Path(path, name).is_file() for name in ("tokenizer.json", "tokenizer_config.json"))
        tokenizer = transformers.AutoTokenizer.from_pretrained(  # an adapter that was published alone has its base's
            path if own else base,
            trust_remote_code=False,  # None would ask on standard input
        )
        model = transformers.AutoModelForCausalLM.from_pretrained(
            base, dtype=pick_dtype(dtype), use_safetensors=True, trust_remote_code=False
        )
        model.name_or_path = str(named)  # what an adapter trained on it calls its base: a hub id, no place in a cache
        if base != str(path):
            with lora.without_warning():
                model = lora.hasten(PeftModel.from_pretrained(model, path))
    if not tokenizer.is_fast:
        fail(f"{path}: a tokenizer without tokenizer.json does not tell where its tokens stand, and is not taken")
    if tokenizer.chat_template is None:
        fail(f"{path}: the tokenizer has no chat template; make the folder with 00_models.py --chat-template NAME")
    tokenizer.chat_template = fixed_date(tokenizer.chat_template)
    try:
        if "ZQ" not in prompt_text(tokenizer, "ZQ"):
            fail(f"{path}: its chat template leaves the question out; give another with 00_models.py --chat-template")
    except (jinja2.TemplateError, TypeError) as error:
        fail(
            f"{path}: its chat template does not work ({str(error).splitlines()[0]}); see 00_models.py --chat-template"
        )
    if tokenizer.eos_token_id is None:
        fail(f"{path}: the tokenizer has no end-of-sequence token (eos_token in tokenizer_config.json)")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    rows, last = (
        model.get_input_embeddings().num_embeddings,
        max(tokenizer.get_vocab().items(), key=lambda item: item[1]),
    )
    if last[1] >= rows:
        fail(f"{path}: its tokenizer has tokens up to number {last[1]} ({last[0]!r}), its embedding only {rows} rows")
    tokenizer.positions = position_limit(model)
    model.config.pad_token_id = tokenizer.pad_token_id
    # the folder's own generation settings must not decide how methods are compared; its end tokens all end an answer
    own = model.generation_config.eos_token_id
    ends = {tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])} - {None}
    model.generation_config = transformers.GenerationConfig(
        pad_token_id=tokenizer.pad_token_id, eos_token_id=sorted(ends)
    )
    # a prompt's last position alone, as `generate` asks for it: from a slice a CPU's matmul copies the whole matrix
    # for every row
    model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))
    return model, tokenizer


def position_limit(model):
    """Tokens that a model can read which looks positions up in a table (GPT-2, OPT, GPT-J); None: any number."""
    config = model.config.get_text_config()
    if getattr(config, "rope_parameters", None):
        return None
    return getattr(config, "max_position_embeddings", None) or getattr(config, "max_seq_len", None)


def check_weights(model, folder, hint="use a lower --lr or --alpha"):
    """Ends the program before weights that are no numbers are written: of an adapter its own, else all."""
    adapter = hasattr(model, "peft_config")
    for name, weights in model.named_parameters():
        if (not adapter or "lora_" in name) and not bool(weights.isfinite().all()):
            fail(f"{folder}: {name} holds weights that are no numbers; not written: {hint}")


def save_model(model, tokenizer, folder):
    """Writes a model folder: full weights, or only the trained adapter. Weights that are no numbers are refused.

    An adapter names its base by its full path, so that peft finds it from wherever it is loaded.
    """
    adapter = hasattr(model, "peft_config")
    check_weights(model, folder)
    for config in model.peft_config.values() if adapter else ():
        config.target_modules = sorted(config.target_modules)  # a set, whose order would differ from run to run
        if Path(config.base_model_name_or_path or "").is_dir():
            config.base_model_name_or_path = str(Path(config.base_model_name_or_path).absolute())
    with writing(folder):
        model.save_pretrained(folder, **({"selected_adapters": ["default"]} if adapter else {}))
        tokenizer.save_pretrained(folder)


def prompt_text(tokenizer, *turns):
    """What stands before the answer, in the format that the model's folder carries.

    Args:
        turns: a question, or what user and assistant say by turns. A question may be a conversation, whose system text
        opens the user's first turn, or the beginning of a passage, which no format surrounds (formats.py).
    """
    if len(turns) == 1 and (given := given_of(turns[0])) is not None:
        return (tokenizer.bos_token or tokenizer.eos_token) + (given and f" {given}")  # the blank of `with_answer`
    said = turns_of(turns[0]) if len(turns) == 1 else [(("user", "assistant")[at % 2], t) for at, t in enumerate(turns)]
    if said[0][0] == "system":
        said = [("user", f"{said[0][1]}\n\n{said[1][1]}"), *said[2:]]
    messages = [{"role": role, "content": text} for role, text in said]
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except jinja2.TemplateError as error:
        if len(turns) > 1 or len(said) == 1:
            raise
        fail(f"the model's chat template takes no conversation ({error}): {said[-1][1][:60]!r}")


def with_answer(prompt, answer):
    """Prompt and answer as one text: "[INST] question [/INST]" leaves the space between them to the answer, if there
    is one.
    """
    if not answer:
        return prompt
    return prompt + ("" if prompt[-1:].isspace() else " ") + answer


def encode_text(tokenizer, prompt, answer):
    """Tokens of a prompt and of what follows it. The prompt's are those that generation starts from, whatever follows.

    Returns:
        (token ids, number of prompt tokens, the ids' (start, end) in the text of `with_answer`).
    """
    text = with_answer(prompt, answer)
    alone = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    whole = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, places = whole["input_ids"], whole["offset_mapping"]
    if ids[: len(alone)] == alone and (not alone or places[len(alone) - 1][1] <= len(prompt)):
        return ids, len(alone), places
    # the tokenizer joins the prompt's end with the answer's beginning: apart, they are what the model meets when it
    # answers
    rest = tokenizer(text[len(prompt) :], add_special_tokens=False, return_offsets_mapping=True)
    places = tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"] + [
        (start + len(prompt), end + len(prompt)) for start, end in rest["offset_mapping"]
    ]
    return alone + rest["input_ids"], len(alone), places


def blocks_of(model):
    """A model's blocks, first to last, as one ModuleList; a model where they are not found ends the program."""
    stacks = (part for part in model.modules() if isinstance(part, torch.nn.ModuleList))
    blocks = next((part for part in stacks if len(part) == model.config.get_text_config().num_hidden_layers), None)
    return fail(f"{model.config.model_type}: its blocks were not found") if blocks is None else blocks


def encode(tokenizer, question, answer, max_length=None):
    """Tokens of one pair.

    Returns:
        (token ids, number of prompt tokens); the ids end with the end-of-sequence token unless `max_length` cuts them.
    """
    ids, prompt_tokens, _ = encode_text(tokenizer, prompt_text(tokenizer, question), answer)
    ids, limit = [*ids, tokenizer.eos_token_id], room(tokenizer, max_length)
    if limit and prompt_tokens >= limit:
        fail(
            f"a question of {prompt_tokens} tokens leaves no room for an answer: "
            + (f"raise --max-length {max_length}" if limit == max_length else f"the model has {limit} positions")
            + f" ({question[:60]!r})"
        )
    return ids[:limit], prompt_tokens


def room(tokenizer, max_length=None):
    """Tokens of a pair that are kept: --max-length, or the model's positions where those are fewer; None: all."""
    return min(filter(None, (max_length, getattr(tokenizer, "positions", None))), default=None)


def leaves_room(tokenizer, question, max_length=None):
    """Would `encode` take a question, with an answer to it?"""
    limit = room(tokenizer, max_length)
    return not limit or len(tokenizer(prompt_text(tokenizer, question), add_special_tokens=False)["input_ids"]) < limit


def encode_pairs(tokenizer, pairs, max_length=None, what="pairs", say=print):
    """Tokens of pairs of (question, answer), and what was cut of them, which is said.

    Returns:
        (list as of `encode`; {}, or {"answers": how many lost their end, "of": pairs, "max_length": that for all}).
    """
    rows, limit = [encode(tokenizer, *pair, max_length) for pair in pairs], room(tokenizer, max_length)
    full = [at for at, (ids, _) in enumerate(rows) if len(ids) == limit]
    lengths = [1 + len(encode_text(tokenizer, prompt_text(tokenizer, pairs[at][0]), pairs[at][1])[0]) for at in full]
    longer = [length for length in lengths if length > limit]
    if not longer:
        return rows, {}
    hint = (
        f"the model has no more than {limit} positions"
        if limit != max_length
        else f"--max-length {max(longer)} would hold all"
    )
    say(
        f"{what}: {len(longer)} of {len(pairs)} answers are cut at {limit} tokens and lose their end: {hint}",
        file=sys.stderr,
    )
    return rows, {"answers": len(longer), "of": len(pairs), "max_length": max(longer)}
