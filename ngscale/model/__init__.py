"""A small decoder with n-gram embedding tables, its experts and its checkpoints.

``NgramEmbedding`` stands where a trainer of your own has ``nn.Embedding``; ``NgramReader`` is
Engram's reader for a layer.
"""

from ngscale.model.embedding import NgramEmbedding, NgramReader

__all__ = ["NgramEmbedding", "NgramReader"]
