"""Problem: everything an agent may know of a task, and nothing of its reward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from banel_envs.automaton import Automaton
from banel_envs.errors import BadTokens, BadValue
from banel_envs.policies.protocol import Policy

MOST_BUDGET = 10**9  # evaluations; every one has its row in the ledger
MOST_ONE_HOT = 4_096  # the largest V of whoever needs a number for each token at each position, such as one-hot vectors
MOST_TYPES = 15  # types of failure; with 0 for none, a type is four bits in the ledger
Tokens = NDArray[np.int64]
"""Token sequences [n, T]: after the first end token only end tokens follow."""


class FailureType(NamedTuple):
    """One reason why a sequence can fail, as it is told under the feedback `typed`."""

    name: str
    stage: int  # how far the check came before it failed, from 0; types of one stage have no order among them
    about: str  # the clause that failed, in a sentence


@dataclass(frozen=True, eq=False)
class Problem:
    """The public half of a task: what may be written, how long, and for how many evaluations.

    Sequences are every string of at most T tokens that ends in the end token (then padded with it) and every
    string of T tokens without one. Malformed strings are part of the space and simply fail.
    """

    id: str
    vocabulary: tuple[str, ...] | int
    """V printable tokens, the end token included; or only V, where `decoder` prints. Two tokens may print alike."""
    horizon: int  # T: tokens in the longest sequence
    budget: int  # NRE: reward evaluations granted by default
    base: Callable[[], Policy] = field(repr=False)  # loads p_theta, the pre-trained policy
    end: int | None = None  # index of the end token; None where every sequence has T tokens
    prompt: str | None = None  # what the sequence answers, where there is one
    allowed: Callable[[Tokens], NDArray[np.int8]] | None = field(default=None, repr=False)
    """Advice, never enforced: prefixes [n, t] to a mask [n, V] of tokens that keep a sequence well-formed."""
    grammar: Callable[[], Automaton] | None = field(default=None, repr=False)
    """The same grammar with few states, over well-formed prefixes, where `allowed` is a function. See `automaton`."""
    printer: Callable[[Tokens], str] | None = field(default=None, repr=False)  # one sequence [T] to text
    image: Callable[[Tokens], NDArray[np.uint8]] | None = field(default=None, repr=False)
    """One sequence [T], V where nothing is written yet, to a picture [height, width, 3]; None where there is none."""
    failure_types: tuple[FailureType, ...] = ()
    """What the codes 1, 2, ... of `Task.failure_type` mean, in the order of their stages; empty where no types are told."""
    decoder: Callable[[Tokens], str] | None = field(default=None, repr=False)
    """Tokens [t] to text, where a sequence's text is not its tokens' texts put together. A V without one prints the numbers."""
    encoder: Callable[[str], Sequence[int]] | None = field(default=None, repr=False)
    """Text to tokens, without end tokens behind them: such as `LanguageModel.plain_ids`. With it a problem whose vocabulary is
    a number takes answers as texts (banel_envs.bridges.texts). BadValue from it says that no tokens write the text."""

    def __post_init__(self) -> None:
        if isinstance(self.vocabulary, bool) or self.V < 2:
            raise BadValue(f"{self.id}: the vocabulary needs at least 2 tokens, got {self.vocabulary!r}")
        if not isinstance(self.id, str):
            raise BadValue(f"the problem's id is {self.id!r}; it is a text, such as 'me/Sum-v0'")
        if isinstance(self.horizon, bool) or not isinstance(self.horizon, int) or self.horizon < 1:
            raise BadValue(f"{self.id}: horizon is {self.horizon!r}; it must be a whole number of at least 1")
        if self.end is not None and not 0 <= self.end < self.V:
            raise BadValue(f"{self.id}: end token {self.end} is outside 0..{self.V - 1}")
        check_budget(self.budget)
        _check_types(self.id, self.failure_types)

    @property
    def V(self) -> int:
        """Tokens a policy may emit, the end token included."""
        return self.vocabulary if isinstance(self.vocabulary, int) else len(self.vocabulary)

    def facts(self) -> dict[str, Any]:
        """What it says of its sequences, as JSON can hold it: id, vocabulary, horizon, budget, end token and prompt."""
        return {name: getattr(self, name) for name in ("id", "vocabulary", "horizon", "budget", "end", "prompt")}

    @property
    def words(self) -> tuple[str, ...]:
        """The printed form of each token; BadValue where the vocabulary is a number, as that of a language model is."""
        if isinstance(self.vocabulary, int):
            raise BadValue(
                f"{self.id}: its {self.V:,} tokens have no printed forms; hand in ids, not text, or give "
                f"the Problem an encoder, such as encoder=model.plain_ids of a LanguageModel"
            )
        return self.vocabulary

    @property
    def T(self) -> int:
        """Horizon: tokens in the longest sequence."""
        return self.horizon

    def base_policy(self) -> Policy:
        """A new copy of the pre-trained policy p_theta; changing it changes no other copy."""
        return self.base()

    def check_tokens(self, tokens: object) -> Tokens:
        """A copy of the batch, contiguous int64 [n, T], taken before it is checked: no later change reaches it.

        Raises:
            BadTokens: not integers, not [n, T], a token outside 0..V-1, or a token after the end token.
        """
        try:
            # asarray sheds what an object may do; the copy is ours
            array = np.array(tokens if type(tokens) is np.ndarray else np.asarray(tokens), order="C")
        except (TypeError, ValueError) as error:
            raise BadTokens(f"tokens are not an array: {error}; {self.id} takes integers [n, {self.T}]") from error
        if array.dtype.kind not in "iu":
            raise BadTokens(f"tokens are {array.dtype}, not integers; convert them with .astype(int) if they are whole")
        if array.ndim != 2 or array.shape[1] != self.T:
            raise BadTokens(f"tokens have shape {list(array.shape)}; {self.id} takes [n, {self.T}]")
        clean = np.ascontiguousarray(array, dtype=np.int64)
        # As unsigned numbers negative tokens are very large, so one comparison finds both ends of the range.
        unsigned = clean.view(np.uint64)
        if clean.size and unsigned.max() >= self.V:
            row, column = np.argwhere(unsigned >= self.V)[0]
            raise BadTokens(f"token {array[row, column]} at row {row}, position {column} is outside 0..{self.V - 1}")
        # After the end only the end may follow. Otherwise one sequence could be written, and asked, in several ways.
        if self.end is not None:
            ended = clean == self.end
            late = ended[:, :-1] > ended[:, 1:]
            if np.logical_or.reduce(late, axis=None):
                row, column = np.argwhere(late)[0]
                raise BadTokens(
                    f"row {row} has token {array[row, column + 1]} after its end token; "
                    f"pad with the end token {self.end}"
                )
        return clean

    def lengths(self, tokens: Tokens) -> NDArray[np.int64]:
        """Tokens that a policy emitted for each row, the first end token included: [n]."""
        if self.end is None:
            return np.full(len(tokens), self.T, np.int64)
        emitted: NDArray[np.int64] = np.minimum((tokens != self.end).sum(axis=1) + 1, self.T)
        return emitted

    def decode(self, tokens: object) -> list[str]:
        """Each sequence [n, T] as text, without its end token."""
        return [self.text(row[row != self.end]) for row in self.check_tokens(tokens)]

    def text(self, tokens: Tokens) -> str:
        """Tokens [t] as text, each of them below V."""
        if self.decoder is not None:
            return self.decoder(tokens)
        if isinstance(self.vocabulary, int):
            return " ".join(map(str, tokens.tolist()))
        return "".join(self.vocabulary[t] for t in tokens)

    def render(self, tokens: object) -> str:
        """One sequence [T] as a person would like to see it."""
        clean = self.check_tokens([tokens])
        return self.printer(clean[0]) if self.printer else self.decode(clean)[0]

    def action_mask(self, prefix: Tokens) -> NDArray[np.int8]:
        """Tokens [n, V] that keep prefixes [n, t] well-formed (1) or not (0): advice, never enforced."""
        if self.allowed is None:
            return np.ones((len(prefix), self.V), np.int8)
        return self.allowed(prefix)

    @property
    def has_automaton(self) -> bool:
        """Whether the grammar is known with few states: it is an Automaton, or comes with one, or forbids nothing."""
        return self.allowed is None or self.grammar is not None or isinstance(self.allowed, Automaton)

    def automaton(self) -> Automaton:
        """The grammar with few states: what can be sampled evenly. Where nothing is forbidden, every sequence is well-formed.

        Raises:
            BadValue: the mask is a function, and no automaton came with it.
        """
        if self.grammar is not None:
            return self.grammar()
        if isinstance(self.allowed, Automaton):
            return self.allowed
        if self.allowed is not None:
            what = f"{self.id}: its grammar is a function of whole prefixes, so its sequences cannot be counted"
            raise BadValue(f"{what}; give the Problem an Automaton as `allowed`, or one beside it as `grammar`")
        mask = np.ones((1 if self.end is None else 2, self.V), np.int8)
        following = np.zeros(mask.shape, np.int64)
        if self.end is not None:
            mask[1], following[:, self.end], following[1] = np.arange(self.V) == self.end, 1, 1
        return Automaton(mask, following)

    def well_formed(self, tokens: Tokens) -> NDArray[np.bool_]:
        """Which sequences [n, T] keep to the action mask at every position: [n]."""
        legal = np.ones(len(tokens), bool)
        if self.allowed is None:
            return legal
        for t in range(self.T):
            legal &= self.action_mask(tokens[:, :t])[np.arange(len(tokens)), tokens[:, t]] == 1
        return legal


def check_one_hot(problem: Problem, who: str, way_out: str) -> None:
    """BadValue if the vocabulary is too large for whoever needs a number for each token at each position."""
    if problem.V > MOST_ONE_HOT:
        what = f"{problem.id}: V is {problem.V:,}, and {who} takes a number for each token at each position"
        raise BadValue(f"{what}, up to V = {MOST_ONE_HOT:,}; {way_out}")


def check_budget(budget: object) -> int:
    """The budget as an int from 1 to MOST_BUDGET; BadValue otherwise."""
    if isinstance(budget, bool) or not isinstance(budget, int | np.integer) or not 1 <= budget <= MOST_BUDGET:
        limits = f"at least 1 and at most {MOST_BUDGET:,}"
        raise BadValue(f"budget is {budget!r}; it must be a whole number of evaluations, {limits}")
    return int(budget)


def _check_types(id: str, types: tuple[FailureType, ...]) -> None:
    """BadValue unless these can be a problem's types of failure."""
    if len(types) > MOST_TYPES:
        raise BadValue(f"{id}: {len(types)} types of failure; at most {MOST_TYPES} can be told, so put some together")
    if len({one.name for one in types}) != len(types):
        raise BadValue(f"{id}: the types of failure are {[one.name for one in types]}; give each a name of its own")
    stages = [0, *(one.stage for one in types)]
    if any(type(stage) is not int for stage in stages) or any(low > high for low, high in pairwise(stages)):
        raise BadValue(
            f"{id}: the stages of its types of failure are {stages[1:]}; they are whole numbers that rise from 0"
        )
