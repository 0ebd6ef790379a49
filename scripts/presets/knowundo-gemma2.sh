# ReLearn, Table 8: KnowUnDo privacy on Gemma-2-2b-it. Published values; needs a GPU and a hub.
. scripts/presets/knowundo-llama2.sh
MODEL=google/gemma-2-2b-it
for name in GA+GDR GA+GDR+SURE GA+KLR GA+KLR+SURE; do
  SET[$name]="--lr 1e-5 --epochs 10 --batch 1 --accumulation 8"
done
for name in NPO+GDR NPO+GDR+SURE NPO+KLR NPO+KLR+SURE; do
  SET[$name]="--lr 3e-4 --epochs 10 --batch 1 --accumulation 8"
done
SET[ReLearn]="--lr 1e-5 --epochs 4 --batch 1 --accumulation 4"
