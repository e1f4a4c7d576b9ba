"""Learning from many arms without pooling their data (docs/federated.md)."""
