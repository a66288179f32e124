"""One live score per tenant: exact windows, published rows, and the reads on top of them."""
