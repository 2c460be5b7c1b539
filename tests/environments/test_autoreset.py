"""Every autoreset mode and partial reset, against Gymnasium's own SyncVectorEnv over single environments."""

from __future__ import annotations

import warnings
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import FlattenObservation, NormalizeObservation, NormalizeReward, RecordEpisodeStatistics
from hypothesis import given, settings
from hypothesis import strategies as st

from banel_envs import TASKS, BudgetExhausted, GenerationEnv, GenerationVectorEnv, Oracle
from banel_envs.errors import BadTokens, BadValue
from tests.shared.fuzz_meter import END
from tests.shared.worlds import ID, asked, same, single, task, vector

MODES = [mode.value for mode in AutoresetMode]


def pair(made, n, mode, budget, feedback):
    """Our copies, and Gymnasium's over single environments that share one oracle."""
    ours = vector(n, budget, made, mode, feedback=feedback)
    oracle = Oracle(made, budget=budget, feedback=feedback)
    theirs = SyncVectorEnv([partial(GenerationEnv, made.problem, oracle)] * n, autoreset_mode=AutoresetMode(mode))
    return ours, theirs, oracle


def spent_out(call):
    """What a call returns, or None where it raises BudgetExhausted."""
    try:
        return call()
    except BudgetExhausted:
        return None


def play(made, n, mode, budget, feedback, steps, rng):
    """The same actions and resets in both; whatever either returns is the same."""
    ours, theirs, oracle = pair(made, n, mode, budget, feedback)
    same(ours.reset(seed=3), theirs.reset(seed=3))
    seen = {"ended": 0, "unevaluated": 0, "withheld": 0, "partial": 0}
    for _ in range(steps):
        masks = ours.action_masks()
        allowed = [rng.choice(np.flatnonzero(row)) if row.any() else 0 for row in masks]
        actions = np.where(rng.random(n) < 0.7, allowed, rng.integers(made.problem.V, size=n))
        mine, control = spent_out(lambda a=actions: ours.step(a)), spent_out(lambda a=actions: theirs.step(a))
        if control is None:  # in SAME_STEP Gymnasium's is refused one step earlier: in the reset of the copy itself
            assert mine is None or (mode == "SameStep" and mine[4]["unevaluated"].any())
            break
        same(mine, control)
        assert ours.spent == oracle.count
        done, told = control[2] | control[3], control[4].get("final_info", control[4])
        seen["ended"] += int(done.sum())
        seen["unevaluated"] += "unevaluated" in told
        seen["withheld"] += "withheld" in told
        which = rng.random(n) < 0.3
        if mode == "Disabled":
            which = done | (which if rng.random() < 0.2 else False)
        elif rng.random() > 0.2 or "unevaluated" in told:
            continue
        if which.any():
            seen["partial"] += not which.all()
            mine, control = (
                spent_out(lambda e=e, w=which: e.reset(options={"reset_mask": w.copy()})) for e in (ours, theirs)
            )
            same(mine, control)
            if mine is None:
                break
    assert ours.spent == oracle.count
    return seen


@pytest.mark.parametrize("mode", MODES)
def test_copies_are_gymnasiums_copies(mode):
    total = dict.fromkeys(("ended", "unevaluated", "withheld", "partial"), 0)

    @settings(max_examples=60, deadline=None)
    @given(
        st.integers(1, 5),
        st.sampled_from([END, None]),
        st.sampled_from(["full", "failures"]),
        st.integers(1, 40),
        st.integers(0, 2**32),
    )
    def check(n, end, feedback, budget, seed):
        for key, value in play(task(end), n, mode, budget, feedback, 20, np.random.default_rng(seed)).items():
            total[key] += value

    check()
    assert total["ended"] and total["withheld"] and total["partial"]
    assert total["unevaluated"] or mode == "SameStep"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("id", TASKS)
def test_on_every_task(id, mode):
    made = asked(id)
    steps = min(2 * made.problem.T + 3, 60)
    play(made, 3, mode, 50, "failures", steps, np.random.default_rng(0))


def test_the_mode_is_said_as_gymnasium_says_it():
    assert gym.make_vec(ID).metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    for mode in AutoresetMode:
        for said in (mode, mode.value):
            envs = gym.make_vec(ID, num_envs=2, autoreset_mode=said)
            assert envs.metadata["autoreset_mode"] is envs.unwrapped.autoreset_mode is mode
    assert GenerationVectorEnv.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP  # the class's own is left alone
    for bad in ("next_step", None, 1, True):
        with pytest.raises(BadValue, match=r"autoreset_mode is .*'NextStep', 'SameStep', 'Disabled'"):
            gym.make_vec(ID, autoreset_mode=bad)


def test_a_copy_that_idles_costs_nothing_and_ignores_its_action():
    envs = vector(2, autoreset_mode="NextStep")
    envs.reset()
    _, _, terminated, _, infos = envs.step(np.array([END, 0]))
    assert terminated.tolist() == [True, False] and envs.spent == 1 and "final_obs" not in infos
    with pytest.raises(BadTokens):
        envs.step(np.array([0, 4]))
    observation, rewards, terminated, _, _ = envs.step(np.array([99, 0]))
    assert observation["position"].tolist() == [0, 2] and observation["tokens"][0].tolist() == [4, 4, 4]
    assert not terminated.any() and rewards.tolist() == [0, 0] and envs.spent == 1
    with pytest.raises(BadTokens):
        envs.step(np.array([99, 0]))


