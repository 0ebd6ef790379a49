# TOFU forget01 on Llama-2-7b-chat: RKLD, MEOW, UIPE and their baselines, with the values of tofu-forget10.
. scripts/presets/tofu-forget10.sh
DATA_FLAGS="--split forget01"
