"""Ensembles whose architectures are searched: one file a method, found by the registry.

A method is ``function(lab, *, its parameters with defaults) -> list of Found``, decorated with
``@method("darts", source="arXiv:...")``. It looks for architectures and nothing else; what all have in common is in
``run``: candidates are trained from scratch by the ordinary recipe, the best subset of ``--members`` of them on the
validation split becomes an ordinary ensemble, and everything is written. This module never imports torch.

What a method is given and gives (``_lab``)
    ``lab`` (:class:`SearchLab`) holds ``data``, ``shape`` (C, H, W), ``classes`` (how many), ``device``, ``seed``,
    ``members``, ``reporter``; ``lab.weights`` and ``lab.architectures``, the two halves of the *training* split, on the
    device (:class:`robustkit.training.samples.Samples`; ``.images(rows)``, ``.y``); ``lab.validation``, the validation
    split, for choosing among what was found. The test split is not in it.
    ``lab.generator(*numbers)`` gives a CPU generator that depends on the seed and these numbers alone.
    ``lab.checkpoint(name)`` has ``load() -> dict or None`` and ``save(state)``: tensors and plain values, read with
    ``weights_only``; a state of other settings is refused. ``with lab.phase("search"):`` times a part,
    ``lab.count("search", forward=n, backward=n)`` counts passes in samples; both survive a kill, go into the results.
    ``lab.histories[name]`` are rows by epoch of a part, for the results (``alternate`` fills them in).
    It returns a list of :class:`Found`: ``name`` (a folder's), ``arch``, ``arch_params`` as
    :func:`robustkit.models.build` takes them, ``facts`` (plain JSON), and ``weights``, a state dict of that network,
    where it is trained already (subnetworks of a supernet); then nothing is trained again. At least ``lab.members``,
    which ``enough(lab, candidates, method)`` in ``_lab`` checks before any work.

The space (``_space``)
    ``Space(nodes)``: ``edges`` (parent, node), ``operations``, ``length`` (Lambda: edges of an architecture), ``size``
    (numbers of a vector of architecture parameters: alpha of each edge and operation, then beta of each edge).
    ``split(vector) -> alpha (E, O), beta (E,)``; ``softmax(vector) -> Mixture`` (DARTS and PC-DARTS),
    ``gumbel(vector, temperature, generator) -> Mixture`` (a relaxed sample); ``Mixture.alpha`` (E, O) sums to one an
    edge, ``Mixture.beta`` (E,) to one a node; ``joint`` (E, O) is their product, to one a node.
    ``discretise(vector) -> Genotype``; ``one_hot(genotype) -> (E, O)``, whose inner product with ``joint`` is the
    expected number of shared edges; ``random(generator) -> Genotype``.
    :class:`robustkit.models._genotype.Genotype` is the discrete one: ``parents``, ``operations``, ``shared(other)``,
    ``to_json()``; ``found(name, genotype, facts)`` in ``_lab`` makes a :class:`Found` of it.

The relaxed network and its search (``_relaxed``, ``_alternate``)
    ``RelaxedNetwork(space, channels, classes, width, partial)``: ``network(x, mixture) -> logits``.
    ``alternate(lab, name, network, architecture, draw, epochs, ...) -> history``: first-order alternation, resumable.
    ``architecture`` is an ``nn.Module`` that holds whatever is learned of architectures (a vector; a hypernetwork);
    ``draw(Step) -> Drawn`` says which mixture this step computes, with a penalty and what the progress line shows.
"""

from __future__ import annotations

from robustkit.base.registry import Registry

method = Registry("method", "robustkit.search")
get = method.get
