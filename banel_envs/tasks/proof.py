"""Proof: write a cut-free proof of a given theorem of classical propositional logic in Gentzen's calculus LK.

A sequence is read in prefix order: a rule, and then the proofs of its premises. Success: the rules close every branch, and
only the end token follows. sequent_calculus.py says what each rule does, and the prompt states the theorem. Vocabulary 18
(17 rules and the end token), horizon 14, budget 7,500. The action mask knows only how many premises each rule has.

v0: (~p|q)>(p>q), material implication. It has 3,550 proofs, the shortest with 10 rules. Base success, exact: 10^-4.1939;
its effective number of successes is 1.4. Hard: ~(p&q)>(~p|~q), one of De Morgan's laws. It has 77 proofs, the shortest with
11 rules; base success 10^-11.2807, effective number 2.3. The base policy was trained on proofs of easier theorems
(`build/proof.py`), and it is not told the theorem.

What a failure can teach (`python -m benchmarks.tasks.failures`): 98% of the base policy's samples are whole trees. Nearly all
start with the right rule. On v0 three quarters, and on Hard four fifths, come no further than one logical rule. In 7% (v0)
and 20% (Hard) a logical rule or an axiom applies, but what it or a rule before it leaves does not hold. Temperature 2 lowers
success on v0 to 10^-5.26. With failures alone BaNEL ends below the base there, at 10^-7.36 (median of three seeds), and so
does its twin; told its successes, `tempered_sft` solves it in one of three seeds (docs/tasks.md).

Types of failure, told under the feedback `typed`:

    code    stage   name       what is wrong
    1       0       malformed  it is no whole tree of rules with only end tokens behind it
    k + 2   k + 1   k right    k logical rules and axioms stand before the first wrong rule; k from 0 to 13

A rule is wrong if it does not apply, or if it leaves a sequent that does not hold: some row of a truth table refutes
it, so that it has no proof, the calculus being sound. So the type knows more than a checker of proofs; a proof assistant that
looks for counterexamples says as much. It is no distance: rules that are right need not lead to a proof within the horizon.
Structural rules are not counted, because exchange and contraction nearly always apply. `python -m benchmarks.findings.typed`
also has types that do not see what holds (`unsound`): they do as well on v0, and on Hard no better than the twin (0.37
decades [-0.58, 4.51]).

Source: Gentzen 1935; Troelstra and Schwichtenberg, Basic Proof Theory, chapter 3.
"""

from __future__ import annotations

from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from banel_envs.assets import asset, combined_digest
from banel_envs.automaton import Automaton, explored
from banel_envs.policies.storage.store import shipped_policy
from banel_envs.problem import FailureType, Problem, Tokens
from banel_envs.task import Task
from banel_envs.tasks.shared.sequent_calculus import PREMISES, RULES, STRUCTURAL, Formulas, Proofs, Sequent, parse

VOCABULARY = (*RULES, ".")
END = len(RULES)
HORIZON = 14
ARITY = np.array([PREMISES[rule] for rule in RULES])  # the number of branches that each rule leaves to prove
COUNTED = np.array([rule not in STRUCTURAL for rule in RULES])  # the logical rules and the axiom

THEOREMS = "proof_theorems.npz"
BASE = "proof_base.safetensors"

FAILURES = (
    FailureType("malformed", 0, "It is no whole tree of rules with only end tokens behind it."),
    *(
        FailureType(f"{k} right", k + 1, f"Before the first wrong rule stand {k} logical rules and axioms.")
        for k in range(HORIZON)
    ),
)

# Entries of a Checker's table that are no number of a sequent: no premise, not yet computed, the rule does not apply.
NOTHING, UNKNOWN, REFUSED = 0, -1, -2


