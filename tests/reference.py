"""Slow, obvious reference implementations of the losses and metrics, written from the equations alone.

Nothing here is batched, padded or shared with the fast code: the tests compare that code with this file.
A row is a pair (ids, prompt): ids are the token ids of prompt + answer + end of sequence, prompt is how many of
them belong to the prompt. Every model is used in the mode it comes in: call .eval() first where dropout matters.
"""

import math

import numpy
import torch

COVERED_AT = 0.8


def answer_log_distributions(model, row):
    """The whole log p(. | all before), in float64, at each answer position: the p of ReLearn (arXiv:2502.11190) Eq.
    6-8.

    The logits at position i - 1 are the model's distribution over token i.
    """
    ids, prompt = row
    if prompt < 1:
        raise ValueError("the first token has nothing before it, so it cannot be an answer token")
    device = next(model.parameters()).device
    logits = model(input_ids=torch.tensor([list(ids)], device=device)).logits[0]
    distributions = []
    for position in range(prompt, len(ids)):
        distributions.append(torch.log_softmax(logits[position - 1].to(torch.float64), dim=-1))
    return distributions


def answer_token_logprobs(model, row):
    """log p(token | all before) of every answer token, end of sequence included (ReLearn, 2502.11190, Eq. 6-7)."""
    ids, prompt = row
    logprobs = []
    for offset, distribution in enumerate(answer_log_distributions(model, row)):
        logprobs.append(distribution[ids[prompt + offset]])
    return logprobs


def sequence_logprob(model, row):
    """log pi(y | x) of a whole answer: the sum over its tokens (NPO, Zhang et al. 2024, arXiv:2404.05868)."""
    total = torch.zeros((), dtype=torch.float64, device=next(model.parameters()).device)
    for logprob in answer_token_logprobs(model, row):
        total = total + logprob
    return total


def nll(model, rows):
    """Mean negative log-likelihood over all answer tokens of all rows together (ReLearn, 2502.11190, Eq. 6-7)."""
    total = 0.0
    count = 0
    for row in rows:
        for logprob in answer_token_logprobs(model, row):
            total = total - logprob
            count = count + 1
    return total / count


def ga(model, rows):
    """Gradient ascent: -NLL(D_f) (Jang et al. 2023)."""
    return -nll(model, rows)


def log_sigmoid(x):
    """log of 1 / (1 + exp(-x)), without overflow on either side."""
    if x >= 0:
        return -torch.log1p(torch.exp(-x))
    return x - torch.log1p(torch.exp(x))


def npo(model, vanilla, rows, beta):
    """-(2/beta) E log sigma(-beta [log pi_theta(y|x) - log pi_v(y|x)]): NPO (Zhang 2024, arXiv:2404.05868)."""
    total = 0.0
    for row in rows:
        ours = sequence_logprob(model, row)
        with torch.no_grad():
            theirs = sequence_logprob(vanilla, row)
        total = total + log_sigmoid(-beta * (ours - theirs))
    return -(2.0 / beta) * total / len(rows)


def dpo(model, vanilla, chosen_rows, rejected_rows, beta):
    """-E log sigma(beta [(log pi - log pi_v)(chosen) - (log pi - log pi_v)(rejected)]): DPO as in TOFU (Maini 2024).

    Sequence sums, mean over pairs, and no factor 2/beta in front (that factor is NPO's).
    """
    if len(chosen_rows) != len(rejected_rows):
        raise ValueError("every chosen row needs its rejected row")
    total = 0.0
    for chosen, rejected in zip(chosen_rows, rejected_rows):
        ours_chosen = sequence_logprob(model, chosen)
        ours_rejected = sequence_logprob(model, rejected)
        with torch.no_grad():
            theirs_chosen = sequence_logprob(vanilla, chosen)
            theirs_rejected = sequence_logprob(vanilla, rejected)
        margin = (ours_chosen - theirs_chosen) - (ours_rejected - theirs_rejected)
        total = total + log_sigmoid(beta * margin)
    return -total / len(chosen_rows)


def kl_forward(model, vanilla, rows):
    """KL(p_vanilla || p_model) over the vocabulary, mean over all answer positions: ReLearn's released code (cf. Eq.
    8).
    """
    total = 0.0
    count = 0
    for row in rows:
        ours = answer_log_distributions(model, row)
        with torch.no_grad():
            theirs = answer_log_distributions(vanilla, row)
        for log_p, log_v in zip(ours, theirs):
            total = total + (torch.exp(log_v) * (log_v - log_p)).sum()
            count = count + 1
    return total / count