def test_disabled_waits_for_its_reset():
    envs = vector(3, autoreset_mode=AutoresetMode.DISABLED)
    envs.reset()
    envs.step(np.array([END, 0, END]))
    with pytest.raises(BadValue, match=r"copies \[0, 2\] have ended.*reset_mask"):
        envs.step(np.zeros(3, int))
    envs.reset(options={"reset_mask": np.array([True, False, False])})
    with pytest.raises(BadValue, match=r"copies \[2\] have ended"):
        envs.step(np.zeros(3, int))
    observation, infos = envs.reset(options={"reset_mask": np.array([False, False, True])})
    assert observation["position"].tolist() == [0, 1, 0]
    assert infos["_action_mask"].tolist() == [False, False, True] and not infos["action_mask"][:2].any()
    assert envs.step(np.zeros(3, int))[0]["position"].tolist() == [1, 2, 1] and envs.spent == 2


@pytest.mark.parametrize("mode", MODES)
def test_a_step_whose_reward_failed_can_be_taken_again_in_every_mode(mode):
    moods = iter([None, ValueError, None])

    def moody(tokens):
        if mood := next(moods, None):
            raise mood("not today")
        return np.ones(len(tokens))

    made = task()
    made = type(made)(made.problem, moody)
    envs = vector(2, made=made, autoreset_mode=mode)
    envs.reset()
    envs.step(np.array([END, 0]))
    if mode == "Disabled":
        envs.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(ValueError, match="not today"):
        envs.step(np.array([0, END]))
    _, rewards, terminated, _, _ = envs.step(np.array([0, END]))
    assert rewards.tolist() == [0, 1] and terminated.tolist() == [False, True] and envs.spent == 2


BAD_MASKS = [
    None,
    [True, False],
    np.array([1, 0]),
    np.array([True]),
    np.array([[True, False]]),
    np.array([False, False]),
    np.array([None, True]),
    "all",
]


@pytest.mark.parametrize("mask", BAD_MASKS, ids=repr)
def test_a_bad_mask_changes_nothing(mask):
    envs = vector(2)
    envs.reset()
    envs.step(np.zeros(2, int))
    with pytest.raises(BadValue, match="reset_mask"):
        envs.reset(options={"reset_mask": mask})
    assert envs.step(np.zeros(2, int))[0]["position"].tolist() == [2, 2]


def test_masks_of_the_reset():
    envs = vector(2)
    with pytest.raises(BadValue, match="no episode has started"):
        envs.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(BadValue, match="call reset"):
        envs.step(np.zeros(2, int))
    mask = np.array([True, True])
    options = {"reset_mask": mask, "more": 1}
    _, infos = envs.reset(options=options)
    assert options.keys() == {"reset_mask", "more"}  # Gymnasium's own wrappers look at it after us
    infos["_action_mask"][0] = False
    assert mask.tolist() == [True, True]


SEEDS = [3, np.int64(3), np.uint8(3), [3, 4], (3, None), [None, None], np.array([3, 4]), None]
BAD_SEEDS = [-1, True, 1.0, "3", np.float64(3), [3], [3, 4, 5], [3, -4], [3, 4.0], np.array([3.0, 4.0]), {3, 4}]


@pytest.mark.parametrize("seed", SEEDS, ids=repr)
def test_seeds(seed):
    envs = vector(2)
    same(envs.reset(seed=seed), vector(2).reset())
    if isinstance(seed, int | np.integer):
        env = single()
        env.reset(seed=seed)
        assert env.np_random_seed == envs.np_random_seed == 3


@pytest.mark.parametrize("seed", BAD_SEEDS, ids=repr)
def test_bad_seeds(seed):
    for env in (single(), vector(2)):
        with pytest.raises(BadValue, match="seed"):
            env.reset(seed=seed)


def wrapped(*wrappers, mode):
    """The same wrappers around our copies and around Gymnasium's."""
    for envs in pair(task(), 3, mode, 1_000, "full")[:2]:
        for wrapper in wrappers:
            envs = wrapper(envs)
        yield envs


@pytest.mark.parametrize(
    ("wrappers", "modes"),
    [
        ((RecordEpisodeStatistics,), MODES),
        ((NormalizeReward,), MODES),
        ((FlattenObservation, NormalizeObservation), ["NextStep"]),
        ((FlattenObservation,), ["NextStep", "Disabled"]),
    ],
)
def test_wrappers(wrappers, modes):
    for mode in modes:
        rng = np.random.default_rng(1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ours, theirs = wrapped(*wrappers, mode=mode)
        same(ours.reset(seed=1), theirs.reset(seed=1))
        episodes = 0
        for _ in range(30):
            actions = rng.integers(4, size=3)
            mine, control = ours.step(actions), theirs.step(actions)
            for steps in (mine, control):
                steps[4].get("episode", {}).pop("t", None)
            same(mine, control)
            episodes += "episode" in control[4]
            done = control[2] | control[3]
            if mode == "Disabled" and done.any():
                # Gymnasium's SyncVectorEnv takes the mask out of the options, which its wrappers then do not find.
                every = np.ones(3, bool)
                same(*(env.reset(options={"reset_mask": every.copy()}) for env in (ours, theirs)))
        assert episodes > 5 or wrappers != (RecordEpisodeStatistics,)
