# syntax=docker/dockerfile:1
# The server alone: no Java, Spark, Ray, MLflow, torch or XGBoost, half a gigabyte beside Python. Of it, pyarrow and
# deltalake (the prediction log's way into the lake) are 280 MB and ONNX Runtime (notes) 60 MB. From the root:
#
#     docker buildx build --file infra/docker/serving.Dockerfile --tag mediscale-serving:0.1.0-python3.11 .
#
# It answers with a language model, too, where an engine elsewhere runs it. A server that runs the model itself needs torch:
#
#     docker buildx build --file infra/docker/serving.Dockerfile --build-arg LOCK=serving-language --tag mediscale-serving-language:0.1.0-python3.11 .
ARG PYTHON=python:3.11-slim-bookworm
ARG LOCK=serving

FROM ${PYTHON} AS build
# Of a site's own mirror; it does not stay in the image.
ARG PIP_INDEX_URL
ARG LOCK
WORKDIR /opt/mediscale
COPY requirements/bootstrap.txt requirements/${LOCK}.txt requirements/
RUN --mount=type=cache,target=/root/.cache/uv \
    python -m venv /uv \
    && /uv/bin/pip install --no-cache-dir --no-deps --require-hashes --requirement requirements/bootstrap.txt \
    && /uv/bin/uv venv --python /usr/local/bin/python3 .venv \
    && UV_LINK_MODE=copy /uv/bin/uv pip sync --require-hashes --compile-bytecode --python .venv/bin/python \
       ${PIP_INDEX_URL:+--default-index "$PIP_INDEX_URL"} "requirements/${LOCK}.txt"
COPY infra/docker/mediscale .venv/bin/mediscale
COPY infra/docker/live.py infra/docker/live.py
COPY mediscale mediscale
COPY data_pipeline data_pipeline
COPY serving serving
RUN .venv/bin/python -m compileall -q mediscale data_pipeline serving

FROM ${PYTHON}
ARG LOCK
ARG REVISION=unknown
LABEL org.opencontainers.image.title="mediscale-${LOCK}" \
      org.opencontainers.image.description="Answers /predict with a promoted model of MediScale" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin mediscale \
    && install --directory --owner=10001 --group=10001 --mode=700 /mediscale /trust
COPY --from=build /opt/mediscale /opt/mediscale
ENV PATH=/opt/mediscale/.venv/bin:$PATH \
    PYTHONPATH=/opt/mediscale \
    HOME=/tmp \
    MEDISCALE_HOME=/mediscale \
    MEDISCALE_TRUST=/trust \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /mediscale
EXPOSE 8443
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 \
    CMD ["python", "/opt/mediscale/infra/docker/live.py"]
CMD ["mediscale", "serve", "--host", "0.0.0.0", "--port", "8443", "--tls-cert", "/tls/tls.crt", "--tls-key", "/tls/tls.key"]
