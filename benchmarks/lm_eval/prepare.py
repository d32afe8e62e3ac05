"""Writes a folder in which lm-evaluation-harness scores a served version on a file of questions.

    .venv/bin/python benchmarks/lm_eval/prepare.py clinical-questions-language/1 questions.jsonl FOLDER

Then, in FOLDER, with the harness in an environment of its own (``make interop`` makes one) and a server running:
``lm_eval run --model local-completions --tasks mediscale_multiple_choice --include_path . --model_args
base_url=http://127.0.0.1:8000/v1/completions,model=clinical-questions-language/1,tokenizer=BASE``, where BASE is the
folder of the version's base. The server asks for the role engineer.
"""

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.documents import questions
from data_pipeline.documents.questions import Question
from mediscale.core.refs import parse_version
from mediscale.core.settings import Settings
from mediscale.inference import language_version, model_files
from mediscale.inference.language import LanguageModel
from training.language import language_model

HERE = Path(__file__).parent


def rows(model: LanguageModel, asked: Sequence[Question]) -> Iterator[dict[str, Any]]:
    """The multiple-choice questions, each with the very prompt that serving sends."""
    for question in asked:
        if question.options:
            prompt = model.prompt(question.question, question.context)
            text = prompt.rstrip()
            white_space = prompt.removeprefix(text)
            choices = [f"{white_space}{option}" for option in question.options]
            yield {
                "id": question.id,
                "prompt": text,
                "choices": [*choices, white_space] if white_space else choices,
                "tokens": [len(model.encode(option)) for option in question.options],
                "target": question.options.index(question.answer),
            }


def write(model: LanguageModel, asked: Sequence[Question], folder: Path) -> None:
    """The task and its questions."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("mediscale_multiple_choice.yaml", "per_token.py"):
        shutil.copy(HERE / name, folder / name)
    lines = (json.dumps(row) + "\n" for row in rows(model, asked))
    (folder / "questions.jsonl").write_text("".join(lines))


def main() -> None:
    version = parse_version(sys.argv[1])
    assert version is not None, "a version is written MODEL/VERSION"
    settings = Settings()
    model = language_model.find_version(settings, *version)
    loaded = language_version.load(settings, model_files.read_verified(settings, model))
    write(loaded, questions.read(Path(sys.argv[2])), Path(sys.argv[3]))


if __name__ == "__main__":
    main()
