"""Molecules: the grammar against a parser, spellings and properties against rdkit, the pool against Monte Carlo."""

from __future__ import annotations

import math
import re
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from banel_envs import TASKS, success_rate
from banel_envs.build.shared.spellings import plain_spellings
from banel_envs.errors import BadValue, MissingExtra
from banel_envs.policies import Uniform
from banel_envs.tasks import molecule_rediscovery as rediscovery
from banel_envs.tasks import molecule_window as window
from banel_envs.tasks.shared import smiles

torch.set_num_threads(1)

REDISCOVERY = "banel/MoleculeRediscovery-v0"
V0, HARD = "banel/MoleculeWindow-v0", "banel/MoleculeWindowHard-v0"
TARGET, SPELLINGS = "CC(NC(C)(C)C)C(=O)c1cccc(Cl)c1", 30_720
BASE_SUCCESS = {REDISCOVERY: 2.160634e-9, V0: 9.946e-5, HARD: 1.890e-5}
REFRESH = (
    "the assets are not the ones these figures were read from; if they were rebuilt on purpose, raise the version in "
    "the ids, put the figures found here into this file and into the tasks' docstrings"
)


@pytest.fixture(scope="module")
def chem():
    return pytest.importorskip("rdkit.Chem")


@pytest.fixture(scope="module")
def samples():
    return TASKS[REDISCOVERY].problem.base_policy().sample(2_000, np.random.default_rng(5))


class Reference:
    """The grammar as a machine that reads one token after another; `rest` is what it takes next."""

    def __init__(self):
        self.depth, self.open, self.here = 0, set(), set()
        self.after = "nothing"

    def takes(self, word):
        if word in smiles.ATOMS:
            return True
        if word in smiles.BONDS:
            return self.after in ("atom", "branch", "bracket")
        if word in smiles.RINGS:
            return self.after in ("atom", "bound atom") and word not in self.here
        if word == "(":
            return self.after in ("atom", "branch")
        if word == ")":
            return self.after in ("atom", "branch") and self.depth > 0
        return self.after in ("atom", "branch") and self.depth == 0 and not self.open

    def read(self, word):
        if word in smiles.ATOMS:
            self.after, self.here = "atom", set()  # `here`: rings that this atom has opened
        elif word in smiles.BONDS:
            self.after = "bound atom" if self.after == "atom" else "bond"
        elif word in smiles.RINGS:
            self.here ^= {word} - self.open
            self.open ^= {word}
            self.after = "atom"
        elif word == "(":
            self.depth, self.after = self.depth + 1, "bracket"
        elif word == ")":
            self.depth, self.after = self.depth - 1, "branch"

    @classmethod
    def accepts(cls, words):
        machine = cls()
        for word in words:
            if not machine.takes(word):
                return False
            machine.read(word)
        return machine.takes("$")


def words_of(row):
    return [smiles.VOCABULARY[t] for t in row if t != smiles.END]


def perturbed(rows, rng):
    """Each row with one token replaced, removed or doubled, or two neighbours swapped."""
    texts = []
    for words in map(words_of, rows):
        at, kind = int(rng.integers(len(words) - 1)), rng.integers(4)
        other = smiles.VOCABULARY[rng.integers(smiles.END)]
        new = {0: [other, words[at + 1]], 1: [words[at + 1]], 2: [words[at], *words[at : at + 2]]}
        words[at : at + 2] = new.get(int(kind), [words[at + 1], words[at]])
        texts.append("".join(words[: smiles.HORIZON]))
    return smiles.encode(texts)


def test_golden_rediscovery():
    rate = success_rate(TASKS[REDISCOVERY], TASKS[REDISCOVERY].problem.base_policy())
    assert rediscovery.target() == TARGET, REFRESH
    assert len(rediscovery.successes()) == SPELLINGS, REFRESH
    assert 10**rate.log10 == pytest.approx(BASE_SUCCESS[REDISCOVERY], rel=1e-5), REFRESH


