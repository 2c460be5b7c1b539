"""The registry of the shipped tasks, one line each: the id and the "module:function" that builds the task."""

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
}
