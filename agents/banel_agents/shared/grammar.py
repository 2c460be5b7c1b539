"""A task's public grammar as a policy: every well-formed sequence equally likely, or a policy that writes nothing else.

Both are exact and can be stored (`banel_envs.policies.grammar`). They need the grammar as an automaton with few states. All
shipped tasks have one; a task of your own whose `allowed` is a function gives it as `Problem.grammar`.
"""

from __future__ import annotations

from banel_envs import Problem
from banel_envs.errors import BadValue
from banel_envs.policies import Autoregressive, Masked, Policy, UniformGrammar
from banel_envs.policies.grammar import table_of


def uniform_over_grammar(problem: Problem) -> UniformGrammar:
    """Every well-formed sequence with equal probability; BadValue where the grammar has no automaton."""
    return UniformGrammar(table_of(problem.automaton()), problem.T, problem.end)


def within_grammar(problem: Problem, policy: Policy) -> Policy:
    """The policy without the tokens that the grammar forbids; itself where there is no grammar, or none with few states."""
    if problem.allowed is None or not problem.has_automaton:
        return policy
    if not isinstance(policy, Autoregressive):
        what = f"a {type(policy).__name__} gives no next-token distribution to mask"
        raise BadValue(f"{problem.id}: {what}; give an Autoregressive policy")
    return Masked(policy, table_of(problem.automaton()))
