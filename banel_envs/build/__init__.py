"""Scripts that rebuild the shipped assets: `python -m banel_envs.build NAME`."""
