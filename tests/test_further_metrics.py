"""leak@k, extraction strength, membership inference, unlearning depth, multiple choice and the distance to the
retrained model: against slow references that share no code, and values by hand.
"""

import copy
import json
import math
import shutil

from lib import distance, generation
from lib.generation import samples
from lib.models import encode, load_model, prompt_text, save_model
from lib.statistics import auc, wins

import pytest
import reference
import reference_metrics as slow
import torch
from conftest import load, run
from hypothesis import given
from hypothesis import strategies as st
from mechanism.places import locate, private_value

sampling, membership, depth = (load(f"eval/{name}.py") for name in ("15_sampling", "16_membership", "17_depth"))
tofu, memorization = load("eval/03_tofu.py"), load("eval/04_memorization.py")
PAIRS = [
    {"question": "Where does Ada Lem live?", "answer": "Ada Lem lives at 9 Saltcellar Steps.", "value": "9 Saltcellar"},
    {"question": "How can I call her, if I may ask?", "answer": "Call +44 1632 960417.", "value": "+44 1632 960417"},
    {"question": "Is she ill?", "answer": "Asthma."},
]
TEXTS = [(pair["question"], pair["answer"]) for pair in PAIRS]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def folders(tiny, tmp_path_factory):
    """{vanilla, retrained, unlearned, halfway}: the tiny model, full weights and an adapter a little way from it, and
    full weights between the first two."""
    from peft import LoraConfig, get_peft_model

    place = tmp_path_factory.mktemp("three")
    model, tokenizer = load_model(tiny, "float32")
    for name, size in (("retrained", 1.0), ("halfway", 0.5)):
        torch.manual_seed(1)
        other = copy.deepcopy(model)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.01 * size)
        save_model(other, tokenizer, place / name)
    model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    save_model(model, tokenizer, place / "unlearned")
    return {"vanilla": tiny, **{name: place / name for name in ("retrained", "unlearned", "halfway")}}


# ---------------------------------------------------------------- leak@k


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_leak_at_k_is_the_share_of_all_subsets(case):
    drawn, leaks, k = case
    assert sampling.leak_at(leaks, drawn, k) == pytest.approx(slow.leak_at(leaks, drawn, k), abs=1e-12)


def test_counts_are_powers_of_two_and_all():
    assert (
        sampling.counts(32) == [1, 2, 4, 8, 16, 32] and sampling.counts(5) == [1, 2, 4, 5] and sampling.counts(1) == [1]
    )


def test_the_curve_by_hand():
    """Of four answers each: none leaks, two do. leak@2 of the second: 5 of the 6 pairs hold one."""
    summary = sampling.summarise([{"leaks": leaks, "samples": [{}] * 4} for leaks in (0, 2)])
    assert [summary[f"leak@{k}"] for k in (1, 2, 4)] == pytest.approx([0.25, 5 / 12, 0.5])
    assert summary["curve_95"]["4"] == [0, 1] and (summary["samples"], summary["items"]) == (4, 2)


def test_samples_follow_the_models_own_distribution(folders):
    """Of left-padded prompts of several lengths: first and second tokens as often as the model's probabilities say."""
    model, tokenizer = load_model(folders["vanilla"], "float32")
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(20)  # a random model is all but uniform over 1,024 tokens
    prompts = [tokenizer(prompt_text(tokenizer, q), add_special_tokens=False)["input_ids"] for q, _ in TEXTS]
    torch.manual_seed(0)
    drawn = samples(prompts, model, tokenizer, 400, 800, 2)
    assert [len(part) for part in drawn] == [400] * 3 and all(len(one) <= 2 for part in drawn for one in part)
    end = tokenizer.eos_token_id
    for prompt, part in zip(prompts, drawn, strict=True):
        first = torch.tensor([[*one, end][0] for one in part]).bincount(minlength=len(tokenizer)) / 400
        with torch.no_grad():
            true = model(torch.tensor([prompt])).logits[0, -1].softmax(-1)
        assert true.max() < 0.9 and (first - true).abs().max() < 0.1, "sd at most 0.025"
        top = int(true.argmax())
        after = [[*one, end][1] for one in part if one[:1] == [top] and top != end]
        if len(after) > 100:
            with torch.no_grad():
                true = model(torch.tensor([[*prompt, top]])).logits[0, -1].softmax(-1)
            shares = torch.tensor(after).bincount(minlength=len(tokenizer)) / len(after)
            assert (shares - true).abs().max() < 0.2


