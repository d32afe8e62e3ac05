"""Verbs that answer with a promoted model: the server and batch scoring."""

import argparse

from mediscale.cli.verbs import Verb, add_alias, add_purpose, any_port, count, path, settings, workers
from mediscale.core.task_names import all_names


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dataset",
        action="append",
        default=[],
        help="the dataset whose models answer (default: the only one with a risk model, and the only one with a "
        "language model); twice for one of each",
    )
    add_alias(parser)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=any_port, default=8000, help="0 takes a free one")
    parser.add_argument("--workers", type=workers, default=1)
    parser.add_argument(
        "--tls-cert", type=path, metavar="PEM", help="certificate chain, to answer over https"
    )
    parser.add_argument("--tls-key", type=path, metavar="PEM", help="its private key")
    parser.add_argument(
        "--behind-proxy",
        action="store_true",
        help="a proxy in front of this server ends TLS and sets X-Forwarded-For; every request needs a key or token",
    )


def _serve(options: argparse.Namespace) -> int:
    from serving import main as server

    server.serve(
        settings(),
        datasets=options.dataset,
        alias=options.alias,
        host=options.host,
        port=options.port,
        workers=options.workers,
        certificate=options.tls_cert,
        private_key=options.tls_key,
        behind_proxy=options.behind_proxy,
    )
    return 0


def _add_score(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--task", choices=all_names(), required=True)
    add_alias(parser)
    parser.add_argument(
        "--output", type=path, required=True, help="Parquet file to write; it holds patient data"
    )
    parser.add_argument(
        "--format",
        choices=("parquet", "delta"),
        default="parquet",
        help="delta: the output is the folder of a new Delta table",
    )
    add_purpose(parser, "operations")


def _score(options: argparse.Namespace) -> int:
    from mediscale.storage import signing
    from serving import batch_scoring
    from serving.log.logged_answers import Requester

    home = settings()
    requester = Requester(signing.actor(home), options.purpose)
    rows = batch_scoring.write(
        home, options.dataset, options.task, options.alias, options.output, requester, options.format
    )
    print(
        f"{rows:,} risks written to {options.output}. It holds patient data: keep it where such data belongs."
    )
    return 0


def _add_bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--url", default="http://127.0.0.1:8000", help="URL of a running server (default: on this machine)"
    )
    parser.add_argument("--requests", type=count, default=100, help="requests of each kind (100)")
    parser.add_argument("--clients", type=count, default=1, help="clients that ask at the same time (1)")
    parser.add_argument(
        "--max-length", type=count, default=32, help="tokens of a language model's answer (32)"
    )


def _bench(options: argparse.Namespace) -> int:
    import httpx
    from rich.console import Console
    from rich.table import Table

    from serving import latency

    key = settings().api_key.get_secret_value()
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    table = Table("", "answered", "refused", *(f"p{p} ms" for p in latency.PERCENTILES), "per second")
    with httpx.Client(base_url=options.url, headers=headers, timeout=300, trust_env=False) as client:
        for row in latency.measure(client, options.requests, options.clients, options.max_length):
            percentiles = (f"{value:.1f}" if row.answered else "–" for value in row.milliseconds)
            table.add_row(
                row.what, str(row.answered), str(row.refused), *percentiles, f"{row.per_second:.1f}"
            )
    Console(highlight=False).print(table)
    return 0


VERBS = (
    Verb("serve", "answer /predict and /generate with promoted models", _serve, _add_serve),
    Verb("bench-serving", "measure latency percentiles of a running server", _bench, _add_bench),
    Verb(
        "score", "write the risk of every stay in a dataset's cohort, as Parquet or Delta", _score, _add_score
    ),
)
