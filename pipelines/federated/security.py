"""TLS for federations: certificates that are given, or none."""

import ssl

from sim2real.errors import UserError


def server_context(certificate: str | None, key: str | None, authority: str | None) -> ssl.SSLContext | None:
    """For `federate serve`; with an `authority` clients must have a certificate of it. Raises UserError."""
    if certificate is None and key is None:
        if authority is not None:
            raise UserError(
                "--ca asks clients for certificates: give --certificate and --key of the server, too"
            )
        return None
    if certificate is None or key is None:
        raise UserError("--certificate and --key belong together")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load(context, certificate, key)
    if authority is not None:
        _trust(context, authority)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(authority: str | None, certificate: str | None, key: str | None) -> ssl.SSLContext | None:
    """For `federate join`: the server must have a certificate of `authority`. Raises UserError."""
    if authority is None:
        if certificate is not None or key is not None:
            raise UserError("--certificate and --key need --ca, the authority of the server's certificate")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _trust(context, authority)
    if (certificate is None) != (key is None):
        raise UserError("--certificate and --key belong together")
    if certificate is not None and key is not None:
        _load(context, certificate, key)
    return context


def _load(context: ssl.SSLContext, certificate: str, key: str) -> None:
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise UserError(f"{certificate} and {key} are no certificate and its key: {error}") from None


def _trust(context: ssl.SSLContext, authority: str) -> None:
    try:
        context.load_verify_locations(authority)
    except (OSError, ssl.SSLError) as error:
        raise UserError(f"{authority} is no certificate of an authority: {error}") from None
