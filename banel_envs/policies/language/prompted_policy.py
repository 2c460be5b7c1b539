"""PromptedPolicy: a transformer of this package after a prompt, or after one of several prompts of the same length.

The network reads the prompt and then writes the sequence, so the prompt takes the first places of its horizon. Sampling,
scoring and training go over the tree of prefixes (autoregressive.py), at whose root the prompt stands: it is computed once,
however many sequences follow it. It is read and never written, so its own probability counts nowhere.

With several prompts the first token of a sequence is the number of the prompt that it answers. It is drawn evenly, and no
training changes that: the success rate of such a policy is the mean of its rates on the prompts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from banel_envs.errors import BadValue
from banel_envs.files.visible import shown
from banel_envs.policies.autoregressive import Floats, Ints
from banel_envs.policies.language.numbers import check_temperature, check_whole, whole_ids
from banel_envs.policies.networks.copied import copied
from banel_envs.policies.networks.transformer import Transformer
from banel_envs.policies.storage import checks
from banel_envs.policies.torch_policy import Fitted, TorchPolicy

MOST_PROMPTS = 4_096
STRUCTURE = ("kind", "config", "end", "temperature", "prompts", "horizon")


class PromptedPolicy(Fitted):
    """See the module.

    Args:
        network: the transformer, whose horizon has room for a prompt and a sequence.
        end: the index of the end token, or None if every sequence has T tokens.
        prompts: K prompts of P tokens each, none of them the end token.
        horizon: T, the tokens of the longest sequence; with several prompts the prompt's number is one of them.
        temperature: divides the logits of every token; the prompt's number is drawn evenly at any temperature.

    Raises:
        BadValue: the prompts are not of this form, or prompt and sequence do not fit into the network's horizon.
    """

    kind = "prompted"

    def __init__(
        self,
        network: Transformer,
        end: int | None,
        prompts: Sequence[Sequence[int]],
        horizon: int,
        temperature: float = 1.0,
    ) -> None:
        self.network, self.end = network, end
        self.vocabulary: int = network.config.vocabulary
        check_whole("horizon", horizon)
        check_temperature(temperature)
        self.horizon = int(horizon)
        if len({len(prompt) for prompt in prompts}) != 1 or not len(prompts[0]):
            raise BadValue(f"the prompts have {[len(p) for p in prompts]} tokens; give one or more of the same length")
        self.prompts: Ints = np.array([whole_ids(prompt, "a prompt", "tokens") for prompt in prompts])  # [K, P]
        self._inner = TorchPolicy(network, end, float(temperature))  # writes the prompt and the sequence as one text
        self._check()

    def _check(self) -> None:
        K, P = self.prompts.shape
        V = self.vocabulary
        if not (self.prompts.min() >= 0 and self.prompts.max() < V):
            raise BadValue(
                f"the prompts have tokens {self.prompts.min()}..{self.prompts.max()}; they lie in 0..{V - 1}"
            )
        if self.end is not None and (self.prompts == self.end).any():
            raise BadValue(f"a prompt has the end token {self.end}; nothing can follow it")
        if self.several and (K > V or (self.end is not None and self.end < K)):
            what = f"{K} prompts are numbered by the first token, of {V} tokens with the end token {self.end}"
            raise BadValue(f"{what}; give fewer, or another end token")
        most = self.network.config.horizon
        if not 1 + self.several <= self.horizon <= most - P + self.several:
            raise BadValue(
                f"horizon is {self.horizon}; prompts of {P} tokens leave {most - P} of the network's {most} to a sequence"
            )

    @property
    def several(self) -> int:
        """1 where the first token is the number of the prompt, else 0."""
        return int(len(self.prompts) > 1)

    @property
    def temperature(self) -> float:
        """What divides the logits."""
        return self._inner.temperature

    @property
    def device(self) -> torch.device:
        """The device that holds the weights."""
        return self._inner.device

    def start(self) -> Any:
        """The state before the prompt: the compiled kernel's state, or None where the network itself computes."""
        return self._inner.start()

    def step(self, last: Ints, position: int, state: Any) -> tuple[Floats, Any]:
        """Next-token log-probabilities [m, V] in float64, and the grown state; the prompt is read on the way."""
        if position < self.several:
            return np.repeat(self._of_prompts()[None], len(last), axis=0), state
        if position == self.several:
            state, last = self._read(self._numbers(last), state)
        return self._inner.step(last, self.prompts.shape[1] + position - self.several, state)

    def _of_prompts(self) -> Floats:
        """The log-probabilities [V] of the prompts' numbers."""
        log_probs = np.full(self.vocabulary, -np.inf)
        log_probs[: len(self.prompts)] = -math.log(len(self.prompts))
        return log_probs

    def _numbers(self, first: Ints) -> Ints:
        """The prompts that sequences answer, by their first tokens [m]. What is no number, and has no probability, is 0."""
        return np.where(first < len(self.prompts), first, 0) if self.several else np.zeros(len(first), np.int64)

    def _read(self, asked: Ints, state: Any) -> tuple[Any, Ints]:
        """The state behind all but the last token of the prompts numbered `asked` [m], and those last tokens [m].

        Each distinct prompt is read once.
        """
        distinct, place = np.unique(asked, return_inverse=True)
        given = self.prompts[distinct]  # [k, P]
        state = self._inner.select(state, np.zeros(len(distinct), np.int64))
        last = np.full(len(distinct), self.vocabulary)
        for i in range(given.shape[1]):
            _, state = self._inner.step(last, i, state)
            last = given[:, i]
        return self._inner.select(state, place), last[place]

    def select(self, state: Any, rows: Ints) -> Any:
        """The state of the prefixes `rows` [k]."""
        return self._inner.select(state, rows)

    def to_network(self, tokens: Ints, weights: NDArray[np.floating] | None) -> tuple[Ints, Floats]:
        """Sequences [n, T] behind their prompts, [n, P + T], and the weight of each of these tokens, 0 in the prompts.

        Where there are several prompts, their numbers are left out. What begins with no number answers none, and weighs nothing.
        """
        whole = self._whole(tokens)
        given = np.ones(len(tokens)) if weights is None else np.asarray(weights, np.float64)
        if self.several:
            answers = tokens[:, 0] < len(self.prompts)
            given = given * (answers[:, None] if given.ndim == 2 else answers)
        written = np.zeros(whole.shape)
        written[:, self.prompts.shape[1] :] = given[:, self.several :] if given.ndim == 2 else given[:, None]
        return whole, written

    def _whole(self, tokens: Ints) -> Ints:
        return np.concatenate((self.prompts[self._numbers(tokens[:, 0])], tokens[:, self.several :]), axis=1)

    def _logits(self, batch: Tensor) -> Tensor:
        """The network's logits [n, t', V] at the tokens of sequences [n, t], but not at the prompt's number."""
        whole = torch.from_numpy(self._whole(batch.cpu().numpy())).to(batch.device)
        logits: Tensor = self.network(whole)[:, self.prompts.shape[1] :]
        return logits

    def _log_probs(self, batch: Tensor) -> Tensor:
        found = self._inner._normalised(self._logits(batch))
        if not self.several:
            return found
        first = torch.from_numpy(self._of_prompts()).to(found)
        return torch.cat((first.expand(len(batch), 1, -1), found), dim=1)

    def _differentiable(self, batch: Tensor, live: Tensor) -> Tensor:
        log_probs = torch.log_softmax(self._logits(batch) / self.temperature, dim=-1)
        own = log_probs.gather(2, batch[:, self.several :, None])[..., 0]
        if self.several:
            first = torch.from_numpy(self._of_prompts()).to(own)[batch[:, :1]]  # -inf of what is no number of a prompt
            own = torch.cat((first, own), dim=1)
        return torch.where(live, own, 0.0)

    def parameters(self) -> Iterator[Tensor]:
        """The network's weights."""
        return self._inner.parameters()

    def train(self, mode: bool = True) -> None:
        """Put the network into the mode of training, or out of it."""
        self._inner.train(mode)

    def clone(self) -> PromptedPolicy:
        """An independent copy with the same weights."""
        return self.tempered(1.0)

    def with_new_weights(self, rng: np.random.Generator) -> PromptedPolicy:
        """The same architecture and prompts with new weights drawn from rng."""
        twin = self.clone()
        twin.network.initialise(rng)
        return twin

    def tempered(self, temperature: float) -> PromptedPolicy:
        """A copy whose temperature is multiplied by `temperature`."""
        network = copied(self.network)
        return PromptedPolicy(network, self.end, self.prompts.tolist(), self.horizon, self.temperature * temperature)

    def spec(self) -> dict[str, Any]:
        """What `from_spec` needs beside the arrays, as JSON."""
        return {**self._inner.spec(), "prompts": self.prompts.tolist(), "horizon": self.horizon}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The weights by name."""
        return self._inner.arrays()

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> PromptedPolicy:
        """The inverse of spec and arrays.

        Raises:
            ValueError: the arrays are not this network's, or the prompts are none.
        """
        checks.keys("the structure", spec, STRUCTURE)
        inner = TorchPolicy.from_spec(
            Transformer, {k: v for k, v in spec.items() if k not in ("prompts", "horizon")}, arrays
        )
        most = inner.horizon
        horizon = checks.whole("horizon", spec["horizon"], 1, most)
        prompts = spec["prompts"]
        if not isinstance(prompts, list) or not 1 <= len(prompts) <= MOST_PROMPTS:
            raise ValueError(f"prompts is {shown(prompts)}; it is a list of 1 to {MOST_PROMPTS:,} prompts")
        for prompt in prompts:
            if not isinstance(prompt, list) or not 1 <= len(prompt) < most:
                raise ValueError(f"a prompt is {shown(prompt)}; it is a list of 1 to {most - 1} tokens")
            for token in prompt:
                checks.whole("a token of a prompt", token, 0, inner.vocabulary - 1)
        return cls(inner.network, inner.end, prompts, horizon, inner.temperature)
