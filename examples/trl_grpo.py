"""TRL's GRPOTrainer under a meter: a small Qwen2, made from a config, learns to write digits with a large sum.

The reward function asks a desk, the callback ends training at the budget, and the ledger holds every question. Run it again
with the same ledger: the model writes the same digits, the desk knows the keys, and nothing is charged. It needs
`pip install 'banel-envs[trl]'` and loads nothing from a hub.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, set_seed
from trl import GRPOConfig, GRPOTrainer

from banel_envs import Problem, Task
from banel_envs.bridges import Desk
from banel_envs.bridges.trl import MeteredReward, by_ids, stop_at_budget
from banel_envs.policies import Uniform

WORDS, HORIZON, LEAST, BATCH = ("0", "1", "2", "3", "<end>"), 5, 8, 8
END = len(WORDS) - 1


def reward(tokens: NDArray[np.int64]) -> NDArray[np.int8]:
    """1 for each sequence [n, T] whose digits sum to at least 8: [n]."""
    return (np.where(tokens == END, 0, tokens).sum(axis=1) >= LEAST).astype(np.int8)


def build() -> Task:
    """The task, over the tokens of the language model."""
    problem = Problem("me/Sum-v1", WORDS, HORIZON, 400, base=partial(Uniform, len(WORDS), HORIZON, END), end=END)
    return Task(problem, reward)


def language_model(seed: int) -> tuple[Qwen2ForCausalLM, PreTrainedTokenizerFast]:
    """A model with new weights, and a tokenizer whose ids are the problem's tokens."""
    set_seed(seed)
    words = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="0"))
    words.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", pad_token="<end>")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    ends = {"eos_token_id": END, "pad_token_id": END, "bos_token_id": None}
    return Qwen2ForCausalLM(Qwen2Config(vocab_size=len(WORDS), **sizes, **heads, **ends)), tokenizer


def train(budget: int, folder: Path, ledger: Path | None = None, seed: int = 0) -> tuple[int, int, float]:
    """Train until the budget is spent: the evaluations, the steps, and how far the weights went in the largest entry."""
    model, tokenizer = language_model(seed)
    before = {name: weights.detach().clone() for name, weights in model.named_parameters()}
    settings = GRPOConfig(
        output_dir=str(folder),
        use_cpu=True,
        bf16=False,
        per_device_train_batch_size=BATCH,
        num_generations=BATCH,
        max_completion_length=HORIZON,
        learning_rate=3e-3,
        max_steps=10**6,  # the callback ends it
        lr_scheduler_type="constant",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=seed,
    )
    with Desk.open(build(), budget=budget, ledger=ledger) as desk:
        metered = MeteredReward(desk, desk.problem, by_ids(desk.problem))
        trainer = GRPOTrainer(
            model,
            reward_funcs=metered,
            args=settings,
            train_dataset=Dataset.from_list([{"prompt": "0"}] * BATCH),
            processing_class=tokenizer,
            callbacks=[stop_at_budget(metered)],
        )
        trainer.train()
        count = desk.count
    moved = max(
        float((weights.detach() - before[name]).abs().max()) for name, weights in trainer.model.named_parameters()
    )
    return count, int(trainer.state.global_step), moved


def main(budget: int = 400) -> tuple[int, int, float]:
    """Train, and say what it took."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        count, steps, moved = train(budget, Path(folder))
    print(f"{count} evaluations in {steps} steps; the weights moved by up to {moved:.3f}")
    return count, steps, moved


if __name__ == "__main__":
    main()
