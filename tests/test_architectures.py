"""Any causal language model: two random layers of many families, the reference and an update of each kind of loss."""

import json
import math

from lib.batches import collate
from lib.likelihood import answer_logprob, sequence_logprob
from lib.models import encode, load_model
from lib.reference import FrozenModel
from lib.reference import reference as under_vanilla

import pytest
import reference
import torch
import transformers
from conftest import run
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from test_losses import PAIRS

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
GROUPED = {**SMALL, "num_key_value_heads": 2, "max_position_embeddings": 512}
EXPERTS = {**GROUPED, "num_local_experts": 2, "num_experts_per_tok": 1}
OLDER = {
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 512,
    "attn_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "resid_pdrop": 0.0,
}
FAMILIES = {  # name: what its configuration takes beside the vocabulary
    "Llama": GROUPED,
    "Mistral": {**GROUPED, "sliding_window": 8},
    "Qwen2": GROUPED,
    "Gemma2": {
        **GROUPED, "head_dim": 8, "sliding_window": 8, "final_logit_softcapping": 2.0, "attn_logit_softcapping": 3.0
    },
    "Phi": {**SMALL, "partial_rotary_factor": 0.5, "max_position_embeddings": 512},
    "Cohere": {**GROUPED, "logit_scale": 3.0},
    "Granite": {**GROUPED, "logits_scaling": 4.0, "embedding_multiplier": 3.0, "residual_multiplier": 0.5},
    "Mixtral": EXPERTS,
    "Qwen2Moe": {**EXPERTS, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32, "num_experts": 2},
    "GPT2": OLDER,
    "GPTBigCode": OLDER,
    "CodeGen": {**OLDER, "rotary_dim": 4},
    "GPTNeo": {
        "hidden_size": 32, "intermediate_size": 64, "num_layers": 2, "num_heads": 4, "window_size": 8,
        "attention_types": [[["global", "local"], 1]], "max_position_embeddings": 512
    },
    "GPTJ": {**OLDER, "rotary_dim": 4},
    "GPTNeoX": {**SMALL, "max_position_embeddings": 512},
    "OPT": {**SMALL, "ffn_dim": 64, "word_embed_proj_dim": 32, "max_position_embeddings": 512, "dropout": 0.0},
    "BioGpt": {
        **SMALL, "max_position_embeddings": 512, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0
    },
    "Falcon": {**SMALL, "new_decoder_architecture": False, "multi_query": True},
    "Bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "Lfm2": {**GROUPED, "layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False},
    "Mpt": {"d_model": 32, "n_layers": 2, "n_heads": 4, "expansion_ratio": 2, "max_seq_len": 512},
}  # fmt: skip


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tiny, tmp_path_factory):
    """(name, folder): random weights, larger than fresh ones, so that no two tokens are equally likely."""
    folder = tmp_path_factory.mktemp("family") / request.param
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny)
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = getattr(transformers, f"{request.param}Config")(
        vocab_size=len(tokenizer),
        **FAMILIES[request.param],
        **ends,
        tie_word_embeddings=request.param in ("GPT2", "Gemma2"),
    )
    torch.manual_seed(7)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.2 if parameter.dim() > 1 else 0.05))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return request.param, folder


