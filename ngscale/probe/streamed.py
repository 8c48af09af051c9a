"""A decoder of which one layer is in memory at a time.

The model is built on the meta device. What lies outside the layers (word embedding, positions,
final norm) is read at once and stays; a layer's weights are read when it is entered and dropped
when the next one is. lm_head is never read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ngscale.errors import InputError
from ngscale.probe.structure import Structure
from ngscale.resident import give_back_when_freed

NOT_RUN = "lm_head."
"""Its logits would be the largest tensor of a run; nothing of it is read or checked."""

Read = Callable[[Sequence[str]], None]
"""Put the tensors of these names in the model's ``state_dict`` into the model."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Place:
    """Where a tensor that is not in memory belongs."""

    name: str
    module: nn.Module
    attribute: str
    empty: Tensor

    @property
    def now(self) -> Tensor:
        found = getattr(self.module, self.attribute)
        assert isinstance(found, Tensor)
        return found

    def drop(self) -> None:
        setattr(self.module, self.attribute, self.empty)


class LayerStream:
    """Reads each layer of ``model`` as it is entered; ``source`` is what errors call it."""

    def __init__(self, model: nn.Module, structure: Structure, read: Read, *, source: str) -> None:
        self._read, self._source = read, source
        give_back_when_freed()
        names = {module: name for name, module in model.named_modules()}
        layers = [parts.layer for parts in structure.layers]
        prefixes = tuple(f"{names[layer]}." for layer in layers)
        absent = _absent(model)
        inside = names[structure.backbone]
        self._fill(
            [
                place
                for place in absent
                if place.name.startswith(inside and f"{inside}.")
                and not place.name.startswith((*prefixes, NOT_RUN))
            ]
        )
        self._resident: list[_Place] = []
        self._entered: nn.Module | None = None
        for layer, prefix in zip(layers, prefixes, strict=True):
            mine = [place for place in absent if place.name.startswith(prefix)]
            layer.register_forward_pre_hook(self._entering(mine))

    def _entering(self, places: list[_Place]) -> Callable[[nn.Module, object], None]:
        def hook(layer: nn.Module, args: object) -> None:
            if layer is self._entered:
                return
            for place in self._resident:
                place.drop()
            self._entered, self._resident = layer, places
            self._fill(places)

        return hook

    def _fill(self, places: Sequence[_Place]) -> None:
        with torch.inference_mode(False), torch.no_grad():
            self._read([place.name for place in places])
        for place in places:
            if place.now.is_meta:
                raise InputError(
                    f"{self._source}: {place.name}: could not be placed from the weights alone; "
                    "this architecture cannot be streamed, so leave out --stream"
                )


def move_present(model: nn.Module, device: torch.device) -> None:
    """What of a model is in memory already, buffers that are computed, to ``device``."""
    for module in model.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None and not buffer.is_meta:
                module._buffers[name] = buffer.to(device)


def put(model: nn.Module, name: str, tensor: Tensor) -> None:
    """Put ``tensor`` where the model's ``state_dict`` has ``name``."""
    path, _, attribute = name.rpartition(".")
    module = model.get_submodule(path)
    if attribute in module._parameters:
        module._parameters[attribute] = nn.Parameter(tensor, requires_grad=False)
    else:
        module._buffers[attribute] = tensor


def _absent(model: nn.Module) -> list[_Place]:
    """What of the ``state_dict`` is on the meta device."""
    found = []
    for name, tensor in model.state_dict(keep_vars=True).items():
        path, _, attribute = name.rpartition(".")
        if tensor.is_meta:
            module = model.get_submodule(path)
            found.append(_Place(name=name, module=module, attribute=attribute, empty=tensor))
    return found
