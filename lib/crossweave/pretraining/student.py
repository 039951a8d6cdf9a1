"""A smaller network out of a larger one: fewer layers, fewer neurons, or weights that are zero.

What is left learns from what it was (see objective `distilled`); it is saved as a model of its own size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from crossweave.config.pretraining import Student
from crossweave.errors import SettingsError
from crossweave.pretraining.tuning import LAYER

COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
NEURONS = ("intermediate_size", "n_inner", "hidden_dim", "ffn_dim")
"""How configurations of transformers name the layers, and the neurons of each layer's feed-forward part."""
MULTIPLE = 8  # of neurons: odd numbers are slow


def become_student(network: Any, student: Student) -> dict[str, Tensor]:
    """Make a network smaller in place, and return masks (1: stays) of the weights that must stay zero, by name.

    Raises SettingsError where a network has no such parts.
    """
    if student.layers is not None:
        _keep_layers(network, student.layers)
    if student.neurons < 1.0:
        _keep_neurons(network, student.neurons)
    return _cut_weights(network, student.zeros) if student.zeros else {}


def _keep_layers(network: Any, count: int) -> None:
    """Keep so many layers at even distances, first and last among them (Sanh et al. 2019)."""
    key, name = _named(network, COUNTS, "layers"), _layers_of(network)
    layers = network.get_submodule(name)
    if count > len(layers):
        raise SettingsError(f"student.layers: the model has {len(layers)}, {count} were to be kept")
    chosen = torch.linspace(0, len(layers) - 1, count).round().int().tolist()
    network.set_submodule(name, torch.nn.ModuleList(layers[n] for n in chosen))
    if getattr(network.config, "layer_types", None):
        network.config.layer_types = [network.config.layer_types[n] for n in chosen]
    setattr(network.config, key, count)


def _layers_of(network: Any) -> str:
    """Name the list of the layers."""
    lists = [n for n, m in network.named_modules() if isinstance(m, torch.nn.ModuleList) and LAYER.search(f"{n}.0.")]
    if not lists:
        raise SettingsError("student: the layers of this model are not numbered", "name a smaller encoder's teacher")
    return min(lists, key=len)


def _keep_neurons(network: Any, share: float) -> None:
    """Keep the neurons of each feed-forward part whose weights, going in times coming out, are longest."""
    key, name = _named(network, NEURONS, "neurons"), _layers_of(network)
    stated = getattr(network.config, key)
    layers = network.get_submodule(name)
    sizes = {stated} if stated is not None else {4 * network.config.hidden_size}
    kept = max(MULTIPLE, round(share * next(iter(sizes)) / MULTIPLE) * MULTIPLE)
    for layer in layers:
        linear = [(n, m) for n, m in layer.named_modules() if hasattr(m, "weight") and m.weight.dim() == 2]
        ups = [(n, m) for n, m in linear if _sides(m)[1] in sizes]
        downs = [(n, m) for n, m in linear if _sides(m)[0] in sizes and _sides(m)[1] not in sizes]
        if not ups or len(downs) != 1:
            raise SettingsError("student.neurons: this model's feed-forward parts are of another kind", "take layers")
        lengths = torch.stack([_by_neuron(m, out=True).norm(dim=1) for _, m in ups]).prod(dim=0)
        lengths = lengths * _by_neuron(downs[0][1], out=False).norm(dim=1)
        chosen = lengths.topk(min(kept, len(lengths))).indices.sort().values
        for _, module in ups:
            _select(module, chosen, out=True)
        _select(downs[0][1], chosen, out=False)
    setattr(network.config, key, kept)


def _sides(module: Any) -> tuple[int, int]:
    """Return how many numbers go in and come out; transformers' Conv1D keeps its weight the other way round."""
    first, second = module.weight.shape
    return (first, second) if hasattr(module, "nf") else (second, first)


def _by_neuron(module: Any, out: bool) -> Tensor:
    """Return a weight with a row a neuron that it feeds (`out`) or reads."""
    weight: Tensor = module.weight.detach()
    return weight if out != hasattr(module, "nf") else weight.T


def _select(module: Any, chosen: Tensor, out: bool) -> None:
    """Keep some neurons of a linear layer, as its outputs or its inputs."""
    rows = out != hasattr(module, "nf")
    module.weight = torch.nn.Parameter(module.weight.detach().index_select(0 if rows else 1, chosen).contiguous())
    if out and module.bias is not None:
        module.bias = torch.nn.Parameter(module.bias.detach()[chosen].clone())
    if hasattr(module, "nf"):
        module.nf = module.weight.shape[1]
    elif out:
        module.out_features = len(chosen)
    else:
        module.in_features = len(chosen)


def _cut_weights(network: torch.nn.Module, share: float) -> dict[str, Tensor]:
    """Set the smallest weights of every matrix and kernel to zero (Han et al. 2015), but not words' and positions'."""
    masks = {}
    for name, module in network.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(module, torch.nn.Embedding) or not isinstance(weight, torch.nn.Parameter) or weight.dim() < 2:
            continue  # what is computed of other weights is none itself
        sizes = weight.detach().abs().flatten()
        cut = int(share * len(sizes))
        if cut:
            mask = torch.ones_like(sizes)
            mask[sizes.argsort(stable=True)[:cut]] = 0.0
            masks[f"{name}.weight"] = mask.view_as(weight)
            weight.data.mul_(masks[f"{name}.weight"])
    return masks


def _named(network: Any, names: tuple[str, ...], what: str) -> str:
    config = getattr(network, "config", None)
    for name in names:
        if hasattr(config, name):
            return name
    raise SettingsError(
        f"student.{what}: this model's configuration does not say how many it has",
        "define a smaller encoder, and let it learn from this one: objective distilled, own.teacher",
    )
