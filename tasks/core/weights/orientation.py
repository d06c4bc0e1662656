"""How the weights of linear modules are stored: (out, in), or (in, out) like GPT-2's Conv1D.

adapter_config.json has one flag, fan_in_fan_out, for modules that may differ; PEFT decides by each
module's class and saves the flag of the last one. So the architecture decides here, module by
module, and a square weight of unknown code, whose shape reveals nothing, is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.core.errors import AdapterMismatch
from tasks.core.model.config import has_foreign_code

CONV1D_TYPES = frozenset(
    ("gpt2", "gpt-sw3", "openai-gpt", "imagegpt", "decision_transformer", "clvp")
)
"""The model_types whose classes in transformers use Conv1D; a test compares them."""

CONV1D_NAMES = frozenset(("c_attn", "q_attn", "c_proj", "c_fc"))
"""What those classes call their Conv1D modules; their other modules are Linear."""


@dataclass(frozen=True)
class Matrix:
    """The stored shape of a weight, and (out, in) of its update."""

    stored: tuple[int, ...]
    update: tuple[int, int]

    def transposed_by_shape(self) -> bool | None:
        """Return whether it is stored (in, out); None where the shape does not reveal it."""
        if self.update[0] == self.update[1] or self.stored not in (self.update, self.update[::-1]):
            return None
        return self.stored == self.update[::-1]


@dataclass(frozen=True)
class Orientation:
    """How a model of this configuration stores the weights that an adapter updates.

    flag is the adapter's fan_in_fan_out.
    """

    config: Mapping[str, object]
    matrices: Mapping[str, Matrix]
    flag: bool

    def transposed(self, module: str, where: Path) -> bool:
        """Return whether the module's weight is stored (in, out).

        Raises AdapterMismatch where neither the architecture nor a shape reveals it.
        """
        leaf = module.rpartition(".")[2]
        kind = str(self.config.get("model_type"))
        if not has_foreign_code(self.config):
            return kind in CONV1D_TYPES and leaf in CONV1D_NAMES
        transposed = (
            self.matrices[module].transposed_by_shape() if module in self.matrices else None
        )
        if transposed is None and leaf not in CONV1D_NAMES and not self.flag:
            return False
        if transposed is None:
            transposed = self._as_similar_modules()
        if transposed is None:
            raise AdapterMismatch(
                "How the model stores this weight cannot be determined: the model brings its own "
                "code, the weight is square, and Conv1D and Linear modules both use its name.",
                where=f"{where}: {module}",
                expected="(out, in) or (in, out)",
                found=f"fan_in_fan_out {str(self.flag).lower()}",
                next_step="Fuse it with PEFT's merge_and_unload.",
            )
        return transposed

    def require_sense(self, where: Path) -> None:
        """Raise AdapterMismatch when the flag says (in, out), but no module is stored that way."""
        if not self.flag or any(self.transposed(module, where) for module in self.matrices):
            return
        raise AdapterMismatch(
            "The adapter is for weights stored as (in, out), and the model has none.",
            where=f"{where}: {', '.join(sorted(self.matrices)[:3])}",
            expected="a GPT-2 Conv1D module among those that the adapter updates",
            found="fan_in_fan_out true",
            next_step="Use the model that the adapter was trained on; or set fan_in_fan_out to "
            "false in adapter_config.json if it was trained on this one.",
        )

    def _as_similar_modules(self) -> bool | None:
        """Return what the shapes of modules with Conv1D names reveal, if they agree."""
        named = (m for name, m in self.matrices.items() if name.rpartition(".")[2] in CONV1D_NAMES)
        transposed = {
            known for matrix in named if (known := matrix.transposed_by_shape()) is not None
        }
        return transposed.pop() if len(transposed) == 1 else None
