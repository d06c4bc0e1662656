"""Which weights an adapter's `target_parameters` change, and how: matrices, and stacks of experts.

PEFT wraps a module once for each targeted parameter, one layer around the other, and names the
layers by their depth; which parameter a layer is for follows from the shapes, or the adapter is
refused. transformers 5 joins the experts of many models when it loads them; their files store each
expert separately, so the update is split like the weights.

Written after ParamWrapper in peft/tuners/lora/layer.py (0.21.2), and transformers'
conversion_mapping.py (5.23), which a test compares.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations

from tasks.core.model.config import has_foreign_code
from tasks.core.weights.adapter_config import LoraConfig
from tasks.core.weights.adapter_refusals import WITH_PEFT
from tasks.core.weights.adapter_tensors import (
    AGAIN,
    ExpertSlice,
    Layer,
    LowRankUpdate,
    misfit,
    wrong,
)
from tasks.core.weights.index import ModelIndex

EXPERTS_IN_BY_OUT = frozenset(("aria", "aria_text", "gpt_oss", "openai_privacy_filter"))
"""The model_types whose experts are stored (experts, in, out); a test compares transformers."""

GATES, UPS, DOWNS = ("gate_proj", "w1"), ("up_proj", "w3"), ("down_proj", "w2")
UNGATED = "up_proj"
_EXPERT = re.compile(
    rf"(?P<experts>.+\.experts)\.(?P<number>\d+)\.(?P<leaf>{'|'.join(GATES + UPS + DOWNS)})\.weight"
)
_RENAMED = (".block_sparse_moe.", ".mlp.")


@dataclass(frozen=True)
class Parameter:
    """A parameter as transformers names and shapes it, and the stored weights that make it up.

    A weight without a slice is the whole parameter.
    """

    name: str
    shape: tuple[int, ...]
    weights: Mapping[str, ExpertSlice | None]

    @property
    def joined(self) -> bool:
        """Whether the files store its experts separately, each as (out, in)."""
        return any(self.weights.values())

    @property
    def experts(self) -> int:
        """The number of experts stacked in it."""
        return self.shape[0] if len(self.shape) == 3 else 1


@dataclass(frozen=True)
class Placed:
    """A layer of an adapter, the parameter that it is for, and how that may be stored."""

    parameter: Parameter
    layer: Layer
    transposed: tuple[bool, ...]

    @property
    def reveals_order(self) -> bool:
        """Whether its shape reveals how the model stores stacks of experts."""
        stack = self.parameter.experts > 1 and not self.parameter.joined
        return stack and len(self.transposed) == 1


class TargetParameters:
    """The parameters of a model that an adapter's configuration targets, by module."""

    def __init__(self, lora: LoraConfig, model: ModelIndex, config: Mapping[str, object]) -> None:
        self._lora, self._config = lora, config
        self._by_module: dict[str, list[Parameter]] = {}
        for parameter in parameters_of(model) if lora.target_parameters else ():
            if lora.targets_parameter(parameter.name):
                module = parameter.name.rpartition(".")[0]
                self._by_module.setdefault(module, []).append(parameter)

    def __contains__(self, module: str) -> bool:
        return module in self._by_module

    def updates(
        self, index: ModelIndex, layers: Mapping[str, list[Layer]]
    ) -> dict[str, LowRankUpdate]:
        """Return the updates of all targeted parameters, by the names of the stored weights.

        Raises AdapterMismatch for a parameter without its layer, and where the shapes do not
        determine which layer is for which, or how a stack of square experts is stored.
        """
        placed = []
        for module, parameters in self._by_module.items():
            found = layers.get(module, [])
            _require_layers(index, module, found, parameters)
            placed += self._placed(index, module, found, parameters)
        updates = {}
        for each in placed:
            turned = self._turned(index, each, placed)
            for weight, part in each.parameter.weights.items():
                updates[weight] = self._update(each, turned, part)
        return updates

    def _placed(
        self, index: ModelIndex, module: str, layers: list[Layer], parameters: list[Parameter]
    ) -> list[Placed]:
        """Return each layer with its parameter, in the only order in which all of them fit."""
        orders = (
            [
                Placed(p, layer, self._senses(layer, p))
                for layer, p in zip(layers, order, strict=True)
            ]
            for order in permutations(parameters)
        )
        fitting = [order for order in orders if all(each.transposed for each in order)]
        if not fitting:
            shapes = ", ".join(f"{p.name} {list(p.shape)}" for p in parameters)
            sides = ", ".join(f"A {list(x.a.shape)} and B {list(x.b.shape)}" for x in layers)
            raise misfit(index, layers[0].a.name, f"{sides} of its rank do not fit {shapes}")
        if len(fitting) > 1:
            raise wrong(
                index,
                module,
                "Which update is for which parameter cannot be determined: the shapes are equal.",
                ", ".join(parameter.name for parameter in parameters),
                WITH_PEFT,
            )
        return fitting[0]

    def _senses(self, layer: Layer, parameter: Parameter) -> tuple[bool, ...]:
        """Return how the parameter may be stored, judged by the shapes: False is (out, in).

        PEFT treats a stack of one expert as a matrix.
        """
        if len(parameter.shape) not in (2, 3):
            return ()
        experts, height, width = (1, *parameter.shape)[-3:]
        rows = experts * self._lora.rank(parameter.name)
        found = (layer.a.shape, layer.b.shape)
        straight = found == ((rows, width), (height, rows))
        turned = found == ((rows, height), (width, rows)) and experts > 1 and not parameter.joined
        return tuple(sense for sense, holds in ((False, straight), (True, turned)) if holds)

    def _turned(self, index: ModelIndex, each: Placed, placed: Iterable[Placed]) -> bool:
        """Return whether a parameter is stored (experts, in, out).

        Where its own shape does not reveal it, the shapes of the others do, or the architecture.
        """
        if len(each.transposed) == 1:
            return each.transposed[0]
        revealed = {other.transposed[0] for other in placed if other.reveals_order}
        kind = str(self._config.get("model_type"))
        if not revealed and not has_foreign_code(self._config) and kind in EXPERTS_IN_BY_OUT:
            revealed = {True}
        if len(revealed) != 1:
            raise wrong(
                index,
                each.layer.a.name,
                "How the model stores these experts cannot be determined: each of them is square.",
                f"{each.parameter.name} {list(each.parameter.shape)}",
                WITH_PEFT,
            )
        return revealed.pop()

    def _update(self, each: Placed, turned: bool, part: ExpertSlice | None) -> LowRankUpdate:
        layer, scale = each.layer, self._lora.scale(each.parameter.name)
        experts = each.parameter.experts
        return LowRankUpdate(layer.a.name, layer.b.name, scale, turned, experts=experts, part=part)


