"""FileReward: a wet lab, a cluster job or a person as the oracle, by files in a folder.

Every batch becomes `question-<key>.json`; the run goes on when `answer-<key>.json` (or .csv) holds its rewards, at once or
row by row as they come in. The key is a hash of the sequences, so a resumed run finds the question that it left.

    question-3f2a....json    {"task": ..., "rows": [{"row": 0, "text": "3203", "tokens": [3, 2, 0, 3]}, ...]}
    answer-3f2a....json      {"0": 0.91, "1": 0.0}        rewards by row; rows may be missing until they are known
    answer-3f2a....csv       row,reward                   the same as a table
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from banel_envs.errors import AnswersPending, BadReward, BadValue
from banel_envs.problem import Problem, Tokens
from banel_envs.task import Part


class FileReward:
    """A reward for Task that asks by files.

        task = Task(problem, FileReward("lab", problem), threshold=0.8, free_evaluation=False)

    Args:
        folder: where questions and answers are put; made if it is not there.
        problem: names the task and decodes the sequences.
        poll: seconds between two looks at the answer.
        timeout: seconds without a new answer after which AnswersPending is raised; 0 never waits, None waits for ever. The
            question stays open: running again goes on waiting, and charges nothing twice.
    """

    def __init__(self, folder: str | Path, problem: Problem, poll: float = 1.0, timeout: float | None = None) -> None:
        if not poll > 0:
            raise BadValue(f"poll is {poll!r}; it must be a number of seconds above 0")
        if timeout is not None and not timeout >= 0:
            raise BadValue(f"timeout is {timeout!r}; it must be None or a number of seconds, at least 0")
        self.folder, self.problem, self.poll, self.timeout = Path(folder), problem, poll, timeout

    def __call__(self, tokens: Tokens) -> Iterator[Part]:
        """Put the question, then yield each answer as it comes."""
        key = hashlib.sha256(self.problem.id.encode() + tokens.tobytes()).hexdigest()[:16]
        question = self.folder / f"question-{key}.json"
        self._put(question, tokens)
        missing = np.ones(len(tokens), bool)
        since = time.monotonic()
        while missing.any():
            found = self._look(key, len(tokens))
            new = missing & ~np.isnan(found)
            rows = np.flatnonzero(new)
            for run in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):  # neighbouring rows
                if len(run):
                    yield int(run[0]), int(run[-1]) + 1, found[run]
            missing &= ~new
            if new.any():
                since = time.monotonic()
            elif missing.any():
                self._wait(question, int(missing.sum()), since)

    def _put(self, question: Path, tokens: Tokens) -> None:
        if question.exists():
            return  # asked before this run was stopped
        self.folder.mkdir(parents=True, exist_ok=True)
        texts = self.problem.decode(tokens)
        rows = [
            {"row": i, "text": text, "tokens": row.tolist()}
            for i, (text, row) in enumerate(zip(texts, tokens, strict=True))
        ]
        draft = question.with_suffix(".tmp")
        draft.write_text(json.dumps({"task": self.problem.id, "rows": rows}, indent=1) + "\n")
        draft.replace(question)

    def _wait(self, question: Path, missing: int, since: float) -> None:
        waited = time.monotonic() - since
        if self.timeout is not None and waited >= self.timeout:
            raise AnswersPending(
                f"{missing} sequences of {question} have no answer yet: put their rewards in "
                f"{question.name.replace('question', 'answer')} beside it and run again; nothing is charged twice"
            )
        time.sleep(self.poll)

    def _look(self, key: str, n: int) -> NDArray[np.float64]:
        """The rewards known so far: [n], NaN where there is none."""
        rewards = np.full(n, np.nan)
        for path in (self.folder / f"answer-{key}.json", self.folder / f"answer-{key}.csv"):
            # A file that still changes may be half written.
            if not path.is_file() or time.time() - path.stat().st_mtime < min(self.poll, 1.0) / 2:
                continue
            for row, reward in _read(path).items():
                _check(path, row, reward, n)
                rewards[int(row)] = float(str(reward))
        return rewards


def _read(path: Path) -> dict[str, object]:
    """Rewards by row, as they stand in the file."""
    try:
        text = path.read_text()
        if path.suffix == ".json":
            content = json.loads(text)
            if not isinstance(content, dict):
                raise ValueError(f"it holds a {type(content).__name__}")
            return content
        return {line["row"]: line["reward"] for line in csv.DictReader(text.splitlines())}
    except (OSError, ValueError, KeyError) as error:
        raise BadReward(
            f'{path} cannot be read ({error}); write {{"0": 0.5, "1": 0}} in JSON, or CSV with the columns row,reward'
        ) from error


def _check(path: Path, row: object, reward: object, n: int) -> None:
    """BadReward unless this is a number for a row that was asked."""
    try:
        place, value = int(str(row)), float(str(reward))
    except ValueError as error:
        raise BadReward(f"{path}: row {row!r} has the reward {reward!r}; both must be numbers") from error
    if not 0 <= place < n or isinstance(reward, bool) or math.isnan(value):
        raise BadReward(f"{path}: row {row!r} has the reward {reward!r}; rows are 0..{n - 1}, rewards are numbers")
