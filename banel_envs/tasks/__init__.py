"""The registry of the tasks, one line each: the id and the "module:function" that builds the task."""

import warnings

# gym.make takes a higher version for a better one. These six are six questions, and none of them is out of date.
warnings.filterwarnings("ignore", r".*banel/Reasoning-v\d+ is out of date", DeprecationWarning)

SHIPPED = {
    "banel/AdditionAttack-v0": "banel_envs.tasks.addition_attack:build_v0",
    "banel/AdditionAttackHard-v0": "banel_envs.tasks.addition_attack:build_hard",
    "banel/AdditionCarry-v0": "banel_envs.tasks.addition_carry:build_v0",
    "banel/Countdown-v0": "banel_envs.tasks.countdown:build_v0",
    "banel/Gaussian1D-v0": "banel_envs.tasks.gaussian1d:build_v0",
    "banel/Needle-v0": "banel_envs.tasks.needle:build_v0",
    "banel/ListProgram-v0": "banel_envs.tasks.list_program:build_v0",
    "banel/EhrlichEasy-v0": "banel_envs.tasks.ehrlich:build_easy",
    "banel/Ehrlich-v0": "banel_envs.tasks.ehrlich:build_v0",
    "banel/EhrlichHard-v0": "banel_envs.tasks.ehrlich:build_hard",
    "banel/Proof-v0": "banel_envs.tasks.proof:build_v0",
    "banel/ProofHard-v0": "banel_envs.tasks.proof:build_hard",
    "banel/ZeroToSix-v0": "banel_envs.tasks.zero_to_six:build_v0",
    "banel/ZeroToSixMNIST-v0": "banel_envs.tasks.zero_to_six_mnist:build_v0",
    "banel/ZeroToSixMNISTBall-v0": "banel_envs.tasks.zero_to_six_mnist:build_ball",
    "banel/ZeroToSixMNIST28-v0": "banel_envs.tasks.zero_to_six_mnist:build_28",
    "banel/MoleculeRediscovery-v0": "banel_envs.tasks.molecule_rediscovery:build_v0",
    "banel/MoleculeWindow-v0": "banel_envs.tasks.molecule_window:build_v0",
    "banel/MoleculeWindowHard-v0": "banel_envs.tasks.molecule_window:build_hard",
    "banel/Reasoning-v0": "banel_envs.tasks.language.reasoning:build_v0",
    "banel/Reasoning-v1": "banel_envs.tasks.language.reasoning:build_v1",
    "banel/Reasoning-v2": "banel_envs.tasks.language.reasoning:build_v2",
    "banel/Reasoning-v3": "banel_envs.tasks.language.reasoning:build_v3",
    "banel/Reasoning-v4": "banel_envs.tasks.language.reasoning:build_v4",
    "banel/Reasoning-v5": "banel_envs.tasks.language.reasoning:build_v5",
    "banel/ReasoningMean-v0": "banel_envs.tasks.language.reasoning:build_mean",
}

BROUGHT = {
    "banel/GSM8KHard-v0": "banel_envs.tasks.language.gsm8k_hard:build_v0",
    "banel/GSM8KHardLenient-v0": "banel_envs.tasks.language.gsm8k_hard:build_lenient",
}
"""Tasks of a model and of data that are brought, not shipped. Building one loads them, and fails where they are missing."""