def kl_reverse(model, vanilla, rows):
    """KL(p_model || p_vanilla), mean over all answer positions: ReLearn (arXiv:2502.11190) Eq. 8 as printed."""
    total = 0.0
    count = 0
    for row in rows:
        ours = answer_log_distributions(model, row)
        with torch.no_grad():
            theirs = answer_log_distributions(vanilla, row)
        for log_p, log_v in zip(ours, theirs):
            total = total + (torch.exp(log_p) * (log_p - log_v)).sum()
            count = count + 1
    return total / count


def relearn(model, vanilla, augmented_rows, retain_rows):
    """NLL(augmented forget and generic rows, one pool) + NLL(retain) + forward KL(retain): ReLearn Eq. 6-9."""
    return nll(model, augmented_rows) + nll(model, retain_rows) + kl_forward(model, vanilla, retain_rows)


def perplexity(model, row):
    """exp(mean NLL of the answer tokens given the question, end of sequence included): PPL of ReLearn's LS, Eq. 3-5."""
    with torch.no_grad():
        return torch.exp(nll(model, [row])).item()


def brunet(words):
    """Brunet's index BI = N^(V^-0.165), N words, V of them distinct; 0.0 for no words (ReLearn Eq. 3-5)."""
    if len(words) == 0:
        return 0.0
    return float(len(words)) ** (float(len(set(words))) ** -0.165)


def honore(words):
    """Honore's statistic HS = 100 ln N / (1 - V1/V + 0.1), at most 1e6, 0 for N <= 1 (ReLearn Eq. 3-5)."""
    if len(words) <= 1:
        return 0.0
    distinct = set(words)
    once = 0
    for word in distinct:
        if words.count(word) == 1:
            once = once + 1
    return min(100.0 * math.log(len(words)) / (1.0 - once / len(distinct) + 0.1), 1e6)


def loops(text):
    """Some piece stands at least three times on end, 16 characters or more in all, blanks left out."""
    letters = "".join(text.split())
    for start in range(len(letters)):
        for size in range(1, len(letters) - start + 1):
            piece, times = letters[start : start + size], 0
            while letters.startswith(piece, start + times * size):
                times = times + 1
            rest = 0  # of a further time that breaks off
            while start + times * size + rest < len(letters) and letters[start + times * size + rest] == piece[rest]:
                rest = rest + 1
            if times >= 3 and times * size + rest >= 16:
                return True
    return False


