"""Model folders: loading them, their prompt format, and pairs as tokens.

A model folder is in the Hugging Face layout, safetensors only: full weights, or a PEFT adapter that names its base. It carries its
prompt format as the tokenizer's chat template.
"""

import os
from pathlib import Path

from lib import lora, parallel
from lib.files import fail, read_object

import torch
import transformers
from peft import PeftModel

HOW = "python scripts/02_finetune.py --help"


def pick_device():
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pick_dtype(name):
    """`auto` is bfloat16 where the hardware multiplies in it; elsewhere it would be emulated, 4× slower than float32."""
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


def exact_dtype():
    """The --dtype in which log-probabilities are compared: float32, but on a GPU that multiplies in bfloat16 that."""
    return "auto" if torch.cuda.is_available() else "float32"


def model_folder(path, how=HOW):
    """Checks that a model is there, before anything slow begins. A hub id (owner/name) is let through.

    Args:
        how: the command that makes it, for the fault's line.
    """
    if Path(path).is_dir() or (str(path).count("/") == 1 and not str(path).startswith(".")):
        return str(path)
    fail(f"{path}: no such model folder; make it with: {how}")


def model_names(folders, names=()):
    """What the models are called in a table: `names`, or else their folders' own; no two alike."""
    if names and len(names) != len(folders):
        fail(f"{len(folders)} --models need as many --names, not {len(names)}")
    names = list(names) or [Path(folder).resolve().name for folder in folders]
    if len(set(names)) < len(names) or not all(Path(name).name == name for name in names):
        fail(
            f"the models' names must be different from each other and without a slash; give --names (now {', '.join(names)})"
        )
    return names


def base_model(path):
    """Whose weights are loaded for a model folder or hub id: an adapter's base, or its own."""
    adapter = Path(path, "adapter_config.json")
    if not adapter.is_file():
        return str(path)
    base = read_object(adapter).get("base_model_name_or_path")
    return base if base and isinstance(base, str) else fail(f"{adapter}: names no base model (base_model_name_or_path)")


def load_model(path, dtype="auto", shard="ddp"):
    """Loads a model folder (full weights, or a PEFT adapter with its base) or a hub id, safetensors only.

    Returns:
        (model on the device, with several processes shared out as `shard` says; tokenizer). The tokenizer's chat template is the
        model's prompt format, and the model's generation_config is greedy and holds all of the model's own end tokens.
    """
    model, tokenizer = read_model(path, dtype)
    return parallel.place(model, pick_device(), shard), tokenizer


def read_model(path, dtype="auto"):
    """(model in host memory, tokenizer): each of several processes reads all of it there."""
    transformers.utils.logging.disable_progress_bar()
    base = base_model(path)
    for name in {str(path), base}:
        if (os.sep in name or name.startswith(".")) and name.count("/") != 1 and not Path(name).is_dir():
            fail(
                f"{name}: no such model folder (make it first, or give another --model; paths in an adapter count from where the "
                "command is given)"
            )
    if base != str(path) and not Path(path, "adapter_model.safetensors").is_file():
        fail(f"{path}: an adapter needs adapter_model.safetensors (pickled weights are not loaded)")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            path, trust_remote_code=False
        )  # None would ask on standard input
        model = transformers.AutoModelForCausalLM.from_pretrained(
            base, dtype=pick_dtype(dtype), use_safetensors=True, trust_remote_code=False
        )
        if base != str(path):
            with lora.without_warning():
                model = lora.hasten(PeftModel.from_pretrained(model, path))
    except (OSError, ValueError, KeyError) as error:
        fail(f"cannot load a model from {path}: {str(error).strip().splitlines()[0]}")
    if tokenizer.chat_template is None:
        fail(f"{path}: the tokenizer has no chat template; make the folder with 00_models.py --chat-template NAME")
    if tokenizer.eos_token_id is None:
        fail(f"{path}: the tokenizer has no end-of-sequence token (eos_token in tokenizer_config.json)")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    # the folder's own generation settings must not decide how methods are compared; its end tokens all end an answer
    own = model.generation_config.eos_token_id
    ends = {tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])} - {None}
    model.generation_config = transformers.GenerationConfig(
        pad_token_id=tokenizer.pad_token_id, eos_token_id=sorted(ends)
    )
    # a prompt's last position alone, as `generate` asks for it: from a slice a CPU's matmul copies the whole matrix for every row
    model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))
    return model, tokenizer


def save_model(model, tokenizer, folder):
    """Writes a model folder: full weights, or only the adapter that was trained."""
    if hasattr(model, "peft_config"):
        for config in model.peft_config.values():  # a set, whose order would differ from run to run
            config.target_modules = sorted(config.target_modules)
        model.save_pretrained(folder, selected_adapters=["default"])
    else:
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def prompt_text(tokenizer, *turns):
    """What stands before the answer, in the format that the model's folder carries.

    Args:
        turns: a question, or what user and assistant say by turns.
    """
    messages = [{"role": ("user", "assistant")[at % 2], "content": turn} for at, turn in enumerate(turns)]
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def with_answer(prompt, answer):
    """Prompt and answer as one text: "[INST] question [/INST]" leaves the space between them to the answer, if there is one."""
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
    if ids[: len(alone)] == alone:
        return ids, len(alone), places
    # the tokenizer joins the prompt's end with the answer's beginning: apart, they are what the model meets when it answers
    rest = tokenizer(text[len(prompt) :], add_special_tokens=False, return_offsets_mapping=True)
    places = tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"] + [
        (start + len(prompt), end + len(prompt)) for start, end in rest["offset_mapping"]
    ]
    return alone + rest["input_ids"], len(alone), places


def encode(tokenizer, question, answer, max_length=None):
    """Tokens of one pair.

    Returns:
        (token ids, number of prompt tokens); the ids end with the end-of-sequence token unless `max_length` cuts them.
    """
    ids, prompt_tokens, _ = encode_text(tokenizer, prompt_text(tokenizer, question), answer)
    ids = [*ids, tokenizer.eos_token_id]
    if max_length is None:
        return ids, prompt_tokens
    if prompt_tokens >= max_length:
        fail(
            f"a question of {prompt_tokens} tokens leaves no room for an answer: raise --max-length {max_length} "
            f"({question[:60]!r})"
        )
    return ids[:max_length], prompt_tokens
