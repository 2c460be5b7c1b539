"""GSM8KHard on tiny models and questions written here: prompts, scores, digests, rates, runs, and what may be missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("peft")
import torch

from banel_envs import TASKS, data, success_rate
from banel_envs.data import DataMissing, WordProblem
from banel_envs.errors import BadValue, ModelMissing, UnknownName
from banel_envs.policies.training import Trainer
from banel_envs.tasks import BROUGHT, SHIPPED
from banel_envs.tasks.language import gsm8k_hard as family
from banel_envs.tasks.language.gsm8k_hard import gsm8k_hard, prompt_of, the_question
from banel_envs.testing import check_task
from banel_leaderboard.command.cli import main
from banel_leaderboard.records.record import RunRecord
from tests.shared.language import CHAT, model, saved, talking, tokenizer
from tests.shared.language import base as tiny

torch.set_num_threads(1)
PENS = WordProblem("Tom has 3 boxes of 6 pens. How many pens has he?", "He has 3 * 6 = <<3*6=18>>18 pens.\n#### 18")
CONTEXT, T, BUDGET = 400, 12, 32
VARIABLES = ("BANEL_MODEL", "BANEL_DATA", "BANEL_QUESTION")
DATA = os.environ.get("BANEL_DATA")
MODEL = []  # kept, so that stored policies find it


def small(question=PENS, seed=0, scale=0.4, **given):
    made = talking(context=CONTEXT, seed=seed, scale=scale)
    MODEL.append(made)
    return gsm8k_hard(
        question, made, **({"horizon": T, "budget": BUDGET, "samples": 16, "final": 24, "rank": 2} | given)
    )


def build():
    """For runs: found as "tests.tasks.test_gsm8k_hard:build"."""
    return small(id="own/Pens-v0")


@pytest.fixture(scope="module")
def task():
    return small()


@pytest.fixture(autouse=True)
def nothing_brought(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def written(task, *texts):
    """Answers as sequences [n, T]."""
    rows = [MODEL[-1].plain_ids(text) for text in texts]
    return np.array([[*row, *[task.problem.end] * (task.problem.T - len(row))] for row in rows])


# --- what is asked, and what is right


def test_the_prompt_is_the_question_by_the_chat_template(task):
    policy = task.problem.base_policy()
    text = MODEL[-1].text(np.array(policy.prompt))
    assert text.startswith(f"<s>user: {PENS.question}\n\nSolve it") and text.endswith("</s>assistant: ")
    assert "####" in text and policy.prompt.count(0) == 1
    assert task.problem.prompt == PENS.question
    assert not {"18", "<<3*6"} & set(text.split())
    plain = MODEL[-1].text(np.array(prompt_of(MODEL[-1], PENS.question, chat=False)))
    assert plain.startswith(f"Question: {PENS.question}") and plain.endswith("\nAnswer:")


def test_a_question_may_hold_what_a_format_would_read(task):
    odd = WordProblem("What is {x} of {0} if {{}} is 3?", "#### 3")
    assert odd.question in MODEL[-1].text(np.array(prompt_of(MODEL[-1], odd.question)))


@pytest.mark.parametrize(
    ("text", "by_reference", "by_lenient"),
    [
        ("#### 18", 1, 1),
        ("so\n#### 18", 1, 1),
        ("#### 18.0", 0, 1),
        ("#### $18", 0, 1),
        ("#### 19", 0, 0),
        ("#### -18", 0, 0),
        ("####", 0, 0),
        ("18", 0, 0),
        ("#### 18 or 19", 1, 0),
        ("", 0, 0),
    ],
)
def test_scores(text, by_reference, by_lenient):
    for rule, expected in (("reference", by_reference), ("lenient", by_lenient)):
        made = small(rule=rule, horizon=40)
        assert made.reward(written(made, text)).tolist() == [expected]


def test_what_follows_the_end_or_is_no_text_is_no_answer(task):
    hit = written(task, "#### 18")[0]
    odd = hit.copy()
    odd[-1 - int((hit == task.problem.end).sum())] = (
        305  # an id that the tokenizer lacks in the place of the last digit
    )
    assert task.reward(np.array([hit, odd])).tolist() == [1, 0]


def test_the_contract(task):
    check_task(task, samples=100)
    witness = task.problem.decode([task.witness()])[0]
    assert witness == "#### 18"  # the whole solution is longer than the horizon
    assert small(horizon=80).problem.decode([small(horizon=80).witness()])[0] == PENS.answer
    assert small(horizon=2).witness() is None


def test_the_digest_covers_what_decides():
    same = small().digest
    assert same == small(budget=99, samples=5, id="own/Other-v0").digest and len(same) == 64
    others = [
        small(seed=1),
        small(PENS._replace(question=PENS.question + " ")),
        small(PENS._replace(answer="#### 19")),
        small(rule="lenient"),
        small(chat=False),
        small(horizon=T + 1),
        small(rank=3),
    ]
    assert len({same, *(task.digest for task in others)}) == 1 + len(others)


# --- rates


def test_a_rate_is_an_interval_from_few_samples(task):
    policy = task.problem.base_policy()
    rate = success_rate(task, policy, np.random.default_rng(0))
    assert (rate.method, rate.samples, rate.low) == ("certified", 16, None)
    hit = task.witness()[None]
    known = success_rate(task, policy, np.random.default_rng(0), known=hit)
    assert known.low == pytest.approx(float(policy.log_prob(hit)[0]) / np.log(10), abs=1e-4)


def test_a_policy_that_learnt_the_answer_succeeds():
    task = small(rank=8, scale=2.0)  # whose head can say one token almost surely
    policy = task.problem.base_policy()
    hit = task.witness()[None].repeat(4, axis=0)
    trainer = Trainer(policy, 1e-2)
    for _ in range(250):
        trainer.step(hit)
    rate = success_rate(task, policy, np.random.default_rng(0), samples=200)
    assert rate.method == "monte_carlo" and 10**rate.log10 > 0.8


@pytest.mark.parametrize("agent", ["base", "banel"])
def test_a_run_ends_with_its_record_and_can_be_replayed(tmp_path, agent, capsys):
    own = ("--task", "tests.tasks.test_gsm8k_hard:build")
    settings = ("--set", "batch=16", "--set", "pool=32", "--set", "phi_epochs=1") if agent == "banel" else ()
    out = str(tmp_path / "out")
    assert main(["run", *own, "--agent", agent, *settings, "--out", out, "--jobs", "1"]) == 0
    folder = next((tmp_path / "out").rglob("record.json")).parent
    record = RunRecord.load(folder / "record.json")
    assert record.ledger.count == BUDGET and record.points[-1].nre == BUDGET
    assert {point.success.method for point in record.points} == {"certified"}
    assert [point.success.samples for point in record.points] == [16] * (len(record.points) - 1) + [24]
    assert main(["replay", out, *own, "--jobs", "1"]) == 0
    assert "1 of 1 proved" in capsys.readouterr().out


# --- what may be missing


def test_the_registry_names_it_and_loads_nothing():
    assert set(BROUGHT) == {family.ID, family.LENIENT} and not set(BROUGHT) & set(SHIPPED)
    assert all(id in TASKS and TASKS.at_hand(id) is None for id in BROUGHT)
    assert TASKS.at_hand("banel/Needle-v0") is TASKS["banel/Needle-v0"] and TASKS.at_hand("x/Y-v0") is None
    script = "import sys, banel_envs.tasks.language.gsm8k_hard; print({'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_missing_data_or_a_missing_model_say_how_to_get_them(tmp_path, monkeypatch):
    with pytest.raises(DataMissing, match=r"BANEL_DATA.*banel data gsm8k"):
        TASKS[family.ID]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("BANEL_MODEL", str(tmp_path / "nowhere"))
    with pytest.raises(ModelMissing, match=r"nowhere is no folder.*BANEL_MODEL names the model of banel/GSM8KHard-v0"):
        gsm8k_hard(PENS)
    with pytest.raises(ModelMissing, match=r"no-such\.gguf"):
        gsm8k_hard(PENS, "no-such.gguf")


@pytest.mark.parametrize("named", ["12", "test:1319", "test:-1", "dev:1", "train:7473", "test:1e3", "test: 1", ""])
def test_a_question_is_named_by_part_and_number(named, monkeypatch):
    with pytest.raises(BadValue, match=r"the question is .*test:0 to test:1318"):
        the_question(named)
    if named:
        monkeypatch.setenv("BANEL_QUESTION", named)
        with pytest.raises(BadValue, match="BANEL_QUESTION is"):
            the_question()


def test_bad_input_is_named():
    with pytest.raises(UnknownName, match="lenient"):
        small(rule="leniant")
    with pytest.raises(BadValue, match="has no answer by the rule"):
        small(PENS._replace(answer="18"))
    with pytest.raises(BadValue, match=r"no chat template.*chat=False"):
        gsm8k_hard(PENS, talking(None, CONTEXT), horizon=T)
    with pytest.raises(BadValue, match="no tokenizer"):
        gsm8k_hard(PENS, tiny("llama", V=310, ends=(1,)), horizon=T)
    with pytest.raises(BadValue, match=r"a prompt of \d+ tokens and sequences of 300 are longer than the 400"):
        small(horizon=300)


def test_a_model_without_an_end_id_is_refused(tmp_path):
    model("llama", 310, ()).save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text("{}")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"eos_token_id": None}))
    with pytest.raises(BadValue, match="no id that ends a text"):
        gsm8k_hard(PENS, str(tmp_path))


def test_the_registered_tasks_are_of_the_named_model_and_question(tmp_path, monkeypatch):
    words = tokenizer()
    words.chat_template = CHAT
    folder = saved(tmp_path / "m", ends=(1,), words=words, context=2_000)
    monkeypatch.setenv("BANEL_MODEL", str(folder))
    monkeypatch.setenv("BANEL_QUESTION", "test:3")
    questions = [PENS._replace(question=f"{PENS.question} ({k})") for k in range(5)]
    monkeypatch.setattr(family, "gsm8k", lambda part: questions if part == "test" else [])
    built = [TASKS._builders[id] for id in BROUGHT]
    tasks = [getattr(family, where.partition(":")[2])() for where in built]
    assert [task.problem.id for task in tasks] == list(BROUGHT)
    assert all(task.problem.prompt == questions[3].question for task in tasks)
    assert [task.reward.rule for task in tasks] == ["reference", "lenient"]
    assert (tasks[0].problem.budget, tasks[0].problem.T) == (1_000, family.HORIZON)
    assert tasks[0].digest != tasks[1].digest


def test_the_questions_of_gsm8k_are_taken_by_their_numbers(monkeypatch):
    if DATA is None:
        pytest.skip("BANEL_DATA names no folder with GSM8K")
    monkeypatch.setenv("BANEL_DATA", DATA)
    questions = data.gsm8k("test")
    assert the_question("test:1318") == questions[-1] and the_question() == questions[0]
