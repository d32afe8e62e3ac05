"""The server's health check inside its container: python live.py [URL]; exits with 0 when it answers.

The certificate is not verified: it names the server as others see it, not 127.0.0.1, and nothing secret is sent.
"""

import ssl
import sys
import urllib.request

URL = "https://127.0.0.1:8443/live"


def main(url: str = URL) -> None:
    context = ssl._create_unverified_context()  # noqa: S323 -- see above
    with urllib.request.urlopen(url, timeout=5, context=context) as answer:  # noqa: S310 -- the image's own
        if answer.status != 200:
            raise SystemExit(f"{url} answered {answer.status}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except OSError as error:
        raise SystemExit(f"{sys.argv[1:] or URL}: {error}") from None
