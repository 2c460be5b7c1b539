"""HFPolicy: a causal language model of Hugging Face, after one prompt, as a policy that can be trained.

The prompt is run once at batch 1 and its cache is repeated for the sequences. They are padded on the right, where nothing that
counts can see it; the head is computed at their positions only. All ids that end a text are one end token, whose probability is
the sum of theirs. `generate` is not used: it reads the folder's `generation_config.json`, and cuts the distribution by what it
finds there or by its own top_k of 50. Dropout is off, in training too, so that what is trained is what is sampled.

What is trained is a LoRA adapter (Hu et al. 2021, arXiv 2106.09685) on all linear layers but the head. Each policy has its own,
and all share the frozen tensors of the model, so a copy costs no more than its adapter, and so does a stored policy. The adapter
of a new policy changes nothing: its second factor is 0. As long as it is, samples and scores are computed without it, which
gives the same bits sooner.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from banel_envs.errors import BadValue
from banel_envs.files.visible import shown
from banel_envs.policies.autoregressive import Floats, Ints
from banel_envs.policies.cost import COST
from banel_envs.policies.language.adapter import adapted, draw, is_drawn, sharing
from banel_envs.policies.language.base_model import LanguageModel, find
from banel_envs.policies.language.cache import selected
from banel_envs.policies.language.inversion import drawn
from banel_envs.policies.language.numbers import check_temperature, check_whole, is_number, whole_ids
from banel_envs.policies.language.reading import first_line
from banel_envs.policies.language.support import unreadable
from banel_envs.policies.storage import checks
from banel_envs.policies.torch_policy import Fitted

ROUGH = 0.3  # nats: the tolerance that a policy states where its model is not in float32
STRUCTURE = ("kind", "base", "prompt", "ends", "horizon", "temperature", "rank", "alpha")
MOST_RANK = 1_024


@dataclass(frozen=True)
class Read:
    """What a network has read of some prefixes."""

    network: Any  # that with the adapter, or the frozen one
    cache: Any  # of transformers, prompt and prefixes


class HFPolicy(Fitted):
    """See the module.

    Args:
        base: the frozen model.
        prompt: what the sequences follow, as text or as ids.
        horizon: T, the most tokens of a sequence.
        rank: of the adapter.
        alpha: the adapter's product is multiplied by alpha / rank.
        rows: sequences in one pass with gradients; more are computed part by part, with the same result.
        temperature: divides the log-probabilities of every token, which are then normalised.
        ends: the ids that end a text, the first of them for all; those of the model by default.

    Raises:
        BadValue: the model is no LanguageModel; the prompt is neither text nor ids, is empty, or with the sequences longer than
            what the model reads; or a number is out of range.
        MissingExtra: peft is not installed.
    """

    kind = "language"

    def __init__(
        self,
        base: LanguageModel,
        prompt: str | Sequence[int],
        horizon: int,
        *,
        rank: int = 8,
        alpha: float = 16.0,
        rows: int = 8,
        temperature: float = 1.0,
        ends: Sequence[int] | None = None,
    ) -> None:
        if not isinstance(base, LanguageModel):
            raise BadValue(f"the model is {shown(base)}; give a LanguageModel, such as LanguageModel.load(folder)")
        self.base, self.horizon, self.vocabulary = base, horizon, base.vocabulary
        self._follow(prompt)
        named = base.ends if ends is None else whole_ids(ends, "ends", "ids, or None for those of the model")
        self.ends = tuple(dict.fromkeys(named))  # an id that is named twice counts once
        self.end: int | None = next(iter(self.ends), None)
        self.temperature, self.rank, self.alpha, self.rows = temperature, rank, alpha, rows
        self._check()
        # Plain numbers, as a stored policy holds them; they came from NumPy, perhaps.
        self.horizon, self.rank, self.rows = int(horizon), int(rank), int(rows)
        self.temperature, self.alpha = float(temperature), float(alpha)
        self.tolerance = 1e-3 if base.model.dtype == torch.float32 else ROUGH
        if base.unreadable is not None:
            raise BadValue(f"{base.name}: {base.unreadable}; bring a causal model with attention in every layer")
        self._ends = torch.tensor(self.ends, device=base.device)
        try:
            self.model = adapted(base.model, rank, alpha)
        except ValueError as error:  # peft's, of layers that it does not know
            raise BadValue(f"{base.name}: no adapter fits {type(base.model).__name__}: {first_line(error)}") from error
        draw(self.adapter(), np.random.default_rng(0))
        if (why := unreadable(self.model, self.ends[0])) is not None:
            raise BadValue(f"{base.name}: with an adapter, {why}; bring a model of plain linear layers")

    def _follow(self, prompt: str | Sequence[int]) -> None:
        """Take this prompt."""
        self.prompt = (
            tuple(self.base.ids(prompt)) if isinstance(prompt, str) else whole_ids(prompt, "the prompt", "text or ids")
        )
        self._given = torch.tensor([self.prompt], dtype=torch.long, device=self.base.device)  # [1, P]

    def _check(self) -> None:
        """Raise BadValue unless the arguments can be a policy's."""
        check_temperature(self.temperature)
        if not (is_number(self.alpha) and np.isfinite(self.alpha)):
            raise BadValue(f"alpha is {shown(self.alpha)}; it is a finite number")
        if not self.prompt:
            raise BadValue("the prompt has no token; give at least one, such as the one that begins a text")
        if not self.ends:
            raise BadValue("no id ends a text; give at least one in ends, or None for those of the model")
        if wrong := [k for k in (*self.prompt, *self.ends) if not 0 <= k < self.vocabulary]:
            raise BadValue(f"the id {wrong[0]} is outside 0..{self.vocabulary - 1}")
        check_whole("horizon", self.horizon)
        check_whole("rank", self.rank, MOST_RANK)
        check_whole("rows", self.rows)
        most = self.base.context
        if most is not None and len(self.prompt) + self.horizon > most:
            whole = f"a prompt of {len(self.prompt)} tokens and sequences of {self.horizon}"
            raise BadValue(f"{whole} are longer than the {most} that {self.base.name} reads; shorten either")

    @property
    def device(self) -> torch.device:
        """Where the model computes; a look at its head would take a hundredth of a step of a small model."""
        return self._given.device

    def to(self, device: str | torch.device) -> HFPolicy:
        """Move the model, which all its policies share, and this policy's adapter, in place; give this policy."""
        self.base.model.to(device)
        self.model.to(device)
        self._given, self._ends = self._given.to(device), self._ends.to(device)
        return self

    def adapter(self) -> dict[str, torch.nn.Parameter]:
        """The adapter's weights by name."""
        return {name: w for name, w in self.model.named_parameters() if w.requires_grad}

    def parameters(self) -> list[Tensor]:
        """The adapter's weights."""
        return list(self.adapter().values())

    def train(self, mode: bool = True) -> None:
        """Nothing: dropout stays off."""

    def start(self) -> Any:
        """Nothing: the first step runs the prompt."""
        return None

    @torch.inference_mode()
    def step(self, last: Ints, position: int, state: Any) -> tuple[Floats, Any]:
        """Next-token log-probabilities [m, V] in float64, and the cache of prompt and prefixes, which grows in place."""
        logits, state = self._stepped(last, position, state)
        return self._normalised(logits).cpu().numpy(), state

    def _stepped(self, last: Ints, position: int, state: Any) -> tuple[Tensor, Any]:
        """The model's logits [m, V] and the cache."""
        COST.in_torch += len(last)
        if position:
            return self._read(torch.from_numpy(last).to(self.device)[:, None], state)
        logits, state = self._read(self._given, Read(self._network(), None))
        if len(last) > 1:
            logits, state = logits.expand(len(last), -1), self.select(state, np.zeros(len(last), np.int64))
        return logits, state

    @torch.inference_mode()
    def _draw(self, last: Ints, position: int, state: Any, node: Ints, uniform: Floats) -> tuple[Ints, Any]:
        logits, state = self._stepped(last, position, state)
        probabilities = torch.softmax(self._folded(logits.float()) / self.temperature, dim=-1)
        places = (torch.from_numpy(given).to(self.device) for given in (node, uniform))
        return drawn(probabilities, *places).cpu().numpy(), state

    @torch.inference_mode()
    def select(self, state: Any, rows: Ints) -> Any:
        """The cache of the prefixes `rows` [k]."""
        if state is None:
            return None
        m = state.cache.layers[0].keys.shape[0]
        if len(rows) == m and (rows == np.arange(m)).all():
            return state
        most = len(self.prompt) + self.horizon
        return replace(state, cache=selected(state.cache, torch.from_numpy(rows).to(self.device), most))

    def _network(self) -> Any:
        """What computes samples and scores: the frozen model as long as the adapter changes nothing."""
        changes = any(bool(w.any()) for name, w in self.adapter().items() if not is_drawn(name))
        return self.model if changes else self.base.model

    def _read(self, tokens: Tensor, state: Read) -> tuple[Tensor, Read]:
        """Logits [m, V] after the last of the tokens [m, t], which follow what was read, and what is read then."""
        made = state.network(input_ids=tokens, past_key_values=state.cache, use_cache=True, logits_to_keep=1)
        return made.logits[:, -1], replace(state, cache=made.past_key_values)

    @torch.inference_mode()
    def _after(self, prefix: Ints) -> Floats:
        """Next-token log-probabilities [n, V] after prefixes [n, t]: all their tokens in one pass."""
        n, t = prefix.shape
        log_probs, state = self.step(np.full(n, self.vocabulary), 0, None)
        if t == 0 or n == 0:
            return log_probs[:n]
        COST.in_torch += n * t
        logits, _ = self._read(torch.from_numpy(np.ascontiguousarray(prefix)).to(self.device), state)
        return self._normalised(logits).cpu().numpy()

    def _normalised(self, logits: Tensor) -> Tensor:
        """Logits [..., V] of the model as log-probabilities of the policy, in float64."""
        return torch.log_softmax(self._folded(logits.double()) / self.temperature, dim=-1)

    def _folded(self, logits: Tensor) -> Tensor:
        """Logits [..., V] with the probability of all end ids on the first of them."""
        if len(self.ends) == 1:
            return logits
        total = logits[..., self._ends].logsumexp(dim=-1, keepdim=True)
        return logits.index_fill(-1, self._ends, -torch.inf).index_copy(-1, self._ends[:1], total)

    def _logits(self, batch: Tensor) -> Tensor:
        """The logits [n, t, V] of sequences [n, t], from one pass over prompt and sequences."""
        given = torch.cat((self._given.expand(len(batch), -1), batch[:, :-1]), dim=1)
        logits: Tensor = self.model(input_ids=given, use_cache=False, logits_to_keep=batch.shape[1]).logits
        return logits

    def _log_probs(self, batch: Tensor) -> Tensor:
        # The prompt is read once. With gradients it cannot be, because the adapter changes what is read of it.
        first, state = self._read(self._given, Read(self._network(), None))
        logits = first.expand(len(batch), -1)[:, None]
        if batch.shape[1] > 1:
            state = self.select(state, np.zeros(len(batch), np.int64))
            rest = state.network(input_ids=batch[:, :-1], past_key_values=state.cache, use_cache=True).logits
            logits = torch.cat((logits, rest), dim=1)
        return self._normalised(logits)

    def _rows(self, width: int) -> int:
        return min(self.rows, super()._rows(width))

    def _differentiable(self, batch: Tensor, live: Tensor) -> Tensor:
        log_probs = torch.log_softmax(self._folded(self._logits(batch).float()) / self.temperature, dim=-1)
        return torch.where(live, log_probs.gather(2, batch[..., None])[..., 0], 0.0)

    def clone(self) -> HFPolicy:
        """A copy with an adapter of its own, which starts from this one's weights."""
        twin = copy.copy(self)
        twin.model = sharing(self.model)
        return twin

    def with_new_weights(self, rng: np.random.Generator) -> HFPolicy:
        """A copy with an untrained adapter, drawn from rng: the distribution is that of the model itself.

        A language model has no fresh weights to start from, as a small network has.
        """
        twin = self.clone()
        draw(twin.adapter(), rng)
        return twin

    def after(self, prompt: str | Sequence[int]) -> HFPolicy:
        """A copy that follows another prompt; errors as for a new policy."""
        twin = self.clone()
        twin._follow(prompt)
        twin._check()
        return twin

    def tempered(self, temperature: float) -> HFPolicy:
        """A copy whose temperature is multiplied by `temperature`."""
        check_temperature(temperature)
        twin = self.clone()
        twin.temperature = self.temperature * temperature
        return twin

    def spec(self) -> dict[str, Any]:
        """What `from_spec` needs beside the adapter, as JSON; the model itself by its digest."""
        sizes = {"horizon": self.horizon, "temperature": self.temperature, "rank": self.rank, "alpha": self.alpha}
        return {"base": self.base.digest, "prompt": list(self.prompt), "ends": list(self.ends), **sizes}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The adapter."""
        return {name: w.detach().cpu().numpy() for name, w in self.adapter().items()}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> HFPolicy:
        """The inverse of spec and arrays.

        Raises:
            ValueError: no policy has these.
            ModelMissing: the model is neither loaded nor in the folder that BANEL_MODEL names.
        """
        checks.keys("the structure", spec, STRUCTURE)
        digest = spec["base"]
        if not (isinstance(digest, str) and len(digest) == 64):
            raise ValueError(f"base is {shown(digest)}; it is the SHA-256 of a model")
        horizon = checks.whole("horizon", spec["horizon"], 1, checks.MOST_HORIZON)
        rank = checks.whole("rank", spec["rank"], 1, MOST_RANK)
        alpha, temperature = checks.number("alpha", spec["alpha"]), checks.temperature(spec["temperature"])
        base = find(digest)
        for name in ("prompt", "ends"):
            if not isinstance(spec[name], list) or not spec[name]:
                raise ValueError(f"{name} is {shown(spec[name])}; it is a list of ids")
            for k in spec[name]:
                checks.whole(name, k, 0, base.vocabulary - 1)
        given: dict[str, Any] = {"rank": rank, "alpha": alpha, "temperature": temperature, "ends": spec["ends"]}
        made = cls(base, spec["prompt"], horizon, **given)
        weights = made.adapter()
        checks.weights(arrays, {name: tuple(w.shape) for name, w in weights.items()}, True)
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(torch.from_numpy(np.array(arrays[name])))
        return made