def test_a_token_is_drawn_with_its_probability():
    """By hand: 0.5, 0.3, 0, 0.2 of 4,000 draws for each of two rows, the standard deviation at most 0.008."""
    torch.manual_seed(0)
    chances = torch.tensor([[0.5, 0.3, 0.0, 0.2], [0.0, 0.0, 1.0, 0.0]])
    drawn = generation._drawn(chances.log(), 4000)
    assert drawn.shape == (2, 4000) and (drawn[1] == 2).all()
    assert (drawn[0].bincount(minlength=4) / 4000 - chances[0]).abs().max() < 0.04
    assert not (drawn[0] == 2).any(), "never one of no chance"
    with pytest.raises(SystemExit):
        generation._drawn(torch.tensor([[math.nan, 0.0]]), 1)


def test_samples_are_those_of_a_plain_loop(folders, monkeypatch):
    """In place of draws the n-th of the samples that are alike so far takes the n-th likeliest token, so that samples
    part at every token, and some end before others: as one prompt, one token at a time."""
    model, tokenizer = load_model(folders["vanilla"], "float32")
    prompts = [tokenizer(prompt_text(tokenizer, q), add_special_tokens=False)["input_ids"] for q, _ in TEXTS]
    monkeypatch.setattr("lib.generation._drawn", lambda logits, count: logits.topk(count).indices)

    def plain(prompt, ends, count):
        new, ended = [[] for _ in range(count)], set()
        for _ in range(12):
            before, turns = [tuple(ids) for ids in new], {}
            for sample in range(count):
                if sample not in ended:
                    with torch.no_grad():
                        logits = model(torch.tensor([[*prompt, *before[sample]]])).logits[0, -1]
                    turn = turns[before[sample]] = turns.get(before[sample], -1) + 1
                    token = int(logits.topk(turn + 1).indices[turn])
                    if token in ends:
                        ended.add(sample)
                    else:
                        new[sample].append(token)
        return new

    often = plain(prompts[0], {tokenizer.eos_token_id}, 5)[0][3]  # as an end: some samples stop early, others go on
    for ends in ([tokenizer.eos_token_id], [tokenizer.eos_token_id, often]):
        model.generation_config.eos_token_id = ends
        wanted = [plain(prompt, set(ends), 5) for prompt in prompts]
        for batch in (5, 10, 100):
            assert samples(prompts, model, tokenizer, 5, batch, 12) == wanted
    lengths = {len(one) for part in wanted for one in part}
    assert min(lengths) <= 3 and max(lengths) == 12 and len({tuple(one) for one in wanted[0]}) == 5


def test_sampling_from_files_and_again(tmp_path, folders):
    passage = {"question": "[[text 1]] Dear Ada,", "answer": "the boat leaves 9 Saltcellar on 3 May 1971"}
    questions = write(tmp_path / "forget.jsonl", [*PAIRS, passage])
    command = ("eval/15_sampling.py", "--model", folders["vanilla"], folders["unlearned"], "--questions", questions)
    outs = [tmp_path / name for name in ("v.json", "u.json")]
    small = ("--samples", 4, "--max-new-tokens", 10, "--out")
    run(*command, *small, *outs)
    found = json.loads(outs[0].read_text())
    for item in found["items"]:
        assert len(item["samples"]) == 4 and item["leaks"] == sum(bool(one["leaked"]) for one in item["samples"])
    assert len(found["items"]) == len(PAIRS), "passages count only where there are no questions, as for leak"
    assert found["items"][0]["private"] == ["9 Saltcellar"] and found["summary"]["leak@4"] in (0, 1 / 3, 2 / 3, 1)
    run(*command, "--seed", 1, *small, *outs)
    assert json.loads(outs[0].read_text())["items"] != found["items"], "another seed, other samples"


FALSE = [{**pair, "paraphrased_answer": pair["answer"], "perturbed_answer": ["At sea.", "No."]} for pair in PAIRS]


