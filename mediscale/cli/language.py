"""Verbs for language models: what a version is worth on questions of one's own."""

import argparse
import sys
from pathlib import Path

from mediscale.cli.verbs import Verb, settings


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "version", metavar="MODEL/VERSION", help="a registered version, e.g. clinical-questions-language/1"
    )
    parser.add_argument("--test", type=Path, required=True, help="JSONL or CSV of questions with answers")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    parser.add_argument(
        "--max-generated", type=int, default=24, help="short-answer questions that are answered in words (24)"
    )
    parser.add_argument("--max-tokens", type=int, default=32, help="of such an answer (32)")


def _evaluate(options: argparse.Namespace) -> int:
    from rich.console import Console

    from data_pipeline.documents import questions
    from mediscale.cli import summary
    from mediscale.core import logs
    from mediscale.core.errors import UsageError
    from mediscale.core.refs import parse_version
    from mediscale.inference import language, model_files
    from training.language import language_measures, language_model

    home, version = settings(), parse_version(options.version)
    if version is None:
        raise UsageError("A version is written MODEL/VERSION, such as clinical-questions-language/1.")
    test = questions.read(options.test)
    model = language_model.registered(home, *version)
    effort = language_measures.Effort(
        max_generated=options.max_generated, max_tokens=options.max_tokens, bootstrap=1000, seed=0
    )
    with logs.handled_by(logs.to_standard_error()):
        loaded = language.load(home, model_files.checked(home, model))
        measures = language_measures.measure(loaded, test, effort)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(measures.model_dump_json(indent=1))
    width = None if sys.stdout.isatty() else summary.PIPE_WIDTH
    title = f"{model} beside its base on the {len(test)} questions of {options.test.name}"
    Console(highlight=False, soft_wrap=True, width=width).print(summary.language_table(title, measures))
    return 0


VERBS = (
    Verb(
        "evaluate-language",
        "measure a language model beside its base on a file of questions",
        _evaluate,
        _add_evaluate,
    ),
)