class Checker:
    """Checks whole batches of proofs with the rules of the calculus.

    Sequents get numbers when they are first met, and the premises of each step are kept in a table. Most sequences of a batch
    share their first steps, so most steps are a look-up.
    """

    def __init__(self, theorem: str) -> None:
        formula = parse(theorem)
        self._formulas = Formulas(formula)
        self._goal = self._formulas.goal(formula)
        self._number: dict[Sequent, int] = {}
        self._sequents: list[Sequent] = [((), ())]  # no sequent has the number 0, which stands for no premise
        self._holds = [True]  # whether each sequent holds; where there is no premise, nothing is left to hold
        self._table = np.full((256, len(RULES), 2), UNKNOWN, np.int32)  # [sequents, rules, premises]

    def reward(self, tokens: Tokens) -> NDArray[np.int8]:
        """1 for a sequence that proves the theorem, else 0: [n]."""
        return self.check(tokens)[0]

    def check(self, tokens: Tokens, *, sound: bool = True) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
        """Whether each sequence proves the theorem [n], and how many logical rules and axioms stand before a wrong rule [n].

        A rule is wrong if it does not apply, and with `sound` also if it leaves a sequent that does not hold: that has no proof.
        """
        n, T = tokens.shape
        proved, right = np.zeros(n, np.int8), np.zeros(n, np.int64)
        lost = np.zeros(n, bool)  # whether a rule left a sequent that does not hold
        goals = np.zeros((n, T + 1), np.int64)  # for each sequence a stack of the sequents that are yet to be proved
        goals[:, 0] = self._numbered(self._goal)
        depth = np.ones(n, np.int64)
        rows = np.arange(n)  # the sequences with open branches whose rules all applied so far
        for t in range(T):
            rows = rows[tokens[rows, t] != END]
            first, second = self._premises(goals[rows, depth[rows] - 1], tokens[rows, t]).T
            applies = first != REFUSED
            rows, first, second = rows[applies], first[applies], second[applies]
            if sound:
                holds = np.array(self._holds)
                lost[rows] |= ~(holds[first] & holds[second])
            right[rows] += COUNTED[tokens[rows, t]] & ~lost[rows]
            depth[rows] -= 1
            # The first premise is proved first, so it is put on the stack last.
            for premise in (second, first):
                there = premise != NOTHING
                goals[rows[there], depth[rows[there]]] = premise[there]
                depth[rows] += there
            closed = rows[depth[rows] == 0]
            proved[closed] = tokens[closed, t + 1] == END if t + 1 < T else 1
            rows = rows[depth[rows] > 0]
        return proved, right

    def _premises(self, sequents: NDArray[np.int64], rules: NDArray[np.int64]) -> NDArray[np.int32]:
        """The numbers [m, 2] of the premises that rules [m] leave of sequents [m]."""
        new = self._table[sequents, rules, 0] == UNKNOWN
        for sequent, rule in np.unique(np.stack((sequents[new], rules[new]), axis=1), axis=0):
            premises = self._formulas.premises(self._sequents[sequent], RULES[rule])
            numbers = [REFUSED] if premises is None else [self._numbered(premise) for premise in premises]
            self._table[sequent, rule] = [*numbers, NOTHING, NOTHING][:2]
        found: NDArray[np.int32] = self._table[sequents, rules]
        return found

    def _numbered(self, sequent: Sequent) -> int:
        if sequent not in self._number:
            self._number[sequent] = len(self._sequents)
            self._sequents.append(sequent)
            self._holds.append(self._formulas.valid(sequent))
            if len(self._sequents) > len(self._table):
                self._table = np.concatenate((self._table, np.full_like(self._table, UNKNOWN)))
        return self._number[sequent]


@cache
def _checker(theorem: str) -> Checker:
    """The one Checker of a theorem, whose table grows over all batches."""
    return Checker(theorem)


def reward(theorem: str, tokens: Tokens) -> NDArray[np.int8]:
    """1 for a sequence that proves the theorem, else 0: [n]."""
    return _checker(theorem).reward(tokens)


def failure_type(theorem: str, problem: Problem, tokens: Tokens, *, sound: bool = True) -> NDArray[np.int8]:
    """The code of what is wrong with each sequence, by FAILURES; 0 for a proof: [n].

    Args:
        theorem: what is to be proved.
        problem: knows the grammar.
        tokens: the sequences [n, T].
        sound: see `Checker.check`; `benchmarks/findings/typed.py` compares both.
    """
    proved, right = _checker(theorem).check(tokens, sound=sound)
    codes = np.where(problem.well_formed(tokens), 2 + right, 1)
    return np.where(proved == 1, 0, codes).astype(np.int8)


