# MuJoCo's names come from extension modules without stubs.
from typing import Any

def __getattr__(name: str) -> Any: ...
