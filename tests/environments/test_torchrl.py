"""TorchRL's GymWrapper over the native vector environment: rollouts and a collector, with the rewards they should have."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from torchrl.collectors import Collector
from torchrl.data import Composite, Unbounded
from torchrl.envs import GymWrapper, default_info_dict_reader
from torchrl.envs.utils import check_env_specs

from tests.shared.fuzz_meter import END, truth
from tests.shared.worlds import ID, generators_kept, task, vector


@pytest.fixture(autouse=True)
def _generators():
    with generators_kept():
        torch.manual_seed(0)
        yield


def judged(batch):
    """Checks every reward of a rollout [n, steps] against the reward function; the number of finished sequences."""
    done = batch["next", "done"].squeeze(-1)
    rewards = batch["next", "reward"].squeeze(-1)
    tokens = batch["tokens"].clone()  # before the step: the last token is the action
    tokens[torch.arange(len(tokens))[:, None], torch.arange(tokens.shape[1]), batch["position"]] = batch["action"]
    whole = tokens[done].numpy()
    assert rewards[done].tolist() == truth(np.where(whole == 4, END, whole)).tolist()
    assert not rewards[~done].any() and not batch["next", "truncated"].any()
    return int(done.sum())


def flat(batch):
    """What a collector gives, [n, steps] again."""
    return batch if batch.ndim == 2 else batch.reshape(-1, batch.shape[-1])


@pytest.mark.parametrize("mode", ["Disabled", "SameStep"])
def test_rollouts_and_a_collector(mode):
    envs = vector(3, budget=1_000, autoreset_mode=mode)
    env = GymWrapper(envs, categorical_action_encoding=True)
    assert env.batch_size == (3,)
    before = envs.spent
    assert mode == "SameStep" or before == 0  # there, TorchRL plays some steps to see what infos hold
    rollout = env.rollout(40, break_when_any_done=False)
    ended = judged(rollout)
    assert ended > 20 and rollout["next", "reward"].sum() > 3 and envs.spent - before == ended
    collector = Collector(env, policy=None, frames_per_batch=60, total_frames=180)
    before = envs.spent
    ended = sum(judged(flat(batch)) for batch in collector)
    # A collector that begins with an episode under way sees it end; what is under way at its end is not counted.
    assert envs.spent - before == ended > 30
    collector.shutdown(close_env=False)


def test_last_observations_where_resets_are_left_to_torchrl():
    envs = vector(3, budget=1_000, autoreset_mode="Disabled")
    rollout = GymWrapper(envs, categorical_action_encoding=True).rollout(30, break_when_any_done=False)
    done = rollout["next", "done"].squeeze(-1)
    whole = rollout["next", "tokens"][done].numpy()
    asked = np.concatenate([envs.oracle.ledger.tokens(ask) for ask in envs.oracle.ledger.asks])
    assert sorted(map(tuple, np.where(whole == 4, END, whole).tolist())) == sorted(map(tuple, asked.tolist()))
    after = rollout["position"][:, 1:][done[:, :-1]]
    assert len(after) and not after.any()  # and the next step begins with an empty sequence


def test_specs_and_seeds():
    env = GymWrapper(gym.make_vec(ID, num_envs=2, autoreset_mode="Disabled"), categorical_action_encoding=True)
    check_env_specs(env)
    env.set_seed(3)


def test_masks():
    envs = vector(4, budget=1_000, autoreset_mode="Disabled")
    masks = Composite(action_mask=Unbounded((4, 4), dtype=torch.int8), shape=(4,))
    env = GymWrapper(envs, categorical_action_encoding=True)
    env.set_info_dict_reader(default_info_dict_reader(["action_mask"], spec=masks))
    rollout = env.rollout(60, break_when_any_done=False)
    tokens, position = rollout["tokens"].numpy(), rollout["position"].numpy()
    for row, length, mask in zip(
        tokens.reshape(-1, 3), position.ravel(), rollout["action_mask"].reshape(-1, 4), strict=True
    ):
        assert mask.tolist() == task().problem.action_mask(row[None, :length])[0].tolist()


def test_next_step_is_refused_by_torchrl_itself():
    with pytest.raises(RuntimeError, match="SAME_STEP or DISABLED"):
        GymWrapper(vector(2, autoreset_mode="NextStep"))