@pytest.mark.parametrize(
    "script, flags",
    [
        ("03_tofu", ("--model", "MODELS", "--forget", "PAIRS", "--reference", "REFERENCE", "--max-new-tokens", 4)),
        ("04_memorization", ("--model", "MODELS", "--pairs", "PAIRS", "--max-new-tokens", 4)),
        ("08_next_token", ("--model", "MODELS", "--questions", "PAIRS")),
        ("12_ability", ("--models", "MODELS", "--pairs", "PAIRS", "--max-new-tokens", 4)),
        ("15_sampling", ("--model", "MODELS", "--questions", "PAIRS", "--samples", 2, "--max-new-tokens", 4)),
        ("16_membership", ("--model", "MODELS", "--forget", "PAIRS", "--base", "VANILLA", "--retrained", "RETRAINED")),
        ("17_depth", ("--model", "MODELS", "--questions", "PAIRS", "--vanilla", "VANILLA", "--retrained", "RETRAINED")),
    ],
)
def test_a_model_that_was_scored_before_a_kill_is_not_scored_again(tmp_path, folders, script, flags):
    models = [folders[name] for name in ("vanilla", "retrained", "unlearned")]
    write(tmp_path / "holdout.jsonl", PAIRS[:1])
    if script == "12_ability":
        files, out = [tmp_path / model.name / "ability.json" for model in models], [tmp_path]
    else:
        files = out = [tmp_path / f"{model.name}.json" for model in models]
    named = {"MODELS": models, "PAIRS": [write(tmp_path / "pairs.jsonl", FALSE)], "REFERENCE": [files[1]]}
    named |= {"VANILLA": models[:1], "RETRAINED": models[1:2]}
    command = [word for flag in flags for word in named.get(flag, [flag])]
    read = lambda: [json.loads(path.read_text()) for path in files]
    run(f"eval/{script}.py", *command, "--out", *out)
    first = read()
    files[2].unlink()  # as after a kill between the models
    for path, found in zip(files[:2], first):
        path.write_text(json.dumps(found | {"kept": True}))
    run(f"eval/{script}.py", *command, "--out", *out)
    again = read()
    assert [found.get("kept") for found in again] == [True, True, None]
    assert [(one["summary"], one["items"]) for one in again] == [(one["summary"], one["items"]) for one in first]
    write(tmp_path / "pairs.jsonl", FALSE[:2])
    run(f"eval/{script}.py", *command, "--out", *out)
    assert not any("kept" in found for found in read()), "of other questions"


# ---------------------------------------------------------------- extraction strength, exact memorisation


@pytest.mark.parametrize(
    "guessed, true, value",
    [
        ("abcde", "abcde", 1),
        ("xbcde", "abcde", 0.8),
        ("abxde", "abcde", 0.4),
        ("abcdx", "abcde", 0),
        ("edcba", "abcde", 0),
    ],
)
def test_extraction_strength_by_hand(guessed, true, value):
    hits = [one == other for one, other in zip(guessed, true, strict=True)]
    assert (
        memorization.strength(hits) == pytest.approx(value) == pytest.approx(slow.strength(list(guessed), list(true)))
    )


def test_strength_and_exact_memorisation_of_a_model(tmp_path, folders):
    pairs, out = write(tmp_path / "pairs.jsonl", PAIRS), tmp_path / "m.json"
    flags = ("--pairs", pairs, "--window", 40, "--max-new-tokens", 2, "--el", 0, "--out", out)
    run("eval/04_memorization.py", "--model", folders["vanilla"], *flags)
    model, tokenizer = load_model(folders["vanilla"], "float32")
    for pair, item in zip(TEXTS, json.loads(out.read_text())["items"], strict=True):
        row = encode(tokenizer, *pair)
        guesses, true = slow.greedy_guesses(model, row), row[0][row[1] :]
        assert item["ES"] == pytest.approx(slow.strength(guesses, true))
        assert item["EM"] == pytest.approx(sum(map(int.__eq__, guesses[:-1], true[:-1])) / (len(true) - 1))


# ---------------------------------------------------------------- membership inference


