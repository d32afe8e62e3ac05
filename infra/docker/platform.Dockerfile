# syntax=docker/dockerfile:1
# The platform in an image: every stage, the command line, Spark, Ray and MLflow. It is made by the same set-up as a
# checkout, without what only tests and checks need, so that a stage's environment is the same on a laptop and in a pod.
# From the repository's root:
#
#     docker buildx build --file infra/docker/platform.Dockerfile --tag mediscale-platform:0.1.0-python3.11 .
#
# torch's wheel is the CUDA build, so this is the image of the nodes with a GPU, too. Spark's connector for s3:// is in
# it; that for gs:// or abfss:// is not: put its jars into .venv/jars/spark of an image made FROM this one.
ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS build
# Of a site's own mirror; it does not stay in the image.
ARG PIP_INDEX_URL
WORKDIR /opt/mediscale
COPY LICENSE pyproject.toml ./
COPY requirements requirements
COPY infra/set_up infra/set_up
COPY infra/spark infra/spark
COPY infra/airflow infra/airflow
COPY mediscale mediscale
COPY data_pipeline data_pipeline
COPY training training
COPY serving serving
COPY monitoring monitoring
COPY kubeflow_pipelines kubeflow_pipelines
COPY dags dags
RUN --mount=type=cache,target=/root/.cache/uv \
    UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 python -m infra.set_up platform \
    && .venv/bin/python -m compileall -q mediscale data_pipeline training serving monitoring kubeflow_pipelines \
    && .venv/bin/mediscale stages --digests > /dev/null \
    && rm -rf .tools

FROM ${PYTHON}
ARG REVISION=unknown
LABEL org.opencontainers.image.title="mediscale-platform" \
      org.opencontainers.image.description="Hospital records to risk models that are served, monitored and retrained" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
# Hadoop asks for the account's name, so it has one. What is written lies in volumes and in /tmp.
RUN useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin mediscale \
    && install --directory --owner=10001 --group=10001 --mode=700 /mediscale /trust
COPY --from=build /opt/mediscale /opt/mediscale
ENV PATH=/opt/mediscale/.venv/bin:$PATH \
    HOME=/tmp \
    MEDISCALE_HOME=/mediscale \
    MEDISCALE_TRUST=/trust \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /mediscale
# A stage ends by itself; whoever starts it reads its exit code.
HEALTHCHECK NONE
CMD ["mediscale", "--help"]
