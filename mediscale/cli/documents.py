"""Verbs for documents: index them, and ask them."""

import argparse
import sys
from typing import TYPE_CHECKING

from mediscale.cli.verbs import Verb, path, sentence, settings

if TYPE_CHECKING:
    from data_pipeline.retrieval import GroundedAnswer

_DEFAULT = "documents"
_OWN = "own"
_FIRST = "The first index with this embedder takes a minute or two: when an answer abstains is fitted once."


def _add_index(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths",
        nargs="*",
        type=path,
        metavar="PATH",
        help="files or folders to add; a file that is already there is replaced",
    )
    parser.add_argument("--index", default=_DEFAULT, metavar="NAME", help=f"which index ({_DEFAULT})")
    parser.add_argument(
        "--role",
        action="append",
        default=[],
        help="who may see them: clinician, engineer, … (default: everybody)",
    )
    parser.add_argument(
        "--remove", action="append", default=[], metavar="FILE", help="a file whose passages are removed"
    )
    parser.add_argument(
        "--embedder",
        default="",
        help="for a new index: a sentence-transformers model, by its name on the hub",
    )


def _index(options: argparse.Namespace) -> int:
    from data_pipeline.documents import index_versions, readers
    from data_pipeline.retrieval import embedders
    from mediscale.core.errors import UsageError

    home = settings()
    if bool(options.paths) == bool(options.remove):
        raise UsageError("Name files or folders to add, or files to --remove: one of the two.")
    if options.index == _OWN:
        raise UsageError(f"The index {_OWN} is that of the project's own passages; give yours another name.")
    if options.remove:
        _, manifest = index_versions.remove(home, options.index, options.remove)
    else:
        read = readers.read(options.paths, options.role)
        embedder = options.embedder or embedders.PACKAGED
        first = "" if embedder == embedders.PACKAGED else f" {_FIRST}"
        if index_versions.newest(home, options.index) is None:
            print(f"{len(read.documents):,} documents, pages or rows were read.{first}", file=sys.stderr)
        _, manifest = index_versions.add(home, options.index, read, embedder)
        named = {each.file for each in read.documents} | {each.file for each in read.rejected}
        for rejected in manifest.rejected:
            if rejected.file in named:
                print(f"left out: {rejected.file}: {rejected.reason}")
    print(
        f"{manifest.name}/{manifest.version}: {manifest.passages:,} passages of {manifest.documents:,} files; "
        f"{len({each.file for each in manifest.rejected})} files left out, wholly or in part"
    )
    return 0


def _add_ask(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("question", type=sentence, metavar="QUESTION")
    parser.add_argument(
        "--index", metavar="NAME", help="which index (default: yours, else the project's own passages)"
    )
    parser.add_argument(
        "--role",
        action="append",
        default=[],
        help="a role of who asks; without one, only what everybody may see is searched",
    )


def _ask(options: argparse.Namespace) -> int:
    from data_pipeline.documents import corpus, index_versions, readers
    from data_pipeline.retrieval import Index, answer_from, embedders
    from data_pipeline.safety import check_request

    home, roles = settings(), frozenset(options.role)
    name = options.index or (_DEFAULT if index_versions.versions(home, _DEFAULT) else _OWN)
    if name == _OWN and index_versions.newest(home, _OWN) is None:
        print("Indexing the project's own passages on neurology and nephrology, once.", file=sys.stderr)
        index_versions.add(home, _OWN, readers.read([corpus.FOLDER / "passages.jsonl"]))
    index = Index.open(index_versions.latest(home, name))
    vector = index.embedder.question(options.question)
    is_packaged = index.embedder.spec.name == embedders.PACKAGED
    report = check_request(options.question, embedding=vector if is_packaged else None)
    if report.first:
        print(report.first)
    if not report.blocks:
        grounded = answer_from(index, options.question, roles, vector=vector)
        print(_answer_text(grounded))
        if grounded.abstained and (hidden := index.hidden_from(roles)):
            print(f"{hidden:,} of {index.manifest.passages:,} passages are for other roles (--role).")
    return 0


def _answer_text(answer: "GroundedAnswer") -> str:
    lines = [f"“{sentence.text}”" for sentence in answer.sentences]
    cited = dict.fromkeys((c.source, c.place, c.date) for each in answer.sentences for c in each.citations)
    lines += [
        f"  — {source}{f', {place}' if place else ''}, {date or 'undated'}" for source, place, date in cited
    ]
    if answer.abstained:
        nearest = dict.fromkeys(each.title or each.source for each in answer.passages[:3])
        lines.append(answer.text)
        lines += [f"Nearest to it: {'; '.join(nearest)}."] if nearest else []
    elif answer.remark:
        lines.append(answer.remark)
    lines.append(f"confidence {answer.confidence:.2f}; every output needs a clinician's judgement")
    return "\n".join(lines)


VERBS = (
    Verb("index", "add documents to a searchable index, or remove them", _index, _add_index),
    Verb("ask", "answer a question by quoting the indexed documents, or abstain", _ask, _add_ask),
)
