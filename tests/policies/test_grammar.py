"""Grammars with few states: counted as brute force counts, sampled evenly, explored as the mask says."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from banel_envs import TASKS, Problem
from banel_envs.automaton import Automaton, explored
from banel_envs.errors import BadValue
from banel_envs.policies import Masked, Uniform, UniformGrammar
from banel_envs.policies.grammar import automaton_of, table_of
from banel_envs.tasks import SHIPPED
from tests.shared.policies import ENDS, FOLLOWING, T, V, network, problem, space

GRAMMARS = [id for id in SHIPPED if TASKS[id].problem.allowed is not None]


def legal(end):
    """Which sequences keep to FOLLOWING, by a loop."""
    good = []
    for row in space(end):
        state = 0
        for token in row:
            state = FOLLOWING[state, token] if state >= 0 else -1
        good.append(state >= 0)
    return np.array(good)


@pytest.mark.parametrize("end", ENDS)
def test_every_well_formed_sequence_has_the_same_probability(end):
    policy, good = UniformGrammar(FOLLOWING, T, end), legal(end)
    probabilities = np.exp(policy.log_prob(space(end)))
    assert 5 < good.sum() < len(good) - 5
    np.testing.assert_allclose(probabilities[good], 1 / good.sum(), rtol=1e-12)
    assert not probabilities[~good].any()
    assert np.exp(policy.log_sequences) == pytest.approx(good.sum())


def test_a_count_known_by_hand():
    """Four tokens, no "b" after "b": the Fibonacci number 8."""
    assert np.exp(UniformGrammar(np.array([[0, 1], [0, -1]]), 4, None).log_sequences) == pytest.approx(8)


@pytest.mark.parametrize("end", ENDS)
def test_a_masked_policy_shares_out_what_is_left_token_by_token(end):
    inner = network(end)
    masked = Masked(inner, FOLLOWING)
    first = np.exp(inner.next_log_probs(np.array([[0]])))[0] * (FOLLOWING[1] >= 0)
    np.testing.assert_allclose(np.exp(masked.next_log_probs(np.array([[0]])))[0], first / first.sum(), rtol=1e-6)
    assert np.isneginf(masked.log_prob(space(end)[~legal(end)])).all()


def test_where_the_policy_writes_nothing_legal_the_legal_tokens_are_equal():
    table = np.array([[-1, -1, 0, 0]])
    certain = Masked(Uniform(V, T, None), np.array([[0, -1, -1, -1]]))  # writes the first token only
    assert np.exp(Masked(certain, table).next_log_probs(np.zeros((1, 0), int)))[0].tolist() == [0, 0, 0.5, 0.5]


def test_a_grammar_without_a_sequence_is_refused():
    for table in (np.full((1, V), -1), np.array([[1, -1, -1, -1], [-1] * V])):
        with pytest.raises(BadValue, match="no well-formed sequence of 4 tokens"):
            UniformGrammar(table, T, None)
    with pytest.raises(BadValue, match="the grammar has 3 tokens, and the policy 4"):
        Masked(network(None), np.zeros((1, 3), int))


@pytest.mark.parametrize("id", GRAMMARS)
def test_the_grammar_of_a_task_with_few_states_is_its_mask(id):
    """Along sequences that the grammar allows, so also that those are well-formed."""
    task = TASKS[id].problem
    automaton = task.automaton()
    policy = UniformGrammar(table_of(automaton), task.T, task.end)
    tokens = policy.sample(300, np.random.default_rng(0))
    for t in range(task.T):
        np.testing.assert_array_equal(automaton(tokens[:, :t]), task.action_mask(tokens[:, :t]))
    assert task.well_formed(tokens).all()
    np.testing.assert_allclose(policy.log_prob(tokens), -policy.log_sequences, atol=1e-9)


def test_the_queries_of_the_addition_attack_are_counted():
    task = TASKS["banel/AdditionAttack-v0"].problem
    policy = UniformGrammar(table_of(task.automaton()), task.T, task.end)
    assert np.exp(policy.log_sequences) == pytest.approx(1_232_100)


@pytest.mark.parametrize("end", ENDS)
def test_without_a_mask_every_sequence_is_well_formed(end):
    free = problem(end)
    policy = UniformGrammar(table_of(free.automaton()), T, end)
    np.testing.assert_allclose(np.exp(policy.log_prob(space(end))), 1 / len(space(end)))


def test_a_mask_without_an_automaton_cannot_be_counted():
    other = Problem(
        "me/X-v0", ("a", "b"), 3, 9, base=lambda: Uniform(2, 3, None), allowed=lambda p: np.ones((len(p), 2))
    )
    assert not other.has_automaton
    with pytest.raises(BadValue, match="me/X-v0: its grammar is a function of whole prefixes"):
        other.automaton()


def test_exploring_finds_the_states_of_an_automaton_again():
    whole = automaton_of(FOLLOWING)
    found = explored(whole, lambda prefix: whole.states(prefix)[:, None], T)
    every = np.array(list(itertools.product(range(V), repeat=T)))
    good = legal(None)
    assert len(found.mask) == len(FOLLOWING)
    for t in range(T):
        np.testing.assert_array_equal(found(every[good, :t]), whole(every[good, :t]))


def test_exploring_too_many_states_is_refused(monkeypatch):
    monkeypatch.setattr("banel_envs.automaton.MOST_STATES", 10)
    free = Automaton(np.ones((1, V), np.int8), np.zeros((1, V), np.int64))
    with pytest.raises(BadValue, match="21 states after 2 tokens; a grammar may have 10"):
        explored(free, lambda prefix: np.column_stack((np.full(len(prefix), prefix.shape[1]), prefix)), 6)
