"""The engine stands alone: no transformers, no peft, and no torch for safetensors' index."""

import subprocess
import sys

import pytest

LOADED = """
import importlib, sys
for module in {modules}:
    importlib.import_module(module)
sys.exit(" ".join(name for name in {unwanted} if name in sys.modules) or 0)
"""


@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [
        (["merge", "fuse"], ["transformers", "peft", "prefect", "fastchat"]),
        (
            ["index", "layout", "journal", "adapter", "companions", "model_check"],
            ["torch", "numpy"],
        ),
    ],
)
def test_importing_the_engine_does_not_load(modules, unwanted):
    names = [f"tasks.core.weights.{module}" for module in modules]
    code = LOADED.format(modules=names, unwanted=unwanted)
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert child.returncode == 0, child.stderr