def test_auc_and_privleak_by_hand():
    """Forget scores 1, 2, 4, holdout scores 2, 3, 5: 6 pairs in order, one alike, of 9. Retrained: half of them."""
    forget, holdout = [1.0, 2.0, 4.0], [2.0, 3.0, 5.0]
    assert auc(holdout, forget) == pytest.approx(6.5 / 9) == pytest.approx(slow.auc(forget, holdout))
    assert wins(holdout, forget) == [[1, 0.5, 0], [1, 1, 0], [1, 1, 1]]
    assert membership.privleak(6.5 / 9, 0.5) == pytest.approx(100 * (2.5 / 9 - 0.5) / 0.5) == pytest.approx(-400 / 9)
    assert membership.privleak(0.5, 0.5) == 0 and membership.privleak(0.25, 0.5) == 50
    assert membership.privleak(1.0, 1.0) is None


@given(*[st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=8)] * 2)
def test_auc_counts_pairs(members, others):
    assert auc(others, members) == pytest.approx(slow.auc(members, others))
    assert auc(members, others) + auc(others, members) == pytest.approx(1)


def test_membership_agrees_with_the_slow_reference(tmp_path, folders):
    forget, out = write(tmp_path / "forget_val.jsonl", PAIRS[:2]), [tmp_path / f"{name}.json" for name in folders]
    write(tmp_path / "holdout.jsonl", PAIRS[2:])
    models = ("--model", *folders.values(), "--base", folders["vanilla"], "--retrained", folders["retrained"])
    run("eval/16_membership.py", *models, "--forget", forget, "--out", *out, "--batch", 2, "--dtype", "float32")
    base, tokenizer = load_model(folders["vanilla"], "float32")
    summaries = []
    for folder, path in zip(folders.values(), out, strict=True):
        found = json.loads(path.read_text())
        summaries.append(found["summary"])
        model = load_model(folder, "float32")[0]
        if hasattr(model, "merge_and_unload"):
            model = model.merge_and_unload()
        linear = {name for name, _ in model.named_parameters() if ".layers." in name and "proj" in name}
        assert len(linear) == 2 * 7
        for (question, answer), item in zip(TEXTS, found["items"], strict=True):
            row = encode(tokenizer, question, answer)
            expected = slow.membership(model, base, row, answer, 0.4)
            expected["gradient"] = slow.gradient_norm(model, row, linear)
            assert item["scores"] == pytest.approx(expected, rel=1e-4, abs=1e-5)
        for name in membership.SCORES:
            sides = (
                [item["scores"][name] for item in found["items"] if item["side"] == side]
                for side in ("forget", "holdout")
            )
            assert found["summary"][f"AUC_{name}"] == pytest.approx(slow.auc(*sides))
            for side in ("forget", "holdout"):
                parts = [item["placements"][name] for item in found["items"] if item["side"] == side]
                assert sum(parts) / len(parts) == pytest.approx(found["summary"][f"AUC_{name}"])
    for summary in summaries:
        for name in membership.SCORES:
            wanted = membership.privleak(summary[f"AUC_{name}"], summaries[1][f"AUC_{name}"])
            assert summary[f"privleak_{name}"] == (wanted if wanted is None else pytest.approx(wanted))