def sigmoid(x):
    """sigma(x) = 1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + math.exp(-x))


def linguistic_score(mean_ppl, mean_bi, mean_hs):
    """LS = harmonic mean of sigma(-ln PPL), sigma(-ln BI), sigma(ln HS) of corpus means; 0.0 for HS = 0 (Eq. 3-5)."""
    if mean_hs == 0:
        return 0.0
    parts = [sigmoid(-math.log(mean_ppl)), sigmoid(-math.log(mean_bi)), sigmoid(math.log(mean_hs))]
    if min(parts) == 0.0:  # an infinite perplexity: the limit of the harmonic mean
        return 0.0
    return 3.0 / (1.0 / parts[0] + 1.0 / parts[1] + 1.0 / parts[2])


def entity_score(similar):
    """E = covered reference entities / |A|, covered: some answer entity at cosine >= 0.8 (ReLearn Eq. 1).

    The equation is 0/0 without a reference entity; 0.0 here, as nothing is covered.
    """
    if len(similar) == 0:
        return 0.0
    covered = 0
    for cosines in similar:
        found = False
        for cosine in cosines:
            if cosine >= COVERED_AT:
                found = True
        if found:
            covered = covered + 1
    return covered / len(similar)


def entity_score_as_released(similar):
    """E of ReLearn's released code: matched pairs / |A|, so it can pass 1; 0.0 when either side has no entity (cf. Eq.
    1).
    """
    if len(similar) == 0 or len(similar[0]) == 0:
        return 0.0
    pairs = 0
    for cosines in similar:
        for cosine in cosines:
            if cosine >= COVERED_AT:
                pairs = pairs + 1
    return pairs / len(similar)


def forgotten(E, label):
    """One item of KFR: E < 0.3 or NLI(premise model's answer, hypothesis reference) = contradiction (ReLearn Eq. 1,
    10).
    """
    return E < 0.3 or label == "contradiction"


def retained(E, label):
    """One item of KRR: E > 0.3 and NLI(premise reference, hypothesis answer) not contradiction (ReLearn Eq. 2, 10)."""
    return E > 0.3 and label != "contradiction"


def forgotten_as_released(E, label, reference_entities):
    """One item of KFR in ReLearn's released code: E <= 0.5 with at most 3 reference entities, else E <= 0.3 (cf. Eq.
    1).
    """
    threshold = 0.5 if reference_entities <= 3 else 0.3
    return threshold >= E or label == "contradiction"


def rouge_l_recall(reference_words, answer_words):
    """ROUGE-L recall: longest common subsequence / reference length (Lin 2004); 0.0 for an empty reference."""
    if len(reference_words) == 0:
        return 0.0
    table = [[0] * (len(answer_words) + 1) for _ in range(len(reference_words) + 1)]
    for i in range(1, len(reference_words) + 1):
        for j in range(1, len(answer_words) + 1):
            if reference_words[i - 1] == answer_words[j - 1]:
                table[i][j] = table[i - 1][j - 1] + 1
            else:
                table[i][j] = max(table[i - 1][j], table[i][j - 1])
    return table[len(reference_words)][len(answer_words)] / len(reference_words)


def idk(model, refusal_rows):
    """NLL on refusals, the IDK loss of TOFU (Maini et al. 2024, arXiv:2401.06121): a row is a forget question + a
    refusal.
    """
    return nll(model, refusal_rows)


def relearn_dpo(model, vanilla, chosen_rows, rejected_rows, beta, retain_rows=None, term=None):
    """DPO(chosen: augmented answers, rejected: original answers), plus GDR or KLR: ReLearn's released code
    (2502.11190).

    term: None (DPO alone), "gdr" (+ NLL of retain_rows), "klr" (+ forward KL on retain_rows), "klr-reverse" (Eq. 8's).
    """
    loss = dpo(model, vanilla, chosen_rows, rejected_rows, beta)
    if term is None:
        return loss
    if term == "gdr":
        return loss + nll(model, retain_rows)
    if term == "klr":
        return loss + kl_forward(model, vanilla, retain_rows)
    if term == "klr-reverse":
        return loss + kl_reverse(model, vanilla, retain_rows)
    raise ValueError(f"no such term: {term}")


def vector_norm(numbers):
    """Euclidean length of a one-dimensional tensor, summed one number at a time in Python floats."""
    total = 0.0
    for number in numbers.tolist():
        total = total + number * number
    return math.sqrt(total)


def sure_threshold(forget_gradients, percentile=99):
    """The percentile of the norms of all output rows of all matrices together (SURE, Zhang 2024, 2410.16454)."""
    norms = []
    for name in forget_gradients:
        if forget_gradients[name].dim() != 2:
            raise ValueError(f"{name} is not a matrix")
        for row in forget_gradients[name]:
            norms.append(vector_norm(row))
    return float(numpy.percentile(norms, percentile))  # linear between the two nearest norms


def sure_update(forget_gradients, whole_gradients, percentile=99):
    """The whole loss's gradient with every row zeroed whose forget-loss norm is under the percentile (SURE,
    2410.16454).

    The released default is 99 (its comment says 90). A row whose norm equals the threshold is kept.
    """
    if set(forget_gradients) != set(whole_gradients):
        raise ValueError("both gradients must be of the same matrices")
    threshold = sure_threshold(forget_gradients, percentile)
    masked = {}
    for name in whole_gradients:
        if forget_gradients[name].shape != whole_gradients[name].shape:
            raise ValueError(f"the two gradients of {name} differ in shape")
        masked[name] = whole_gradients[name].clone()
        for i in range(len(forget_gradients[name])):
            if vector_norm(forget_gradients[name][i]) < threshold:
                masked[name][i] = torch.zeros_like(masked[name][i])
    return masked


def cosine(a, b):
    """Cosine of two matrices, each flattened to one vector; 0.0 when either is all zeros (0/0 in the equation)."""
    a = a.reshape(-1).to(torch.float64)
    b = b.reshape(-1).to(torch.float64)
    dot = 0.0
    for x, y in zip(a.tolist(), b.tolist()):
        dot = dot + x * y
    lengths = vector_norm(a) * vector_norm(b)
    if lengths == 0.0:
        return 0.0
    return dot / lengths


def mean_magnitude(matrix):
    """mean |g| over all entries of a matrix."""
    total = 0.0
    numbers = matrix.reshape(-1).to(torch.float64).tolist()
    for number in numbers:
        total = total + abs(number)
    return total / len(numbers)


def memflex_update(forget_gradients, retain_gradients, cos_threshold=0.92, magnitude=6e-4):
    """Names of the matrices to update: cos(g_f, g_r) < 0.92 and mean|g_f| > 6e-4 (Tian 2024, 2407.01920; ReLearn's
    code).
    """
    if set(forget_gradients) != set(retain_gradients):
        raise ValueError("both gradients must be of the same matrices")
    names = set()
    for name in forget_gradients:
        different = cosine(forget_gradients[name], retain_gradients[name]) < cos_threshold
        large = mean_magnitude(forget_gradients[name]) > magnitude
        if different and large:
            names.add(name)
    return names


def memflex_loss(l_f, l_r, npo=False):
    """-0.4 L_f + 2.0 L_r with L_f = NLL(D_f); with npo L_f is the NPO loss, already to be minimised, so +0.4
    (2407.01920).
    """
    if npo:
        return 0.4 * l_f + 2.0 * l_r
    return -0.4 * l_f + 2.0 * l_r


def answer_logits(model, row):
    """The raw logits, in float64 and not normalised, at each answer position: those at i - 1 are for token i."""
    ids, prompt = row
    if prompt < 1:
        raise ValueError("the first token has nothing before it, so it cannot be an answer token")
    device = next(model.parameters()).device
    logits = model(input_ids=torch.tensor([list(ids)], device=device)).logits[0]
    vectors = []
    for position in range(prompt, len(ids)):
        vectors.append(logits[position - 1].to(torch.float64))
    return vectors


def teacher_logits(l_v, l_aug, alpha):
    """l_t = l_v - alpha ReLU(l_aug - l_v), of the raw logits: RKLD / RKLU (Wang 2024, arXiv:2406.01983)."""
    return l_v - alpha * torch.relu(l_aug - l_v)


def rkld(student, vanilla, augmented, rows, alpha, direction="reverse"):
    """KL over the whole vocabulary, mean over all answer tokens of all rows together (Wang 2024, arXiv:2406.01983).

    reverse: sum pi_theta log(pi_theta / pi_t), the paper's; forward: sum pi_t log(pi_t / pi_theta), its ablation FKLU.
    """
    if direction not in ("reverse", "forward"):
        raise ValueError(f"no such direction: {direction}")
    total = 0.0
    count = 0
    for row in rows:
        ours = answer_logits(student, row)
        with torch.no_grad():
            of_vanilla = answer_logits(vanilla, row)
            of_augmented = answer_logits(augmented, row)
        for l_s, l_v, l_aug in zip(ours, of_vanilla, of_augmented):
            log_s = torch.log_softmax(l_s, dim=-1)
            log_t = torch.log_softmax(teacher_logits(l_v, l_aug, alpha), dim=-1)
            if direction == "reverse":
                total = total + (torch.exp(log_s) * (log_s - log_t)).sum()
            else:
                total = total + (torch.exp(log_t) * (log_t - log_s)).sum()
            count = count + 1
    return total / count


def task_arithmetic(vanilla_state, augmented_state, lam):
    """theta_u = theta_v - lam (theta_aug - theta_v), in float64 (Ilharco 2022). What is no float stays vanilla's."""
    if set(vanilla_state) != set(augmented_state):
        raise ValueError("the two state dicts differ in their names")
    result = {}
    for name in vanilla_state:
        if not vanilla_state[name].is_floating_point():
            result[name] = vanilla_state[name].clone()
            continue
        theta_v = vanilla_state[name].to(torch.float64)
        theta_aug = augmented_state[name].to(torch.float64)
        result[name] = theta_v - lam * (theta_aug - theta_v)
    return result


