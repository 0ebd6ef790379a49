# Sourced by run_all.sh and tools/meta_evaluation.sh: the metrics of every model of the table, each in one go. Those in
# `metric` lines are there with --metrics. $folders are the models, $forget and $retain their answers, $(each NAME) the
# files to write, one a model; $suffix tells the steps of several groups of models apart.
suffix=
# false answers that no model saw: other values than those that MEOW and AltPO learn
false_answers       invert-forget forget_val.jsonl --seed 1 --avoid $R/augmented/inverted.jsonl \
                    --out $R/augmented/forget_inverted.jsonl
false_answers       invert-retain retain_val.jsonl --seed 1 --out $R/augmented/retain_inverted.jsonl
measure() {
  step kfr_krr$suffix    reads $judging runs eval/01_kfr_krr.py --forget $forget --retain $retain "${judge[@]}" \
                      --out $(each kfr_krr)
  step linguistic-forget$suffix runs eval/02_linguistic.py --answers $forget --model $R/models/base \
                      --out $(each linguistic_forget)
  step linguistic-retain$suffix runs eval/02_linguistic.py --answers $retain --model $R/models/base \
                      --out $(each linguistic_retain)
  metric next_token   runs eval/08_next_token.py --model $folders --questions $asked --out $(each next_token)
  metric tofu         runs eval/03_tofu.py --model $folders $(tofu_sets) $(last_of --max-new-tokens $GENERATE) \
                      $(last_of --batch $GENERATE) --reference $R/metrics/retrained/tofu.json --out $(each tofu) \
                      $TOFU_FLAGS
  metric exposure     runs eval/05_exposure.py --models $folders --reference $R/models/retrained --forget $asked \
                      --fresh $R/augmented/forget_inverted.jsonl --out $(each exposure)
  metric memorization runs eval/04_memorization.py --model $folders --pairs $asked --out $(each memorization) $MEMO \
                      --el 3
  metric sampling     runs eval/15_sampling.py --model $folders --questions $asked --out $(each sampling) \
                      $(last_of --max-new-tokens $GENERATE)
  metric membership   reads $data/holdout.jsonl runs eval/16_membership.py --model $folders --forget $asked \
                      --base $R/models/base --retrained $R/models/retrained --out $(each membership)
  metric depth        runs eval/17_depth.py --model $folders --vanilla $R/models/vanilla --questions $asked \
                      --retrained $R/models/retrained --out $(each depth)
  metric robustness   reads data/attacks.json $judging $data/forget_tune.jsonl $data/retain_train.jsonl \
                      writes $(each robustness) $R/report/robustness.md $R/report/robustness.png \
                      runs eval/10_robustness.py --models $folders --forget $asked --out $R/metrics --report $R/report \
                      "${judge[@]}" $(last_of --max-new-tokens $GENERATE) $ROBUSTNESS
  metric mechanism    runs eval/11_mechanism.py --models $folders --questions $asked --out $R/mechanism
  metric ability      reads data/general_heldout.jsonl writes $(each ability) $R/report/ability.md \
                      runs eval/12_ability.py --models $folders --out $R/metrics --report $R/report $ABILITY
  metric judge        reads data/prompts/judge.txt runs eval/13_judge.py --answers $forget "${llm_judge[@]}" \
                      --out $(each judge)
}
