"""Bridges: other libraries ask the oracle, or take its tasks. They share a desk, behind which one thread owns the oracle."""

from banel_envs.bridges.client import DeskClient
from banel_envs.bridges.desk import Desk
from banel_envs.bridges.keyed import Reply
from banel_envs.bridges.server import DeskServer

__all__ = ["Desk", "DeskClient", "DeskServer", "Reply"]