def uipe(vanilla_state, unlearned_state, alpha):
    """theta = theta_u + alpha (theta_u - theta_v), in float64 (Wang 2025, arXiv:2503.04693). What is no float stays
    theta_u's.
    """
    if set(vanilla_state) != set(unlearned_state):
        raise ValueError("the two state dicts differ in their names")
    result = {}
    for name in unlearned_state:
        if not unlearned_state[name].is_floating_point():
            result[name] = unlearned_state[name].clone()
            continue
        theta_v = vanilla_state[name].to(torch.float64)
        theta_u = unlearned_state[name].to(torch.float64)
        result[name] = theta_u + alpha * (theta_u - theta_v)
    return result


def uipe_automatic(nll_of_alpha, tolerance, grid, bisections):
    """The largest alpha whose retain-validation NLL is at most tolerance (in nats) over that at alpha = 0: our own
    choice.

    Walks the grid upward to the first failure, then halves between the last good and the first bad value, bisections
    times. 0 is good by definition; without a failure the grid's last value is the answer. A NaN is a failure.
    """
    limit = nll_of_alpha(0.0) + tolerance
    good = 0.0
    bad = None
    for alpha in sorted(grid):
        if nll_of_alpha(alpha) <= limit:
            good = alpha
        else:
            bad = alpha
            break
    if bad is None:
        return good
    for _ in range(bisections):
        middle = (good + bad) / 2.0
        if nll_of_alpha(middle) <= limit:
            good = middle
        else:
            bad = middle
    return good


def select(scores, k, how="largest"):
    """Positions of the k largest or smallest scores, best first, ties by first position: MEOW (Gu 2024, 2409.11844).

    All positions when there are fewer than k.
    """
    if how not in ("largest", "smallest"):
        raise ValueError(f"no such order: {how}")
    left = list(range(len(scores)))
    chosen = []
    while left and len(chosen) < k:
        best = left[0]
        for position in left[1:]:
            if how == "largest" and scores[position] > scores[best]:
                best = position
            if how == "smallest" and scores[position] < scores[best]:
                best = position
        chosen.append(best)
        left.remove(best)
    return chosen