@pytest.mark.parametrize("id", [V0, HARD])
def test_golden_window(id, chem):
    """The base's own million draws are in the pool: enough hits for a number on v0, an interval on Hard."""
    rate = success_rate(TASKS[id], TASKS[id].problem.base_policy(), np.random.default_rng(0))
    own = window.pool(id).proposals[0]
    assert rate.method == ("monte_carlo" if id == V0 else "certified")
    assert rate.samples == own.drawn + window.SAMPLES
    assert rate.low < math.log10(BASE_SUCCESS[id]) < rate.high, REFRESH
    assert rate.low < math.log10(len(own.successes) / own.drawn) < rate.high


@pytest.mark.parametrize("id", [V0, HARD])
def test_the_proposals_alone_agree_with_monte_carlo(id):
    """Two independent estimates of the base's rate: its own successes counted, the proposals' weighted."""
    own, *others = window.pool(id).proposals
    rows = np.concatenate([p.successes for p in others])
    drawn = sum(p.drawn * np.exp(p.policy.log_prob(rows)) for p in others)
    weights = np.exp(own.policy.log_prob(rows)) / drawn
    counted = len(own.successes) / own.drawn
    error = math.hypot(math.sqrt((weights**2).sum()), math.sqrt(len(own.successes)) / own.drawn)
    assert abs(weights.sum() - counted) < 3 * error


def test_every_spelling_is_the_target(chem):
    texts = TASKS[REDISCOVERY].problem.decode(rediscovery.successes())
    assert {chem.MolToSmiles(chem.MolFromSmiles(text)) for text in texts} == {TARGET}


def kekule_forms(chem):
    """The target with its double bonds in either place; rdkit chooses one, the other follows from its neighbours."""
    first = chem.MolFromSmiles(TARGET)
    chem.Kekulize(first, clearAromaticFlags=True)
    other = chem.RWMol(first)
    for bond in first.GetBonds():
        if bond.IsInRing():
            kind = chem.BondType.SINGLE if bond.GetBondTypeAsDouble() == 2 else chem.BondType.DOUBLE
            other.GetBondWithIdx(bond.GetIdx()).SetBondType(kind)
    return first, other.GetMol()


def written_by_rdkit(chem):
    """What rdkit writes: at random, from each atom, canonically or not, aromatic and in both Kekule forms."""
    target = chem.MolFromSmiles(TARGET)
    yield from chem.MolToRandomSmilesVect(target, 20_000, randomSeed=987_654)
    for k, form in enumerate(kekule_forms(chem)):
        yield from chem.MolToRandomSmilesVect(form, 5_000, randomSeed=k + 1, kekuleSmiles=True)
    for molecule, kekule in [(target, False), *((form, True) for form in kekule_forms(chem))]:
        for atom in range(molecule.GetNumAtoms()):
            for canonical in (True, False):
                for explicit in (True, False):
                    options = {"rootedAtAtom": atom, "canonical": canonical, "allBondsExplicit": explicit}
                    yield chem.MolToSmiles(molecule, kekuleSmiles=kekule, **options)


def written_by_hand(chem, rng):
    """One plain spelling by a depth-first walk of its own: any start, any order, any ring digit, aromatic or not."""
    molecule = [chem.MolFromSmiles(TARGET), *kekule_forms(chem)][rng.integers(3)]
    seen, digit, bridged = [], str(rng.integers(1, 5)), []

    def sign(a, b):
        return "=" if str(molecule.GetBondBetweenAtoms(a, b).GetBondType()) == "DOUBLE" else ""

    def walk(atom, parent):
        seen.append(atom)
        near = [n.GetIdx() for n in molecule.GetAtomWithIdx(atom).GetNeighbors() if n.GetIdx() != parent]
        branches = []
        for k in rng.permutation(near):
            if int(k) in seen and not any({atom, int(k)} == {a, b} for a, b, _ in bridged):
                bridged.append((int(k), atom, rng.integers(2)))
            elif int(k) not in seen:
                branches.append(sign(atom, int(k)) + walk(int(k), atom))
        return f"<{atom}>" + "".join(f"({b})" for b in branches[:-1]) + "".join(branches[-1:])

    text = walk(int(rng.integers(molecule.GetNumAtoms())), -1)
    ((one, two, side),) = bridged
    for atom in molecule.GetAtoms():
        k, symbol = atom.GetIdx(), atom.GetSymbol()
        symbol = symbol.lower() if atom.GetIsAromatic() else symbol
        ring = (sign(one, two) if k == (one, two)[side] else "") + digit if k in (one, two) else ""
        text = text.replace(f"<{k}>", symbol + ring)
    return text


