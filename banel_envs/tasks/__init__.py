"""The shipped tasks, one registry line each: id -> "module:function" that builds it."""

SHIPPED = {
    "banel/AdditionAttack-v0": "banel_envs.tasks.addition_attack:build_v0",
    "banel/AdditionAttackHard-v0": "banel_envs.tasks.addition_attack:build_hard",
}
