"""What the evaluation scripts ask of a language model: log-probabilities of answers and greedy continuations, both batched.

Also what several of them compute from these: exposure, in bits, and the reading of question-answer pairs.
"""
import json
import math
import os
from pathlib import Path

from measure import fail, progress


# ---------------------------------------------------------------- pairs

def read_rows(path):
    """Yields ("file:line" or "file: object n", object) of a JSON Lines file, or of a JSON file that holds one list."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{path}: {error.strerror if isinstance(error, OSError) else 'not UTF-8 text'}")
    whole = text.lstrip().startswith("[")
    rows = [(1, text)] if whole else [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    for number, line in rows:
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            fail(f"{path}:{number + error.lineno - 1}: not valid JSON ({error.msg})")
        for at, value in enumerate(row if whole else [row], 1):
            place = f"{path}: object {at}" if whole else f"{path}:{number}"
            if not isinstance(value, dict):
                fail(f"{place}: expected an object, found {type(value).__name__}")
            yield place, value


def text_of(place, row, field):
    """A field of a row that must be a text with something in it."""
    if not isinstance(row.get(field), str) or not row[field].strip():
        fail(f'{place}: field "{field}" must be a non-empty text (fields found: {", ".join(row) or "none"})')
    return row[field]


def texts_of(place, row, field):
    """A field of a row that must be a list of such texts, at least one."""
    if not isinstance(row.get(field), list) or not row[field] or not all(isinstance(text, str) and text.strip() for text in row[field]):
        fail(f'{place}: field "{field}" must be a list of at least one non-empty text (fields found: {", ".join(row) or "none"})')
    return row[field]


def read_pairs(path):
    """Question-answer pairs, in TOFU's names or KnowUnDo's ({"text", "labels"}); other fields stay, "place" says file and line."""
    pairs = []
    for place, row in read_rows(path):
        row = {{"text": "question", "labels": "answer"}.get(name, name): value for name, value in row.items()}
        pairs.append({**row, "question": text_of(place, row, "question"), "answer": text_of(place, row, "answer"), "place": place})
    return pairs or fail(f"{path}: holds no question-answer pair")


def read_items(path):
    """(question, answer) pairs of a file, as written; a row may hold one answer or a list."""
    pairs = []
    for place, row in read_rows(path):
        row = {{"text": "question", "labels": "answer"}.get(name, name): value for name, value in row.items()}
        found = texts_of(place, row, "answers") if "answers" in row else [text_of(place, row, "answer")]
        pairs += [(text_of(place, row, "question"), answer) for answer in found]
    return pairs or fail(f"{path}: holds no question-answer pair")


# ---------------------------------------------------------------- the model

def model_names(folders, names=()):
    """What the models are called in a table: `names`, or else their folders' own; no two alike."""
    if names and len(names) != len(folders):
        fail(f"{len(folders)} --models need as many --names, not {len(names)}")
    names = list(names) or [Path(folder).resolve().name for folder in folders]
    if len(set(names)) < len(names) or not all(Path(name).name == name for name in names):
        fail(f"the models' names must be different from each other and without a slash; give --names (now {', '.join(names)})")
    return names


def quick():
    """bfloat16 where the hardware multiplies in it, else float32."""
    import torch
    able = torch.cpu.get_capabilities()
    return torch.bfloat16 if torch.cuda.is_available() or able.get("amx_bf16") or able.get("avx512_bf16") else torch.float32


def load(folder, dtype=None):
    """A model folder (full weights, or a PEFT adapter with its base) or hub id → (model on the device, tokenizer); safetensors only.

    dtype: of the weights; float32 on a CPU and bfloat16 on a GPU where none is given.
    """
    import torch
    import transformers
    transformers.utils.logging.disable_progress_bar()
    adapter = Path(folder, "adapter_config.json")
    try:
        base = json.loads(adapter.read_text())["base_model_name_or_path"] if adapter.is_file() else str(folder)
        if base.count("/") != 1 and not os.path.isdir(base):
            fail(f"{folder}: its base model {base} is not there (paths in an adapter count from the repository's folder)")
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            base, use_safetensors=True, trust_remote_code=False,
            dtype=dtype or (torch.bfloat16 if torch.cuda.is_available() else torch.float32))
        if base != str(folder):
            from peft import PeftModel
            model = PeftModel.from_pretrained(model, folder)
    except (OSError, ValueError, KeyError) as error:
        fail(f"cannot load a model from {folder}: {str(error).strip().splitlines()[0]}")
    if tokenizer.chat_template is None:
        fail(f"{folder}: the tokenizer has no chat template; make the folder with 00_models.py --chat-template NAME")
    # a prompt's last position alone: from a slice of the states a CPU's matmul copies the whole matrix for every row
    model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer


def prompt_text(tokenizer, *turns):
    """What stands before the answer, in the format that the model's folder carries: a question, or what user and assistant say by turns."""
    messages = [{"role": ("user", "assistant")[at % 2], "content": turn} for at, turn in enumerate(turns)]
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def with_answer(prompt, answer):
    """Prompt and answer as one text: "[INST] question [/INST]" leaves the space between them to the answer, if there is one."""
    if not answer:
        return prompt
    return prompt + ("" if prompt[-1:].isspace() else " ") + answer


def encode(tokenizer, question, answer):
    """(token ids of prompt, answer and end of sequence; number of prompt tokens)."""
    prompt = prompt_text(tokenizer, question)
    encoded = tokenizer(with_answer(prompt, answer), add_special_tokens=False, return_offsets_mapping=True)
    return encoded["input_ids"] + [tokenizer.eos_token_id], sum(end <= len(prompt) for _, end in encoded["offset_mapping"])


def answer_logprobs(pairs, model, tokenizer, batch):
    """Scores answers given their questions, right-padded in batches of like length.

    Args:
        pairs: list of (question, answer).
    Returns:
        a list, in the order of pairs, of (log-probabilities in nats, whether the token is also the likeliest one), each
        (answer tokens,), end of sequence included.
    """
    import torch
    import torch.nn.functional as F
    encoded, result = [encode(tokenizer, *pair) for pair in pairs], {}
    order = sorted(range(len(pairs)), key=lambda at: len(encoded[at][0]))
    for at in progress(range(0, len(order), batch), desc="answers scored", unit="batch"):
        part = order[at:at + batch]
        ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(encoded[row][0]) for row in part], batch_first=True).to(model.device)
        first = min(encoded[row][1] for row in part)  # no logits for tokens that are prompt in every row
        with torch.inference_mode():
            logits = model(input_ids=ids, use_cache=False, logits_to_keep=ids.shape[1] - first + 1).logits[:, :-1].float()
        logprobs = -F.cross_entropy(logits.transpose(1, 2), ids[:, first:], reduction="none").cpu()  # (rows, positions)
        likeliest = (logits.argmax(-1) == ids[:, first:]).cpu()
        for row, values, hits in zip(part, logprobs, likeliest, strict=True):
            tokens, prompt = encoded[row]
            result[row] = values[prompt - first:len(tokens) - first], hits[prompt - first:len(tokens) - first]
    return [result[row] for row in range(len(pairs))]


def common(one, other):
    """How many tokens two lists share from the start."""
    return next((at for at, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))


def read_prompts(rows, model):
    """Reads a batch of prompts but for their last tokens; a part that several share, as an answer's prefixes do, once.

    Returns:
        (the last tokens, left-padded (rows, length); mask (rows, tokens read + length) of the places that are no padding; the last
        tokens' positions; keys and values of the tokens read).
    """
    import torch
    from transformers import DynamicCache
    stems, found = [], {}
    for row in sorted(rows, key=len, reverse=True):
        shared = [common(row, stem) for stem in stems]
        if not stems or len(row) - max(shared) > 8:  # so many tokens at the end of a prompt may be its own: a cut word's, say
            stems, shared = [*stems, row], [*shared, len(row)]
        found[row] = shared.index(max(shared)), min(max(shared), len(row) - 1)
    cache = DynamicCache(config=model.config)
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(stem) for stem in stems], batch_first=True).to(model.device)
    model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)  # right-padded: nothing looks at the padding
    cache.batch_select_indices(torch.tensor([found[row][0] for row in rows], device=model.device))
    known = [found[row][1] for row in rows]
    width = max(len(row) - count for row, count in zip(rows, known, strict=True))
    last = [row[count:] for row, count in zip(rows, known, strict=True)]
    blank = [width - len(tokens) for tokens in last]
    mask = [[1] * count + [0] * (ids.shape[1] - count + empty) + [1] * (width - empty) for count, empty in zip(known, blank, strict=True)]
    positions = [[0] * empty + list(range(count, count + width - empty)) for count, empty in zip(known, blank, strict=True)]
    inputs = [[0] * empty + list(tokens) for empty, tokens in zip(blank, last, strict=True)]
    return (*(torch.tensor(values, device=model.device) for values in (inputs, mask, positions)), cache)


