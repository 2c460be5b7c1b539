"""The environments: Gymnasium's and SB3's own checks, one meter behind every door, n copies as n singles."""

from __future__ import annotations

import copy
import pickle
import warnings
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import RecordEpisodeStatistics
from gymnasium.wrappers.vector import RecordEpisodeStatistics as RecordVectorStatistics
from hypothesis import given, settings
from hypothesis import strategies as st

from banel_envs import TASKS, BudgetExhausted, GenerationEnv, GenerationVectorEnv, Oracle, Task, as_sb3_vec_env
from banel_envs.errors import BadTokens, BadValue, OracleClosed, OracleMoved, SeveralBudgets, UnknownName
from tests.shared.fuzz_meter import END, Boom, truth
from tests.shared.worlds import ID, asked, no_b_twice, single, task, vector


def write(env, tokens):
    for token in tokens:
        last = env.step(np.int64(token))
    return last


@pytest.mark.parametrize("feedback", ["full", "failures"])
def test_the_checkers_have_nothing_to_say(feedback, tmp_path):
    from stable_baselines3.common.env_checker import check_env as check_sb3

    env = gym.make(ID, budget=500, feedback=feedback, ledger=tmp_path / "l.jsonl", render_mode="ansi")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)
        check_sb3(env.unwrapped)
        check_sb3(env)
        # Of a wrapped environment Gymnasium always says that it is wrapped; it must say nothing else.
        warnings.filterwarnings("ignore", message=".*is different from the unwrapped version")
        check_env(env)
    env.close()


def test_make_vec_gives_the_native_one():
    envs = gym.make_vec(ID, num_envs=3, budget=9)
    assert isinstance(envs.unwrapped, GenerationVectorEnv)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        observation, info = envs.reset(seed=1)
        assert observation in envs.observation_space
        for _ in range(4):
            observation, rewards, terminated, truncated, info = envs.step(envs.action_space.sample())
            assert observation in envs.observation_space
            assert (rewards.dtype, terminated.dtype, truncated.dtype) == (np.float64, bool, bool)
            assert info["action_mask"].shape == (3, 12)


def test_one_budget_a_make_and_one_for_all_copies_of_make_vec():
    a = gym.make(ID, budget=5).unwrapped
    a.reset()
    write(a, [1, 10, 1, 11])
    b = gym.make(ID, budget=5).unwrapped
    assert (a.spent, a.left, b.spent, b.left) == (1, 4, 0, 5)
    with pytest.warns(SeveralBudgets):
        envs = SyncVectorEnv([partial(gym.make, ID, budget=5)] * 2)
    assert envs.envs[0].unwrapped.oracle is not envs.envs[1].unwrapped.oracle


@pytest.mark.parametrize(
    ("kwargs", "error"),
    [
        ({"budget": 0}, BadValue),
        ({"budget": 1.5}, BadValue),
        ({"feedback": "some"}, BadValue),
        ({"ledger": 3}, BadValue),
        ({"oracle": None}, TypeError),
    ],
)
def test_bad_options_of_make(kwargs, error):
    for make in (gym.make, gym.make_vec):
        with pytest.raises(error):
            make(ID, **kwargs)


def test_bad_construction():
    made, other = task(), task()
    with pytest.raises(UnknownName, match="the tasks are banel/AdditionAttack-v0"):
        TASKS["banel/None-v0"]
    for make in (GenerationEnv, partial(GenerationVectorEnv, n=2)):
        with pytest.raises(BadValue, match="the oracle answers for"):
            make(made.problem, Oracle(other))
        with pytest.raises(BadValue, match="render_mode is 'human'"):
            make(made.problem, Oracle(made), render_mode="human")
    for n in (0, -1, 1.5, True, "2"):
        with pytest.raises(BadValue, match="n is"):
            GenerationVectorEnv(made.problem, Oracle(made), n)


BAD_ACTIONS = [1.0, np.float32(1), -1, 4, True, "a", None, np.array([1]), np.array([1.5]), np.array([0, 1])]


@pytest.mark.parametrize("action", BAD_ACTIONS, ids=repr)
def test_bad_actions_cost_and_change_nothing(action):
    env, envs = single(), vector(2)
    env.reset()
    envs.reset()
    with pytest.raises(BadTokens, match=r"tokens are whole numbers 0\.\.3"):
        env.step(action)
    if not (isinstance(action, np.ndarray) and action.shape == (2,)):
        with pytest.raises(BadTokens, match="actions are"):
            envs.step(action)
    with pytest.raises(BadTokens):
        envs.step(np.array([0, 4]))
    assert env.step(np.int64(0))[0]["position"] == 1 and envs.step(np.zeros(2, int))[0]["position"].tolist() == [1, 1]


