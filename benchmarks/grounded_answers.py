"""Grounded answers on held-out questions of the project's corpus, each with its passage in the index and taken out.

Weights were fitted on the others and the threshold was chosen on their scores out of fold. Intervals are Wilson's,
of 95 %; a question's family is one passage, and two or three questions of a family are not independent. ``--write``
fits when an index of the packaged embedder abstains, which the package ships.
"""

import argparse
import math
import random
import tempfile
from pathlib import Path

from data_pipeline.documents import abstention_fit, corpus, passages, readers
from data_pipeline.documents.questions import Question
from data_pipeline.retrieval import Index, embedders, index_files, passage_vectors, support
from data_pipeline.retrieval.grounded_answer import GroundedAnswer, answer_from
from data_pipeline.retrieval.index_files import Contents
from data_pipeline.retrieval.words import words
from mediscale.core.settings import Settings
from mediscale.core.splits import assign_split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="fit what the package ships and nothing else")
    if parser.parse_args().write:
        made = abstention_fit.shipped(embedders.load(Settings(), threads=0))
        abstention_fit.SHIPPED.write_text(made.model_dump_json(indent=1) + "\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        index = _index(Settings(home=Path(folder)), Path(folder))
        held_out = [each for each in corpus.questions() if assign_split(each.family) == "held_out"]
        _measure(index, held_out)
        _measure_pairs(index, held_out)


def _index(settings: Settings, folder: Path) -> Index:
    embedder = embedders.load(settings, threads=0)
    rows = passages.table(readers.read([corpus.FOLDER / "passages.jsonl"]).documents)
    fitted = abstention_fit.of_own_questions(settings, embedder)
    contents = Contents(rows, passage_vectors.embed(embedder, rows), embedder, abstention=fitted)
    index_files.write(folder / "index", "own", 1, contents)
    print(f"threshold {fitted.threshold:.2f}, chosen on {fitted.questions} questions that are not held out")
    return Index.open(folder / "index")


def _measure(index: Index, questions: list[Question]) -> None:
    texts = {row["place"]: row["text"] for row in index.passages.to_pylist()}
    rows = {place: row for row, place in enumerate(index.passages["place"].to_pylist())}
    with_passage = [answer_from(index, each.question) for each in questions]
    without = [
        answer_from(index, each.question, hidden=[rows[place] for place in each.references])
        for each in questions
    ]
    answered = [
        (question, answer)
        for question, answer in zip(questions, with_passage, strict=True)
        if not answer.abstained
    ]
    spoken = [sentence for answer in with_passage + without for sentence in answer.sentences]
    citations = [citation for sentence in spoken for citation in sentence.citations]
    print(f"{len(questions)} held-out questions of {len({each.family for each in questions})} passages")
    _share("abstain, passage taken out", sum(each.abstained for each in without), len(without))
    _share("abstain, passage in the index", sum(each.abstained for each in with_passage), len(with_passage))
    _share(
        "citations equal to their source",
        sum(texts[each.place][each.start : each.end] == each.text for each in citations),
        len(citations),
    )
    _share("sentences supported", sum(_supported(each.text, texts) for each in spoken), len(spoken))
    right = sum(_quotes(q, a) for q, a in answered)
    _share("answers that quote the right passage", right, len(answered))
    _share(
        "answers whose quotes hold the reference answer",
        sum(_holds(q, a) for q, a in answered),
        len(answered),
    )


def _measure_pairs(index: Index, questions: list[Question]) -> None:
    """Two held-out questions that are asked at once, as "What … and how …?": whether both are answered."""
    asks = [each for each in questions if each.question.split()[0] in _BEGIN and not each.options]
    random.Random(0).shuffle(asks)
    pairs = [(a, b) for a, b in zip(asks[::2], asks[1::2], strict=False) if a.family != b.family]
    joined = [f"{a.question.rstrip('?')} and {b.question[0].lower()}{b.question[1:]}" for a, b in pairs]
    answers = [answer_from(index, question) for question in joined]
    both = sum(
        _quotes(a, answer) and _quotes(b, answer) for (a, b), answer in zip(pairs, answers, strict=True)
    )
    alone = sum(all(_quotes(each, answer_from(index, each.question)) for each in pair) for pair in pairs)
    _share("pairs asked at once whose passages are both quoted", both, len(pairs))
    _share("pairs asked one by one whose passages are both quoted", alone, len(pairs))


_BEGIN = ("How", "In", "What", "When", "Which", "Within")


def _quotes(question: Question, answer: GroundedAnswer) -> bool:
    return any(c.place in question.references for s in answer.sentences for c in s.citations)


def _supported(sentence: str, texts: dict[str, str]) -> bool:
    return support(sentence, list(texts.values())).supported


def _holds(question: Question, answer: GroundedAnswer) -> bool:
    return set(words(question.answer)) <= set(words(answer.text))


def _share(what: str, count: int, n: int) -> None:
    """Share with Wilson's interval."""
    z, share = 1.96, count / max(n, 1)
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    print(f"{what:<48} {count:>4} of {n:<4} {share:.1%} [{middle - half:.1%}, {middle + half:.1%}]")
    print(f"figure: {what}, % = {100 * share:.1f}")


if __name__ == "__main__":
    main()