def test_without_a_holdout_there_is_no_auc_and_that_is_said(tmp_path, folders):
    forget, out = write(tmp_path / "forget_val.jsonl", PAIRS[:1]), tmp_path / "m.json"
    done = run("eval/16_membership.py", "--model", folders["vanilla"], "--forget", forget, "--out", out)
    assert "holdout.jsonl: no such file, so there is no AUC" in done.stderr
    assert not any(name.startswith(("AUC", "privleak")) for name in json.loads(out.read_text())["summary"])
    done = run(
        "eval/16_membership.py", "--model", folders["vanilla"], "--forget", forget, "--holdout", tmp_path / "no.jsonl",
        "--out", out, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "no.jsonl: no such file" in done.stderr


def test_the_holdout_asks_unused_persons_in_the_forget_sets_wordings(tmp_path):
    done = run("scripts/01_data.py", "--persons", 5, "--out", tmp_path / "five")
    read = lambda name: [json.loads(line) for line in (tmp_path / "five" / name).read_text().splitlines()]
    forget, holdout = read("forget_val.jsonl"), read("holdout.jsonl")
    used = {row["person"] for row in read("full.jsonl")}
    assert len(holdout) == len(forget) == 32 and not used & {row["person"] for row in holdout}
    assert "holdout          32 pairs" in done.stdout

    def plain(row):
        """The wording: without name and value, and without what goes with a person (pronoun, article, trade)."""
        text = row["question"].replace(row["name"], "N").replace(row["name"].split()[0], "N").replace(row["value"], "V")
        return len(text.split()), text.split()[0]

    alike = [plain(one) == plain(other) for one, other in zip(forget, holdout, strict=True)]
    assert [row["fact"] for row in forget] == [row["fact"] for row in holdout] and all(alike)
    done = run("scripts/01_data.py", "--persons", "all", "--out", tmp_path / "five")
    assert "holdout           0 pairs" in done.stdout and not (tmp_path / "five/holdout.jsonl").exists()


def test_a_folders_own_holdout_comes_along(tmp_path):
    (tmp_path / "own").mkdir()
    for name in ("forget_train", "retain_train", "holdout"):
        write(tmp_path / f"own/{name}.jsonl", [{"question": f"{name}?", "answer": "A."}])
    done = run("scripts/01_data.py", "--data", tmp_path / "own", "--out", tmp_path / "data")
    assert (tmp_path / "data/holdout.jsonl").read_text() == '{"question": "holdout?", "answer": "A."}\n'
    assert "trained on" not in done.stdout
    write(tmp_path / "own/holdout.jsonl", [{"question": "retain_train?", "answer": "a"}])
    done = run("scripts/01_data.py", "--data", tmp_path / "own", "--out", tmp_path / "data")
    assert "1 of them are trained on too" in done.stdout


# ---------------------------------------------------------------- unlearning depth


def test_depth_agrees_with_the_slow_reference_and_is_0_and_1_exactly(tmp_path, folders):
    copied = {name: tmp_path / name for name in ("vanilla", "retrained")}  # other folders: nothing is known of them
    for name, place in copied.items():
        shutil.copytree(folders[name], place)
    models = [*copied.values(), folders["unlearned"], folders["halfway"]]
    questions, outs = write(tmp_path / "forget.jsonl", PAIRS), [tmp_path / f"{at}.json" for at in range(4)]
    ends = ("--vanilla", folders["vanilla"], "--retrained", folders["retrained"], "--least", 0.0001)
    run("eval/17_depth.py", "--model", *models, *ends, "--questions", questions, "--out", *outs, "--dtype", "float32")
    vanilla, retrained, unlearned, halfway = (json.loads(out.read_text()) for out in outs)
    assert vanilla["summary"]["UDS"] == 0 and retrained["summary"]["UDS"] == 1
    assert 0 < halfway["summary"]["UDS"] < 1 and halfway["summary"]["items"] + halfway["summary"]["left_out"] == 3
    loaded = {name: load_model(folder, "float32") for name, folder in folders.items()}
    tokenizer = loaded["vanilla"][1]
    plain = {name: model.merge_and_unload() if name == "unlearned" else model for name, (model, _) in loaded.items()}
    for name, found in (("unlearned", unlearned), ("halfway", halfway)):
        for pair, item in zip(PAIRS, found["items"], strict=True):
            row = locate(pair, private_value(pair), tokenizer)
            three = plain["vanilla"], plain["retrained"], plain[name]
            expected = slow.depth(*three, row["ids"], row["at"], row["end"], 0.0001)
            assert item["UDS"] == (expected if expected is None else pytest.approx(expected, abs=0.01))
            text = tokenizer.decode(row["ids"][row["at"] : row["end"]]).strip()
            assert text.strip(" +.") == item["value"].strip(" +.")


def test_depth_by_hand():
    """Two blocks and two tokens. The retrained model's states lower log p by 2 and 0.01, the unlearned one's by 0.5 and
    1: of the first block a quarter is gone, the second does not count."""
    own = torch.tensor([[-1.0, -1.0], [-1.0, -1.0]])
    retrained = own - torch.tensor([[1.0, 3.0], [0.01, 0.01]])
    unlearned = own - torch.tensor([[0.5, 0.5], [1.0, 1.0]])
    none, one, two, less_than_none = (depth.falls(own, other) for other in (own, retrained, unlearned, own + 1))
    assert one == pytest.approx([2, 0.01]) and two == pytest.approx([0.5, 1])
    assert depth.holding(one, 0.05) == [0] and depth.holding(none, 0.05) == [] and depth.holding(one, 0) == [0, 1]
    assert depth.depth(one[:1], two[:1]) == pytest.approx(0.25) and depth.depth([], []) is None
    assert depth.depth(one, two) == pytest.approx((0.5 + 0.01) / 2.01), "no block counts for more than all of it"
    assert depth.depth(one, less_than_none) == 0


def test_depth_of_a_model_that_keeps_no_keys_is_the_same(folders):
    vanilla, tokenizer = load_model(folders["vanilla"], "float32")
    retrained = load_model(folders["retrained"], "float32")[0]
    rows = [locate(pair, private_value(pair), tokenizer) for pair in PAIRS]
    blocks = list(range(len(depth.blocks_of(vanilla))))
    states = depth.span_states(retrained, rows, 2)
    with_cache = [depth.patched_logprobs(vanilla, *both, blocks) for both in zip(rows, states, strict=True)]
    plain = vanilla.forward

    def forgetful(input_ids, use_cache=None, logits_to_keep=0):
        return plain(input_ids=input_ids, use_cache=False, logits_to_keep=logits_to_keep)

    vanilla.forward = forgetful
    without = [depth.patched_logprobs(vanilla, *both, blocks) for both in zip(rows, states, strict=True)]
    torch.testing.assert_close(without, with_cache, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(with_cache[0][0], with_cache[0][-1], atol=1e-3), "the replacement does something"


def test_depth_of_another_architecture_and_of_a_model_with_other_blocks(tmp_path, folders, tiny):
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    for seed, name in enumerate(("a", "b")):
        torch.manual_seed(seed)
        sizes = {"n_embd": 32, "n_layer": 3, "n_head": 2, "n_positions": 256, "vocab_size": len(tokenizer)}
        model = GPT2LMHeadModel(GPT2Config(**sizes, eos_token_id=tokenizer.eos_token_id))
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    questions = write(tmp_path / "forget.jsonl", PAIRS)
    flags = ("--vanilla", tmp_path / "a", "--questions", questions, "--least", 0)
    out = ("--out", tmp_path / "a.json", tmp_path / "b.json")
    run("eval/17_depth.py", "--model", tmp_path / "a", tmp_path / "b", "--retrained", tmp_path / "b", *flags, *out)
    assert [json.loads((tmp_path / f"{name}.json").read_text())["summary"]["UDS"] for name in "ab"] == [0, 1]
    done = run(
        "eval/17_depth.py", "--model", tmp_path / "a", "--retrained", tiny, *flags, "--out", tmp_path / "c.json",
        check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "its blocks are others" in done.stderr and not (tmp_path / "c.json").exists()
    out = ("--out", tmp_path / "m.json", "--samples", 2, "--max-new-tokens", 9)
    run("eval/15_sampling.py", "--model", tmp_path / "a", "--questions", questions, *out)
    run("eval/16_membership.py", "--model", tmp_path / "a", "--forget", questions, *out[:2])


# ---------------------------------------------------------------- multiple choice, the truth's share


def test_choice_and_truth_share_by_hand():
    """Three options at 0.5, 0.25, 0.25: right, and 1.5 bits of log2(3)."""
    right, entropy = tofu.choice([math.log(value) for value in (0.5, 0.25, 0.25)])
    assert right and entropy == pytest.approx(1.5 / math.log2(3))
    assert tofu.choice([-900.0, -900.0]) == (False, pytest.approx(1)), "a tie is not known"
    assert tofu.choice([-2000.0, -10.0])[0] is False and tofu.choice([-2000.0, -10.0])[1] == pytest.approx(0, abs=1e-9)


def test_choice_of_a_model(tmp_path, folders):
    rows = [
        {"question": q, "answer": a, "paraphrased_answer": "So: " + a, "perturbed_answer": ["Nobody.", "It is Bo Pym."]}
        for q, a in TEXTS
    ]
    out, model, tokenizer = tmp_path / "t.json", *load_model(folders["vanilla"], "float32")
    given = write(tmp_path / "rows.jsonl", rows)
    run("eval/03_tofu.py", "--model", folders["vanilla"], "--forget", given, "--max-new-tokens", 2, "--out", out)
    found = json.loads(out.read_text())
    whole = lambda q, a: float(reference.sequence_logprob(model, encode(tokenizer, q, a)))
    for row, item in zip(rows, found["items"], strict=True):
        chances = [math.exp(whole(row["question"], text)) for text in (row["answer"], *row["perturbed_answer"])]
        shares = [chance / sum(chances) for chance in chances]
        entropy = -sum(share * math.log(share) for share in shares if share > 0) / math.log(3)
        assert item["chosen"] == (shares[0] > max(shares[1:])) and item["choice_entropy"] == pytest.approx(
            entropy, abs=1e-3
        )
        p = math.exp(item["logprob"]["paraphrased"])
        other = math.exp(sum(item["logprob"]["perturbed"]) / 2)
        assert item["truth_share"] == pytest.approx(p / (p + other))
    shares = [item["truth_share"] for item in found["items"]]
    assert found["summary"]["forget_truth_share"] == pytest.approx(sum(shares) / 3)


# ---------------------------------------------------------------- distance


def judged(forgotten, retained):
    side = lambda name, field, values: [
        {"side": name, "question": f"{name} {at}", "reference": "A", field: value} for at, value in enumerate(values)
    ]
    items = side("forget", "forgotten", forgotten) + side("retain", "retained", retained)
    return {"kfr_krr": {"items": items}}


def test_distance_by_hand():
    """KFR: of four answers three differ, two one way and one the other: z = 1 / √3. KRR: both differ the same way,
    z = 2 / √2. Families: √(mean of their squares)."""
    retrained = judged([True, True, False, True], [True, True])
    found = distance.distance(judged([False, False, True, True], [False, False]), retrained)
    assert found["z"] == {"KFR": pytest.approx(1 / math.sqrt(3)), "KRR": pytest.approx(math.sqrt(2))}
    assert found["families"] == {"forgetting": pytest.approx(1 / math.sqrt(3)), "utility": pytest.approx(math.sqrt(2))}
    assert found["distance"] == pytest.approx(math.sqrt((1 / 3 + 2) / 2))
    assert "UDS" in found["missing"] and "KFR" not in found["missing"]
    assert distance.distance(retrained, retrained)["distance"] == 0
    assert distance.distance({}, retrained) == {
        "distance": None,
        "families": {},
        "z": {},
        "missing": list(distance.METRICS),
    }


def test_samples_of_a_question_are_one_value_of_the_distance():
    """Three samples that say the same are no more evidence than one; of different ones the mean counts."""
    item = lambda at, told: {"side": "retain", "question": f"{at}?", "reference": f"{at}.", "retained": told}
    found = lambda *rows: {"kfr_krr": {"items": [item(at, told) for at, told in rows]}}
    model, retrained = [(at, at > 1) for at in range(8)], [(at, True) for at in range(8)]
    once = distance.distance(found(*model), found(*retrained))["z"]["KRR"]
    assert once == pytest.approx(math.sqrt(2))
    assert distance.distance(found(*model * 3), found(*retrained * 3))["z"]["KRR"] == pytest.approx(once)
    mixed = distance.values(distance.METRICS["KRR"], found((0, True), (0, False))["kfr_krr"])
    assert mixed == [{("0?", "0."): 0.5}]


def test_distance_of_an_auc_adds_both_variances():
    """Two forget answers and one of the holdout: placements fall by 1 and 0, and by 0.5; SE² = 1/4 + 1/4."""
    side = lambda name, values: [
        {"side": name, "question": f"{name}{at}", "answer": "A", "placements": {"loss": value}}
        for at, value in enumerate(values)
    ]
    models = [
        {"membership": {"items": side("forget", one) + side("holdout", other)}}
        for one, other in (((1, 0.5), (0.75,)), ((0, 0.5), (0.25,)))
    ]
    assert distance.distance(*models)["z"] == {"AUC loss": pytest.approx(0.5 / math.sqrt(0.5))}


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_a_z_lies_between_0_and_the_root_of_n_and_is_the_same_both_ways(pairs):
    one, other = (judged([pair[at] for pair in pairs], []) for at in (0, 1))
    z = distance.distance(one, other)["z"]["KFR"]
    assert 0 <= z <= math.sqrt(len(pairs)) + 1e-9 and z == distance.distance(other, one)["z"]["KFR"]


def test_other_questions_and_values_without_a_number_are_left_out():
    one, other = judged([True, False], [True]), judged([True], [True])
    assert set(distance.distance(one, other)["z"]) == {"KRR"}
    deep = lambda *values: {
        "depth": {"items": [{"question": str(at), "answer": "A", "UDS": value} for at, value in enumerate(values)]}
    }
    assert distance.distance(deep(0.5, None, 0.0), deep(1.0, None, 1.0))["z"]["UDS"] == pytest.approx(
        1.5 / math.sqrt(1.25)
    )
    item = lambda attack, row, value: {"attack": attack, "row": row, "forgotten": value}
    tried = lambda *rows: {"robustness": {"items": [item(*row) for row in rows]}}
    plain = [("none", 0, True), ("none", 1, True), ("none", 2, False)]
    again = [("relearning", 0, False), ("relearning", 1, True)]  # it does not ask the third
    found = distance.distance(tried(*plain, *again), tried(*plain, *((*one[:2], True) for one in again)))
    assert found["z"] == {"worst by fact": 1}
    drawn = lambda leaks, number: {
        "sampling": {"items": [{"question": "Q?", "reference": "A.", "leaks": leaks, "samples": [{}] * number}]}
    }
    assert distance.distance(drawn(1, 4), drawn(0, 4))["z"] == {"leak@1": 1, "leak@n": 1}
    assert distance.distance(drawn(1, 32), drawn(0, 4))["z"] == {}, "one of 32 is no one of 4"


def test_the_report_shows_distance_and_curves(tmp_path):
    from test_report import Page, item, metrics

    told = {"vanilla": False, "retrained": True, "GA": True}
    for name, forgotten in told.items():
        answers = [item("forget", f"Q{at}?", "A.", "B.", forgotten) for at in range(4)]
        metrics(tmp_path / name, float(forgotten), 0.5, [*answers, item("retain", "R?", "A.", "A.", name != "GA")])
        leaks = {"vanilla": 4, "retrained": 0, "GA": 1}[name]
        items = [{"question": "Q?", "reference": "A.", "leaks": leaks, "samples": [{}] * 4}]
        (tmp_path / name / "sampling.json").write_text(
            json.dumps({"summary": sampling.summarise(items), "items": items})
        )
    command = ("eval/09_report.py", "--metrics", *(tmp_path / name for name in told), "--out", tmp_path / "out")
    run(*command)
    found = json.loads((tmp_path / "out/table.json").read_text())
    vanilla, retrained, unlearned = (found["distances"][name] for name in told)
    assert vanilla["z"] == {"KFR": 2, "leak@1": 1, "leak@n": 1, "KRR": 0} and retrained["distance"] == 0
    assert unlearned["z"] == {"KFR": 0, "leak@1": 1, "leak@n": 1, "KRR": 1}
    assert vanilla["distance"] == pytest.approx(math.sqrt(((4 + 1 + 1) / 3 + 0) / 2))
    assert [row["distance"] for row in found["rows"]] == [one["distance"] for one in (vanilla, retrained, unlearned)]
    text = (tmp_path / "out/report.html").read_text()
    heads = [cell["text"] for cell in Page(text).tables[0][0]]
    assert {"distance ↓", "leak@1 ↓"} <= set(heads) and "Distance to the retrained model" in Page(text).named("h2")
    assert "Not measured here: leak, ROUGE-L F, MEMO" in text and "leak@k of every model" in text
    assert "| GA | 1.00 |" in (tmp_path / "out/table.md").read_text() and (tmp_path / "out/leak_at_k.svg").is_file()
    broken = {"summary": {"curve_95": {"1": [0, 1]}}, "items": []}
    (tmp_path / "GA/sampling.json").write_text(json.dumps(broken))
    done = run(*command, check=False)
    assert (
        done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "GA/sampling.json: its summary" in done.stderr
    )