def parameters_of(model: ModelIndex) -> Iterator[Parameter]:
    """Yield each parameter of a model as transformers 5 sees it: weights, and joined experts."""
    experts: dict[tuple[str, str], dict[int, str]] = {}
    for name, entry in model.tensors.items():
        loaded = name.replace(*_RENAMED)
        yield Parameter(loaded, entry.shape, {name: None})
        if match := _EXPERT.fullmatch(loaded):
            stack = experts.setdefault((match["experts"], match["leaf"]), {})
            stack[int(match["number"])] = name
    for (module, leaf), stack in experts.items():
        if leaf in DOWNS:
            yield from _joined(model, f"{module}.down_proj", [stack])
        if leaf == UNGATED and (module, GATES[0]) not in experts:
            yield from _joined(model, f"{module}.{leaf}", [stack])
        for gate, up in zip(GATES, UPS, strict=True):
            if leaf == gate and (module, up) in experts:
                yield from _joined(model, f"{module}.gate_up_proj", [stack, experts[module, up]])


def _joined(model: ModelIndex, name: str, stacks: list[dict[int, str]]) -> Iterator[Parameter]:
    """Yield the parameter that stacks of experts make up, unless one is incomplete."""
    shapes = {model.tensors[weight].shape for stack in stacks for weight in stack.values()}
    whole = all(sorted(stack) == list(range(len(stacks[0]))) for stack in stacks)
    matrix = shapes.pop() if len(shapes) == 1 else ()
    if not whole or len(matrix) != 2:
        return
    height, width = matrix
    weights = {
        weight: ExpertSlice(number, (height * above, height * (above + 1)))
        for above, stack in enumerate(stacks)
        for number, weight in sorted(stack.items())
    }
    yield Parameter(name, (len(stacks[0]), height * len(stacks), width), weights)


def _require_layers(
    index: ModelIndex, module: str, layers: list[Layer], parameters: list[Parameter]
) -> None:
    """Raise AdapterMismatch unless there is exactly one layer for each parameter."""
    if len(layers) != len(parameters):
        names = ", ".join(parameter.name for parameter in parameters)
        raise wrong(
            index,
            module,
            "The adapter is not complete: it has not one layer for each parameter that its "
            "configuration names.",
            f"{len(layers)} updates for {names}",
            AGAIN,
        )
    for layer in layers:
        if layer.magnitude is not None:
            cause = "a DoRA magnitude, which PEFT does not support for parameters"
            raise wrong(
                index, layer.magnitude.name, "The adapter cannot be fused.", cause, WITH_PEFT
            )
