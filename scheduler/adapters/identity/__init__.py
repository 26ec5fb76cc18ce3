"""Adapters of identity, and the control plane's own secret."""
