"""The final answers of worked-out solutions: the reference rule as published, the lenient one by its own table."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banel_envs import data
from banel_envs.data import DataAltered, DataMissing, gsm8k
from banel_envs.errors import BadValue, UnknownName
from banel_envs.tasks.shared.gsm8k_answer import correct, lenient, reference

SOLUTION = "Tom has 3 boxes of 6 pens, so 3 * 6 = <<3*6=18>>18 pens.\n#### "
CASES = [
    # after the mark, the reference rule, the lenient one
    ("18", "18", 18),
    ("1,080", "1080", 1080),
    ("1,000,000", "1000000", 1_000_000),
    ("-3", "-3", -3),
    ("0", "0", 0),
    ("-0", "-0", 0),
    ("18.50", "18.50", "18.5"),
    ("18.", "18.", 18),
    (".5", ".5", "0.5"),
    ("18 eggs", "18", 18),
    ("18.", "18.", 18),
    ("50%", "50", 50),
    ("50 %", "50", 50),
    ("$18", None, 18),
    ("$1,080.25", None, "1080.25"),
    ("-$5", None, -5),
    ("$-5", None, -5),
    ("\u22125", None, -5),  # the Unicode minus
    ("$\u22125", None, -5),
    ("--5", None, 5),
    ("+5", None, 5),
    (" 18", None, 18),  # two spaces
    ("", None, None),
    ("eighteen", None, None),
    ("x = 18", None, 18),
    ("18 or 19", "18", None),
    ("18, that is 18.0", "18", 18),
    ("18 dollars and 50 cents", "18", None),
    ("3/4", "3", None),
    ("10-12", "10", None),
    ("1,00", "100", None),  # not three digits: two numbers
    ("1,0000", "10000", None),
    ("1.2.3", "1.2.3", None),
    ("1e3", "1", None),
    ("1e1", "1", None),  # ten, and not one
    ("5,5", "55", None),  # not three digits, though the two numbers are equal
    ("18,18,18", "181818", None),
    ("18e", "18", 18),
    ("5, 5", "5", 5),
    (
        "-12,345,678,901,234,567,890,123,456,789,012",
        "-12345678901234567890123456789012",
        "-12345678901234567890123456789012",
    ),
    (",,", "", None),
    (".", ".", None),
    ("\u0661\u0668", None, None),  # other digits than 0 to 9
    ("18\nor 19", "18", 18),  # the next line says nothing
    ("18\n#### 19", "18", None),
    ("18\n#### 18.0", "18", 18),
    ("none\n#### 18", "18", 18),  # the first place that has an answer
]


@pytest.mark.parametrize(("text", "by_reference", "by_lenient"), CASES)
def test_answers(text, by_reference, by_lenient):
    assert reference(SOLUTION + text) == by_reference
    assert lenient(SOLUTION + text) == (None if by_lenient is None else Decimal(by_lenient))


@pytest.mark.parametrize("text", ["", "18", "The answer is 18.", "### 18", "# # # # 18"])
def test_without_the_mark_there_is_no_answer(text):
    assert reference(text) is None and lenient(text) is None


def test_the_mark_needs_its_space_by_the_reference_rule():
    assert reference("####18") is None and lenient("####18") == 18
    assert reference("##### 18") == "18" and lenient("##### 18") == 18


def test_scores():
    texts = [SOLUTION + ending for ending in ("18", "18.0", "$18", "19", "", "18 or 19")] + ["18"]
    assert correct(texts, SOLUTION + "18").tolist() == [1, 0, 0, 0, 0, 1, 0]
    assert correct(texts, SOLUTION + "18", "lenient").tolist() == [1, 1, 1, 0, 0, 0, 0]
    assert correct([], SOLUTION + "18").shape == (0,) and correct([], SOLUTION + "18").dtype == np.int8
    with pytest.raises(UnknownName, match="lenient"):
        correct(texts, SOLUTION + "18", "leniant")
    for rule in ("reference", "lenient"):
        with pytest.raises(BadValue, match="has no answer by the rule"):
            correct(texts, "18", rule)


def published(completion):
    """The rule as the authors state it: an independent reading of the same sentence."""
    match = re.search("#### ([-]{0,1}[0123456789.,]{1,})", completion)
    return None if match is None else match.group(1).strip().replace(",", "")


FAST = settings(deadline=None, max_examples=60)


@FAST
@given(st.text("#-0159,. $\n", max_size=16))
def test_the_reference_rule_is_the_published_one(text):
    assert reference(text) == published(text)


@FAST
@given(st.integers(-(10**12), 10**12))
def test_both_rules_read_whole_numbers_with_and_without_separators(number):
    for text in (f"#### {number}", f"#### {number:,}", f"so\n#### {number} apples\nthat is all"):
        assert reference(text) == str(number)
        assert lenient(text) == number
    assert correct([f"#### {number + 1}"], f"#### {number}", "lenient").tolist() == [0]


@FAST
@given(
    st.decimals("-1000000", "1000000", places=2), st.sampled_from(["{}", "${}", "{}%", "{} euros", "{:,}", "about {}."])
)
def test_the_lenient_rule_reads_every_form_of_a_decimal(number, form):
    text = form.format(number)
    assert lenient(f"#### {text}") == lenient(f"#### {text}".replace("-", "\u2212")) == number


@FAST
@given(st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from([" or ", "\n#### ", " and ", "/"]))
def test_two_different_numbers_are_no_answer(first, second, between):
    found = lenient(f"#### {first}{between}{second}")
    assert found == (first if first == second else None)


@FAST
@given(st.text(max_size=20))
def test_no_text_is_too_odd(text):
    for rule in ("reference", "lenient"):
        assert correct([f"#### {text}", text], "#### 18", rule).shape == (2,)


def written(folder: Path, part: str, content: bytes) -> Path:
    path = folder / data.GSM8K[part]
    path.write_bytes(content)
    return path


def test_data_that_is_missing_or_altered_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.delenv(data.VARIABLE, raising=False)
    with pytest.raises(DataMissing, match=r"BANEL_DATA.*gsm8k_test\.jsonl\.gz.*banel data gsm8k"):
        gsm8k()
    monkeypatch.setenv(data.VARIABLE, str(tmp_path))
    with pytest.raises(DataMissing, match="is missing"):
        gsm8k("train")
    with pytest.raises(BadValue, match="train, test"):
        gsm8k("dev")


@pytest.mark.parametrize("kind", ["no gzip", "cut off", "no JSON", "no question", "another question"])
def test_what_is_not_gsm8k_is_refused(kind, tmp_path):
    import gzip

    lines = {
        "no JSON": b"text\n",
        "no question": b'{"answer": "#### 1"}\n',
        "another question": b'{"question": "1 + 1?", "answer": "#### 2"}\n',
    }
    content = gzip.compress(lines.get(kind, b"x" * 5000))
    written(tmp_path, "test", b"mine" if kind == "no gzip" else content[:-9] if kind == "cut off" else content)
    with pytest.raises(DataAltered, match="banel data gsm8k"):
        gsm8k("test", tmp_path)


def needed(part):
    """The questions, where BANEL_DATA names a folder that has them."""
    try:
        return gsm8k(part)
    except DataMissing as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(("part", "size"), [("train", 7_473), ("test", 1_319)])
def test_every_gold_solution_has_one_answer_by_both_rules(part, size):
    problems = needed(part)
    assert len(problems) == size
    changed = 0
    for problem in problems:
        gold = problem.answer
        assert gold.count("####") == 1
        by_reference, by_lenient = reference(gold), lenient(gold)
        assert by_lenient is not None and Decimal(by_reference) == by_lenient
        wrong = f"{gold.partition('####')[0]}#### {int(by_lenient) + 1}"
        for rule in ("reference", "lenient"):
            assert correct([gold, wrong], gold, rule).tolist() == [1, 0]
        changed += 1
    assert changed == size
