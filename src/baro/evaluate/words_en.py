"""Every fixed text of a report in English; words_ko.py has the same keys and placeholders."""

ENGLISH = {
    # page
    "contents": "Contents",
    "theme_dark": "Dark",
    "theme_light": "Light",
    "theme_label": "Switch between light and dark",
    "none": "none",
    "stages_count": "{n} stages",
    "seed": "seed",
    "made_by": "Made by Baro {version}. This file is complete in itself; report.json beside it holds every figure.",
    # headline
    "summary": "In short",
    "better": "{policy} beats {against}: {facts}.",
    "worse": "{policy} loses to {against}: {facts}.",
    "same": "No evidence that {policy} differs from {against}: {facts}. The interval reaches 0.5.",
    "unknown": "{policy} against {against}: {facts}, without an interval, so nothing is claimed.",
    "tag_better": "better",
    "tag_worse": "worse",
    "tag_same": "no evidence",
    "tag_unknown": "no interval",
    "tag_warning": "caution",
    "tag_note": "note",
    "fact_controlled": "length-controlled win rate {value}",
    "fact_plain": "win rate {value}, not controlled for length",
    "fact_judge": "judged by {judge}",
    "fact_kl": "at KL {value} nats",
    "self_broken": (
        "{against} against itself wins {value}, away from 0.5: the comparison is biased, and the win rates "
        "here should not be trusted."
    ),
    "reward_above": "Reward model accuracy on held-out pairs: {value}, above every baseline.",
    "reward_not_above": "Reward model accuracy on held-out pairs: {value}, not clearly above every baseline.",
    "reward_alone": "Reward model accuracy on held-out pairs: {value}.",
    "weak_reward": "The reward model of {stage} is weak: {reasons}.",
    "weak_cost": "The cost model of {stage} is weak: {reasons}.",
    "weak_ranking": "it may order held-out pairs right in {value} of cases, which is no better than chance",
    "weak_sign": "the balanced accuracy of its sign may be as low as {value}, which is no better than chance",
    "weak_accuracy": "its accuracy on held-out pairs may be as low as {value}, which is no better than chance",
    "weak_ece": "its probabilities are off by {value} on average, above the limit of {limit}",
    "weak_length": (
        "its scores follow length with a correlation of {value} or stronger, beyond the limit of {limit} either way"
    ),
    "trained_on_weak": "{stage} was trained on the weak reward model of {reward}: its reward means nothing.",
    "no_comparison": (
        "No policy has been compared with another here, so this report says nothing about which is better."
    ),
    "right_of_one": "{policy} by {reward}: share of right answers {value}.",
    "right_of_several": (
        "{policy} by {reward}: share of right answers {value}; of problems with a right one in {k} answers {several}."
    ),
    "nothing_solved": (
        "{policy} by {reward}: no right answer to any of {n} problems, in {k} answers to each. GRPO would learn "
        "nothing, as all answers to a problem get the same reward: easier problems or demonstrations come first."
    ),
    "baseline_policy": "the baseline",
    "tile_wins": "{policy} wins against {against}",
    "tile_reward": "Reward model accuracy",
    # sections
    "wins": "Win rates",
    "wins_lead": (
        "How often a judge prefers each policy's answer to that of {against}, for the same prompt. At 0.5 the "
        "two are equally good."
    ),
    "frontier": "Reward over KL",
    "frontier_lead": (
        "What a policy gained, and how far it moved from where it started. Up and to the left is better: the "
        "same reward for less distance."
    ),
    "solved": "Problems solved",
    "solved_lead": (
        "How many answers are right, and how many problems several answers solve. pass@k is the chance that one of k "
        "answers at least is right, maj@n whether the most frequent of n answers is. From a problem that no answer "
        "solves GRPO learns nothing."
    ),
    "critiques": "Critique and revision",
    "critiques_lead": (
        "{n} answers, criticised and revised by principles, round after round. The last revisions are what a model "
        "learns from. A sentence that many revisions share is learned by rote."
    ),
    "round": "Round",
    "round_of": "Round {k}",
    "first_answer": "First answer",
    "critique": "Critique",
    "given_up": "given up",
    "changed": "Answers changed",
    "common_sentence": "With the most common sentence",
    "sentence": "Which is",
    "constraint": "Limit on costs",
    "constraint_lead": (
        "Whether answers cost no more than the limit on average, over the last quarter of each run's rollouts. λ is "
        "what one unit of cost was worth in reward. The intervals are over prompts."
    ),
    "limit": "limit",
    "mean_cost": "mean cost",
    "limit_verdict": "the limit is",
    "limit_held": "held",
    "limit_broken": "broken",
    "limit_open": "not told apart from the cost",
    "limit_unknown": "without an interval",
    "over_limit": "answers over the limit",
    "multiplier": "λ",
    "rollout_axis": "rollout",
    "controls": "Controls",
    "controls_lead": (
        "Comparisons whose outcome should be known beforehand. If one comes out otherwise, the figures above "
        "deserve doubt."
    ),
    "reward": "Reward model",
    "reward_lead": (
        "How often the better of two answers gets the higher score, on pairs that were held out of training."
    ),
    "samples": "Before and after",
    "samples_lead": "The same prompts, answered by every policy. {n} prompts in all; those shown were not selected.",
    "judges_lead": "A judge's number is the chance that it prefers the answer to that of {against}.",
    "rollouts": "Answers along training",
    "rollouts_lead": "What {stage} sampled in its first and in its last logged rollout.",
    "curves": "Training curves",
    "curves_lead": "Faint: every logged step. Line: its running mean. The number is the last value of the line.",
    "ledger": "Where every row went",
    "ledger_lead": "Every input row is accounted for: used, shortened, left out, and why.",
    "lineage": "Lineage and settings",
    "lineage_lead": "What was made from what. Each stage's settings are below.",
    "notes": "How to read this",
    "all_figures": "Every figure",
    "figures_count": "{n} figures",
    "hours": "{hours} h {minutes} min",
    "minutes": "{minutes} min {seconds} s",
    "seconds": "{seconds} s",
    # columns
    "policy": "policy",
    "win_rate": "win rate",
    "win_rate_length_controlled": "length-controlled",
    "plain_win_rate": "plain",
    "reads_as": "reads as",
    "judge": "judge",
    "kl": "KL (nats)",
    "reward_of": "reward: {name}",
    "tokens": "tokens",
    "finished_fraction": "finished",
    "loss": "loss on texts",
    "distinct_2": "distinct-2",
    "accuracy": "one answer right",
    "unsolved": "never solved",
    "problems": "problems",
    "control": "control",
    "expected": "expected",
    "outcome": "outcome",
    "measure": "measure",
    "value": "value",
    "interval": "95% interval",
    "stage": "stage",
    "verb": "does",
    "status": "status",
    "status_finished": "finished",
    "status_running": "running",
    "status_stopped": "stopped",
    "steps": "steps",
    "duration": "time",
    "peak_memory": "peak memory",
    "tokens_per_second": "tokens/s",
    "input": "input",
    "rows": "rows",
    "kept": "used",
    "dropped": "left out",
    "truncated": "shortened",
    "repeated": "repeated",
    "setting": "setting",
    "versions": "versions",
    "inputs": "inputs (SHA-256)",
    "parents": "made from",
    "prompt": "prompt",
    "score": "score",
    "best": "best",
    "unfinished": "cut off",
    "rollout": "rollout {n}",
    "more_samples": "{n} more prompts",
    "samples_left_out": "{n} further prompts are in comparisons.jsonl of the evaluation.",
    "examples_left_out": "and {n} more, in ledger.json",
    "settings_of": "Settings of {stage}",
    "not_in_report": "not in this report",
    # controls
    "control_self": "{policy} against itself",
    "control_best_of": "best of {n}",
    "control_length": "length reward",
    "control_random": "random reward",
    "control_kl_off": "no KL penalty",
    "expect_self": "0.5: the comparison has no bias of its own",
    "expect_best_of": "above 0.5: what picking by reward gains without training",
    "expect_length": "not above 0.5: length alone earns nothing",
    "expect_random": "not above 0.5: training as such earns nothing",
    "expect_kl_off": "shows what the penalty holds back; nothing is expected of its win rate",
    "as_expected": "as expected",
    "not_as_expected": "not as expected",
    "nothing_expected": "for comparison",
    # accuracy rows
    "reward_model/accuracy": "reward model",
    "reward_model/ece": "calibration error (ECE)",
    "reward_model/weak": "reasons to doubt it",
    "reward_model/length_correlation": "correlation of score and length",
    "reward_model/accuracy_by_margin/1": "accuracy, smallest quarter of the score differences",
    "reward_model/accuracy_by_margin/2": "accuracy, second quarter",
    "reward_model/accuracy_by_margin/3": "accuracy, third quarter",
    "reward_model/accuracy_by_margin/4": "accuracy, largest quarter",
    "reward_model/accuracy_by_length/chosen_shorter": "accuracy where the preferred answer is shorter",
    "reward_model/accuracy_by_length/same_length": "accuracy where both are as long",
    "reward_model/accuracy_by_length/chosen_longer": "accuracy where the preferred answer is longer",
    "reward_model/vote_agreement": "agreement with one more vote",
    "reward_model/vote_ceiling": "the most that anybody can agree with one more vote",
    "ensemble/worst/accuracy": "the least of the members' scores",
    "ensemble/std": "how much the members differ (sd)",
    "ensemble/divided": "pairs on which the members differ",
    "baseline/longer_wins": "baseline: the longer one",
    "baseline/shorter_wins": "baseline: the shorter one",
    "reward_model/pair_accuracy": "reward model",
    "baseline/unigram": "baseline: single words",
    "baseline/chance": "chance",
    # plots
    "train": "training",
    "held_out": "held out",
    "chosen": "chosen",
    "rejected": "rejected",
    "step": "step",
    "while_training": "{stage} while training",
    "alt_wins": "Win rates by {judge}: {values}",
    "alt_solved": "Right answers by {name}, of one and of several: {values}",
    "alt_pass": "pass@k by {name} for k = {ks}: {values}",
    "alt_frontier": "Reward {name} over KL: {values}",
    "alt_trajectory": "Reward {name} over KL while {stage} trains: {values}",
    "alt_curve": "{title} of {stage} over steps: {values}",
    "alt_accuracy": "Accuracy on held-out pairs: {values}",
    "alt_lineage": "Lineage of the stages: {values}",
    "alt_ends": "{name} from {first} to {last}",
    "alt_edge": "{child} from {parents}",
    "panel_loss": "loss",
    "panel_accuracy": "accuracy",
    "panel_margin": "margin of the scores",
    "panel_rewards": "implicit rewards",
    "panel_logps": "log-probability (nats)",
    "panel_scores": "score",
    "panel_kl": "KL from the reference (nats)",
    "panel_entropy": "entropy (nats per token)",
    "panel_tokens": "answer length (tokens)",
    "panel_finished": "finished answers",
    "panel_approx_kl": "KL of one update (nats)",
    "panel_clip": "clipped tokens",
    "panel_policy_loss": "policy loss",
    "panel_value_loss": "value loss",
    "panel_cost_value_loss": "value loss of costs",
    "panel_kl_coef": "KL coefficient",
    "panel_grad_norm": "gradient norm",
    "panel_speed": "tokens per second",
    # notes
    "note_interval": "Interval",
    "note_interval_text": (
        "Square brackets hold the 95% interval: over many repetitions of the whole measurement, 95 of 100 such "
        "intervals hold the true value. Win rates and KL are resampled by prompt (bootstrap), accuracies use "
        "Wilson's interval. n is the number of independent units. Where an interval of a win rate holds 0.5, "
        "this report claims no difference. The interval covers the choice of prompts, not that of the training "
        "seed."
    ),
    "note_controlled": "Length-controlled win rate",
    "note_controlled_text": (
        "Judges tend to like longer answers. A logistic regression of the verdict on the difference in length "
        "is read at a difference of zero: the win rate to expect if both answers were equally long. The plain "
        "win rate stands beside it."
    ),
    "note_kl": "KL",
    "note_kl_text": (
        "How far a policy's answers are from those of the policy that it started from, in nats for a whole "
        "answer (natural logarithm, summed over its tokens), on the policy's own answers. 0 means unchanged. "
        "For best-of-n it is the upper bound log n − (n − 1)/n."
    ),
    "note_ece": "Calibration error",
    "note_ece_text": (
        "The distance between the stated probability that an answer is better and how often it was, averaged "
        "over ten equally wide bins. 0 is calibrated."
    ),
    "note_distinct": "Distinct-2",
    "note_distinct_text": (
        "Different pairs of neighbouring words over all such pairs: low where answers repeat each other."
    ),
    "note_loss": "Loss on texts",
    "note_loss_text": (
        "How badly a policy predicts given texts, in nats per token: above the starting model's, it has forgotten some."
    ),
    "note_missing": "Missing values",
    "note_missing_text": (
        "A dash (–) is a figure without a value: it was not measured, or it was not a finite number."
    ),
}
