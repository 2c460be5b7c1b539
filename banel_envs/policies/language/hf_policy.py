"""HFPolicy: a causal language model of Hugging Face, after one prompt, as a policy that can be trained.

The prompt is run once at batch 1 and its cache is repeated for the sequences. They are padded on the right, where nothing that
counts can see it; the head is computed at their positions only. All ids that end a text are one end token, whose probability is
the sum of theirs. `generate` is not used: it reads the folder's `generation_config.json`, and cuts the distribution by what it
finds there or by its own top_k of 50. Dropout is off, in training too, so that what is trained is what is sampled.

What is trained is a LoRA adapter (Hu et al. 2021, arXiv 2106.09685) on all linear layers but the head. Each policy has its own,
and all share the frozen tensors of the model, so a copy costs no more than its adapter, and so does a stored policy. The adapter
of a new policy changes nothing: its second factor is 0.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from banel_envs.errors import BadValue, MissingExtra
from banel_envs.files.visible import shown
from banel_envs.policies.autoregressive import Floats, Ints
from banel_envs.policies.cost import COST
from banel_envs.policies.language.base_model import LanguageModel, find
from banel_envs.policies.storage import checks
from banel_envs.policies.torch_policy import Fitted

ROUGH = 0.3  # nats: the tolerance that a policy states where its model is not in float32
STRUCTURE = ("kind", "base", "prompt", "ends", "horizon", "temperature", "rank", "alpha")
MOST_RANK = 1_024


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
        BadValue: the prompt is empty, or with the sequences longer than what the model reads; or a number is out of range.
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
        self.base, self.horizon, self.vocabulary = base, horizon, base.vocabulary
        self.prompt = tuple(base.ids(prompt) if isinstance(prompt, str) else map(int, prompt))
        self.ends = base.ends if ends is None else tuple(ends)
        self.end: int | None = self.ends[0]
        self.temperature, self.rank, self.alpha, self.rows = temperature, rank, alpha, rows
        self._check()
        self.tolerance = 1e-3 if base.model.dtype == torch.float32 else ROUGH
        self._given = torch.tensor([self.prompt], device=base.device)  # [1, P]
        self._ends = torch.tensor(self.ends, device=base.device)
        self.model = adapted(base.model, rank, alpha)
        draw(self.adapter(), np.random.default_rng(0))

    def _check(self) -> None:
        """Raise BadValue unless the arguments can be a policy's."""
        if not self.temperature > 0:
            raise BadValue(f"temperature is {self.temperature!r}; it must be a number above 0")
        if not self.prompt:
            raise BadValue("the prompt has no token; give at least one, such as the one that begins a text")
        if wrong := [k for k in (*self.prompt, *self.ends) if not 0 <= k < self.vocabulary]:
            raise BadValue(f"the id {wrong[0]} is outside 0..{self.vocabulary - 1}")
        for name, value, most in (
            ("horizon", self.horizon, None),
            ("rank", self.rank, MOST_RANK),
            ("rows", self.rows, None),
        ):
            if value < 1 or (most is not None and value > most):
                raise BadValue(
                    f"{name} is {value}; it is a whole number of at least 1{f' and at most {most:,}' if most else ''}"
                )
        most = self.base.context
        if most is not None and len(self.prompt) + self.horizon > most:
            whole = f"a prompt of {len(self.prompt)} tokens and sequences of {self.horizon}"
            raise BadValue(f"{whole} are longer than the {most} that {self.base.name} reads; shorten either")

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.base.device

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
        COST.in_torch += len(last)
        if position == 0:
            logits, state = self._read(self._given, None)
            if len(last) > 1:
                rows = np.zeros(len(last), np.int64)
                logits, state = logits.expand(len(last), -1), self.select(state, rows)
        else:
            logits, state = self._read(torch.from_numpy(last).to(self.device)[:, None], state)
        return self._normalised(logits).cpu().numpy(), state

    @torch.inference_mode()
    def select(self, state: Any, rows: Ints) -> Any:
        """The cache of the prefixes `rows` [k]."""
        if state is None:
            return None
        m = state.layers[0].keys.shape[0]
        if len(rows) == m and (rows == np.arange(m)).all():
            return state
        chosen = copy.copy(state)
        chosen.layers = [copy.copy(layer) for layer in state.layers]
        chosen.batch_select_indices(torch.from_numpy(rows).to(self.device))
        return chosen

    def _read(self, tokens: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """Logits [m, V] after the last of the tokens [m, t], which follow what is in the cache, and the grown cache."""
        made = self.model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return made.logits[:, -1], made.past_key_values

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
        """The model's logits [n, t, V] of sequences [n, t], from one pass over prompt and sequences."""
        given = torch.cat((self._given.expand(len(batch), -1), batch[:, :-1]), dim=1)
        logits: Tensor = self.model(input_ids=given, use_cache=False, logits_to_keep=batch.shape[1]).logits
        return logits

    def _log_probs(self, batch: Tensor) -> Tensor:
        return self._normalised(self._logits(batch))

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

    def tempered(self, temperature: float) -> HFPolicy:
        """A copy whose temperature is multiplied by `temperature`."""
        if not temperature > 0:
            raise BadValue(f"temperature is {temperature!r}; it must be a number above 0")
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


def adapted(model: Any, rank: int, alpha: float) -> Any:
    """A copy of a frozen model, sharing its tensors, with a LoRA adapter in float32 on every linear layer but the head."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError as error:
        raise MissingExtra("a policy of a language model needs peft: pip install 'banel-envs[llm]'") from error
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear", lora_dropout=0.0, bias="none")
    with torch.random.fork_rng(devices=[]):  # peft draws from the process's generator; `draw` draws again
        made = inject_adapter_in_model(config, sharing(model)).eval()
    for weight in made.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()
    return made


def sharing(model: Any) -> Any:
    """A copy of a model that shares the tensors which are not trained."""
    tensors = (*model.parameters(), *model.buffers())
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors if not tensor.requires_grad})


def draw(adapter: Mapping[str, torch.nn.Parameter], rng: np.random.Generator) -> None:
    """Make an adapter untrained, in place: the first factors uniform as in torch.nn.Linear, the second ones 0."""
    with torch.no_grad():
        for name, weight in adapter.items():
            if ".lora_A." not in name:
                weight.zero_()
                continue
            bound = 1 / np.sqrt(weight.shape[1])
            weight.copy_(torch.from_numpy(rng.uniform(-bound, bound, tuple(weight.shape))))
