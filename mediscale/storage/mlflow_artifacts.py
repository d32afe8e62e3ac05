"""MLflow's artifacts in GCS and ABFS by the client that holds the lake; MLflow's own ask for each cloud's packages.

MLflow finds it by the entry points ``mlflow.artifact_repository`` of pyproject.toml, in every process and server.
"""

import shutil
from pathlib import Path

from mlflow.entities import FileInfo
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from pyarrow import fs

from mediscale.storage import lake


class StoreArtifacts(ArtifactRepository):  # type: ignore[misc]  # MLflow has no types here
    """The files under one URI of a store."""

    def _place(self, path: str | None) -> tuple[fs.FileSystem, str]:
        return lake.filesystem(f"{self.artifact_uri.rstrip('/')}/{path or ''}".rstrip("/"))

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        name = Path(local_file).name
        files, path = self._place(f"{artifact_path}/{name}" if artifact_path else name)
        with Path(local_file).open("rb") as source, files.open_output_stream(path) as target:
            shutil.copyfileobj(source, target, 1 << 20)

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        for file in sorted(path for path in Path(local_dir).rglob("*") if path.is_file()):
            folder = file.parent.relative_to(local_dir).as_posix()
            parts = (part for part in (artifact_path, folder) if part and part != ".")
            self.log_artifact(str(file), "/".join(parts))

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        files, folder = self._place(path)
        _, root = self._place(None)
        infos = files.get_file_info(fs.FileSelector(folder, allow_not_found=True))
        return [
            FileInfo(one.path.removeprefix(f"{root}/"), not one.is_file, one.size if one.is_file else None)
            for one in sorted(infos, key=lambda one: one.path)
        ]

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        files, path = self._place(remote_file_path)
        with files.open_input_stream(path) as source, Path(local_path).open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        files, path = self._place(artifact_path)
        if files.get_file_info(path).is_file:
            files.delete_file(path)
        else:
            files.delete_dir(path)
