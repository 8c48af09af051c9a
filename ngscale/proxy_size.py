"""How small a proxy is; apart from the proxy, which brings numpy."""

from dataclasses import dataclass

PROXY_VOCAB = 4096
"""That of the embedded tokenizer bpe-4096."""
PROXY_LAYERS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySize:
    """What a proxy is made to."""

    active_parameters: int
    vocab_size: int = PROXY_VOCAB
    num_layers: int = PROXY_LAYERS