def test_stepping_out_of_turn():
    env = single()
    with pytest.raises(BadValue, match="call reset"):
        env.step(0)
    with pytest.raises(BadValue, match="call reset"):
        vector(2).step(np.zeros(2, int))
    env.reset()
    write(env, [0, END])
    with pytest.raises(BadValue, match="call reset"):
        env.step(0)


def test_well_formed_is_the_mask_at_every_position():
    tokens = np.array([[0, 1, 2], [1, 0, 1], [1, 1, END], [1, END, END], [END, END, END]])
    assert task().problem.well_formed(tokens).tolist() == [True, False, False, True, True]
    assert task(allowed=None).problem.well_formed(tokens).all()
    assert task().problem.well_formed(tokens[:0]).shape == (0,)


def test_an_episode():
    env = single()
    observation, info = env.reset(seed=3)
    assert observation["tokens"].tolist() == [4, 4, 4] and observation["position"] == 0
    observation, reward, terminated, truncated, info = env.step(1)
    assert info["action_mask"].tolist() == [1, 0, 1, 1]
    assert (reward, terminated, truncated, env.spent) == (0.0, False, False, 0)
    observation, reward, terminated, truncated, info = env.step(END)
    assert observation["tokens"].tolist() == [1, 3, 4] and observation["position"] == 2
    assert (reward, terminated, truncated, env.spent) == (float(truth(np.array([[1, 3, 3]]))[0]), True, False, 1)
    env.reset()
    assert write(env, [2, 2, 1])[1:4] == (1.0, True, False)  # three tokens and no end: charged and judged
    assert env.spent == 2 and set(info) == {"action_mask"}


def test_a_withheld_success_is_rewarded_like_a_failure_and_said_to_be_withheld():
    env, envs = single(feedback="failures"), vector(3, feedback="failures")
    env.reset()
    envs.reset()
    assert env.step(2)[4].keys() == {"action_mask"}
    _, reward, terminated, _, info = write(env, [2, 1])
    assert (reward, terminated, info.pop("withheld"), info.keys()) == (0.0, True, True, {"action_mask"})
    env.reset()
    assert write(env, [0, 1, 0])[4].keys() == {"action_mask"}  # a failure
    for column in ([2, 0, 2], [2, 0, 2], [1, 1, 1]):
        _, rewards, terminated, _, infos = envs.step(np.array(column))
    assert rewards.tolist() == [0.0, 0.0, 0.0] and terminated.all()
    final = infos["final_info"]
    assert final["withheld"].tolist() == final["_withheld"].tolist() == [True, False, True]
    assert envs.oracle.ledger.asks[0].rewards.tolist() == [1, 0, 1]
    full = single()
    full.reset()
    assert write(full, [2, 2, 1])[4].keys() == {"action_mask"}  # nothing is withheld in "full"


def test_running_out_alone():
    env = single(budget=1)
    env.reset()
    write(env, [0, 0, 0])
    env.reset()  # what is left is not known to an agent that does not look
    _, reward, terminated, truncated, info = write(env, [2, 2, 1])
    assert (reward, terminated, truncated, info["unevaluated"], env.spent) == (0.0, False, True, True, 1)
    for call in (env.reset, partial(env.step, 0)):
        with pytest.raises(BudgetExhausted):
            call()


def test_running_out_together():
    envs = vector(4, budget=2)
    envs.reset()
    envs.step(np.array([2, 2, 2, 2]))
    envs.step(np.array([2, 2, 2, 2]))
    _, rewards, terminated, truncated, infos = envs.step(np.array([1, 0, 1, 1]))
    assert rewards.tolist() == [1, 0, 0, 0]
    assert terminated.tolist() == [True, True, False, False]
    assert truncated.tolist() == infos["unevaluated"].tolist() == [False, False, True, True]
    assert (envs.spent, envs.left) == (2, 0)
    for call in (envs.reset, partial(envs.step, np.zeros(4, int))):
        with pytest.raises(BudgetExhausted, match="0 of 2 evaluations left"):
            call()


def test_the_last_of_the_budget_is_asked():
    envs = vector(2, budget=2)
    envs.reset()
    _, _, terminated, truncated, _ = envs.step(np.full(2, END))
    assert terminated.all() and not truncated.any() and envs.left == 0
    envs.step(np.array([0, 0]))  # nothing has been refused yet


