"""A trunk in two halves: one that stays as it is, whose output is kept, and one that learns."""

from __future__ import annotations

import copy

from torch import fx, nn


def halves(trunk: fx.GraphModule, kept: str, output: str) -> tuple[nn.Module, nn.Module]:
    """From pixels to the output that is named `kept`, and from there to `output`.

    Both are made of the trunk's own layers. Raises ValueError unless `output` depends on the pixels
    through `kept` alone, and on weights after it.
    """
    lower, upper = (fx.GraphModule(trunk, copy.deepcopy(trunk.graph)) for _ in range(2))
    end = lower.graph.output_node()
    end.args = (end.args[0][kept],)
    _without_the_rest(lower)

    end = upper.graph.output_node()
    outputs = end.args[0]
    end.args = (outputs[output],)
    (pixels,) = upper.graph.find_nodes(op="placeholder")
    with upper.graph.inserting_after(pixels):
        outputs[kept].replace_all_uses_with(upper.graph.placeholder(kept))
    _without_the_rest(upper)
    if pixels.users or not list(upper.parameters()):
        raise ValueError(
            "encoder.fine_tune_above must name a node of a CNN, earlier than encoder.node, that "
            "the whole image goes through: a block as layer3 or features.13"
        )
    upper.graph.erase_node(pixels)
    upper.recompile()
    return lower, upper


def _without_the_rest(module: fx.GraphModule) -> None:
    """Leaves out what the output does not depend on."""
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()
