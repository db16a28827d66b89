"""Imported by every Python that the tests start, kernels of notebooks too: nobody leaves this machine unasked.

A connection or a look-up of a name that is not this machine's is refused, and noted in $FUSIONLIB_CONNECTIONS, since
libraries swallow such errors; the tests fail where the note is not empty.
"""

import ipaddress
import os
import socket

_own = {"localhost", socket.gethostname(), "", None, "0.0.0.0", "::"}


def _refuse_others(host):
    name = host.decode() if isinstance(host, bytes) else host
    try:
        local = name in _own or ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        local = False
    if not local:
        with open(os.environ.get("FUSIONLIB_CONNECTIONS", os.devnull), "a") as note:
            print(name, file=note)
        raise socket.gaierror(f"the tests go nowhere, but something wants to reach {name}")


def _guarded(function):
    def guard(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            _refuse_others(address[0])
        return function(self, address)

    return guard


def _look_up(host, *rest, _getaddrinfo=socket.getaddrinfo, **more):
    _refuse_others(host)
    return _getaddrinfo(host, *rest, **more)


socket.socket.connect = _guarded(socket.socket.connect)
socket.socket.connect_ex = _guarded(socket.socket.connect_ex)
socket.getaddrinfo = _look_up
