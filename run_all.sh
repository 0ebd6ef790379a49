#!/usr/bin/env bash
# From nothing to a table: what each method forgot, what it kept, and whether the model still speaks well.
#
#   bash run_all.sh                                                     # five methods on SmolLM2-135M, on a laptop
#   bash run_all.sh --methods "NPO+GDR ReLearn" --set "NPO+GDR --lr 1e-4"   # --help lists methods and flags
#   bash run_all.sh --show NPO+GDR                                      # a method's flags, and where each comes from
#
# `step NAME reads FILES runs SCRIPT FLAGS` declares a step. It reads what its command names and what `reads` lists (of
# the data only that), and writes what --out names. The last line runs the steps that the report needs: each as soon as
# what it reads is made, unless it is done and all that it rests on is as it was. Capitals are the preset's settings.
set -euo pipefail; cd "$(dirname "${BASH_SOURCE[0]}")"
. scripts/pipeline.sh "$@"   # the engine; R is work/<run>, whose name holds no space
data=$R/data asked=$data/forget_val.jsonl vague=$R/augmented/forget_augmented

# ---- models and data
step models  runs scripts/00_models.py --model "$MODEL" --chat-template "$TEMPLATE" --out $R/models/base $MODEL_FLAGS
step minilm  runs scripts/00_models.py --model "$EMBEDDING" --out $R/models/minilm
step data    reads data/people runs scripts/01_data.py --data "$DATA" --persons "$PERSONS" --out $data \
             "${data_flags[@]}"

# ---- vanilla knows everything; retrained never saw what is to be forgotten
fine_tuned() {  # NAME FILE MODEL FLAGS...: made here of the base model, unless a published MODEL is given
  if [ -n "$3" ]; then step $1 runs scripts/00_models.py --model "$3" --tokenizer $R/models/base --out $R/models/$1
  else step $1 reads $data/$2 runs scripts/02_finetune.py --model $R/models/base --data $data --out $R/models/$1 \
    "${@:4}" $TRAIN $FINETUNE; fi
}
fine_tuned vanilla full.jsonl "$VANILLA"
fine_tuned retrained full_without_forget.jsonl "$RETRAINED" --without-forget

# ---- vague answers (ReLearn), false answers and how well they are known (MEOW), a model that learnt more (RKLD)
false_answers() {  # NAME FILE FLAGS...
  step $1 reads $data/$2 data/inversion.json data/prompts/invert.txt \
    runs scripts/04_invert.py --data $data --file "${@:2}"
}
step augment    reads $data/forget_train.jsonl data/augmentation.json data/general_knowledge.jsonl data/prompts \
                writes $vague.json $vague.jsonl runs scripts/03_augment.py --data $data --out $vague.jsonl $AUGMENT
false_answers   invert forget_train.jsonl --out $R/augmented/inverted.jsonl $INVERT
step memo       runs eval/04_memorization.py --model $R/models/vanilla --pairs $R/augmented/inverted.jsonl \
                --out $R/augmented/memo.json $MEMO
step augmented  reads $data/forget_train.jsonl runs scripts/02_finetune.py --model $R/models/vanilla --data $data \
                --forget forget_train.jsonl --adapter --out $R/models/augmented $TRAIN $AUGMENTED

# ---- every model of the table is asked the validation questions
answer() {  # NAME FOLDER
  row $1 $2
  step answers-$1 runs scripts/30_generate.py --model $2 --out $R/answers/$1 \
    --questions $asked $data/retain_val.jsonl $GENERATE
}
for name in vanilla retrained; do answer $name $R/models/$name; done

# ---- the methods: a line each holds what makes the method; rates, epochs and batches are settings (--show METHOD)
declare -A also=([scripts/13_dpo.py]=data/refusals.json [scripts/14_idk.py]=data/refusals.json   # what only these read
                 [scripts/29_idk_ap.py]=data/refusals.json
                 [scripts/20_uipe.py]="$data/retain_tune.jsonl $data/retain_val.jsonl")
unlearn() {  # NAME SCRIPT FLAGS...
  step $1 reads $data/forget_train.jsonl $data/retain_train.jsonl ${also[$2]:-} \
    runs $2 --data $data --out $(trained $1) "${@:3}"
  best_point $1 $data "$GENERATE"
  answer $1 $R/methods/$1
}
tune() {  # NAME SCRIPT FLAGS...: in place of that with --tune
  step tune-$1 reads $data/{forget,retain}_{train,tune,val}.jsonl scripts/30_generate.py eval/01_kfr_krr.py $judging \
    ${also[$2]:-} "${judge[@]}" runs scripts/tools/tune.py --name $1 --rates $rates --model $R/models/vanilla \
    --data $data --out $R/tune/$1 --generate " $GENERATE" --judge " ${judge[*]@Q}" -- "${@:2}"
}
each_retain() {  # NAME SCRIPT FLAGS...: alone, and with each retain loss
  method $1 "${@:2}" --retain none
  for loss in gdr klr; do method $1+${loss^^} "${@:2}" --retain $loss; done
}
each_retain GA          10_ga.py
each_retain NPO         11_npo.py
each_retain DPO         13_dpo.py
each_retain IDK         14_idk.py
method GA+GDR+SURE      15_sure.py     --loss ga  --retain gdr
method GA+KLR+SURE      15_sure.py     --loss ga  --retain klr
method NPO+GDR+SURE     15_sure.py     --loss npo --retain gdr
method NPO+KLR+SURE     15_sure.py     --loss npo --retain klr
method GA+GDR+MemFlex   16_memflex.py  --loss ga  --retain gdr
method NPO+GDR+MemFlex  16_memflex.py  --loss npo --retain gdr
method ReLearn          12_relearn.py  --forget "$R/augmented/forget_augmented.jsonl"
method ReLearn-DPO      13_dpo.py      --prefer "$R/augmented/forget_augmented.jsonl" --retain gdr
method MEOW             17_meow.py     --forget "$R/augmented/inverted.jsonl" --memo "$R/augmented/memo.json"
each_retain RKLD        18_rkld.py     --augmented "$R/models/augmented"
method FKLD             18_rkld.py     --augmented "$R/models/augmented" --divergence forward
method TA               19_ta.py
method SimNPO+GDR       21_simnpo.py   --retain gdr
method AltPO+GDR        22_altpo.py    --alternatives "$R/augmented/inverted.jsonl" --retain gdr
method UNDIAL           23_undial.py
method WGA+GDR          24_wga.py      --retain gdr
method SatImp+GDR       24_wga.py      --beta1 5 --beta2 1 --forget-weight 0.1 --retain gdr
method CE-U             25_ceu.py
method PDU+GDR          26_pdu.py      --retain gdr
method RMU              27_rmu.py
method ME+GDR           28_me.py       --retain gdr
method IDK+AP           29_idk_ap.py
method IHL+GDR          31_ihl.py      --retain gdr
for name in GA GA+GDR GA+KLR NPO NPO+GDR; do extrapolate $name+UIPE $name; done

# ---- metrics of every model: a line each in scripts/metrics.sh
. scripts/metrics.sh
measure
step report         reads data/published.json $folders runs eval/09_report.py --metrics $(each) --run $R \
                    --preset "$preset" --command "$as_given" --published "$PUBLISHED" --out $R/report
run report
