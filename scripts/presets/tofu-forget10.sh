# TOFU forget10 on Llama-2-7b-chat, forget quality against utility: RKLD (RKLU, NAACL 2025, Tables 1 and 8), MEOW and
# UIPE beside the baselines of these papers. Needs a GPU and a hub. (MEOW reports Phi-1.5 too: not here.)
. scripts/presets/tofu-llama2.sh
DATA_FLAGS="--split forget10"
METHODS="GA GA+GDR GA+KLR NPO NPO+GDR DPO IDK TA RKLD RKLD+KLR FKLD MEOW"
METHODS+=" GA+UIPE GA+GDR+UIPE GA+KLR+UIPE NPO+UIPE NPO+GDR+UIPE"
METRICS="tofu"
SET=()  # those of tofu-llama2 are ReLearn's table's
# published: RKLD's teacher strength 8, NPO's and DPO's β 0.1, MEOW's 3 inverted facts a question with the largest
# MEMO, MEMO every 5 characters and at most 200 new tokens: all of them the scripts' defaults
MEMO="--el 0"
GENERATE="--max-new-tokens 200"   # greedy, as in TOFU
# not published for LoRA, so chosen here: the rate and the epochs with which ReLearn's table trains GA with LoRA on
# this set and model, batches of 32, and for UIPE the largest α that costs the retain set 0.1 nats a token (20_uipe.py)
BASELINE="--lr 1e-4 --epochs 5 --batch 4 --accumulation 8"
AUGMENTED=$BASELINE
FINETUNE="--lr 3e-4 --epochs 10 --batch 16 --accumulation 4"   # the retrained model; the vanilla one is published
