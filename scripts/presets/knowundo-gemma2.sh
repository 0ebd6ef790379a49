# ReLearn, Table 8: KnowUnDo privacy on Gemma-2-2b-it. Published values; needs a GPU and a hub.
. scripts/presets/knowundo-llama2.sh
MODEL=google/gemma-2-2b-it
GA_GDR="--lr 1e-5 --epochs 10 --batch 1 --accumulation 8"
GA_KLR=$GA_GDR
NPO_GDR="--lr 3e-4 --epochs 10 --batch 1 --accumulation 8"
NPO_KLR=$NPO_GDR
RELEARN="--lr 1e-5 --epochs 4 --batch 1 --accumulation 4"
