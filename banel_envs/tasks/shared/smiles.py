"""SMILES over a small vocabulary, for both molecule tasks: tokens, the grammar as an action mask, and pictures.

Vocabulary 22: the neutral organic subset C c N n O o S s F Cl Br [nH], bonds = # - (the single bond between aromatic
atoms), branches ( ), ring closures 1 to 4, and the end token $. There are no charges, isotopes, stereochemistry or separate
parts. Horizon 40: 39 tokens and the end, or 40 tokens. The grammar is that of OpenSMILES for these tokens. It ignores
valence and aromaticity, so a well-formed string may still be no molecule. rdkit is needed only to read a string as a
molecule and to draw it, and it is imported when it is first needed.
Source: Weininger 1988; OpenSMILES specification 1.0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banel_envs.automaton import Automaton, explored
from banel_envs.errors import BadValue, MissingExtra
from banel_envs.policies.storage.store import shipped_policy
from banel_envs.problem import Problem, Tokens

ATOMS = ("C", "c", "N", "n", "O", "o", "S", "s", "F", "Cl", "Br", "[nH]")
BONDS = ("=", "#", "-")
RINGS = ("1", "2", "3", "4")
VOCABULARY = (*ATOMS, *BONDS, "(", ")", *RINGS, "$")
V = len(VOCABULARY)
INDEX = {word: k for k, word in enumerate(VOCABULARY)}
OPEN, CLOSE, END = INDEX["("], INDEX[")"], INDEX["$"]
HORIZON = 40
BASE = "molecule_base.safetensors"  # trained on the molecules of ZINC that this vocabulary can write

START, ATOM, BOND, OPENED, CLOSED, DIGIT = range(6)  # what a token is for; a prefix is told by the role of its last one
ROLE = np.array([ATOM] * len(ATOMS) + [BOND] * len(BONDS) + [OPENED, CLOSED] + [DIGIT] * len(RINGS) + [START])
FIRST_RING = INDEX["1"]
HEAVY = np.array([12.011, 12.011, 14.007, 14.007, 15.999, 15.999, 32.06, 32.06, 18.998, 35.45, 79.904, 14.007])
"""The mass of each atom token without its hydrogens, in Da."""

WORD = re.compile(r"\[nH\]|Cl|Br|.")
PICTURE = (300, 300)  # width and height in pixels


def tokenise(text: str) -> list[int] | None:
    """A SMILES as token numbers without the end token; None if it needs a token that is not in the vocabulary.

    >>> tokenise("Clc1c[nH]")
    [9, 1, 17, 1, 11]
    """
    numbers = [INDEX.get(word, END) for word in WORD.findall(text)]
    return None if END in numbers else numbers


def encode(texts: Sequence[str]) -> Tokens:
    """SMILES to tokens [n, T], padded with the end token.

    Raises:
        BadValue: a text has a token outside the vocabulary, or is longer than the horizon.
    """
    tokens = np.full((len(texts), HORIZON), END, np.int64)  # [n, T]
    for row, text in zip(tokens, texts, strict=True):
        numbers = tokenise(text)
        if numbers is None or len(numbers) > HORIZON:
            raise BadValue(f"{text!r} is not a SMILES of at most {HORIZON} tokens of {' '.join(VOCABULARY)}")
        row[: len(numbers)] = numbers
    return tokens


def text_of(tokens: Tokens) -> str:
    """One sequence [t] as a SMILES, without the end token and without places that are not written yet (V)."""
    return "".join(VOCABULARY[t] for t in tokens if t not in (END, V))


def grammar(prefix: Tokens) -> NDArray[np.int8]:
    """The grammar as an action mask: prefixes [n, t] to the tokens [n, V] that can follow.

    A branch opens after an atom and closes after an atom. A ring digit comes after its atom, with or without a bond sign, and
    it cannot close on the atom that opened it. The end token needs every branch and every ring to be closed.
    """
    n, t = prefix.shape
    last = ROLE[prefix[:, -1]] if t else np.full(n, START)
    depth = (prefix == OPEN).sum(axis=1) - (prefix == CLOSE).sum(axis=1)
    atom = _last(prefix < len(ATOMS))  # [n], -1 for none
    ring_at = np.stack([_last(prefix == FIRST_RING + d) for d in range(len(RINGS))], axis=1)  # [n, 4]
    ring_open = np.stack([(prefix == FIRST_RING + d).sum(axis=1) % 2 == 1 for d in range(len(RINGS))], axis=1)
    complete = (last == ATOM) | (last == DIGIT) | (last == CLOSED)  # an atom with all that belongs to it
    # A bond can carry a ring digit where it stands behind the atom itself, not behind a bracket.
    behind = np.isin(ROLE[prefix[:, -2]], (ATOM, DIGIT)) if t > 1 else np.zeros(n, bool)
    takes_digit = (last == ATOM) | (last == DIGIT) | ((last == BOND) & behind)

    mask = np.zeros((n, V), np.int8)
    mask[:, : len(ATOMS)] = True
    mask[:, len(ATOMS) : OPEN] = (complete | (last == OPENED))[:, None]
    mask[:, OPEN] = complete
    mask[:, CLOSE] = complete & (depth > 0)
    mask[:, FIRST_RING:END] = takes_digit[:, None] & ~(ring_open & (ring_at > atom[:, None]))
    mask[:, END] = complete & (depth == 0) & ~ring_open.any(axis=1)
    ended = prefix[:, -1] == END if t else np.zeros(n, bool)
    mask[ended] = 0
    mask[ended, END] = 1
    return mask


def future(prefix: Tokens) -> NDArray[np.int64]:
    """What the grammar still depends on after prefixes [n, t]: [n, 12].

    These are the roles of the last two tokens, the open branches, which rings are open, which of them at the last atom, and
    whether the sequence has ended.
    """
    n, t = prefix.shape
    last = ROLE[prefix[:, -1]] if t else np.full(n, START)
    behind = np.isin(ROLE[prefix[:, -2]], (ATOM, DIGIT)) if t > 1 else np.zeros(n, bool)
    depth = (prefix == OPEN).sum(axis=1) - (prefix == CLOSE).sum(axis=1)
    digits = [prefix == FIRST_RING + d for d in range(len(RINGS))]
    opened = np.stack([digit.sum(axis=1) % 2 == 1 for digit in digits], axis=1)
    here = np.stack([_last(digit) > _last(prefix < len(ATOMS)) for digit in digits], axis=1) & opened
    ended = prefix[:, -1] == END if t else np.zeros(n, bool)
    return np.column_stack((last, behind & (last == BOND), depth, opened, here, ended))


@cache
def automaton() -> Automaton:
    """The grammar with few states, over well-formed prefixes."""
    return explored(grammar, future, HORIZON)


def _last(found: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The last True in each row: [n, t] to columns [n], with -1 for none."""
    if not found.shape[1]:
        return np.full(len(found), -1)
    at: NDArray[np.int64] = found.shape[1] - 1 - found[:, ::-1].argmax(axis=1)
    return np.where(found.any(axis=1), at, -1)


