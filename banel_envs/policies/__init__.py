"""Policies: generative models over token sequences, which take and give NumPy arrays. PyTorch loads when first needed."""

from banel_envs.policies.autoregressive import Autoregressive
from banel_envs.policies.composed.excluding import Excluding
from banel_envs.policies.composed.mixture import Mixture
from banel_envs.policies.composed.tempered import Tempered
from banel_envs.policies.cost import COST
from banel_envs.policies.grammar import Masked, UniformGrammar
from banel_envs.policies.protocol import Policy, Trainable
from banel_envs.policies.storage.store import load_policy_file, save_policy
from banel_envs.policies.untrained import Repeating, Uniform

__all__ = [
    "COST",
    "Autoregressive",
    "Excluding",
    "Masked",
    "Mixture",
    "Policy",
    "Repeating",
    "Tempered",
    "Trainable",
    "Uniform",
    "UniformGrammar",
    "load_policy_file",
    "save_policy",
]
