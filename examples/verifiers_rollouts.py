"""A task as a taskset of verifiers: rollouts of a small model until the budget is spent.

verifiers runs an agent, whose harness calls a model by HTTP, and scores the trace. Here the model is the task's base policy
behind a small server of OpenAI's chat interface, and the harness makes one call. It needs `pip install 'banel-envs[verifiers]'`
and uses no network but this machine's own.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import numpy as np
import verifiers.v1 as vf
from verifiers.v1.clients import EvalClientConfig

from banel_envs import TASKS, Problem
from banel_envs.bridges import Desk
from banel_envs.bridges.verifiers import metered_taskset

__all__ = ["OneCall"]  # verifiers finds a harness by the name of its module
TASK = "banel/AdditionAttack-v0"


class OneCall(vf.Harness[vf.HarnessConfig]):
    """Sends the question to the model once."""

    NEEDS_CONTAINER = EXECUTES_CODE = False

    async def launch(
        self, ctx: Any, trace: Any, runtime: Any, endpoint: str, secret: str, mcp_urls: Any, data: Any
    ) -> vf.ProgramResult:
        """The call. verifiers listens at the endpoint, and puts what is said on the trace."""
        body = {"model": ctx.model, "messages": [{"role": "user", "content": data.prompt}]}
        async with httpx.AsyncClient() as client:
            answer = await client.post(
                f"{endpoint}/chat/completions", json=body, headers={"Authorization": f"Bearer {secret}"}
            )
        return vf.ProgramResult(exit_code=int(answer.is_error), stdout="", stderr=answer.text)


@contextmanager
def model(problem: Problem, seed: int) -> Iterator[str]:
    """The address of a server that answers every chat with a sequence of the base policy."""
    policy, rng, turn = problem.base_policy(), np.random.default_rng(seed), threading.Lock()

    class Chat(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            with turn:
                text = problem.decode(policy.sample(1, rng))[0]
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            about = {"id": "chat", "object": "chat.completion", "created": 0, "model": "base"}
            usage = {"prompt_tokens": 1, "completion_tokens": len(text), "total_tokens": 1 + len(text)}
            sent = json.dumps({**about, "choices": [choice], "usage": usage}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Chat) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


async def rollouts(desk: Desk, address: str, at_once: int) -> list[Any]:
    """Traces until the budget ends them, `at_once` at a time. The last of them have failed."""
    task = next(iter(metered_taskset(desk.problem, desk)(vf.TasksetConfig())))
    config = vf.AgentConfig(
        model="base",
        client=EvalClientConfig(base_url=address, api_key_var="NO_KEY"),
        harness=vf.HarnessConfig(id="verifiers_rollouts"),
        runtime=vf.SubprocessConfig(),
    )
    traces: list[Any] = []
    async with vf.Agent(config) as agent:
        while all(trace.ok for trace in traces):
            traces += await asyncio.gather(*(agent.run(task) for _ in range(at_once)))
    return traces


def main(budget: int = 40, at_once: int = 8, seed: int = 0) -> tuple[int, int, int]:
    """Run: the evaluations, the traces that were scored, and those that were right."""
    task = TASKS[TASK]
    with Desk.open(task, budget=budget) as desk, model(task.problem, seed) as address:
        traces = asyncio.run(rollouts(desk, address, at_once))
        count = desk.count
    scored = [trace for trace in traces if trace.ok]
    right = sum(trace.reward == 1.0 for trace in scored)
    print(
        f"{count} evaluations in {len(scored)} rollouts, {right} of them right; then: {traces[-1].last_error.message}"
    )
    return count, len(scored), right


if __name__ == "__main__":
    main()
