"""`why_unreachable`: the reason for a failed connection, for error messages."""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Final, NamedTuple

from ..errors import AccessError, Unavailable

_CAUSES: Final = 8
"""Maximum number of causes of an error to examine."""

_RUNS: Final = "and that the server runs"
_AUTHORITY: Final = "set sslrootcert to the file of the authority that signed it"
_NAME: Final = "write a host name of the certificate in the URL"
_REMEDIES: Final = {
    10: "renew it on the server",  # CERT_HAS_EXPIRED
    18: _AUTHORITY,  # DEPTH_ZERO_SELF_SIGNED_CERT
    19: _AUTHORITY,  # SELF_SIGNED_CERT_IN_CHAIN
    20: _AUTHORITY,  # UNABLE_TO_GET_ISSUER_CERT_LOCALLY
    21: _AUTHORITY,  # UNABLE_TO_VERIFY_LEAF_SIGNATURE
    62: _NAME,  # HOSTNAME_MISMATCH
    64: _NAME,  # IP_ADDRESS_MISMATCH
}
"""The remedies by the code of the verification (`X509_V_ERR_*` in `openssl/x509_vfy.h`)."""


class Reason(NamedTuple):
    """The reason for the failure of a server, and the remedy.

    Attributes:
        why: The reason, as a clause.
        remedy: The remedy, as a clause in the imperative.
        permanent: Whether every further attempt fails: the error is `AccessError`, not `Unavailable`.
    """

    why: str
    remedy: str
    permanent: bool = False

    def error(self, name: str, said: str = "") -> AccessError | Unavailable:
        """Return the error to raise.

        Args:
            name: The name of the server.
            said: The text of the server; empty if it could not be reached.
        """
        failed = f"{name}: {self.why} ({said})" if said else f"{name} cannot be reached: {self.why}"
        return (AccessError if self.permanent else Unavailable)(f"{failed}: nothing was done; {self.remedy}")


def why_unreachable(error: BaseException) -> Reason | None:
    """Return the reason for a failed connection; None if it is unknown.

    Args:
        error: The error of the driver; its causes are examined as well.
    """
    cause: BaseException | None = error
    for _ in range(_CAUSES):
        if cause is None:
            return None
        if isinstance(cause, socket.gaierror):
            return Reason("its host name is not known", "check the host in the URL")
        # for a host with several addresses, asyncio raises one OSError with the numbers of all errors in its text
        if isinstance(cause, ConnectionRefusedError) or _has_number(cause, errno.ECONNREFUSED):
            return Reason("no server accepts connections there", f"check the host and the port in the URL, {_RUNS}")
        if isinstance(cause, FileNotFoundError):
            return Reason("there is no such socket", f"check the path in the URL, {_RUNS}")
        if isinstance(cause, PermissionError):
            return Reason("the system denies access", "allow this process to connect to it", permanent=True)
        if isinstance(cause, ssl.SSLCertVerificationError):
            remedy = _REMEDIES.get(cause.verify_code, f"{_AUTHORITY}, and {_NAME}")
            return Reason(f"its certificate is not accepted ({cause.verify_message})", remedy, permanent=True)
        if isinstance(cause, ssl.SSLError) and cause.reason == "WRONG_VERSION_NUMBER":
            return Reason(
                "it does not use TLS on this port", "set the port for TLS, or connect without TLS", permanent=True
            )
        cause = cause.__cause__ or cause.__context__
    return None


def _has_number(error: BaseException, number: int) -> bool:
    return isinstance(error, OSError) and f"[Errno {number}]" in str(error)
