# syntax=docker/dockerfile:1
# Airflow beside the platform, each in an environment of its own, as `make airflow` has them. Its tasks are processes
# of the platform, or pods where MEDISCALE_POD_TEMPLATE names a template. From the repository's root:
#
#     docker buildx build --file infra/docker/airflow.Dockerfile --tag mediscale-airflow:0.1.0-python3.11 .
ARG PLATFORM=mediscale-platform:0.1.0-python3.11

FROM ${PLATFORM}
ARG PIP_INDEX_URL
ARG REVISION=unknown
LABEL org.opencontainers.image.title="mediscale-airflow" \
      org.opencontainers.image.description="Airflow with the nightly DAGs of MediScale" \
      org.opencontainers.image.revision="${REVISION}"
USER 0
WORKDIR /opt/mediscale
RUN --mount=type=cache,target=/root/.cache/uv \
    HOME=/root UV_LINK_MODE=copy /usr/local/bin/python -m infra.set_up airflow \
    && rm -rf .tools
# For the chart, which starts `airflow`; python stays the platform's.
ENV PATH=$PATH:/opt/mediscale/.venv-airflow/bin
USER 10001:10001
WORKDIR /mediscale
HEALTHCHECK --interval=30s --timeout=10s --start-period=5m --retries=5 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/api/v2/monitor/health', timeout=5)"]
CMD ["mediscale", "airflow"]
