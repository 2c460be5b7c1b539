"""Stable-Baselines3 and sb3-contrib: their own doors, the adapter, masks, and the end of the budget."""

from __future__ import annotations

import sys
import warnings
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import SyncVectorEnv
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

import banel_envs
from banel_envs import (
    TASKS,
    BudgetExhausted,
    GenerationEnv,
    Oracle,
    SeveralBudgets,
    StopAtBudget,
    as_sb3_vec_env,
    register_task,
)
from banel_envs.errors import BadValue, MissingExtra
from tests.shared.fuzz_meter import END
from tests.shared.worlds import ID, asked, generators_kept, same, task, vector

if "test/Env-v0" not in TASKS:
    register_task("test/Env-v0", task)
SMALL = "test/Env-v0"


@pytest.fixture(autouse=True)
def _generators():
    with generators_kept():
        yield


def shared(n, budget, made=None, **kwargs):
    """n single environments on one oracle, in Stable-Baselines3's own vector environment."""
    made = made or task()
    oracle = Oracle(made, budget=budget, **kwargs)
    return DummyVecEnv([partial(GenerationEnv, made.problem, oracle)] * n)


def several(n, **kwargs):
    """make_vec_env, which says that it makes n budgets."""
    with pytest.warns(SeveralBudgets) as told:
        envs = make_vec_env(SMALL, n, env_kwargs=kwargs)
    assert len(told) == 1
    return envs


def ledgers(envs):
    """Every question that was asked."""
    return [
        oracle.ledger.tokens(ask)
        for oracle in {id(o): o for o in envs.get_attr("oracle")}.values()
        for ask in oracle.ledger.asks
    ]


@pytest.mark.parametrize("id", TASKS)
def test_its_own_doors_open_on_every_task(id):
    made = asked(id)
    model = PPO("MultiInputPolicy", f"banel_envs:{id}", n_steps=2, batch_size=2, n_epochs=1, device="cpu")
    assert model.get_env().get_attr("problem")[0] is made.problem
    envs = make_vec_env(f"banel_envs:{id}", 1)
    envs.reset()
    envs.step(np.zeros(1, int))
    if made.problem.image is None:
        with pytest.warns(UserWarning, match="no `render_mode`"):
            assert envs.render() is None
    else:
        assert envs.render().ndim == 3


@pytest.mark.parametrize("seed", range(6))
def test_the_adapter_is_dummy_vec_env_on_one_oracle(seed):
    rng, n = np.random.default_rng(seed), 1 + seed % 4
    feedback = ("full", "failures")[seed % 2]
    made = task((END, None)[seed % 3 == 2])
    theirs = shared(n, 500, made, feedback=feedback)
    ours = as_sb3_vec_env(vector(n, 500, made, feedback=feedback))
    withheld = 0
    same(ours.reset(), dict(theirs.reset()))
    for _ in range(40):
        same(ours.reset_infos, theirs.reset_infos)
        actions = rng.integers(4, size=n)
        observation, rewards, dones, infos = theirs.step(actions)
        same(ours.step(actions), (dict(observation), rewards, dones, infos))
        same(get_action_masks(ours), get_action_masks(theirs))
        withheld += sum("withheld" in info for info in infos)
    assert ours.get_attr("spent") == theirs.get_attr("spent") and (withheld > 0) == (feedback == "failures")
    assert is_masking_supported(ours) and is_masking_supported(theirs)


def test_the_end_of_the_budget_in_the_adapter():
    envs = as_sb3_vec_env(vector(3, budget=4))
    envs.reset()
    envs.step(np.array([2, 0, 2]))
    envs.step(np.array([2, END, 2]))
    observation, rewards, dones, infos = envs.step(np.array([1, 0, 1]))
    assert rewards.tolist() == [1, 0, 1] and rewards.dtype == np.float32
    assert infos[0]["terminal_observation"]["tokens"].tolist() == [2, 2, 1]
    assert infos[0]["TimeLimit.truncated"] is False and observation["tokens"][0].tolist() == [4, 4, 4]
    _, rewards, dones, infos = envs.step(np.full(3, END))
    assert dones.all() and [i["TimeLimit.truncated"] for i in infos] == [False, True, True]
    assert infos[2]["unevaluated"] and (envs.env.spent, rewards[2]) == (4, 0)
    assert all(info["action_mask"].shape == (4,) for info in infos)
    with pytest.raises(BudgetExhausted):
        envs.step(np.zeros(3, int))


def test_methods_and_attributes_of_copies():
    envs = as_sb3_vec_env(vector(3))
    envs.reset()
    envs.step(np.array([0, 1, 0]))
    rows = envs.env_method("action_masks")
    assert [row.tolist() for row in rows] == [[True] * 4, [True, False, True, True], [True] * 4]
    assert [row.tolist() for row in envs.env_method("action_masks", indices=[1])] == [[True, False, True, True]]
    assert envs.env_method("action_masks", indices=1)[0].tolist() == rows[1].tolist()
    assert envs.has_attr("action_masks") and not envs.has_attr("no_such_thing")
    assert envs.get_attr("left", [0, 1]) == [50, 50] and envs.env_method("render") == [None] * 3
    with pytest.raises(AttributeError, match="share one environment and one meter"):
        envs.set_attr("oracle", None)
    for whole in ("reset", "step"):
        with pytest.raises(AttributeError, match=f"no copy can {whole} by itself"):
            envs.env_method(whole, indices=[0])
    assert envs.env.action_masks().tolist() == [row.tolist() for row in rows]


def test_what_the_adapter_does_not_take():
    for mode in ("NextStep", "Disabled"):
        with pytest.raises(BadValue, match=f"autoreset_mode '{mode}'; make it with"):
            as_sb3_vec_env(vector(2, autoreset_mode=mode))
    with pytest.raises(BadValue, match="takes a GenerationVectorEnv"):
        as_sb3_vec_env(SyncVectorEnv([lambda: gym.make(ID)]))


def test_pictures_of_the_adapter():
    asked("banel/ZeroToSix-v0")
    envs = as_sb3_vec_env(gym.make_vec("banel/ZeroToSix-v0", num_envs=2, render_mode="rgb_array"))
    envs.reset()
    one = envs.get_images()[0]
    assert one.shape == envs.env_method("render")[1].shape and envs.render().size >= 2 * one.size
    plain = as_sb3_vec_env(gym.make_vec(ID, num_envs=2, render_mode="ansi"))
    plain.reset()
    plain.step(np.array([1, 2]))
    assert plain.get_images() == [None, None] and plain.env_method("render") == ["1", "2"]


def learner(kind, envs, seed=0):
    """A small model of this algorithm."""
    if kind is DQN:
        settings = {"buffer_size": 1_000, "learning_starts": 10, "batch_size": 8}
    else:
        settings = {"n_steps": 16} | ({} if kind is A2C else {"batch_size": 32, "n_epochs": 2})
    return kind("MultiInputPolicy", envs, seed=seed, device="cpu", **settings)


def trained(model, steps):
    """Whether learning changed the weights."""
    before = [weight.detach().clone() for weight in model.policy.parameters()]
    model.learn(steps)
    return any(not torch.equal(a, b) for a, b in zip(before, model.policy.parameters(), strict=True))


def test_maskable_ppo_never_leaves_its_mask():
    id = "banel_envs:banel/AdditionAttack-v0"
    problem = TASKS["banel/AdditionAttack-v0"].problem
    for kind, all_in in ((MaskablePPO, True), (PPO, False)):
        ours = as_sb3_vec_env(gym.make_vec(id, num_envs=4, budget=2_000))
        with pytest.warns(SeveralBudgets):
            theirs = make_vec_env(id, 4, env_kwargs={"budget": 2_000})
        for envs in (ours, theirs, make_vec_env(id, 1, env_kwargs={"budget": 2_000})):
            assert trained(learner(kind, envs), 512)
            questions = np.concatenate(ledgers(envs))
            assert len(questions) > 30 and problem.well_formed(questions).all() == all_in


def test_maskable_ppo_by_id():
    model = MaskablePPO("MultiInputPolicy", ID, n_steps=32, batch_size=32, device="cpu")
    assert trained(model, 64)
    assert TASKS["banel/AdditionAttack-v0"].problem.well_formed(np.concatenate(ledgers(model.get_env()))).all()


def test_maskable_ppo_learns_what_is_rewarded():
    envs = as_sb3_vec_env(vector(8, budget=20_000))
    model = MaskablePPO("MultiInputPolicy", envs, n_steps=32, batch_size=64, learning_rate=3e-3, seed=0, device="cpu")
    model.learn(4_000)
    answers = np.concatenate([ask.rewards for ask in envs.env.oracle.ledger.asks])
    assert answers[:200].mean() < 0.6 < answers[-200:].mean()


WAYS = {
    "adapter": lambda: as_sb3_vec_env(vector(4, budget=50)),
    "adapter, wrapped": lambda: VecMonitor(as_sb3_vec_env(vector(4, budget=50))),
    "one, by its id": lambda: make_vec_env(SMALL, 1, env_kwargs={"budget": 50}),
    "a budget each": lambda: several(3, budget=50),
    "one oracle, asked one by one": lambda: shared(3, 50),
}


@pytest.mark.parametrize("kind", [PPO, A2C, DQN, MaskablePPO], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("way", WAYS)
def test_learn_ends_with_the_budget(way, kind):
    if kind is DQN and way == "adapter":
        pytest.skip("DQN trains after every step of every copy: one of the ways is enough")
    for seed in range(2):
        envs = WAYS[way]()
        model = learner(kind, envs, seed)
        model.learn(100_000, callback=StopAtBudget())
        spent, left = envs.get_attr("spent"), envs.get_attr("left")
        assert 0 < model.num_timesteps < 10_000
        assert min(left) == 0 or (way == "one oracle, asked one by one" and min(left) < 3)
        assert all(s + rest == 50 for s, rest in zip(spent, left, strict=True))
        with pytest.raises(BudgetExhausted):
            model.learn(1_000, callback=StopAtBudget(), reset_num_timesteps=False)
        assert envs.get_attr("spent") == spent


def test_without_it_the_budget_ends_in_an_exception():
    with pytest.raises(BudgetExhausted):
        learner(PPO, as_sb3_vec_env(vector(4, budget=50))).learn(100_000)


def test_a_budget_that_lasts_ends_nothing():
    model = learner(PPO, as_sb3_vec_env(vector(4, budget=10_000)))
    model.learn(128, callback=[StopAtBudget()])
    assert model.num_timesteps == 128


def test_it_is_for_these_environments():
    with pytest.raises(BadValue, match="StopAtBudget is for the environments of banel_envs"):
        PPO("MlpPolicy", "CartPole-v1", n_steps=8, batch_size=8, device="cpu").learn(8, callback=StopAtBudget())


def test_without_stable_baselines3(monkeypatch):
    monkeypatch.delitem(sys.modules, "banel_envs.environments.sb3")
    monkeypatch.delattr(banel_envs.environments, "sb3")
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    monkeypatch.setitem(sys.modules, "stable_baselines3.common.callbacks", None)
    for use in (lambda: banel_envs.StopAtBudget, lambda: as_sb3_vec_env(vector(2))):
        with pytest.raises(MissingExtra, match=r"pip install 'banel-envs\[agents\]'"):
            use()
    with pytest.raises(AttributeError, match="no attribute 'StopAtBudgets'"):
        _ = banel_envs.StopAtBudgets


def told(work):
    """The warnings of several budgets that this gives."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        kept = work()
    del kept
    return [str(w.message) for w in seen if w.category is SeveralBudgets]


LOOPS = {
    "make_vec_env": lambda: make_vec_env(SMALL, 4, env_kwargs={"budget": 50}),
    "make_vec_env, a function": lambda: make_vec_env(partial(gym.make, SMALL, budget=50), 4),
    "make_vec_env, two": lambda: make_vec_env(SMALL, 2, env_kwargs={"budget": 50}),
    "DummyVecEnv": lambda: DummyVecEnv([lambda: gym.make(SMALL, budget=50), lambda: gym.make(SMALL, budget=50)]),
    "SyncVectorEnv": lambda: SyncVectorEnv([lambda: gym.make(SMALL, budget=50), lambda: gym.make(SMALL, budget=50)]),
    "make_vec, sync": lambda: gym.make_vec(SMALL, num_envs=4, vectorization_mode="sync", budget=50),
    "a loop": lambda: [gym.make(SMALL, budget=50) for _ in range(5)],
    "the default budget": lambda: make_vec_env(SMALL, 4),
}


@pytest.mark.parametrize("how", LOOPS)
def test_several_budgets_are_warned_of_once(how):
    (text,) = told(LOOPS[how])
    assert f"n x {50} evaluations" in text
    for way in (f"gym.make_vec('{SMALL}', num_envs=n, budget=50)", "as_sb3_vec_env", "one Oracle", "evaluates"):
        assert way in text
    assert len(told(LOOPS[how])) == 1  # the next time as well


def test_the_warning_points_at_who_made_them():
    with pytest.warns(SeveralBudgets) as seen:
        make_vec_env(SMALL, 4)
    assert [w.filename for w in seen] == [__file__]


def train_and_evaluate():
    env = make_vec_env(SMALL, 1)
    evaluation = make_vec_env(SMALL, 1)
    return env, evaluation


def through_a_helper():
    def make():
        return gym.make(SMALL, budget=50)

    env = make()
    return env, make()


def one_after_the_other():
    kept = []
    for seed in range(3):
        env, evaluation = gym.make(SMALL), gym.make(SMALL)  # the second of each is never used
        env.reset(seed=seed)
        env.step(0)
        kept += [env, evaluation]
    return kept


def closed_in_between():
    for _ in range(3):
        env = gym.make(SMALL)
        env.close()
    return env


def dropped_in_between():
    for _ in range(3):
        env = gym.make(SMALL)
        del env


def with_ledgers_of_their_own():
    return [gym.make(SMALL, ledger=f"run-{k}.jsonl") for k in range(3)]


def of_different_tasks():
    return [gym.make(id) for id in (SMALL, "banel/AdditionAttack-v0", "banel/AdditionAttackHard-v0")]


def at_a_prompt():
    lines = (f"gym.make({SMALL!r})", f"gym.make({SMALL!r}, budget=50)")
    return [eval(compile(line, "<stdin>", "eval"), {"gym": gym}) for line in lines]


@pytest.mark.parametrize(
    "work",
    [
        train_and_evaluate,
        through_a_helper,
        one_after_the_other,
        closed_in_between,
        dropped_in_between,
        with_ledgers_of_their_own,
        of_different_tasks,
        at_a_prompt,
        lambda: gym.make_vec(SMALL, num_envs=4),
        lambda: as_sb3_vec_env(gym.make_vec(SMALL, num_envs=4)),
        lambda: shared(4, 50),
    ],
)
def test_what_is_not_warned_of(work):
    assert told(work) == []
