"""Implementations of the ports; they don't import each other, and only `app` picks them."""
