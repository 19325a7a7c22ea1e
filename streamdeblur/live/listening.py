"""Where the page is served: the address that is listened on, and the URL that leads to it."""

from __future__ import annotations

import errno
import ipaddress
import socket

from streamdeblur.errors import VideoError


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on `host`, a name or an address, and `port`; 0 is any that is free.

    Raises:
        VideoError: the address is not this computer's, or the port cannot be used.
    """
    where = f"cannot serve on {_joined(host, port)}"
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except (socket.gaierror, UnicodeError) as error:
        raise VideoError(f"{where}: no address is known for {host}; use one like 127.0.0.1") from (
            error
        )
    except OSError as error:
        reasons = {
            errno.EADDRINUSE: "the port is in use; choose another, or 0 for any that is free",
            errno.EADDRNOTAVAIL: "this computer does not have that address; 0.0.0.0 is all it has",
            errno.EACCES: "the system keeps that port to itself; choose one from 1024 up",
        }
        reason = reasons.get(error.errno or 0, f"{error.strerror}; choose another address or port")
        raise VideoError(f"{where}: {reason}") from error


def page_url(host: str, port: int, token: str | None) -> str:
    """The page's URL, for a server that listens on the address `host`."""
    if ipaddress.ip_address(host).is_unspecified:
        host = _address_towards_others(host)
    return f"http://{_joined(host, port)}/" + (f"?token={token}" if token else "")


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _address_towards_others(host: str) -> str:
    """This computer's address in its network, without sending anything."""
    is_ipv6 = ":" in host
    family, elsewhere = (
        (socket.AF_INET6, "2001:db8::1") if is_ipv6 else (socket.AF_INET, "192.0.2.1")
    )
    with socket.socket(family, socket.SOCK_DGRAM) as towards:
        try:
            towards.connect((elsewhere, 9))  # chooses a way; addresses kept for documentation
        except OSError:
            return "::1" if is_ipv6 else "127.0.0.1"
        return str(towards.getsockname()[0])
