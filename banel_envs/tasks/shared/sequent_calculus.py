"""Gentzen's sequent calculus LK for classical propositional logic, without cut: checking proofs, and finding them.

A sequent `A, B |- C, D` says: if all formulas on the left hold, one on the right holds. A rule is applied backwards, from
the conclusion to its premises, and always to the *last* formula of the side that it names:

    ax   A |- A                       no other formula may be there: the others must be weakened away
    wL   G |- D         / G, A |- D   weakening            wR  likewise on the right
    cL   G, A, A |- D   / G, A |- D   contraction          cR
    xL   A, G |- D      / G, A |- D   exchange (rotation)  xR
    ~L   G |- D, A      / G, ~A |- D                       ~R   G, A |- D  / G |- D, ~A
    &L1  G, A |- D      / G, A&B |- D                      &L2  G, B |- D  / G, A&B |- D
    &R   G |- D, A  and  G |- D, B  / G |- D, A&B          |L, |R1, |R2 are its mirror images
    >L   G |- D, A  and  G, B |- D  / G, A>B |- D          >R   G, A |- D, B  / G |- D, A>B

The calculus is sound and complete. &L1, &L2, |R1, |R2 and the weakenings may drop a formula that the proof needs.
Source: Gentzen 1935, Untersuchungen ueber das logische Schliessen. Here both branches of a rule keep the whole context.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from itertools import chain, product
from math import prod
from typing import NamedTuple, TypeAlias

import numpy as np

from banel_envs.errors import BadValue

Side: TypeAlias = tuple[int, ...]
Sequent: TypeAlias = tuple[Side, Side]
"""The numbers of the formulas (see Formulas) left and right of the turnstile."""
Parts: TypeAlias = tuple[int, ...]

LEFT, RIGHT = 0, 1
LOGICAL: dict[str, tuple[str, int, tuple[tuple[Parts, Parts], ...]]] = {
    "~L": ("~", LEFT, (((), (0,)),)),
    "~R": ("~", RIGHT, (((0,), ()),)),
    "&L1": ("&", LEFT, (((0,), ()),)),
    "&L2": ("&", LEFT, (((1,), ()),)),
    "&R": ("&", RIGHT, (((), (0,)), ((), (1,)))),
    "|L": ("|", LEFT, (((0,), ()), ((1,), ()))),
    "|R1": ("|", RIGHT, (((), (0,)),)),
    "|R2": ("|", RIGHT, (((), (1,)),)),
    ">L": (">", LEFT, (((), (0,)), ((1,), ()))),
    ">R": (">", RIGHT, (((0,), (1,)),)),
}
"""For each rule: the connective that it takes apart, its side, and for each premise the parts that are added left and right."""
STRUCTURAL = {letter + name: (letter, side) for letter in "wcx" for side, name in enumerate("LR")}
RULES = ("ax", *LOGICAL, *STRUCTURAL)
PREMISES = {rule: len(LOGICAL[rule][2]) if rule in LOGICAL else int(rule != "ax") for rule in RULES}
"""How many branches a rule leaves to prove."""


class Formula(NamedTuple):
    """An atom (its letter, no parts) or a connective `~ & | >` with its parts."""

    head: str
    parts: tuple[Formula, ...] = ()

    def __str__(self) -> str:
        if not self.parts:
            return self.head
        inner = [f"({part})" if len(part.parts) == 2 else str(part) for part in self.parts]
        return self.head + inner[0] if self.head == "~" else self.head.join(inner)


def parse(text: str) -> Formula:
    """The Formula of a text such as `(p>q)>~(p&~q)`. `~` binds closest; other connectives need brackets inside each other.

    Raises:
        BadValue: the text is no formula. The message names the first symbol that does not fit.
    """
    symbols = [c for c in text if not c.isspace()]
    formula, rest = _binary(symbols, 0, text)
    if rest < len(symbols):
        raise BadValue(f"formula {text!r}: {symbols[rest]!r} is too much; bracket every pair, as in (p&q)>p")
    return formula


def _binary(symbols: list[str], at: int, text: str) -> tuple[Formula, int]:
    """The formula from this place on, with one connective at most outside brackets, and the place behind it."""
    first, at = _unary(symbols, at, text)
    if at < len(symbols) and symbols[at] in "&|>":
        second, end = _unary(symbols, at + 1, text)
        return Formula(symbols[at], (first, second)), end
    return first, at


def _unary(symbols: list[str], at: int, text: str) -> tuple[Formula, int]:
    """The atom, the negation or the bracketed formula from this place on, and the place behind it."""
    symbol = symbols[at] if at < len(symbols) else "its end"
    if symbol == "~":
        part, at = _unary(symbols, at + 1, text)
        return Formula("~", (part,)), at
    if symbol == "(":
        part, at = _binary(symbols, at + 1, text)
        if at < len(symbols) and symbols[at] == ")":
            return part, at + 1
        symbol = symbols[at] if at < len(symbols) else "its end"
    elif len(symbol) == 1 and "a" <= symbol <= "z":
        return Formula(symbol), at + 1
    raise BadValue(f"formula {text!r}: {symbol!r} stands where none may; atoms are a..z, connectives ~ & | >")


class Formulas:
    """The distinct subformulas of some formulas, with numbers. A proof without cut contains no other formulas."""

    def __init__(self, *formulas: Formula) -> None:
        self.number: dict[Formula, int] = {}
        self.head: list[str] = []
        self.parts: list[tuple[int, ...]] = []
        atoms = sorted({f.head for formula in formulas for f in subformulas(formula) if not f.parts})
        # A truth table is one whole number with one bit for each row. So connectives are bit operations on whole tables.
        self.rows: int = 1 << len(atoms)
        self._columns = {atom: _column(k, self.rows) for k, atom in enumerate(atoms)}
        self.truth: list[int] = []  # the truth table of each formula
        for formula in formulas:
            self._add(formula)
        self.formulas = list(self.number)

    def _add(self, formula: Formula) -> int:
        if formula in self.number:
            return self.number[formula]
        parts = tuple(self._add(part) for part in formula.parts)
        self.number[formula] = len(self.head)
        self.head.append(formula.head)
        self.parts.append(parts)
        self.truth.append(self._truth(formula.head, [self.truth[part] for part in parts]))
        return self.number[formula]

    def _truth(self, head: str, parts: list[int]) -> int:
        everywhere: int = (1 << self.rows) - 1
        match head, parts:
            case "~", (a,):
                return everywhere & ~a
            case "&", (a, b):
                return a & b
            case "|", (a, b):
                return a | b
            case ">", (a, b):
                return everywhere & ~a | b
        return self._columns[head]

    def valid(self, sequent: Sequent) -> bool:
        """Whether the sequent holds in every row of the truth table."""
        left, right = sequent
        holds = reduce(int.__and__, (self.truth[f] for f in left), (1 << self.rows) - 1)
        return not holds & ~reduce(int.__or__, (self.truth[f] for f in right), 0)

    def premises(self, sequent: Sequent, rule: str) -> tuple[Sequent, ...] | None:
        """The premises that a rule leaves of a sequent: () if the rule closes it, None if the rule does not apply to it.

        Checking a proof needs nothing else than this function.
        """
        if rule == "ax":
            return () if sequent[LEFT] == sequent[RIGHT] and len(sequent[LEFT]) == 1 else None
        # The structural rules apply to any formula and do not look at its connective.
        if rule in STRUCTURAL:
            return _structural(sequent, *STRUCTURAL[rule])
        connective, side, gained = LOGICAL[rule]
        if not sequent[side] or self.head[sequent[side][-1]] != connective:
            return None
        part = self.parts[sequent[side][-1]].__getitem__
        left, right = _replace(sequent, side, sequent[side][:-1])
        return tuple((left + tuple(map(part, more[LEFT])), right + tuple(map(part, more[RIGHT]))) for more in gained)

    def goal(self, theorem: Formula) -> Sequent:
        """The sequent that states a theorem: nothing left of the turnstile, the theorem right of it."""
        return (), (self.number[theorem],)

    def text(self, sequent: Sequent) -> str:
        """The sequent as written: `p>q, p |- q`."""
        left, right = (", ".join(str(self.formulas[f]) for f in side) for side in sequent)
        return f"{left} |- {right}".strip()


def subformulas(formula: Formula) -> Iterator[Formula]:
    """The formula and all parts of it, repeats included."""
    yield formula
    for part in formula.parts:
        yield from subformulas(part)


def _column(k: int, rows: int) -> int:
    return sum(1 << row for row in range(rows) if row >> k & 1)


def _replace(sequent: Sequent, side: int, new: Side) -> Sequent:
    return (new, sequent[RIGHT]) if side == LEFT else (sequent[LEFT], new)


def _structural(sequent: Sequent, letter: str, side: int) -> tuple[Sequent] | None:
    old = sequent[side]
    if not old or (letter == "x" and len(old) == 1):
        return None
    new = {"w": old[:-1], "c": (*old, old[-1]), "x": (old[-1], *old[:-1])}[letter]
    return (_replace(sequent, side, new),)


class Proofs:
    """Counts, lists and draws the proofs of a given length of any sequent over some formulas."""

    def __init__(self, formulas: Formulas) -> None:
        self.formulas = formulas
        self._steps: dict[Sequent, list[tuple[str, tuple[Sequent, ...]]]] = {}
        self._counts: dict[tuple[Sequent, int], int] = {}

    def steps(self, sequent: Sequent) -> list[tuple[str, tuple[Sequent, ...]]]:
        """The rules that apply to a sequent and leave premises that hold, each with these premises."""
        # A premise that does not hold has no proof, because the calculus is sound. Leaving it out makes the search fast.
        if sequent not in self._steps:
            kernel = self.formulas
            found = ((rule, kernel.premises(sequent, rule)) for rule in RULES)
            self._steps[sequent] = [
                (rule, left) for rule, left in found if left is not None and all(map(kernel.valid, left))
            ]
        return self._steps[sequent]

    def count(self, sequent: Sequent, length: int) -> int:
        """How many proofs with exactly `length` rules a sequent that holds has."""
        # A rule removes one formula at most, and ax needs two. So a longer sequent has no proof of this length.
        if length < len(sequent[LEFT]) + len(sequent[RIGHT]) - 1:
            return 0
        # The same sequents come up in very many proofs, so each count is computed once.
        key = sequent, length
        if key not in self._counts:
            self._counts[key] = sum(self._count_all(premises, length - 1) for _, premises in self.steps(sequent))
        return self._counts[key]

    def _count_all(self, goals: tuple[Sequent, ...], length: int) -> int:
        if len(goals) < 2:
            return self.count(goals[0], length) if goals else int(length == 0)
        firsts = ((k, self.count(goals[0], k)) for k in range(1, length))
        return sum(n * self.count(goals[1], length - k) for k, n in firsts if n)

    def written(self, sequent: Sequent, length: int) -> Iterator[tuple[str, ...]]:
        """Every proof with exactly `length` rules in prefix order: a rule, and then the proofs of its premises."""
        for rule, premises in self.steps(sequent):
            for lengths in self._splits(premises, length - 1):
                branches = (self.written(*goal) for goal in zip(premises, lengths, strict=True))
                yield from ((rule, *chain(*proofs)) for proofs in product(*branches))

    def draw(self, sequent: Sequent, length: int, rng: np.random.Generator) -> tuple[str, ...]:
        """One proof with exactly `length` rules, each as probable as the others. There must be one: `count` is not 0."""
        # Each way to go on is drawn with the number of proofs that it leads to, so that every proof is equally probable.
        options, weights = [], []
        for rule, premises in self.steps(sequent):
            for lengths in self._splits(premises, length - 1):
                options.append((rule, premises, lengths))
                weights.append(prod(map(self.count, premises, lengths)))
        rule, premises, lengths = options[rng.choice(len(options), p=np.array(weights, float) / sum(weights))]
        return rule, *chain(*(self.draw(*goal, rng) for goal in zip(premises, lengths, strict=True)))

    def _splits(self, goals: tuple[Sequent, ...], length: int) -> list[tuple[int, ...]]:
        """The ways to share `length` rules among the goals so that each goal has a proof."""
        if len(goals) < 2:
            lengths = [(length,) * len(goals)] if goals or not length else []
        else:
            lengths = [(k, length - k) for k in range(1, length)]
        return [split for split in lengths if all(map(self.count, goals, split))]
