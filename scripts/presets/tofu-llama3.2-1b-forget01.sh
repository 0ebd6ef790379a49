# TOFU forget01 on Llama-3.2-1B-Instruct, otherwise as tofu-llama3.2-1b-forget10; one vanilla model serves both.
. scripts/presets/tofu-llama3.2-1b-forget10.sh
DATA_FLAGS="--split forget01"
RETRAINED=open-unlearning/tofu_Llama-3.2-1B-Instruct_retain99
