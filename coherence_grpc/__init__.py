"""The backbone: stores coherence signals once and for good, keeps one live score per tenant, streams every change."""
