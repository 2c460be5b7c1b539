r"""FileReward: a reward that is answered through a folder, so that a wet lab or a cluster job can be the oracle.

    lab/question-3f9a0c21d4e7b065.json   written here, whole or not at all, and never again
    lab/answer-3f9a0c21d4e7b065.json     put there by you: {"0": 0.91, "2": 0}, rewards by row as far as they are known
    lab/answer-3f9a0c21d4e7b065.csv      or this: the line row,reward, then a line a row that is known

What is known of an answer is taken at once, and the rest is waited for. A sequence that is in the folder is never put there
again, whichever run or seed asks it. So keep one folder for one sort of measurement. An answer file is read as soon as it
stayed the same from one look to the next, because it may be copied there slowly.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import math
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from banel_envs.errors import AnswersPending, BadReward, BadValue, FileRefused
from banel_envs.files import safe_files, strict_json
from banel_envs.files.visible import shown, visible
from banel_envs.problem import Problem, Tokens
from banel_envs.task import Part, Task

ROW = re.compile("[0-9]{1,9}")
Values = NDArray[np.float64]  # [n], NaN where not known yet


class Place(NamedTuple):
    """Where a sequence stands in the folder."""

    question: str
    row: int


class FileReward:
    """The reward callable of a Task whose answers come from files.

    Args:
        folder: of questions and answers; made if it is not there.
        problem: the task's, to write sequences as text.
        poll: seconds between two looks at the folder.
        timeout: seconds to wait for an answer, counted anew whenever a part of it arrives; None waits for ever, 0 not
            at all.
        binary: refuse rewards other than 0 and 1 by file and row; for a Task without a threshold.

    Example, a task that a lab answers:

        >>> from banel_envs import FileReward, Problem, Task
        >>> from banel_envs.policies import Uniform
        >>> problem = Problem("me/Dye-v0", tuple("ACDE"), horizon=5, budget=96, base=lambda: Uniform(4, 5, None))
        >>> task = Task(problem, FileReward("lab", problem), threshold=0.8, free_evaluation=False)

    Raises:
        BadValue: the folder is a file or holds another problem's questions; poll or timeout is no time to wait.
    """

    def __init__(
        self,
        folder: str | Path,
        problem: Problem,
        poll: float = 1.0,
        timeout: float | None = None,
        *,
        binary: bool = False,
    ) -> None:
        self.folder = Path(folder)
        self.problem, self.poll, self.timeout, self.binary = problem, poll, timeout, binary
        if self.folder.exists() and not self.folder.is_dir():
            raise BadValue(f"{self.folder} is a file; name a folder for questions and answers")
        if not (poll > 0 and math.isfinite(poll)):
            raise BadValue(f"poll is {poll!r}; it must be a number of seconds above 0")
        if timeout is not None and not timeout >= 0:
            raise BadValue(
                f"timeout is {timeout!r}; it must be a number of seconds, at least 0, or None to wait for ever"
            )
        self._places: dict[bytes, Place] = {}  # of every sequence in the folder, as far as it was read
        self._sizes: dict[str, int] = {}  # rows of each question
        self._looked: dict[Path, tuple[int, int]] = {}  # each answer file's time and size at the last look

    def __call__(self, tokens: Tokens) -> Iterator[Part]:
        """The rewards of sequences [n, T] as they arrive; see Task.

        Raises:
            AnswersPending: not all arrived in time; the questions stay, and asking again goes on.
            BadReward: an answer file is malformed; put it right and ask again.
        """
        places = self._put(np.ascontiguousarray(tokens, np.int64))
        open_rows = set(range(len(places)))
        deadline = self._deadline()
        while True:
            changing, parts = self._look(places, open_rows)
            for start, rewards in parts:
                open_rows -= set(range(start, start + len(rewards)))
                deadline = self._deadline()
                yield start, start + len(rewards), rewards
            if not open_rows:
                return
            # A file that is still being copied is an answer that arrives, so it is waited for beyond the deadline.
            if not changing and time.monotonic() >= deadline:
                raise AnswersPending(self._awaited({places[row].question for row in open_rows}, len(open_rows)))
            time.sleep(self.poll)

    def _deadline(self) -> float:
        return math.inf if self.timeout is None else time.monotonic() + self.timeout

    def _awaited(self, questions: set[str], rows: int) -> str:
        first, *others = sorted(questions)
        more = f" and {len(others)} more" if others else ""
        return (
            f"{rows} rewards are awaited: put {self.folder / f'answer-{first}.json'} (or .csv) beside its question{more}, "
            f"then run again to go on"
        )

    def _put(self, tokens: Tokens) -> list[Place]:
        """Where each sequence stands in the folder; those that do not yet are written as one question."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # Several runs may share the folder. Under the lock no two of them write the same sequence.
            with _locked(self.folder / ".lock"):
                self._read_questions()
                new = {row.tobytes(): row for row in tokens if row.tobytes() not in self._places}
                if new:
                    self._write(np.stack(list(new.values())))
        except OSError as error:
            raise BadValue(
                f"{self.folder}: {error.strerror}; name a folder that questions can be written to"
            ) from error
        return [self._places[row.tobytes()] for row in tokens]

    def _write(self, tokens: Tokens) -> None:
        name = question_name(self.problem, tokens)
        rows = [
            json.dumps({"row": row, "text": text, "tokens": sequence})
            for row, (text, sequence) in enumerate(zip(self.problem.decode(tokens), tokens.tolist(), strict=True))
        ]
        how = (
            f'put answer-{name}.json beside this file, rewards by row as far as they are known: {{"0": 0.91, "2": 0}}; '
            f"or answer-{name}.csv, the line row,reward and then a line a row"
        )
        head = json.dumps({"question": name, "task": self.problem.id, "prompt": self.problem.prompt, "answer": how})
        path = self.folder / f"question-{name}.json"
        draft = self.folder / f".{path.name}.tmp"
        # Written under another name and renamed, so that nobody who watches the folder reads half a question.
        with draft.open("w") as file:
            file.write(head[:-1] + ', "rows": [\n' + ",\n".join(rows) + "\n]}\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        self._note(name, tokens)

    def _note(self, name: str, tokens: Tokens) -> None:
        self._sizes[name] = len(tokens)
        for row, sequence in enumerate(tokens):
            self._places.setdefault(sequence.tobytes(), Place(name, row))

    def _read_questions(self) -> None:
        """Take in the questions that this run or another one wrote."""
        for path in sorted(self.folder.glob("question-*.json")):
            name = path.stem.removeprefix("question-")
            if name in self._sizes:
                continue
            try:
                content = strict_json.loads(safe_files.read(path, safe_files.ANSWERS, links=True))
                tokens = self.problem.check_tokens([row["tokens"] for row in content["rows"]])
            except (FileRefused, ValueError, LookupError, TypeError) as error:
                raise BadValue(f"{path} is no question of {self.problem.id} ({error}); name another folder") from error
            # The name is a hash of the sequences. If they were changed, the answer beside them belongs to other ones.
            if question_name(self.problem, tokens) != name:
                raise BadValue(f"{path} is not what {self.problem.id} asked; restore it, or name another folder")
            self._note(name, tokens)

    def _look(self, places: list[Place], open_rows: set[int]) -> tuple[bool, list[tuple[int, Values]]]:
        """Whether an answer file is still changing, and (first row, rewards) of each run of rows that are known now."""
        changing, known = False, np.full(len(places), np.nan)
        for question in sorted({places[row].question for row in open_rows}):
            stays, answer = self._answer(question)
            changing |= not stays
            for row in open_rows:
                if places[row].question == question:
                    known[row] = answer[places[row].row]
        rows = np.flatnonzero(~np.isnan(known))
        runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1) if len(rows) else []
        return changing, [(int(run[0]), known[run]) for run in runs]

    def _answer(self, question: str) -> tuple[bool, Values]:
        """Whether the question's answer file stayed as it was since the last look, and the rewards in it [n]."""
        unknown = np.full(self._sizes[question], np.nan)
        found = [path for suffix in ("json", "csv") if (path := self.folder / f"answer-{question}.{suffix}").exists()]
        if len(found) > 1:
            raise BadReward(f"{found[0]} and {found[1].name} answer the same question; keep one of them")
        if not found:
            return True, unknown
        try:
            status = found[0].stat()
            before, self._looked[found[0]] = self._looked.get(found[0]), (status.st_mtime_ns, status.st_size)
            if before != self._looked[found[0]]:
                return False, unknown
            content = safe_files.read(found[0], safe_files.ANSWERS, links=True)
            text = content.decode("utf-8-sig")  # spreadsheets write a byte order mark
        except (OSError, FileRefused, UnicodeDecodeError) as error:
            raise BadReward(f"{found[0]} cannot be read: {error}; write it as UTF-8 text") from error
        return True, read_answer(found[0], text, len(unknown), self.binary)


