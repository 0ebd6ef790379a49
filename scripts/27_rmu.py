"""RMU (Li et al. 2024, arXiv:2403.03218): steers the hidden states of one layer to a random direction, and holds them
elsewhere.

L = L_f + α L_r; L_f = E ‖h - c·u‖²/d over the forget answers' tokens, h the states after block ℓ and u one random unit
vector; L_r = E ‖h - h of the vanilla model‖²/d over the retain answers' tokens. Only the blocks up to ℓ are computed,
and learn. Blocks are counted from 1: layer_id 7 of the released code, model.layers[7], is block 8.
"""

from lib.flags import arguments, count_or_none, positive
from lib.likelihood import answer_states
from lib.reference import reference
from lib.trainer import start

import torch


def rmu_loss(states, target, batch):
    """E ‖h - target‖²/d over the answer tokens. states: (answer tokens, hidden); target: likewise, or one row for all
    → scalar.
    """
    return batch.token_mean(((states - target) ** 2).mean(-1))


if __name__ == "__main__":
    args = arguments(
        __doc__,
        lr=1e-5,
        epochs=10.0,
        batch=1,
        accumulation=8,
        retain=("states", "states: hidden states stay the vanilla model's; none", None, ("states", "none")),
        layer=(
            0,
            "block ℓ whose output is steered, counted from 1 (layer_id 7 of the released code is block 8); 0: 7 of 32, "
            "or as deep",
            count_or_none,
        ),
        steering=(2.0, "length c of the vector (TOFU 2, WMDP 20 to 300)", positive),
        retain_weight=(1.0, "weight α of the retain loss"),
    )
    model, trainer = start(args)
    config = model.config.get_text_config()
    block = args.layer or max(1, round(7 / 32 * config.num_hidden_layers))
    generator = torch.Generator().manual_seed(args.seed)
    vector = torch.rand(config.hidden_size, generator=generator)
    vector = (args.steering * vector / vector.norm()).to(next(model.parameters()).device)
    for forget, retain in trainer:
        loss = rmu_loss(answer_states(model, forget, block), vector, forget)
        if args.retain == "states":
            vanilla = reference(answer_states, model, retain, block=block)
            loss = loss + args.retain_weight * rmu_loss(answer_states(model, retain, block), vanilla, retain)
        loss.backward()
        trainer.update(loss)
    trainer.finish()