@cache
def successes(theorem: str) -> Tokens:
    """Every proof of the theorem that is not longer than the horizon: [N, T], the shortest first."""
    formula = parse(theorem)
    formulas = Formulas(formula)
    search, goal = Proofs(formulas), formulas.goal(formula)
    return encode([proof for length in range(1, HORIZON + 1) for proof in search.written(goal, length)])


def encode(proofs: list[tuple[str, ...]]) -> Tokens:
    """Rules by name to tokens [n, T].

    >>> "".join(VOCABULARY[t] for t in encode([(">R", "ax")])[0])
    '>Rax............'
    """
    index = {rule: k for k, rule in enumerate(RULES)}
    tokens = np.full((len(proofs), HORIZON), END, np.int64)
    for row, proof in zip(tokens, proofs, strict=True):
        row[: len(proof)] = [index[rule] for rule in proof]
    return tokens


def goals_left(prefix: Tokens) -> NDArray[np.int64]:
    """How many branches are open after prefixes [n, t], from the rules' numbers of premises alone: [n].

    It is 0 if all branches are closed or the end token is written.
    """
    change = np.append(ARITY, 0)[prefix] - 1
    left = np.concatenate((np.ones((len(prefix), 1), np.int64), 1 + np.cumsum(change, axis=1)), axis=1)
    over = (left <= 0).any(axis=1) | (prefix == END).any(axis=1)
    return np.where(over, 0, left[:, -1])


def well_formed_next(prefix: Tokens) -> NDArray[np.int8]:
    """The grammar as an action mask: prefixes [n, t] to allowed tokens [n, V]. It does not tell whether a rule applies."""
    left = goals_left(prefix)
    # Each open branch needs one more token at least, so a rule must not leave more branches than there is room.
    after = left[:, None] - 1 + ARITY  # [n, rules]
    mask = np.zeros((len(prefix), len(VOCABULARY)), np.int8)
    mask[:, :END] = (left[:, None] > 0) & (after <= HORIZON - prefix.shape[1] - 1)
    mask[:, END] = left == 0
    return mask


@cache
def grammar() -> Automaton:
    """The grammar with few states, over well-formed prefixes: the length so far and the open branches tell them apart."""
    return explored(
        well_formed_next,
        lambda prefix: np.column_stack((np.full(len(prefix), prefix.shape[1]), goals_left(prefix))),
        HORIZON,
    )


def outline(tokens: Tokens) -> str:
    """A sequence as a tree of rules, one a line. The proofs of two premises are indented. Nothing is checked."""
    lines, indents = [], [0]
    for token in tokens[tokens != END]:
        indent = indents.pop() if indents else 0
        lines.append("  " * indent + RULES[token])
        indents += [indent + (ARITY[token] == 2)] * int(ARITY[token])
    return "\n".join(lines + ["  " * indent + "?" for indent in reversed(indents)])


def _build(id: str, name: str) -> Task:
    with np.load(asset(THEOREMS)) as theorems:
        theorem = str(theorems[name])
    problem = Problem(
        id=id,
        vocabulary=VOCABULARY,
        horizon=HORIZON,
        budget=7_500,
        base=partial(shipped_policy, BASE),
        end=END,
        prompt=theorem,
        allowed=well_formed_next,
        grammar=grammar,
        printer=outline,
        failure_types=FAILURES,
    )
    return Task(
        problem,
        partial(reward, theorem),
        failure_type=partial(failure_type, theorem, problem),
        successes=partial(successes, theorem),
        witness=lambda: successes(theorem)[0],
        digest=combined_digest(THEOREMS, BASE),
        family="proof",
    )


def build_v0() -> Task:
    """Proof-v0."""
    return _build("banel/Proof-v0", "v0")


def build_hard() -> Task:
    """ProofHard-v0: the same calculus and base policy, and a theorem that this policy proves more rarely."""
    return _build("banel/ProofHard-v0", "hard")