def answered_by_files(task: Task, folder: str | Path, *, poll: float = 1.0, timeout: float | None = None) -> Task:
    """The same problem with its rewards coming through a folder: `banel run --oracle file:DIR`.

    Whoever answers decides what a success is. So the task's own reward, success set and witness are dropped, nothing
    is measured off the meter (the curve is the share of successes among the questions), and the digest is another: a
    record of it never stands beside one of the task itself.
    """
    reward = FileReward(folder, task.problem, poll=poll, timeout=timeout, binary=task.threshold is None)
    return Task(task.problem, reward, threshold=task.threshold, free_evaluation=False, digest=digest_by_files(task))


def digest_by_files(task: Task) -> str:
    """The digest of a task whose answers come by files: never the task's own."""
    return hashlib.sha256(f"answered by files: {task.digest}".encode()).hexdigest()


def question_name(problem: Problem, tokens: Tokens) -> str:
    """What names a question: a hash of the problem's id and the sequences [n, T], so that it is the same in every run."""
    return hashlib.sha256(problem.id.encode() + b"\n" + tokens.astype("<i8").tobytes()).hexdigest()[:16]


def read_answer(path: Path, text: str, n: int, binary: bool) -> Values:
    """The rewards [n] in an answer file, NaN where not known yet; BadReward naming file, row and what is right."""
    pairs = _from_json(path, text) if path.suffix == ".json" else _from_csv(path, text)
    values = np.full(n, np.nan)
    seen: set[int] = set()
    for row, reward in pairs:
        if not 0 <= row < n or row in seen:
            problem = "is answered twice" if row in seen else "does not exist"
            raise BadReward(
                f"{path}: row {row} {problem}; its question has rows 0 to {n - 1}, each to be answered once"
            )
        seen.add(row)
        values[row] = _number(path, row, reward, binary)
    return values


