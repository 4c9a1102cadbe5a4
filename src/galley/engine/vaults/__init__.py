"""Vaults elsewhere: HashiCorp Vault's key-value stores, over its HTTP API."""

from galley.engine.vaults.hashicorp import HashiCorpVaults

__all__ = ["HashiCorpVaults"]