def expressible(texts):
    numbers = {text: smiles.tokenise(text) for text in texts}
    return sorted(text for text, n in numbers.items() if n is not None and len(n) <= smiles.HORIZON)


def test_whatever_rdkit_writes_of_the_target_counts(chem):
    fitting = expressible(written_by_rdkit(chem))
    assert sum("c" in text for text in fitting) > 400 and sum("C=1" in text or "C1" in text for text in fitting) > 400
    missed = [text for text in fitting if not rediscovery.reward(smiles.encode([text]))[0]]
    assert missed == []


def test_whatever_another_writer_writes_of_the_target_counts(chem):
    """Some thousands of walks of a writer that shares no line with the one that made the set."""
    rng = np.random.default_rng(11)
    written = {written_by_hand(chem, rng) for _ in range(6_000)}
    assert len(written) > 3_000
    assert all(chem.CanonSmiles(text) == TARGET for text in sorted(written)[:200])
    assert rediscovery.reward(smiles.encode(sorted(written))).all()


def is_target(chem, text):
    molecule = smiles.molecule(text)
    return molecule is not None and chem.MolToSmiles(molecule) == TARGET


def is_plain(chem, text):
    """The definition in the task's docstring, read off a spelling of the target with rdkit's help."""
    without = (text[: m.start()] + text[m.end() :] for m in re.finditer("[-=]", text))
    alike = text.count("c") in (0, 6)
    return alike and not re.search(r"\)(\)|$)", text) and not any(is_target(chem, other) for other in without)


def test_every_spelling_is_plain(chem):
    texts = TASKS[REDISCOVERY].problem.decode(rediscovery.successes())
    assert all(is_plain(chem, text) for text in np.random.default_rng(3).choice(texts, 1_000))
    assert len(set(texts)) == SPELLINGS and not any(map(rediscovery.needless, rediscovery.successes()))


@pytest.mark.parametrize("edits", [1, 2, 3])
def test_near_misses_fail_and_plain_ones_count(chem, edits):
    """A few edits away from a spelling: a success if and only if it is the target, and plain."""
    rng = np.random.default_rng(edits)
    rows = rng.choice(rediscovery.successes(), 1_500)
    for _ in range(edits):
        rows = perturbed(rows, rng)
    rewards, same = rediscovery.reward(rows), 0
    for row, given_reward in zip(rows, rewards, strict=True):
        text = smiles.text_of(row)
        target = bool(smiles.well_formed(row[None])[0]) and is_target(chem, text)
        assert given_reward == (target and is_plain(chem, text)), text
        same += target
    assert 0 < rewards.sum() < len(rows) / 4 and same >= rewards.sum()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("CC(NC(C)(C)(C))C(=O)c1cccc(Cl)c1", "brackets around a last branch"),
        ("CC(NC(C)(C)C)C(=O)c1cccc(Cl)(c1)", "the same at the end"),
        ("CC(NC(C)(C)C)C(=O)-c1cccc(Cl)c1", "a needless sign"),
        ("CC(NC(C)(C)C)C(=O)C1=CC=Cc(Cl)c1", "ring atoms that are not alike"),
        ("CC(NC(C)(C)C)C(=O)C=1C=CC=C(Cl)C=1", "a sign at both ends of a ring digit"),
        ("CC(NC(C)(C)C)C(=O)c1=c-c=c-c(Cl)=c-1", "signs between aromatic atoms"),
    ],
)
def test_spellings_that_rdkit_reads_as_the_target_and_that_do_not_count(chem, text, why):
    assert is_target(chem, text) and smiles.well_formed(smiles.encode([text]))[0]
    assert rediscovery.reward(smiles.encode([text])).tolist() == [0], why


