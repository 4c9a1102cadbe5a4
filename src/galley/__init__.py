"""Galley: one self-hosted data-automation server with four wire-compatible APIs."""

__version__ = "0.1.0"
