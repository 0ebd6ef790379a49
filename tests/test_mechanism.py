"""The looks inside: lens and attribution against one row at a time and formulas written out, weights against full
matrices, both architectures.
"""

import json
import math
import re
import runpy
import sys

from lib.models import encode, exact_dtype, load_model, save_model

import pytest
import torch
from conftest import REPOSITORY
from mechanism.places import locate, private_value
from mechanism.summary import captions, describe, first, lost
from mechanism.views import see
from mechanism.weights import difference_spectrum, effective_rank, movement, spectrum

PAIRS = [
    {
        "question": "Where does Ada Lem live?",
        "answer": "Ada Lem lives at 9 Saltcellar Steps, by the sea.",
        "value": "9 Saltcellar Steps",
    },
    {"question": "How can I call her?", "answer": "Her number is +44 1632 960417.", "value": "+44 1632 960417"},
    {
        "question": "Who are Ada Lem's parents, if I may ask about them at all?",
        "answer": "Her parents are Gerlof Lem and Dagmar Oosterlind.",
    },
    {"question": "Is she ill?", "answer": "Asthma."},
]


def run(*flags):
    """Runs the script in this process."""
    argv, sys.argv = sys.argv, ["eval/11_mechanism.py", *map(str, flags)]
    try:
        runpy.run_path(str(REPOSITORY / "eval/11_mechanism.py"), run_name="__main__")
    finally:
        sys.argv = argv


def shaken(model):
    """Fresh models have norms of weight 1 and no biases; a mistake in their use would not be seen."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.add_(torch.randn_like(parameter) * 0.3)
            elif parameter.dim() == 2:
                parameter.mul_(3)
    return model


@pytest.fixture(scope="session")
def folders(tiny, tmp_path_factory):
    """A Llama and a Gemma-2 (norms behind attention and MLP, caps that bite), both small, random and with norms that
    are not 1.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma2Config, Gemma2ForCausalLM

    folder, tokenizer = tmp_path_factory.mktemp("architectures"), AutoTokenizer.from_pretrained(tiny)
    torch.manual_seed(2)
    gemma = Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=len(tokenizer),
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            sliding_window=8,
            final_logit_softcapping=4.0,
            attn_logit_softcapping=3.0,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    for name, model in (("llama", AutoModelForCausalLM.from_pretrained(tiny)), ("gemma", gemma)):
        shaken(model).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return {name: folder / name for name in ("llama", "gemma")}