def well_formed(tokens: Tokens) -> NDArray[np.bool_]:
    """Which sequences [n, T] are whole SMILES by the grammar, with the end token or with T other tokens: [n]."""
    rows = np.flatnonzero(_balanced(tokens))  # a cheap test, which most malformed sequences fail
    for t in range(tokens.shape[1]):
        if not len(rows):
            break
        allowed = grammar(tokens[rows, :t])[np.arange(len(rows)), tokens[rows, t]]
        rows = rows[allowed == 1]
    good = np.zeros(len(tokens), bool)
    good[rows] = grammar(tokens[rows])[:, END] == 1
    return good


def _balanced(tokens: Tokens) -> NDArray[np.bool_]:
    """Which sequences open as many brackets as they close, and have every ring digit an even number of times: [n]."""
    good: NDArray[np.bool_] = (tokens == OPEN).sum(axis=1) == (tokens == CLOSE).sum(axis=1)
    for d in range(len(RINGS)):
        good &= (tokens == FIRST_RING + d).sum(axis=1) % 2 == 0
    return good


def ring_count(tokens: Tokens) -> NDArray[np.int64]:
    """The number of independent cycles of well-formed sequences [n, T]: [n]. A cycle has two digits.

    For cages rdkit counts more.
    """
    digits: NDArray[np.int64] = ((tokens >= FIRST_RING) & (tokens < END)).sum(axis=1) // 2
    return digits