def continuations(prompts, limits, model, tokenizer, batch):
    """Greedy continuations, in batches that keep keys and values. Equal prompts are continued once, shared beginnings read once, and
    a row that is done leaves its batch, so that the longest continuation costs one row and not the whole batch.

    Args:
        prompts: list of token-id lists, none empty.
        limits: at most so many new tokens, one number a prompt.
    Returns:
        list of token-id lists, in the order of prompts, without the end of sequence.
    """
    import torch
    longest = {}
    for prompt, limit in zip(prompts, limits, strict=True):
        longest[tuple(prompt)] = max(limit, longest.get(tuple(prompt), 0))
    result = {prompt: [] for prompt in longest}
    order = sorted(prompt for prompt, limit in longest.items() if limit)  # those with a beginning in common stand together
    for at in progress(range(0, len(order), batch), desc="continuations", unit="batch", disable=len(order) <= batch):
        rows = order[at:at + batch]
        with torch.inference_mode():
            ids, mask, positions, cache = read_prompts(rows, model)
            while rows:
                logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True,
                               logits_to_keep=1).logits[:, -1]
                tokens, going = logits.argmax(-1), []
                for row, token in enumerate(tokens.tolist()):
                    if token != tokenizer.eos_token_id:
                        result[rows[row]].append(token)
                        if len(result[rows[row]]) < longest[rows[row]]:
                            going.append(row)
                if len(going) < len(rows):
                    rows, keep = [rows[row] for row in going], torch.tensor(going, device=model.device, dtype=torch.long)
                    tokens, mask, positions = tokens[keep], mask[keep], positions[keep]
                    if rows:
                        cache.batch_select_indices(keep)
                ids, positions = tokens[:, None], positions[:, -1:] + 1
                mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
    return [result[tuple(prompt)][:limit] for prompt, limit in zip(prompts, limits, strict=True)]


def continued(texts, model, tokenizer, batch, max_new_tokens):
    """Greedy continuations of texts that are prompts already, as texts."""
    prompts = tokenizer(texts, add_special_tokens=False)["input_ids"]
    tokens = continuations(prompts, [max_new_tokens] * len(prompts), model, tokenizer, batch)
    return [text.strip() for text in tokenizer.batch_decode(tokens, skip_special_tokens=True)]


def answers(questions, model, tokenizer, batch, max_new_tokens):
    """Greedy answers to questions, as texts."""
    return continued([prompt_text(tokenizer, question) for question in questions], model, tokenizer, batch, max_new_tokens)


# ---------------------------------------------------------------- exposure

def log_mean_exp(values):
    """log of the mean of exp(values), without overflow."""
    top = max(values)
    return top + math.log(math.fsum(math.exp(value - top) for value in values) / len(values)) if math.isfinite(top) else top


def generalized_exposure(unlearned, reference):
    """GenEx(x) = log E_u[p(x|θ_u)] - log E_r[p(x|θ_r)] (Baluta et al. 2024, arXiv:2411.04388), in bits; near 0: unlearned.

    The expectations are means over seeds; the reference models never saw the forget set. The paper's text was not at hand:
    this is the definition as its reviews give it.

    Args:
        unlearned, reference: log p(x) in nats, a number a seed; divided by the answer's tokens for the length-normalised form.
    """
    return (log_mean_exp(unlearned) - log_mean_exp(reference)) / math.log(2)


def relative_exposure(logprob, fresh):
    """RelEx(x) = log p(x|θ_u) - log mean_z p(z|θ_u) (Baluta et al. 2024, arXiv:2411.04388), in bits; near 0: unlearned.

    z runs over fresh examples of x's distribution that no model saw, so no reference model is needed. The paper's text was not
    at hand: this is the definition as its reviews give it. Raw, the mean is ruled by the shortest z; compare normalised values.

    Args:
        logprob: log p(x|θ_u) in nats. fresh: log p(z|θ_u) in nats, a number a z. Both divided by the answer's tokens, or neither.
    """
    return (logprob - log_mean_exp(fresh)) / math.log(2)
