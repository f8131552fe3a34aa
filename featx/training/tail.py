"""The part of a network that stands behind a cut, as a network of its own."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import fx, nn


def tail_behind(model: nn.Module, module: str, front: Collection[str] = ()) -> nn.Module | None:
    """Return what computes the network's output from the output of one of its modules.

    The layers are shared with `model`: training the tail trains the network.

    Parameters
    ----------
    model : nn.Module
        The whole network.
    module : str
        Name of the module whose output the tail takes.
    front : collection of str
        Modules that have run when it has: nothing of them is looked into, so that code torch
        cannot trace does no harm there.

    Returns
    -------
    nn.Module or None
        None where there is no such thing: torch cannot trace the network, it does not do the same
        in training and evaluation, or something else than this output leads past the module.
    """
    was_training = model.training
    try:
        made = []
        for training in (False, True):
            # A functional dropout is written into a traced graph as it was at the time.
            model.train(training)
            made.append(_trace_tail(model, module, front))
    finally:
        model.train(was_training)
    evaluating, learning = made
    if evaluating is None or learning is None or evaluating.code != learning.code:
        return None
    return learning


def _trace_tail(model: nn.Module, module: str, front: Collection[str]) -> fx.GraphModule | None:
    import torch
    from torch import fx

    class Tracer(fx.Tracer):
        """Looks inside of everything but torch's own layers and what stands before the cut."""

        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            """Keep the cut whole, so that it is one node of the graph, and all before it."""
            whole = module_qualified_name == module or module_qualified_name in front
            return whole or super().is_leaf_module(m, module_qualified_name)

    try:
        graph = Tracer().trace(model)
    # Code that depends on data raises whatever it likes under symbolic values.
    except Exception:
        return None
    cuts = [n for n in graph.nodes if n.op == "call_module" and n.target == module]
    if len(cuts) != 1:
        return None
    for node in list(graph.nodes):
        if node.op == "call_function" and node.target is torch._assert:
            graph.erase_node(node)
    return _behind(model, graph, cuts[0])


def _behind(model: nn.Module, graph: fx.Graph, cut: Any) -> fx.GraphModule | None:
    """Replace a node of a graph by an input, and drop what only led to it."""
    from torch import fx

    with graph.inserting_before(next(iter(graph.nodes))):
        features = graph.placeholder("features")
    cut.replace_all_uses_with(features)
    graph.erase_node(cut)
    # The graph must know its modules to tell which of them may be dropped.
    tail = fx.GraphModule(model, graph)
    tail.graph.eliminate_dead_code()
    inputs = [n for n in tail.graph.nodes if n.op == "placeholder" and n.name != features.name]
    if any(node.users for node in inputs):
        return None
    for node in inputs:
        tail.graph.erase_node(node)
    tail.delete_all_unused_submodules()
    tail.recompile()
    return tail
