"""A version's files: the digest is over those that answer, whoever lies beside them."""

import shutil
from pathlib import Path

import pytest

from mediscale.core.errors import NotFoundError, StorageError
from mediscale.core.refs import ModelRef
from mediscale.core.settings import Settings
from mediscale.inference import model_files
from mediscale.storage import registry


@pytest.fixture
def folder(settings: Settings) -> Path:
    made = settings.home / "artifacts" / "m1"
    for name in sorted(model_files.ANSWERING_FILES):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(f"content of {name}")
    return made


@pytest.mark.parametrize("name", sorted(model_files.ANSWERING_FILES))
def test_a_changed_byte_in_what_answers_is_refused(settings: Settings, folder: Path, name: str) -> None:
    model = ModelRef(name="h-mortality", version=1, uri="artifacts/m1", digest=model_files.digest(folder))
    assert model_files.read_verified(settings, model).keys() == model_files.ANSWERING_FILES
    with (folder / name).open("a") as file:
        file.write(" ")
    with pytest.raises(StorageError, match="The files of h-mortality v1 were changed"):
        model_files.read_verified(settings, model)
    (folder / name).unlink()
    with pytest.raises(StorageError, match="were changed"):
        model_files.read_verified(settings, model)


def test_what_does_not_answer_is_no_part_of_the_digest(settings: Settings, folder: Path) -> None:
    model = ModelRef(name="h-mortality", version=1, uri="artifacts/m1", digest=model_files.digest(folder))
    for name in ("MLmodel", "conda.yaml", "note_words.json", "registered_model_meta"):
        (folder / name).write_text("made here and now")
    assert model_files.digest(folder) == model.digest
    beside = model_files.all_files(settings, model).keys() - model_files.ANSWERING_FILES
    assert beside == {"MLmodel", "conda.yaml", "note_words.json"}, (
        "not what MLflow writes of the registered name"
    )


def test_a_swapped_name_is_another_digest(folder: Path) -> None:
    before = model_files.digest(folder)
    (folder / "notes").rename(folder / "other")
    assert model_files.digest(folder) != before


def test_no_folder_is_one_sentence(settings: Settings) -> None:
    with pytest.raises(NotFoundError, match="There is no model in"):
        model_files.digest(settings.home / "gone")


@pytest.mark.parametrize(
    "place", ["elsewhere", "artifacts/../elsewhere", "artifacts/link", "/", "s3://bucket/artifacts/m1"]
)
def test_a_folder_outside_of_the_artifact_root_is_not_read(
    settings: Settings, folder: Path, tmp_path: Path, place: str
) -> None:
    for outside in (settings.home / "elsewhere", tmp_path / "beside"):
        shutil.copytree(folder, outside)
    (folder.parent / "link").symlink_to(tmp_path / "beside")
    model = ModelRef(name="h-mortality", version=1, uri=place, digest=model_files.digest(folder))
    with pytest.raises(StorageError, match="is not under the artifact root"):
        model_files.read_verified(settings, model)


def test_an_artifact_root_elsewhere_is_the_one_that_counts(settings: Settings) -> None:
    moved = settings.model_copy(update={"artifact_root": "s3://bucket/models/"})
    assert registry.locate(moved, "s3://bucket/models/m1") == "s3://bucket/models/m1"
    for uri in ("artifacts/m1", "s3://bucket/models-of-others/m1", "s3://bucket/models/../m1"):
        with pytest.raises(StorageError, match="is not under the artifact root"):
            registry.locate(moved, uri)