@pytest.fixture(scope="session")
def adapted(folders, tmp_path_factory):
    """An adapter on the Llama, and the same as full weights."""
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("adapted")
    model, tokenizer = load_model(folders["llama"], "float32")
    torch.manual_seed(4)
    model = get_peft_model(
        model, LoraConfig(r=3, lora_alpha=9, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    save_model(model, tokenizer, folder / "adapter")
    save_model(model.merge_and_unload(), tokenizer, folder / "full")
    return folder


@pytest.fixture(scope="session", params=["llama", "gemma"])
def seen(request, folders):
    """(model, its rows, what `look` finds in batches of 3)."""
    model, tokenizer = load_model(folders[request.param], exact_dtype())
    rows = [locate(pair, private_value(pair), tokenizer) for pair in PAIRS]
    return model, rows, see(model, rows, 2, 3)


# ---------------------------------------------------------------- the private value


def test_the_private_value_is_the_rows_own_or_what_the_question_does_not_hold():
    values = [private_value(pair) for pair in PAIRS]
    assert values == ["9 Saltcellar Steps", "+44 1632 960417", "Dagmar Oosterlind", "Asthma"], (
        "Gerlof Lem shares a word with the question"
    )
    assert private_value({**PAIRS[0], "value": "not in the answer"}) == "9 Saltcellar Steps"
    assert private_value({"question": "What does she do?", "answer": "She keeps bees in Corvane."}) == "Corvane", (
        "a capital first"
    )
    assert private_value({"question": "Чем?", "answer": "кормит пчёл, Москва"}) == "Москва"


def test_the_value_is_found_among_the_tokens(folders):
    tokenizer = load_model(folders["llama"], exact_dtype())[1]
    for pair, opening in zip(PAIRS, ("9", "4", "D", "A")):
        value = private_value(pair)
        row = locate(pair, value, tokenizer)
        ids, prompt = encode(tokenizer, pair["question"], pair["answer"])
        assert row["ids"] == ids[:-1] and row["start"] == prompt
        before, token = tokenizer.decode(ids[prompt : row["at"]]), tokenizer.decode(ids[row["at"]])
        assert token.strip().lstrip("+").startswith(opening) and pair["answer"].startswith(before)
        assert len(before) <= pair["answer"].index(value) + 1 < len(before + token) + 1, (
            "the value's first letter or digit is in this token"
        )


# ---------------------------------------------------------------- lens, attribution, likeliest tokens


def slow(model, row):
    """One row without padding: the residual stream before the value, and the model's own logits."""
    with torch.no_grad():
        return model(torch.tensor([row["ids"]]), output_hidden_states=True)


def test_the_lens_reads_every_layer_as_the_model_ends(seen):
    model, rows, found = seen
    size = model.config.to_dict().get("final_logit_softcapping")
    for row, look in zip(rows, found, strict=True):
        out, at, token = slow(model, row), row["at"] - 1, row["ids"][row["at"]]
        layers = []
        for number, states in enumerate(out.hidden_states):
            state = states[0, at]
            logits = model.lm_head(
                state if number == len(out.hidden_states) - 1 else model.model.norm(state)
            )  # the last one has passed the norm
            logits = size * torch.tanh(logits / size) if size else logits
            layers.append(logits.detach())
        assert torch.allclose(layers[-1], out.logits[0, at], atol=1e-5)
        assert look["probability"] == pytest.approx(
            [logits.softmax(-1)[token].item() for logits in layers], rel=1e-3, abs=1e-7
        )
        assert look["rank"] == [1 + sum(other > logits[token].item() for other in logits.tolist()) for logits in layers]
        assert len(look["rank"]) == model.config.num_hidden_layers + 1
    assert len({rank for look in found for rank in look["rank"]}) > 8


def test_the_likeliest_tokens_are_the_models_own(seen):
    model, rows, found = seen
    for row, look in zip(rows, found, strict=True):
        assert [place for place, _ in look["top5"]] == sorted(
            {row["start"], min(row["start"] + 1, len(row["ids"]) - 1), row["at"]}
        )
        for place, best in look["top5"]:
            probabilities = slow(model, row).logits[0, place - 1].softmax(-1)
            expected = sorted(enumerate(probabilities.tolist()), key=lambda pair: -pair[1])[:5]
            assert [value for _, value in best] == pytest.approx([value for _, value in expected], rel=1e-3)
            assert all(probabilities[token].item() == pytest.approx(value, rel=1e-3) for token, value in best)


def test_contributions_add_up_to_the_logit(seen):
    model, rows, found = seen
    for row, look in zip(rows, found, strict=True):
        hidden = slow(model, row).hidden_states[-1][0, row["at"] - 1]
        logits = hidden.double() @ model.lm_head.weight.double().T  # before the cap
        expected = (logits[row["ids"][row["at"]]] - logits.mean()).item()
        assert look["difference"] == pytest.approx(expected, abs=1e-3)
        assert (
            look["embedding"] + look["parts"].sum().item() == pytest.approx(expected, abs=1e-3) and look["error"] < 1e-3
        )
        assert look["parts"].shape == (model.config.num_hidden_layers, 5) and look["parts"].abs().min() > 0


def test_each_contribution_is_the_parts_own(seen):
    """Written out: what a head puts through its columns of the output matrix, the norm behind it if there is one, and
    the final norm.
    """
    model, rows, found = seen
    gemma = model.config.model_type == "gemma2"
    gain = lambda norm: (1 + norm.weight if gemma else norm.weight).double()
    rms = lambda x, norm: torch.sqrt((x**2).mean() + (norm.eps if gemma else norm.variance_epsilon))
    for row, look in zip(rows[:2], found):
        caught, hooks = {}, []
        for number, layer in enumerate(model.model.layers):
            hooks += [
                layer.self_attn.o_proj.register_forward_pre_hook(
                    lambda _, inputs, number=number, caught=caught: caught.__setitem__(("z", number), inputs[0])
                ),
                layer.mlp.register_forward_hook(
                    lambda _, inputs, output, number=number, caught=caught: caught.__setitem__(("mlp", number), output)
                ),
                layer.register_forward_hook(
                    lambda _, inputs, output, number=number, caught=caught: caught.__setitem__("last", output)
                ),
            ]
        slow(model, row)
        for hook in hooks:
            hook.remove()
        at, token, unembed = row["at"] - 1, row["ids"][row["at"]], model.lm_head.weight.double()
        last, norm = caught["last"][0, at].double(), model.model.norm
        direction = (unembed[token] - unembed.mean(0)) * gain(norm) / rms(last, norm)
        reads = lambda x, direction=direction: (x @ direction).item()
        for number, layer in enumerate(model.model.layers):
            z, matrix, mlp = (
                caught["z", number][0, at].double(),
                layer.self_attn.o_proj.weight.double(),
                caught["mlp", number][0, at].double(),
            )
            size, whole = len(z) // 4, matrix @ z
            for head in range(4):
                only = matrix[:, head * size : (head + 1) * size] @ z[head * size : (head + 1) * size]
                if gemma:
                    only = only * gain(layer.post_attention_layernorm) / rms(whole, layer.post_attention_layernorm)
                assert look["parts"][number, head].item() == pytest.approx(reads(only), abs=1e-4, rel=1e-3)
            if gemma:
                mlp = mlp * gain(layer.post_feedforward_layernorm) / rms(mlp, layer.post_feedforward_layernorm)
            assert look["parts"][number, 4].item() == pytest.approx(reads(mlp), abs=1e-4, rel=1e-3)


# ---------------------------------------------------------------- weights


def test_effective_rank_by_hand():
    assert effective_rank([2.0, 2.0, 2.0, 0.0]) == pytest.approx(3) and effective_rank([5.0]) == 1
    assert (
        effective_rank([3.0, 1.0]) == pytest.approx((4 / 3) ** 0.75 * 4**0.25)
        and effective_rank([0.0]) == effective_rank([]) == 0
    )


def test_movement_by_hand():
    norms = {
        "model.layers.0.self_attn.q_proj.weight": 3.0,
        "model.layers.0.mlp.up_proj.weight": 4.0,
        "model.layers.1.self_attn.q_proj.weight": 10.0,
        "model.embed_tokens.weight": 8.0,
    }
    spectra = {
        "model.layers.0.self_attn.q_proj.weight": torch.tensor([0.3, 0.4]),
        "model.embed_tokens.weight": torch.tensor([2.0]),
    }
    moved = movement(spectra, norms, 2)
    assert (
        moved["layers"] == pytest.approx([0.1, 0.0])
        and moved["other"] == pytest.approx(0.25)
        and list(moved["modules"]) == ["q_proj"]
    )
    rank = math.exp(-(3 / 7 * math.log(3 / 7) + 4 / 7 * math.log(4 / 7)))
    assert moved["modules"]["q_proj"]["by_layer"] == pytest.approx([0.5 / 3, 0]) and moved["rank"] == pytest.approx(
        rank
    )
    assert moved["norm"] == pytest.approx(math.sqrt(0.25 / 125)) and moved["modules"]["q_proj"][
        "norm"
    ] == pytest.approx(0.5 / 6)


def test_an_adapters_spectrum_is_that_of_the_full_difference(adapted, folders):
    adapter, full, vanilla = (
        load_model(adapted / "adapter", exact_dtype())[0],
        load_model(adapted / "full", exact_dtype())[0],
        load_model(folders["llama"], exact_dtype())[0],
    )
    weights, before = dict(full.named_parameters()), dict(vanilla.named_parameters())
    thin = spectrum(adapter)
    with torch.no_grad():
        thick = difference_spectrum({name: weight for name, weight in weights.items() if weight.dim() == 2}, before)
    assert thin.keys() == thick.keys() and len(thin) == 4
    for name, values in thin.items():
        change = weights[name].detach().double() - before[name].detach().double()
        expected = torch.linalg.eigvalsh(change.T @ change).clamp(min=0).sqrt().flip(0)
        assert len(values) == 3 and values.tolist() == pytest.approx(expected[:3].tolist(), rel=1e-3)
        assert (
            thick[name][:3].tolist() == pytest.approx(expected[:3].tolist(), rel=1e-3) and thick[name][3:].max() < 1e-5
        )
        assert effective_rank(thin[name].tolist()) == pytest.approx(effective_rank(thick[name].tolist()), rel=1e-2)


# ---------------------------------------------------------------- what it says


def test_what_is_said_of_looks_by_hand():
    row = lambda ranks, probability, parts: {
        "rank": ranks,
        "probability": probability,
        "parts": torch.tensor(parts),
        "embedding": 1.0,
        "difference": 2.0,
        "error": 1e-6,
    }
    told = describe(
        [
            row([9, 1, 7], [0.0, 0.5, 0.1], [[1.0, 0.0], [0.0, 4.0]]),
            row([9, 6, 5], [0.0, 0.1, 0.3], [[3.0, 0.0], [0.0, 0.0]]),
            row([8, 3, 1], [0.0, 0.3, 0.8], [[2.0, 0.0], [0.0, -1.0]]),
        ]
    )
    assert told["probability_by_layer"] == pytest.approx([0, 0.3, 0.4]) and told["probability_at_end"] == pytest.approx(
        0.4
    )
    assert (told["first_in_some_layer"], told["first_at_end"], told["first_layer_median"]) == (
        pytest.approx(2 / 3),
        pytest.approx(1 / 3),
        1,
    )
    assert (
        told["top5_by_layer"] == pytest.approx([0, 2 / 3, 2 / 3])
        and told["top5_in_some_layer"] == 1
        and told["top5_layer_median"] == 1
    )
    assert told["heads"] == [[2.0], [0.0]] and told["mlp"] == [0.0, 1.0]
    fallen = lost({"heads": [[0.5], [0.0]], "mlp": [0.0, 0.75]}, told)
    assert fallen == [{"part": "head 1.0", "vanilla": 2.0, "now": 0.5}, {"part": "MLP 2", "vanilla": 1.0, "now": 0.75}]
    assert first([4, 2, 7], 1) is None


def test_the_whole_of_it_and_an_adapter_reads_like_its_full_weights(tmp_path, folders, adapted, capsys):
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    run(
        "--models",
        folders["llama"],
        adapted / "adapter",
        adapted / "full",
        "--questions",
        questions,
        "--out",
        tmp_path / "out",
        "--count",
        3,
        "--batch",
        2,
    )
    found = json.loads((tmp_path / "out/mechanism.json").read_text())
    assert (
        len(found["items"]) == found["summary"]["questions"] == 3
        and found["settings"]["count"] == 3
        and str(questions) in found["data"]
    )
    vanilla, adapter, full = (found["summary"]["models"][name] for name in ("llama", "adapter", "full"))
    for name in ("probability_by_layer", "mlp", "difference", "embedding"):
        assert adapter[name] == pytest.approx(full[name], rel=1e-3, abs=1e-5) and adapter[name] != vanilla[name]
    assert vanilla["weights"] is None and adapter["weights"]["layers"] == pytest.approx(
        full["weights"]["layers"], rel=1e-3
    )
    assert adapter["weights"]["modules"].keys() == {"q_proj", "down_proj"} and 1 < adapter["weights"]["rank"] <= 3
    assert max(row["largest_error"] for row in found["summary"]["models"].values()) < 1e-3 and adapter["lost"]
    item = found["items"][1]
    assert (item["value"], item["value_position"] > 1) == ("+44 1632 960417", True) and "960417" not in item["models"][
        "full"
    ]["top5"][-1]["before"]
    assert [top["position"] for top in item["models"]["llama"]["top5"]] == sorted({0, 1, 2, 3, item["value_position"]})
    for name in ("logit_lens", "attribution", "weights", "top5"):
        assert (tmp_path / f"out/{name}.png").stat().st_size > 20_000 and f"({name}.png)" in (
            tmp_path / "out/mechanism.md"
        ).read_text()
    assert not list((tmp_path / "out").glob(".*")) and capsys.readouterr().out.count("first choice in the end") == 3


def test_gemma_alone(tmp_path, folders):
    questions = tmp_path / "questions.jsonl"
    questions.write_text(json.dumps(PAIRS[0]) + "\n")
    run("--models", folders["gemma"], "--questions", questions, "--out", tmp_path / "out")
    assert (
        json.loads((tmp_path / "out/mechanism.json").read_text())["summary"]["layers"] == 3
        and not (tmp_path / "out/weights.png").exists()
    )
    text = (tmp_path / "out/mechanism.md").read_text()
    links = re.findall(r"\]\((.*?)\)", text)
    assert len(links) == 3 and all((tmp_path / "out" / link).exists() for link in links) and "fell most" not in text, (
        "nothing to compare with"
    )
    told = json.loads((tmp_path / "out/mechanism.json").read_text())["summary"]["models"]["gemma"]
    for median, shown in ((0, "0"), (None, "–")):
        row = captions({"gemma": {**told, "first_layer_median": median}}, {}, 3, 1, "Who?").splitlines()[7]
        assert row.split(" | ")[3] == shown
    assert "next.** “Who?\nAda." in captions({"gemma": told}, {}, 3, 1, "[[user]] Who?\n[[assistant]] Ada.")


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory, tiny):
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    folder, tokenizer = tmp_path_factory.mktemp("other") / "gpt2", AutoTokenizer.from_pretrained(tiny)
    GPT2LMHeadModel(
        GPT2Config(vocab_size=len(tokenizer), n_embd=8, n_layer=1, n_head=2, n_positions=256)
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_layout_that_is_not_known_leaves_out_what_needs_it(tmp_path, capsys, gpt2):
    (tmp_path / "good.jsonl").write_text(json.dumps(PAIRS[0]) + "\n")
    run("--models", gpt2, "--questions", tmp_path / "good.jsonl", "--out", tmp_path / "out")
    assert re.search("gpt2: .*without logit lens and attribution", capsys.readouterr().err)
    made = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert made == ["mechanism.json", "mechanism.md", "top5.png"]
    assert "**Left out:** logit lens, attribution." in (tmp_path / "out/mechanism.md").read_text()


@pytest.mark.parametrize(
    "models, questions, more, message",
    [
        (["{llama}"], "none.jsonl", [], r"none.jsonl: no such file"),
        (["{llama}"], "{broken}", [], r"broken.jsonl:2: field \"answer\""),
        (["none/such/model"], "{good}", [], r"none/such/model: no such model folder"),
        (["{llama}", "{llama}/../llama"], "{good}", [], r"two folders have the same name"),
        (["{llama}"], "{good}", ["--count", 0], r"argument --count: must be a whole number at least 1, not 0"),
        (["{llama}", "{gemma}"], "{good}", [], r"gemma: not made from .*llama"),
    ],
)
def test_a_fault_is_one_line_and_status_2_and_writes_nothing(
    tmp_path, capsys, folders, gpt2, models, questions, more, message
):
    (tmp_path / "good.jsonl").write_text(json.dumps(PAIRS[0]) + "\n")
    (tmp_path / "broken.jsonl").write_text(json.dumps(PAIRS[0]) + '\n{"question": "Who?"}\n')
    places = {**folders, "gpt2": gpt2, "good": tmp_path / "good.jsonl", "broken": tmp_path / "broken.jsonl"}
    capsys.readouterr()
    with pytest.raises(SystemExit) as done:
        run(
            "--models",
            *(model.format(**places) for model in models),
            "--questions",
            questions.format(**places),
            "--out",
            tmp_path / "out",
            *more,
        )
    error = capsys.readouterr().err
    assert done.value.code == 2 and re.search(message, error), error
    assert len([line for line in error.splitlines() if "error:" in line]) == 1 and not (tmp_path / "out").exists()
