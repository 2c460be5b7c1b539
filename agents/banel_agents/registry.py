"""The shipped agents: a line each. Importing this imports no agent."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["AGENTS", "Shipped"]


class Shipped(NamedTuple):
    """The line of a shipped agent in the registry."""

    where: str
    """Its class as "module:Class". The module is imported when an agent is made."""
    about: str
    """What it does with its default settings, in a sentence or two, for the board and `banel list`."""
    portable: bool = True
    """Whether its questions are the same on every processor. Where PyTorch trains, they are not."""
    ranked: bool = True
    """Whether the board gives it a rank. A control that breaks the rule of withheld successes on purpose has none."""
    dead_on_failures: bool = False
    """Whether it stays at the base policy, to the bit, until a success is told. Under the feedback `failures` none is."""
    reads_answers: bool = True
    """Whether an answer can change what it asks. Where none can, its runs are the same under every regime."""


AGENTS: dict[str, Shipped] = {
    "base": Shipped(
        "banel_agents.controls.sampling:Base",
        "control: samples the base policy and learns nothing.",
        reads_answers=False,
    ),
    "without_replacement": Shipped(
        "banel_agents.controls.sampling:WithoutReplacement",
        "control: the base policy, never asking a sequence twice. Every learner has to beat it.",
        reads_answers=False,
    ),
    "tempered": Shipped(
        "banel_agents.controls.sampling:TemperedBase",
        "control: the base policy at temperature 2, chosen without any answer.",
        reads_answers=False,
    ),
    "uniform_grammar": Shipped(
        "banel_agents.controls.grammar:UniformOverGrammar",
        "control: every well-formed sequence with equal probability, none asked twice.",
        reads_answers=False,
    ),
    "ladder": Shipped(
        "banel_agents.controls.grammar:Ladder",
        "control: six temperatures within the grammar and the grammar itself, mixed evenly, none asked twice.",
        reads_answers=False,
    ),
    "memorise": Shipped("banel_agents.controls.sampling:Memorise", "control: repeats its first success for ever."),
    "tempered_sft": Shipped(
        "banel_agents.controls.tempered_sft:TemperedSFT",
        "temperature 2 until a success is told, then fine-tuning on all successes told. Learns from successes only.",
    ),
    "tempered_sft_new": Shipped(
        "banel_agents.controls.tempered_sft_new:TemperedSFTNew",
        "tempered_sft that asks no sequence twice while its policy writes new ones. Learns from successes only.",
    ),
    "omission": Shipped(
        "banel_agents.controls.omission:Omission",
        "breaks the rule on purpose and is never ranked: takes what was asked and not told for a success, and fine-tunes "
        "on it.",
        ranked=False,
    ),
    "random_filter": Shipped(
        "banel_agents.controls.filters:RandomFilter",
        "control: BaNEL whose filter keeps candidates by chance.",
        reads_answers=False,
    ),
    "low_likelihood": Shipped(
        "banel_agents.controls.filters:LowLikelihood",
        "control: BaNEL whose filter keeps the candidates that the policy itself finds least likely.",
        reads_answers=False,
    ),
    "banel": Shipped(
        "banel_agents.failure_model.banel:BaNEL",
        "BaNEL: fits a model of the failures, keeps the candidates that look least like them, and learns from those.",
    ),
    "banel_paper": Shipped(
        "banel_agents.failure_model.banel_paper:BaNELPaper",
        "BaNEL as its paper describes it: a model of all failures, and the regions of all rounds.",
    ),
    "banel_stop": Shipped(
        "banel_agents.failure_model.banel_stop:BaNELStop",
        "BaNEL that stops distilling when its model no longer tells held-out failures from fresh samples.",
    ),
    "soft_banel": Shipped(
        "banel_agents.failure_model.soft_banel:SoftBaNEL",
        "BaNEL with weights in place of a filter: a power of the ratio, its effective number set by f.",
    ),
    "typed_banel": Shipped(
        "banel_agents.failure_model.typed_banel:TypedBaNEL",
        "ours: BaNEL that is told why each failure failed: it keeps what looks like a near miss and unlike an early failure. "
        "Told no types it is `banel`.",
    ),
    "negative_guidance": Shipped(
        "banel_agents.failure_model.negative_guidance:NegativeGuidance",
        "the base policy pushed away from a model of all failures at every token; nothing is distilled.",
    ),
    "count": Shipped(
        "banel_agents.novelty.count:Count",
        "policy gradient plus a count bonus. What is counted is a hash: the position and the last 3 tokens, so that "
        "states which share these are one. It is no pseudo-count of a density model.",
    ),
    "rnd": Shipped(
        "banel_agents.novelty.rnd:RND",
        "policy gradient plus the error of predicting a fixed random network on the position and the last 3 tokens.",
        portable=False,
    ),
    "pseudo_count": Shipped(
        "banel_agents.novelty.pseudo_count:PseudoCount",
        "policy gradient plus a bonus from pseudo-counts of a density model that is trained online.",
    ),
    "coin_flip": Shipped(
        "banel_agents.novelty.coin_flip:CoinFlip",
        "policy gradient plus the bonus of a coin-flip network on the position and the last 3 tokens.",
        portable=False,
    ),
    "elliptical": Shipped(
        "banel_agents.novelty.elliptical:Elliptical",
        "policy gradient plus the elliptical bonus of the base network's mean hidden state.",
    ),
    "dp_novelty": Shipped(
        "banel_agents.novelty.dp_novelty:DPNovelty",
        "policy gradient plus the probability that a hidden state is of no cluster met before, by a Dirichlet process.",
    ),
    "bandit": Shipped(
        "banel_agents.search.bandit:Bandit",
        "ours: Thompson sampling over temperatures, the grammar, fine-tuning and edits of the successes told; asks nothing "
        "twice.",
    ),
    "expert_iteration": Shipped(
        "banel_agents.search.expert_iteration:ExpertIteration",
        "temperature 2 within the grammar; fits the base policy anew to all successes told; asks nothing twice.",
    ),
    "genetic": Shipped(
        "banel_agents.search.genetic:Genetic",
        "a genetic algorithm: edits and crossings of the successes told, of samples before the first; asks nothing twice.",
    ),
    "proxy": Shipped(
        "banel_agents.search.proxy:Proxy",
        "asks the candidates that a classifier of all answers likes best: an ensemble of logistic regressions.",
    ),
    "screened_bandit": Shipped(
        "banel_agents.search.screened_bandit:ScreenedBandit",
        "ours: the bandit, whose arms draw many candidates for each question; a classifier of all answers chooses among them.",
    ),
    "reinforce": Shipped(
        "banel_agents.sequence.reinforce:Reinforce",
        "policy gradient on the reward alone. Learns from successes only.",
        dead_on_failures=True,
    ),
    "ppo": Shipped(
        "banel_agents.sequence.ppo:PPO",
        "Stable-Baselines3's PPO, token by token, with an entropy bonus. Learns from successes only.",
        portable=False,
    ),
    "maskable_ppo": Shipped(
        "banel_agents.sequence.maskable_ppo:MaskablePPO",
        "sb3-contrib's MaskablePPO: ppo that never leaves the grammar. Learns from successes only.",
        portable=False,
    ),
    "nsr": Shipped(
        "banel_agents.negative.nsr:NSR",
        "negative sample reinforcement: policy gradient with -1 for a failure, 0 for a success.",
    ),
    "w_reinforce": Shipped(
        "banel_agents.negative.w_reinforce:WReinforce", "policy gradient with -1 for a failure and 0.1 for a success."
    ),
    "unlikelihood": Shipped(
        "banel_agents.negative.unlikelihood:Unlikelihood",
        "unlikelihood of every token of a failure, likelihood of base samples and of successes told.",
    ),
    "npo": Shipped(
        "banel_agents.negative.npo:NPO",
        "negative preference optimisation of all failures, with a KL term that keeps samples of the base policy.",
    ),
    "grpo": Shipped(
        "banel_agents.sequence.group:GRPO",
        "GRPO: the reward in standard deviations from the round's mean, by length, and a KL term.",
        dead_on_failures=True,
    ),
    "rloo": Shipped(
        "banel_agents.sequence.group:RLOO",
        "REINFORCE with the mean reward of the others in the round as baseline.",
        dead_on_failures=True,
    ),
    "dr_grpo": Shipped(
        "banel_agents.sequence.group:DrGRPO",
        "GRPO without the division by deviation and length, and without a KL term.",
        dead_on_failures=True,
    ),
    "maxrl": Shipped(
        "banel_agents.sequence.group:MaxRL",
        "the reward's deviation from the round's mean, divided by the mean: ascends the log of the success rate.",
        dead_on_failures=True,
    ),
    "mrt": Shipped(
        "banel_agents.sequence.mrt:MRT",
        "minimum risk training over the distinct samples of a round.",
        dead_on_failures=True,
    ),
    "esrl": Shipped(
        "banel_agents.sequence.esrl:ESRL",
        "REINFORCE that asks only the least confident 70% of its samples.",
        dead_on_failures=True,
    ),
    "esrl_paper": Shipped(
        "banel_agents.sequence.esrl_paper:ESRLPaper",
        "REINFORCE that asks fewer samples, at a higher temperature, the more of the last ones succeeded.",
        dead_on_failures=True,
    ),
    "kl_rl": Shipped(
        "banel_agents.soft.kl_rl:KLRL",
        "KL-regularised policy gradient whose KL term is estimated on samples that are not asked.",
        dead_on_failures=True,
    ),
    "dpg": Shipped(
        "banel_agents.soft.dpg:DPG",
        "distributional policy gradient to the base policy conditioned on success.",
        dead_on_failures=True,
    ),
    "dpg_failures": Shipped(
        "banel_agents.soft.dpg_failures:DPGFailures",
        "distributional policy gradient to the base policy, tilted away from a model of the failures, within the grammar.",
    ),
    "spo": Shipped(
        "banel_agents.soft.spo:SPO",
        "after SPO: squared soft-value residual over all that was asked, without a value model.",
        dead_on_failures=True,
    ),
    "trajectory_balance": Shipped(
        "banel_agents.soft.trajectory_balance:TrajectoryBalance",
        "trajectory balance of a GFlowNet to the base policy times exp(reward / beta).",
        dead_on_failures=True,
    ),
    "gafn": Shipped(
        "banel_agents.soft.gafn:GAFN",
        "trajectory balance with a count bonus for well-formed sequences, after generative augmented flow networks.",
    ),
}
"""The shipped agents, one line each."""
