"""ListProgram: write a program over lists that maps given inputs to given outputs (after DeepCoder, Balog et al. 2017).

A program is a pipeline: each function takes the list that the function before it returned, and the first takes the input.
`filter even map square sum end` sums the squares of the even numbers.

- reverse, sort, tail, map F, filter P, scanl G (the running G, Haskell's scanl1) and zipwith G (with the *input*, up to the
  shorter length) return a list; head, last, sum, minimum, maximum and count P return a number, after which only `end` may come
- F: +1 -1 *2 /2 (rounded down) neg square; P: even odd >0 <0; G: + - * min max

A program fails if it is malformed, if it takes head, last, minimum or maximum of an empty list, or if it makes a value
outside -255..255. Success: the program has its end token, runs on all four examples (the prompt shows them) and returns
exactly their outputs. Vocabulary 29, horizon 10, budget 7,500. The examples are in an asset; another instance has others.

The success set has 866 of some 16 million programs that run. The shortest has four functions (`map *2 sort filter >0 map
*2`). The set was enumerated by running every program; programs of one length with the same results were continued as one.
Base success, exact: 10^-4.1672; its effective number of successes is 122. The base policy was trained on random programs,
and it does not know the examples.
What a failure can teach (`python -m benchmarks.tasks.failures`): 35% of the base policy's samples return a number, 5% do not
run, and 4% return lists as long as the outputs. Every success contains sort and >0, and 99.9% of the success is of programs that
contain *2; of the samples 11%, 13% and 17% do.

Types of failure, told under the feedback `typed`. The clauses are checked from the top, and the first that fails decides:

    code  stage  name          what is wrong
    1     0      malformed     it leaves the grammar
    2     1      does not run  on some example it makes a value beyond the limit, or takes an element of an empty list
    3     2      number        it returns a number, and the outputs are lists
    4     3      length        on the first example it returns a list of another length than the output
    5     4      first         on the first example it returns a list of the right length with a wrong element
    6     5      second        the first example is right, and the second is wrong
    7     6      third         the first two examples are right, and the third is wrong
    8     7      fourth        the first three examples are right, and the fourth is wrong

They are what a runner of tests says: the first test that fails. They grade near misses as far as the order of the examples does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from banel_envs.assets import asset, combined_digest
from banel_envs.automaton import Automaton, explored
from banel_envs.policies.storage.store import shipped_policy
from banel_envs.problem import FailureType, Problem, Tokens
from banel_envs.task import Task

Ints = NDArray[np.int64]
States = NDArray[np.int16]
"""The results of programs on every example: [n, examples, LENGTH]. A list is filled with BLANK, a number is [v, NUMBER, ...]."""

LENGTH = 5  # elements of the longest list
LIMIT = 255  # the largest absolute value
BLANK, NUMBER = 1_000, 2_000  # no value can be so large, and BLANK is sorted behind all values

UNARY: dict[str, Callable[[Ints], Ints]] = {
    "+1": lambda x: x + 1,
    "-1": lambda x: x - 1,
    "*2": lambda x: x * 2,
    "/2": lambda x: x // 2,
    "neg": lambda x: -x,
    "square": lambda x: x * x,
}
PREDICATES: dict[str, Callable[[Ints], NDArray[np.bool_]]] = {
    "even": lambda x: x % 2 == 0,
    "odd": lambda x: x % 2 == 1,
    ">0": lambda x: x > 0,
    "<0": lambda x: x < 0,
}
BINARY: dict[str, Callable[[Ints, Ints], Ints]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
}
LISTS: dict[str, Callable[[Ints], Ints]] = {  # [n, E, L] to [n, E, L]
    "reverse": lambda x: _compact(x[:, :, ::-1]),
    "sort": lambda x: np.sort(x, axis=2),
    "tail": lambda x: np.concatenate((x[:, :, 1:], np.full_like(x[:, :, :1], BLANK)), axis=2),
}
# [n, E, L] to [n, E]. Of an empty list each of these but the sum gives a number beyond LIMIT, so the program fails.
NUMBERS: dict[str, Callable[[Ints], Ints]] = {
    "head": lambda x: x[:, :, 0],
    "last": lambda x: _compact(x[:, :, ::-1])[:, :, 0],
    "sum": lambda x: np.where(x == BLANK, 0, x).sum(axis=2),
    "minimum": lambda x: x.min(axis=2),
    "maximum": lambda x: np.where(x == BLANK, -BLANK, x).max(axis=2),
}
ARGUMENTS: dict[str, tuple[str, ...]] = {
    "map": tuple(UNARY),
    "filter": tuple(PREDICATES),
    "count": tuple(PREDICATES),
    "scanl": tuple(BINARY),
    "zipwith": tuple(BINARY),
}
WORDS = (*ARGUMENTS, *LISTS, *NUMBERS, *UNARY, *PREDICATES, *BINARY, "end")
VOCABULARY = tuple(word if word == "end" else f"{word} " for word in WORDS)
V = len(WORDS)
END = V - 1
HORIZON = 10

INSTRUCTIONS = (*((w,) for w in (*LISTS, *NUMBERS)), *((w, f) for w, arguments in ARGUMENTS.items() for f in arguments))
"""Every function with each of its arguments, as words."""

PUZZLE = "list_program_puzzle.npz"
BASE = "list_program_base.safetensors"

FAILURES = (
    FailureType("malformed", 0, "It leaves the grammar."),
    FailureType(
        "does not run", 1, "On an example it takes an element of an empty list, or makes a value beyond the limit."
    ),
    FailureType("number", 2, "It returns a number, and the outputs are lists."),
    FailureType("length", 3, "On the first example it returns a list of another length."),
    FailureType("first", 4, "On the first example it returns a list of the right length with a wrong element."),
    FailureType("second", 5, "The first example is right, and the second is wrong."),
    FailureType("third", 6, "The first two examples are right, and the third is wrong."),
    FailureType("fourth", 7, "The first three examples are right, and the fourth is wrong."),
)

# The grammar is an automaton. It has one phase for each function that still needs its argument, and then these four.
LIST, VALUE, ENDED, DEAD = range(len(ARGUMENTS), len(ARGUMENTS) + 4)
# How many tokens a sequence in each phase needs to its end. A dead one needs more than there can be.
NEEDS = np.array([2] * len(ARGUMENTS) + [1, 1, 0, HORIZON + 1])


def _automaton() -> tuple[Ints, Ints]:
    """For every phase and token the next phase, and the instruction that is then complete (-1: none), both [phases, V]."""
    follow, complete = np.full((2, len(NEEDS), V), [[[DEAD]], [[-1]]])
    follow[LIST, : len(ARGUMENTS)] = np.arange(len(ARGUMENTS))
    follow[[LIST, VALUE, ENDED], END] = ENDED
    for k, words in enumerate(INSTRUCTIONS):
        phase = list(ARGUMENTS).index(words[0]) if len(words) == 2 else LIST
        token = WORDS.index(words[-1])
        follow[phase, token] = VALUE if words[0] in (*NUMBERS, "count") else LIST
        complete[phase, token] = k
    return follow, complete


FOLLOW, COMPLETE = _automaton()


def apply(instruction: int, states: States, inputs: States) -> tuple[States, NDArray[np.bool_]]:
    """Run one instruction on lists [n, E, L]: the states after it, and for which sequences [n] it succeeded.

    Args:
        instruction: an index of INSTRUCTIONS.
        states: lists and no numbers.
        inputs: the inputs of the examples [E, L], which zipwith reads.
    """
    name, *argument = INSTRUCTIONS[instruction]
    # Computed in int64: a square or a product of two int16 could wrap round and look as if it were within the limit.
    x, start = states.astype(np.int64), inputs.astype(np.int64)
    if name in NUMBERS:
        return _number(NUMBERS[name](x))
    if name == "count":
        return _number(((x != BLANK) & PREDICATES[argument[0]](x)).sum(axis=2))
    if name in LISTS:
        x = LISTS[name](x)
        return _checked(x, x != BLANK)
    if name == "filter":
        x = _compact(np.where(PREDICATES[argument[0]](x), x, BLANK))
        return _checked(x, x != BLANK)
    if name == "map":
        return _checked(UNARY[argument[0]](x), x != BLANK)
    if name == "scanl":
        return _checked(_scan(BINARY[argument[0]], x), x != BLANK)
    return _checked(BINARY[argument[0]](x, start), (x != BLANK) & (start != BLANK))


def _checked(values: Ints, present: NDArray[np.bool_]) -> tuple[States, NDArray[np.bool_]]:
    """Lists [n, E, L] of the elements that are present, and which sequences [n] keep the limit."""
    kept = np.all((np.abs(values) <= LIMIT) | ~present, axis=(1, 2))
    return np.where(present & kept[:, None, None], values, BLANK).astype(np.int16), kept


def _number(values: Ints) -> tuple[States, NDArray[np.bool_]]:
    """Numbers [n, E] as states, and which sequences [n] keep the limit."""
    kept = np.all(np.abs(values) <= LIMIT, axis=1)
    states = np.full((*values.shape, LENGTH), BLANK, np.int16)
    states[:, :, 0], states[:, :, 1] = np.where(kept[:, None], values, 0), NUMBER
    return states, kept


def _compact(x: Ints) -> Ints:
    """The lists with their elements in front, in order, and the blanks behind them."""
    return np.take_along_axis(x, np.argsort(x == BLANK, axis=2, kind="stable"), axis=2)


def _scan(function: Callable[[Ints, Ints], Ints], x: Ints) -> Ints:
    """The running value of a function of two elements, from the left."""
    y = x.copy()
    for i in range(1, LENGTH):
        y[:, :, i] = function(y[:, :, i - 1], x[:, :, i])
    return y


def run(tokens: Tokens, inputs: States) -> tuple[States, NDArray[np.bool_]]:
    """Run programs [n, T] on inputs [E, L]: their last states [n, E, L], and which of them [n] are well-formed and ran."""
    # All programs run at once: at each token, the sequences that complete the same instruction run it together.
    states = np.repeat(inputs[None], len(tokens), axis=0)
    phase, alive = np.full(len(tokens), LIST), np.ones(len(tokens), bool)
    for token in tokens.T:
        instruction = np.where(alive, COMPLETE[phase, token], -1)
        phase = FOLLOW[phase, token]
        for k in np.unique(instruction[instruction >= 0]):
            rows = np.flatnonzero(instruction == k)
            states[rows], alive[rows] = apply(int(k), states[rows], inputs)
    return states, alive & (phase == ENDED)


@cache
def puzzle() -> tuple[States, States]:
    """The inputs and the outputs of the examples, each [E, L]."""
    with np.load(asset(PUZZLE)) as stored:
        return stored["inputs"], stored["outputs"]


def reward(tokens: Tokens) -> NDArray[np.int8]:
    """1 for a program that runs on every example and returns its output, else 0: [n]."""
    inputs, outputs = puzzle()
    states, ran = run(tokens, inputs)
    hits: NDArray[np.int8] = (ran & (states == outputs).all(axis=(1, 2))).astype(np.int8)
    return hits


def failure_type(problem: Problem, tokens: Tokens) -> NDArray[np.int8]:
    """The code of what is wrong with each sequence, by FAILURES; 0 for a success: [n]."""
    inputs, outputs = puzzle()
    states, ran = run(tokens, inputs)
    wrong = (states != outputs).any(axis=2)  # [n, E]
    lengths, wanted = (states[:, 0] != BLANK).sum(axis=1), (outputs[0] != BLANK).sum()
    first = np.where(lengths != wanted, 4, 5)
    codes = np.where(wrong[:, 0], first, 5 + wrong.argmax(axis=1))
    codes = np.where(wrong.any(axis=1), codes, 0)
    codes = np.where((states[:, :, 1] == NUMBER).any(axis=1), 3, codes)
    codes = np.where(ran, codes, 2)
    return np.where(problem.well_formed(tokens), codes, 1).astype(np.int8)


@cache
def successes() -> Tokens:
    """Every program that returns the outputs: [N, T]. They were found when the task was built, since the search takes long."""
    with np.load(asset(PUZZLE)) as stored:
        return np.asarray(stored["programs"], np.int64)


def well_formed_next(prefix: Tokens) -> NDArray[np.int8]:
    """The grammar as an action mask: prefixes [n, t] to allowed tokens [n, V]. Room is kept for the end token."""
    room = HORIZON - prefix.shape[1] - 1
    mask: NDArray[np.int8] = (NEEDS[FOLLOW[phases(prefix)]] <= room).astype(np.int8)
    return mask


def phases(prefix: Tokens) -> NDArray[np.int64]:
    """What may follow prefixes [n, t], the room that is left apart: [n]."""
    phase = np.full(len(prefix), LIST)
    for token in prefix.T:
        phase = FOLLOW[phase, token]
    return phase


@cache
def grammar() -> Automaton:
    """The grammar with few states, over well-formed prefixes: the length so far and the phase tell them apart."""
    return explored(
        well_formed_next,
        lambda prefix: np.column_stack((np.full(len(prefix), prefix.shape[1]), phases(prefix))),
        HORIZON,
    )


def show(state: States) -> str:
    """The state of one example [L] as text: `[3 -1 4]`, or a number.

    >>> show(np.array([3, -1, BLANK, BLANK, BLANK])), show(np.array([7, NUMBER, BLANK, BLANK, BLANK]))
    ('[3 -1]', '7')
    """
    return str(state[0]) if state[1] == NUMBER else f"[{' '.join(str(x) for x in state if x != BLANK)}]"


def render(tokens: Tokens) -> str:
    """One program [T] as a pipeline, and its result on each input."""
    inputs, _ = puzzle()
    states, ran = run(tokens[None], inputs)
    words = [WORDS[t] for t in tokens if t != END]
    text = "".join((" " if k and words[k - 1] in ARGUMENTS else " | " if k else "") + w for k, w in enumerate(words))
    made = ", ".join(f"{show(a)} -> {show(b)}" for a, b in zip(inputs, states[0], strict=True))
    return f"{text or 'nothing'}   {made if ran[0] else 'does not run'}"


def _prompt() -> str:
    examples = ", ".join(f"{show(a)} -> {show(b)}" for a, b in zip(*puzzle(), strict=True))
    return f"Write a pipeline of list functions that maps every input to its output: {examples}."


def build_v0() -> Task:
    """ListProgram-v0."""
    problem = Problem(
        id="banel/ListProgram-v0",
        vocabulary=VOCABULARY,
        horizon=HORIZON,
        budget=7_500,
        base=partial(shipped_policy, BASE),
        end=END,
        prompt=_prompt(),
        allowed=well_formed_next,
        grammar=grammar,
        printer=render,
        failure_types=FAILURES,
    )
    return Task(
        problem,
        reward,
        failure_type=partial(failure_type, problem),
        successes=successes,
        witness=lambda: successes()[0],
        digest=combined_digest(PUZZLE, BASE),
        family="algorithmic",
    )