def test_the_reference_is_the_vanilla_model(family, capsys):
    """Computed apart: another copy of the model, row by row, without batch, padding or kept states."""
    _, folder = family
    vanilla, tokenizer = load_model(folder, "float32")
    model = get_peft_model(
        load_model(folder, "float32")[0], LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    torch.manual_seed(5)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    rows = [encode(tokenizer, pair["question"], pair["answer"]) for pair in PAIRS]
    slow = [torch.stack(reference.answer_token_logprobs(vanilla.eval(), row)).detach() for row in rows]
    batch = collate(rows, tokenizer.pad_token_id)
    model.frozen = FrozenModel(model, [rows])
    model.train()
    for _ in range(2):  # computed, then remembered
        torch.testing.assert_close(
            under_vanilla(answer_logprob, model, batch).double(), torch.cat(slow), atol=2e-4, rtol=1e-4
        )
    found = under_vanilla(sequence_logprob, model, batch)
    torch.testing.assert_close(found.double(), torch.stack([part.sum() for part in slow]), atol=1e-3, rtol=1e-4)
    assert not found.requires_grad and model.training
    own = sequence_logprob(model, batch)
    assert own.requires_grad and (own - found).abs().min() > 1e-2, "the adapter is on again, and does something"
    assert len(model.frozen.kept) == len(rows) or "computed whole each time" in " ".join(
        capsys.readouterr().err.split()
    )


METHODS = {  # script and flags
    "GA": ("10_ga.py", "--retain", "none"),
    "NPO+KLR": ("11_npo.py", "--retain", "klr"),
    "DPO": ("13_dpo.py", "--retain", "none"),
    "RKLD": ("18_rkld.py", "--augmented", "{augmented}"),
}
UPDATE = ("--epochs", 0.01, "--batch", 4, "--accumulation", 1, "--probes", 0, "--lr", 1e-2, "--lora-dropout", 0)


def test_an_update_of_each_kind_of_loss(family, data, tmp_path):
    name, folder = family
    common = ("--model", folder, "--data", data, "--dtype", "float32", *UPDATE)
    augmented = tmp_path / "augmented"
    run("scripts/02_finetune.py", *common, "--forget", "forget_train.jsonl", "--adapter", "--out", augmented)
    losses = {}
    for method, (script, *flags) in METHODS.items():
        flags = [flag.format(augmented=augmented) for flag in flags]
        run(f"scripts/{script}", *common, *flags, "--out", tmp_path / method)
        weights = load_file(tmp_path / method / "adapter_model.safetensors")
        assert any(value.abs().max() > 1e-3 for key, value in weights.items() if "lora_B" in key), (name, method)
        assert all(value.isfinite().all() for value in weights.values())
        (update,) = json.loads((tmp_path / method / "training.json").read_text())["updates"]
        losses[method] = update["loss"]
    assert losses["GA"] < 0 and losses["RKLD"] > 0
    # nothing is learnt yet: the model is still its own reference, and KL to it 0
    assert losses["NPO+KLR"] == pytest.approx(2 / 0.1 * math.log(2), rel=1e-4)
    assert losses["DPO"] > 0


@pytest.fixture(scope="module")
def made(data, tmp_path_factory):
    """Vague and false answers, to train on and to score: {name: file}."""
    folder = tmp_path_factory.mktemp("made")
    files = {name: folder / f"{name}.jsonl" for name in ("vague", "false", "asked")}
    run("scripts/03_augment.py", "--data", data, "--out", files["vague"])
    for name, part in (("false", "train"), ("asked", "val")):
        run("scripts/04_invert.py", "--data", data, "--file", f"forget_{part}.jsonl", "--out", files[name])
    return files


FURTHER = {  # method: script, flags
    "all weights": ("11_npo.py", "--retain", "klr", "--full"),
    "ReLearn": ("12_relearn.py", "--forget", "{vague}"),
    "IDK+GDR": ("14_idk.py", "--retain", "gdr"),
    "SURE": ("15_sure.py", "--loss", "npo", "--retain", "klr"),
    "MemFlex": ("16_memflex.py", "--loss", "npo", "--retain", "gdr"),
    "MEOW": ("17_meow.py", "--forget", "{false}", "--memo", "{memo}"),
    "TA": ("19_ta.py",),
    "SimNPO": ("21_simnpo.py", "--retain", "gdr"),
    "AltPO": ("22_altpo.py", "--alternatives", "{false}", "--retain", "gdr"),
    "UNDIAL": ("23_undial.py",),
    "WGA": ("24_wga.py", "--retain", "gdr"),
    "CE-U": ("25_ceu.py",),
    "PDU": ("26_pdu.py", "--retain", "gdr"),
    "RMU": ("27_rmu.py", "--layer", "1"),
    "ME": ("28_me.py", "--retain", "gdr"),
    "IDK+AP": ("29_idk_ap.py",),
    "IHL": ("31_ihl.py", "--retain", "gdr"),
}
SHORT = ("--max-new-tokens", 4)


def test_every_other_script_runs(family, data, made, minilm, tmp_path):
    """Methods, answers and every metric that asks the model itself: one update, few tokens; of UIPE 20_uipe.py's own
    tests, which is arithmetic with adapters."""
    _, folder = family
    asked, model = data / "forget_val.jsonl", tmp_path / "IDK+GDR"
    out = lambda name: ("--out", tmp_path / name)
    memo = ("--el", 0, "--window", 40, *SHORT)
    run("eval/04_memorization.py", "--model", folder, "--pairs", made["false"], *memo, *out("memo.json"))
    files = {**made, "memo": tmp_path / "memo.json"}
    for method, (script, *flags) in FURTHER.items():
        flags = [flag.format(**files) for flag in flags]
        run(f"scripts/{script}", "--model", folder, "--data", data, "--dtype", "float32", *UPDATE, *flags, *out(method))
    run("scripts/30_generate.py", "--model", model, "--questions", asked, *SHORT, *out("answers"))
    run("scripts/50_export.py", "--model", model, "--check", asked, *out("export"))
    answers = tmp_path / "answers/forget_val.jsonl"
    truth = ("--forget", asked, "--paraphrased", asked, "--perturbed", made["asked"])
    run("eval/02_linguistic.py", "--answers", answers, "--model", folder, *out("linguistic.json"))
    run("eval/03_tofu.py", "--model", model, *truth, *SHORT, *out("tofu.json"))
    exposed = ("--reference", folder, "--forget", asked, "--fresh", made["asked"])
    run("eval/05_exposure.py", "--models", model, *exposed, *out("exposure.json"))
    run("eval/08_next_token.py", "--model", model, "--questions", asked, *out("next_token.json"))
    again = ("--relearn", 2, "--relearn-steps", 1, "--embedding", minilm)
    run("eval/10_robustness.py", "--models", model, "--forget", asked, *again, *SHORT, *out("robustness"))
    run("eval/11_mechanism.py", "--models", folder, model, "--questions", asked, *out("mechanism"))
    run("eval/12_ability.py", "--models", model, *SHORT, *out("ability"))
    run("eval/15_sampling.py", "--model", model, "--questions", asked, "--samples", 2, *SHORT, *out("sampling.json"))
    others = ("--holdout", data / "retain_val.jsonl", "--base", folder, "--retrained", folder)
    run("eval/16_membership.py", "--model", model, "--forget", asked, *others, *out("membership.json"))
    others = ("--vanilla", folder, "--retrained", tmp_path / "TA")
    run("eval/17_depth.py", "--model", model, "--questions", asked, *others, *out("depth.json"))