def heavy_mass(tokens: Tokens) -> NDArray[np.float64]:
    """The mass of the heavy atoms of sequences [n, T] in Da: [n]."""
    mass: NDArray[np.float64] = np.append(HEAVY, np.zeros(V - len(ATOMS)))[tokens].sum(axis=1)
    return mass


def printer(tokens: Tokens) -> str:
    """One sequence [T] as its SMILES, with its numbers of atoms and rings.

    >>> printer(encode(["Oc1ccccc1"])[0])
    'Oc1ccccc1  (7 heavy atoms, 1 ring)'
    """
    row = tokens[None]
    if not well_formed(row)[0]:
        return f"{text_of(tokens)}  (not a SMILES)"
    atoms, rings = int((row < len(ATOMS)).sum()), int(ring_count(row)[0])
    return f"{text_of(tokens)}  ({_count(atoms, 'heavy atom')}, {_count(rings, 'ring')})"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


@cache
def rdkit() -> SimpleNamespace:
    """The parts of rdkit that the molecule tasks use, imported once.

    Raises:
        MissingExtra: rdkit is not installed.
    """
    try:
        from rdkit import Chem, rdBase
        from rdkit.Chem import QED, Draw
        from rdkit.Chem.Crippen import MolLogP  # type: ignore[attr-defined, unused-ignore]
        from rdkit.Chem.Descriptors import MolWt  # type: ignore[attr-defined, unused-ignore]
        from rdkit.Contrib.SA_Score import sascorer
    except ImportError as error:
        raise MissingExtra("molecules need rdkit: pip install 'banel-envs[chem]'") from error
    return SimpleNamespace(
        Chem=Chem,
        BlockLogs=rdBase.BlockLogs,
        MolToImage=Draw.MolToImage,
        MolWt=MolWt,
        MolLogP=MolLogP,
        sa_score=sascorer.calculateScore,
        qed=QED.qed,
    )


def molecule(text: str) -> Any:
    """The rdkit molecule of a SMILES; None if it is no molecule. rdkit's messages about that are not printed."""
    kit = rdkit()
    with kit.BlockLogs():
        return kit.Chem.MolFromSmiles(text) if text else None


def image(tokens: Tokens) -> NDArray[np.uint8]:
    """One sequence [T] as a picture [300, 300, 3]: the longest beginning of it that is a molecule.

    Its whole text is below the molecule. A place that is not written yet (V) is left out.
    """
    kit = rdkit()
    words = [VOCABULARY[t] for t in tokens if t not in (END, V)]
    drawn = (molecule("".join(words[:k])) for k in range(len(words), 0, -1))
    found = next((m for m in drawn if m is not None), kit.Chem.Mol())
    picture = kit.MolToImage(found, size=PICTURE, legend="".join(words)).convert("RGB")
    return np.asarray(picture, np.uint8).copy()


def problem(id: str, printer: Callable[[Tokens], str] = printer) -> Problem:
    """The Problem of both molecule tasks: write a SMILES, with a budget of 5,000."""
    return Problem(
        id=id,
        vocabulary=VOCABULARY,
        horizon=HORIZON,
        budget=5_000,
        base=partial(shipped_policy, BASE),
        end=END,
        allowed=grammar,
        grammar=automaton,
        printer=printer,
        image=image,
    )
