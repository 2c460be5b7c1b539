"""A task behind OpenEnv: its server, and a client that answers until the budget is spent.

The server runs uvicorn in a thread; a program of your own would run `uvicorn.run(text_app(problem, desk))`. Two clients share the
budget, and an answer that is sent again under its key costs nothing. It needs `pip install 'banel-envs[openenv]'`.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import uvicorn
from openenv.core import GenericEnvClient

from banel_envs import TASKS
from banel_envs.bridges import Desk
from banel_envs.bridges.openenv import text_app

TASK = "banel/AdditionAttack-v0"


@contextmanager
def served(desk: Desk) -> Iterator[str]:
    """The address of an OpenEnv server for what the desk judges."""
    with socket.socket() as here:
        here.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(text_app(desk.problem, desk), log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [here]}, daemon=True)
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield f"http://127.0.0.1:{here.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def answers(seed: int) -> Iterator[str]:
    """Answers that the base policy writes."""
    problem, rng = TASKS[TASK].problem, np.random.default_rng(seed)
    policy = problem.base_policy()
    while True:
        yield problem.decode(policy.sample(1, rng))[0]


def main(budget: int = 40) -> tuple[int, int, str]:
    """Two clients answer in turns: how many answers were judged, how many succeeded, and what the server said in the end."""
    judged, right, said = 0, 0, ""
    with Desk.open(TASKS[TASK], budget=budget) as desk, served(desk) as address:
        with GenericEnvClient(address) as one, GenericEnvClient(address) as other:
            for number, text in enumerate(answers(0)):
                client, action = (one, other)[number % 2], {"text": text, "key": f"answer {number}"}
                client.reset()
                try:
                    result = client.step(action)
                except RuntimeError as error:  # OpenEnv's form of BudgetExhausted
                    said = str(error)
                    break
                judged, right = judged + 1, right + (result.reward == 1.0)
                again = (other, one)[number % 2]  # a retry in another session
                again.reset()
                assert again.step(action).observation["left"] == result.observation["left"]
        assert desk.count == judged
    print(f"{judged} answers were judged and {right} succeeded; then: {said}")
    return judged, right, said


if __name__ == "__main__":
    main()