@pytest.mark.parametrize("budget", [2, 50])
def test_a_step_whose_reward_failed_can_be_taken_again(budget):
    moods = iter([Boom, None, KeyboardInterrupt, None])

    def moody(tokens):
        if mood := next(moods, None):
            raise mood
        return truth(tokens)

    made = Task(task().problem, moody)
    oracle = Oracle(made, budget=budget)
    env, envs = GenerationEnv(made.problem, oracle), GenerationVectorEnv(made.problem, oracle, 3)
    env.reset()
    write(env, [2, 2])
    with pytest.raises(Boom):
        env.step(1)
    assert (oracle.count, oracle.open) == (1, 1)
    assert env.step(1)[1:4] == (1.0, True, False)
    envs.reset()
    envs.step(np.array([2, 0, 2]))
    envs.step(np.array([2, 0, 2]))
    with pytest.raises(KeyboardInterrupt):
        envs.step(np.array([1, 0, 1]))
    _, rewards, _, truncated, _ = envs.step(np.array([1, 0, 1]))
    if budget == 2:
        assert (rewards.tolist(), truncated.tolist(), oracle.count) == ([1, 0, 0], [False, True, True], 2)
    else:
        assert (rewards.tolist(), truncated.any(), oracle.count) == ([1, 1, 1], False, 4)


def test_a_step_whose_mask_failed_has_cost_and_written_nothing():
    moods = iter([None, None, None, Boom])  # of the reset and of three steps

    def moody(prefix):
        if mood := next(moods, None):
            raise mood
        return no_b_twice(prefix)

    envs = vector(2, made=task(allowed=moody))
    envs.reset()
    envs.step(np.array([0, 2]))
    envs.step(np.array([0, 2]))
    with pytest.raises(Boom):
        envs.step(np.array([1, 1]))
    assert envs.spent == 0
    observation, _, terminated, _, _ = envs.step(np.array([1, 1]))
    assert (envs.spent, terminated.all(), observation["position"].tolist()) == (2, True, [0, 0])


def test_the_last_of_the_budget_is_not_lost_when_its_reward_fails():
    moods = iter([Boom, None])

    def moody(tokens):
        if mood := next(moods):
            raise mood
        return truth(tokens)

    env = single(budget=1, made=Task(task().problem, moody))
    env.reset()
    write(env, [2, 2])
    with pytest.raises(Boom):
        env.step(1)
    assert (env.left, env.oracle.open) == (0, 1)
    assert env.step(1)[1:4] == (1.0, True, False)


def test_closing_releases_only_an_oracle_of_its_own(tmp_path):
    made = task()
    oracle = Oracle(made, ledger=tmp_path / "l.jsonl")
    for env in (GenerationEnv(made.problem, oracle), GenerationVectorEnv(made.problem, oracle, 2)):
        env.close()
        as_sb3_vec_env(GenerationVectorEnv(made.problem, oracle, 2)).close()
    oracle(np.zeros((1, 3), int))
    for make in (gym.make, gym.make_vec):
        env = make(ID, ledger=tmp_path / f"{make.__name__}.jsonl")
        env.close()
        with pytest.raises(OracleClosed):
            env.unwrapped.oracle(np.zeros((1, 8), int))


def test_copies_share_the_meter_or_are_refused():
    env, envs = single(), vector(2)
    for thing in (env, envs):
        for move in (copy.deepcopy, pickle.dumps):
            with pytest.raises(OracleMoved):
                move(thing)
    env.reset()
    write(env, [0])
    twin = copy.copy(env)
    write(twin, [0, 0])
    assert (twin.spent, env.spent) == (1, 1)
    assert env._tokens.tolist() == [0, 4, 4]  # each goes on with its own sequence


