"""Bridges: other libraries ask the oracle, or take its tasks. They share a desk, behind which one thread owns the oracle."""

from banel_envs.bridges.desk.client import DeskClient
from banel_envs.bridges.desk.desk import Desk
from banel_envs.bridges.desk.keyed import Reply
from banel_envs.bridges.desk.server import DeskServer

__all__ = ["Desk", "DeskClient", "DeskServer", "Reply"]