def test_what_is_written_needlessly_is_said():
    problem = TASKS[REDISCOVERY].problem
    plain, bracketed, signed, nothing = smiles.encode(["CC(C)C", "CC(C)(C)", "C-C", "CC("])
    assert problem.render(plain) == "CC(C)C  (4 heavy atoms, 0 rings)"
    said = '; not a plain spelling: it has needless brackets or "-")'
    assert problem.render(bracketed).endswith("0 rings" + said) and problem.render(signed).endswith("0 rings" + said)
    assert problem.render(nothing) == "CC(  (not a SMILES)"


def test_the_shipped_set_is_all_that_the_writer_writes(chem):
    written = plain_spellings(chem.MolFromSmiles(TARGET), smiles.RINGS)
    assert written == set(TASKS[REDISCOVERY].problem.decode(rediscovery.successes())), REFRESH


@pytest.mark.parametrize("text", ["CCO", "c1ccncc1", "c1ccc2ccccc2c1", "C1CCCCC1"])
def test_plain_spellings_are_of_molecules_with_one_benzene_ring(chem, text):
    with pytest.raises(BadValue, match="one ring, a benzene ring"):
        plain_spellings(chem.MolFromSmiles(text), smiles.RINGS)


def test_plain_spellings_by_hand(chem):
    """Toluene with one digit: the methyl first; after it in the ring at one of its six bonds; each once."""
    found = plain_spellings(chem.MolFromSmiles("Cc1ccccc1"), ("1",))
    aromatic = {text for text in found if "c" in text}
    first = {text for text in aromatic if text.startswith("C")}
    assert first == {
        "Cc1ccccc1", "Cc(c1)cccc1", "Cc(cc1)ccc1", "Cc(ccc1)cc1", "Cc(cccc1)c1"
    }  # fmt: skip
    assert all(chem.CanonSmiles(text) == "Cc1ccccc1" for text in found)


def test_property_windows_by_rdkit_itself(chem, samples):
    from rdkit.Chem import Crippen, Descriptors
    from rdkit.Chem.QED import qed
    from rdkit.Contrib.SA_Score import sascorer

    hits = window.pool(V0).proposals[1].successes
    rows = np.concatenate((hits[:200], perturbed(hits[:300], np.random.default_rng(1)), samples[:300]))
    for id, w in window.WINDOWS.items():
        rewards = TASKS[id].reward(rows)
        for row, given_reward in zip(rows, rewards, strict=True):
            molecule = smiles.molecule(smiles.text_of(row)) if Reference.accepts(words_of(row)) else None
            expected = molecule is not None and (
                len(chem.GetSSSR(molecule)) == w.rings[0]
                and w.weight[0] <= Descriptors.MolWt(molecule) <= w.weight[1]
                and w.logp[0] <= Crippen.MolLogP(molecule) <= w.logp[1]
                and w.sa[0] <= sascorer.calculateScore(molecule) <= w.sa[1]
                and w.qed[0] <= qed(molecule) <= w.qed[1]
            )
            assert given_reward == expected, smiles.text_of(row)
        assert 0 < rewards.sum() < len(rows)


def test_the_pool_holds_successes_alone(chem):
    for id in (V0, HARD):
        for proposal in window.pool(id).proposals:
            assert TASKS[id].reward(proposal.successes[:200]).all()
    assert TASKS[V0].reward(window.pool(HARD).proposals[1].successes[:200]).all()