def played_alone(made, actions):
    """n single environments, reset as soon as they end: what a vector environment does."""
    envs = [single(made=made, budget=1_000) for _ in actions[0]]
    for env in envs:
        env.reset()
    for row in actions:
        steps = [env.step(action) for env, action in zip(envs, row, strict=True)]
        firsts = [env.reset() if step[2] else (step[0], step[4]) for env, step in zip(envs, steps, strict=True)]
        yield steps, firsts


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(1, 12), st.sampled_from([END, None]), st.integers(0, 2**32))
def test_n_copies_are_n_single_environments(n, steps, end, seed):
    made = task(end)
    actions = np.random.default_rng(seed).integers(4, size=(steps, n))
    envs = vector(n, budget=1_000, made=made)
    envs.reset()
    for row, (singles, firsts) in zip(actions, played_alone(made, actions), strict=True):
        observation, rewards, terminated, truncated, infos = envs.step(row)
        assert rewards.tolist() == [step[1] for step in singles]
        assert terminated.tolist() == [step[2] for step in singles] and not truncated.any()
        for k, ((first, info), step) in enumerate(zip(firsts, singles, strict=True)):
            assert observation["tokens"][k].tolist() == first["tokens"].tolist()
            assert observation["position"][k] == first["position"]
            assert infos["action_mask"][k].tolist() == info["action_mask"].tolist()
            if step[2]:
                assert infos["final_obs"][k]["tokens"].tolist() == step[0]["tokens"].tolist()
                assert infos["final_obs"][k]["position"] == step[0]["position"]
                assert infos["final_info"]["action_mask"][k].tolist() == step[4]["action_mask"].tolist()
        if terminated.any():
            assert infos["_final_obs"].tolist() == infos["_final_info"].tolist() == terminated.tolist()
        else:
            assert "final_obs" not in infos


def test_copies_that_end_together_are_one_question_in_index_order():
    envs = vector(3)
    envs.reset()
    envs.step(np.array([0, END, 2]))
    envs.step(np.array([END, 1, END]))
    ledger = envs.oracle.ledger
    assert [ledger.tokens(ask).tolist() for ask in ledger.asks] == [[[3, 3, 3]], [[0, 3, 3], [2, 3, 3]]]


def test_episode_statistics():
    env = RecordEpisodeStatistics(single())
    env.reset()
    info = write(env, [2, 2, 1])[4]
    assert (info["episode"]["r"], info["episode"]["l"]) == (1.0, 3)
    envs = RecordVectorStatistics(vector(2))
    envs.reset()
    seen = []
    for row in ([2, 0], [2, END], [1, 2], [0, 2], [END, 1]):
        infos = envs.step(np.array(row))[4]
        if "episode" in infos:
            ended, told = infos["_episode"], infos["episode"]
            seen += [(int(k), float(told["r"][k]), int(told["l"][k])) for k in np.flatnonzero(ended)]
    assert seen == [(1, 0.0, 2), (0, 1.0, 3), (0, 0.0, 2), (1, 1.0, 3)]


def test_rendering():
    env = gym.make(ID, budget=5, render_mode="ansi").unwrapped
    env.reset()
    write(env, [1, 10])
    assert env.render() == "1+\n[0 of 5 evaluations spent]"
    write(env, [2, 11])
    assert env.render() == "1+2\n[1 of 5 evaluations spent]"
    envs = gym.make_vec(ID, num_envs=2, render_mode="ansi")
    envs.reset()
    envs.step(np.array([1, 10]))
    assert envs.render() == ("1", "+")
    assert single().render() is None


@pytest.mark.parametrize("id", TASKS)
def test_pictures_are_taken_everywhere_and_shown_where_there_are_any(id):
    made = asked(id)
    env, envs = gym.make(id, render_mode="rgb_array"), gym.make_vec(id, num_envs=2, render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)
    env.reset()
    envs.reset()
    if made.problem.image is None:
        assert env.render_mode is envs.render_mode is None and env.metadata["render_modes"] == ["ansi"]
        for call in (env.render, envs.render):
            with pytest.raises(BadValue, match=f"{id} has no pictures.*render_mode='ansi'"):
                call()
    else:
        assert env.render().shape == envs.render()[1].shape and env.render().dtype == np.uint8


def test_masks_by_the_name_that_others_look_for():
    env, envs = single(), vector(2)
    assert env.action_masks().tolist() == [True] * 4 and env.action_masks().dtype == bool
    assert envs.action_masks().tolist() == [[True] * 4] * 2 and envs.action_masks().dtype == bool
    env.reset()
    envs.reset()
    for actions in ([1, 0], [0, 1], [2, END]):
        info, infos = env.step(actions[0])[4], envs.step(np.array(actions))[4]
        assert env.action_masks().tolist() == (info["action_mask"] == 1).tolist()
        assert envs.action_masks().tolist() == (infos["action_mask"] == 1).tolist()
    infos["action_mask"][:] = 0  # whoever changes what was told changes nothing here
    assert (
        envs.action_masks().all()
        and gym.make(ID).get_wrapper_attr("action_masks")().tolist() == [True] * 10 + [False] * 2
    )
