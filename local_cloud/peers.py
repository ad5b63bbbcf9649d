"""Who is at the other end of a connection: the address of a peer in, whether it is this machine out."""

import ipaddress


def is_this_machine(peer: str, *, trust_private: bool) -> bool:
    """Whether an address is of this machine. trust_private: so is any of a private network, which is how what comes
    through a container's port, published on 127.0.0.1 alone, looks from inside."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address.is_loopback or (trust_private and address.is_private)
