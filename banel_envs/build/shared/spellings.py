"""Every plain spelling of a molecule with one benzene ring: what MoleculeRediscovery counts as its target.

A SMILES writes a tree: it begins at any atom, follows the bonds in any order, puts all branches of an atom but the last in
brackets, and bridges the one ring bond that the tree leaves out by a digit at both its ends. A spelling is plain if

- its ring atoms are all written aromatic (c), or all as in one of the two Kekulé forms (C, alternate bonds =);
- no brackets stand around the last branch of an atom;
- no bond sign stands where leaving it out means the same bond: no "-" at all, and of the two ends of a ring digit one
  at most has a sign.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

from banel_envs.errors import BadValue

Bond: TypeAlias = frozenset[int]
"""The two atoms."""

MARK = "@"  # stands for a ring digit until it is chosen


@dataclass(frozen=True)
class Form:
    """One way to write atoms and bonds."""

    symbols: tuple[str, ...]  # of each atom
    double: frozenset[Bond]  # bonds written "="


def plain_spellings(molecule: Any, digits: tuple[str, ...]) -> set[str]:
    """All of them.

    Args:
        molecule: an rdkit molecule of atoms without brackets, with one ring, which is benzene's.
        digits: what a ring may be numbered by.

    Raises:
        BadValue: another kind of molecule.
    """
    rings = molecule.GetRingInfo().BondRings()
    ring = [molecule.GetBondWithIdx(k) for k in rings[0]] if len(rings) == 1 else []
    if len(ring) != 6 or not all(b.GetIsAromatic() and b.GetBeginAtom().GetSymbol() == "C" for b in ring):
        raise BadValue("plain spellings are written of molecules with one ring, a benzene ring, and of no others")
    bonds = [_ends(bond) for bond in ring]
    neighbours = tuple(
        tuple(other.GetIdx() for other in molecule.GetAtomWithIdx(k).GetNeighbors())
        for k in range(molecule.GetNumAtoms())
    )
    return {
        spelling.replace(MARK, digit)
        for form in _forms(molecule, bonds)
        for cut in bonds
        for tree in _trees(neighbours, form, cut)
        for spelling in _closed(tree, "=" if cut in form.double else "")
        for digit in digits
    }


def _forms(molecule: Any, ring: list[Bond]) -> list[Form]:
    """The aromatic form and both Kekulé forms; `ring` in the order in which its bonds follow each other."""
    kekule = tuple(atom.GetSymbol() for atom in molecule.GetAtoms())
    aromatic = tuple(
        atom.GetSymbol().lower() if atom.GetIsAromatic() else atom.GetSymbol() for atom in molecule.GetAtoms()
    )
    double = frozenset(_ends(bond) for bond in molecule.GetBonds() if bond.GetBondTypeAsDouble() == 2)
    return [Form(aromatic, double), *(Form(kekule, double.union(ring[k::2])) for k in (0, 1))]


def _trees(neighbours: tuple[tuple[int, ...], ...], form: Form, cut: Bond) -> Iterator[str]:
    """The tree without the bond `cut` from every atom and in every order, its two ends marked."""

    @cache
    def below(atom: int, parent: int) -> frozenset[str]:
        own = form.symbols[atom] + (MARK if atom in cut else "")
        children = [k for k in neighbours[atom] if k != parent and {atom, k} != cut]
        parts = [{_sign(form, atom, k) + text for text in below(k, atom)} for k in children]
        found = set()
        for order in itertools.permutations(parts):
            for texts in itertools.product(*order):
                found.add(own + "".join(f"({text})" for text in texts[:-1]) + "".join(texts[-1:]))
        return frozenset(found)

    for root in range(len(neighbours)):
        yield from below(root, -1)


def _closed(tree: str, sign: str) -> set[str]:
    """The tree with the cut bond's sign at either of its two marks."""
    before, middle, after = tree.split(MARK)
    return {f"{before}{sign}{MARK}{middle}{MARK}{after}", f"{before}{MARK}{middle}{sign}{MARK}{after}"}


def _sign(form: Form, a: int, b: int) -> str:
    return "=" if frozenset((a, b)) in form.double else ""


def _ends(bond: Any) -> Bond:
    return frozenset((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()))
