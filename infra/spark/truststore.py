"""Writes the machine's certificate authorities as a Java trust store: python infra/spark/truststore.py FILE.

A Java runtime trusts a list of its own, and so cannot fetch anything where a site's proxy signs with the site's
authority. Run with the platform's Python. Writes nothing where OpenSSL finds none; Java's own list serves then.
"""

import ssl
import sys
from contextlib import suppress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import NoEncryption
from cryptography.hazmat.primitives.serialization.pkcs12 import PKCS12Certificate, serialize_java_truststore


def main(target: Path) -> None:
    entries: list[PKCS12Certificate] = []
    for authority in ssl.create_default_context().get_ca_certs(binary_form=True):
        with suppress(ValueError):  # an authority that cannot be read cannot be trusted
            certificate = x509.load_der_x509_certificate(authority)
            entries.append(PKCS12Certificate(certificate, f"authority-{len(entries)}".encode()))
    if entries:
        target.write_bytes(serialize_java_truststore(entries, NoEncryption()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