def test_what_is_read_off_the_tokens(chem, samples):
    """Rings are the graph's cycles, and the heavy atoms' mass leaves no more to hydrogen than the filter allows for."""
    from rdkit.Chem import Descriptors

    rows = samples[smiles.well_formed(samples)][:500]
    rings, mass = smiles.ring_count(rows), smiles.heavy_mass(rows)
    for row, r, m in zip(rows, rings, mass, strict=True):
        molecule = smiles.molecule(smiles.text_of(row))
        if molecule is None:
            continue
        weight = Descriptors.MolWt(molecule)
        assert molecule.GetNumBonds() - molecule.GetNumAtoms() + 1 == r
        assert m <= weight + 0.01
        assert r == 0 or m >= weight * (1 - window.MOST_HYDROGENS)


def test_well_formed_is_what_the_machine_accepts(samples):
    noise = Uniform(smiles.V, smiles.HORIZON, smiles.END).sample(500, np.random.default_rng(0))
    rows = np.concatenate((samples[:1_000], perturbed(rediscovery.successes()[:500], np.random.default_rng(2)), noise))
    expected = [Reference.accepts(words_of(row)) for row in rows]
    assert 0.3 < np.mean(expected) < 0.95
    assert smiles.well_formed(rows).tolist() == expected


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32))
def test_the_mask_is_the_grammar(seed):
    """Along a random walk that the mask allows, it allows what the machine takes."""
    rng, prefix, machine = np.random.default_rng(seed), [], Reference()
    for _ in range(smiles.HORIZON):
        mask = smiles.grammar(np.array([prefix], int).reshape(1, -1))[0]
        if prefix[-1:] == [smiles.END]:
            assert mask.tolist() == [int(t == smiles.END) for t in range(smiles.V)]
        else:
            assert mask.tolist() == [int(machine.takes(word)) for word in smiles.VOCABULARY], words_of(prefix)
        prefix.append(int(rng.choice(np.flatnonzero(mask))))
        machine.read(smiles.VOCABULARY[prefix[-1]])


def test_the_mask_takes_many_prefixes_at_once(samples):
    for t in (0, 1, 7, 25):
        together = smiles.grammar(samples[:50, :t])
        assert np.array_equal(together, np.concatenate([smiles.grammar(row[None, :t]) for row in samples[:50]]))


def test_text_and_tokens_are_inverse(samples):
    texts = [smiles.text_of(row) for row in samples]
    assert np.array_equal(smiles.encode(texts), samples)
    assert TASKS[REDISCOVERY].problem.decode(samples) == texts


@pytest.mark.parametrize("text", ["C[C@H]", "CP", "[O-]", "C" * 41, "C$", "C5CC5"])
def test_what_the_vocabulary_cannot_write(text):
    with pytest.raises(BadValue, match=re.escape(text)):
        smiles.encode([text])


def test_rendering(chem):
    problem = TASKS[REDISCOVERY].problem
    phenol = smiles.encode(["Oc1ccccc1", "Oc1cccc"])
    assert problem.render(phenol[0]) == "Oc1ccccc1  (7 heavy atoms, 1 ring)"
    assert problem.render(phenol[1]) == "Oc1cccc  (not a SMILES)"
    begun = phenol[0].copy()
    begun[5:] = smiles.V
    pictures = [problem.image(row) for row in (*phenol, begun, np.full(smiles.HORIZON, smiles.V))]
    assert {(p.shape, str(p.dtype)) for p in pictures} == {((*smiles.PICTURE[::-1], 3), "uint8")}
    assert len({p.tobytes() for p in pictures}) == 4


def test_without_rdkit_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    smiles.rdkit.cache_clear()
    row = smiles.encode(["Oc1ccccc1"])
    try:
        for ask in (TASKS[V0].reward, lambda rows: TASKS[V0].problem.image(rows[0])):
            with pytest.raises(MissingExtra, match=re.escape("pip install 'banel-envs[chem]'")):
                ask(row)
        assert rediscovery.reward(row).tolist() == [0]  # a look-up needs no rdkit
    finally:
        smiles.rdkit.cache_clear()
