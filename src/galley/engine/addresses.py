"""Which network addresses outbound calls may reach; the rule itself is `kit.addresses`."""

from galley.kit.addresses import METADATA, Address, Network, is_public, may_reach, unwrap

__all__ = ["METADATA", "Address", "Network", "is_public", "may_reach", "unwrap"]