def _from_json(path: Path, text: str) -> list[tuple[int, Any]]:
    right = 'write {"0": 0.91, "2": 0}, rewards by row as far as they are known'
    try:
        content = json.loads(text, object_pairs_hook=list)  # a row that stands there twice is seen
        if not isinstance(content, list) or not all(isinstance(pair, tuple) for pair in content):
            raise ValueError("it is no table of rows")
    except (ValueError, RecursionError) as error:
        raise BadReward(f"{path} cannot be read: {visible(str(error))}; {right}") from error
    odd = [row for row, _ in content if not ROW.fullmatch(row)]
    if odd:
        raise BadReward(f"{path}: row {shown(odd[0])} is not a row number; {right}")
    return [(int(row), reward) for row, reward in content]


def _from_csv(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    try:
        lines = [line for line in csv.reader(io.StringIO(text)) if any(cell.strip() for cell in line)]
    except csv.Error as error:  # such as a cell of more than 131,072 characters
        raise BadReward(f"{path} cannot be read: {error}; write the line row,reward, then a line a row") from error
    if not lines or [cell.strip().lower() for cell in lines[0]] != ["row", "reward"]:
        first = ",".join(lines[0]) if lines else ""
        raise BadReward(f"{path}: its first line is {shown(first)}; it must be row,reward")
    for line in lines[1:]:
        if len(line) != 2 or not ROW.fullmatch(line[0].strip()):
            raise BadReward(f"{path}: the line {shown(','.join(line))} is not a row number, a comma and a reward")
        yield int(line[0]), line[1].strip() or None


def _number(path: Path, row: int, reward: Any, binary: bool) -> float:
    """One reward; NaN for None."""
    right = "0 or 1 (a Task with a threshold takes real values)" if binary else "a number"
    if reward is None:
        return math.nan
    try:
        value = math.nan if isinstance(reward, bool) else float(reward)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if math.isnan(value) or (binary and value not in (0, 1)):
        raise BadReward(
            f"{path}: row {row} has the reward {shown(reward)}; it must be {right}, or left out while not known"
        )
    return value


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One run at a time looks for its sequences and writes what is missing: no sequence is put there twice."""
    with path.open("w") as file:
        with contextlib.suppress(ImportError):  # no flock on this system: two runs may put the same sequence there
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield
